"""The engine of a model: ONNX Runtime where its file is proven to say what the model says.

The file is made once and kept, in the run (`exports/serve-<digest>.onnx`; the digest is of weights,
labels, temperature and version) or, of a model without a run or in one that cannot be written to,
in the user's cache. It is held against the model on real pictures when it is made, and on a few of
them at each start: another version of ONNX Runtime, another processor or another hand may have
changed what it says.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from truemask import __version__
from truemask.bundle import Bundle
from truemask.datasets.reading import read_image
from truemask.errors import JobFailed, UsageError
from truemask.files import default_cache_folder, make_folder
from truemask.images import ImageSpec
from truemask.inference.engine import Engine, OnnxEngine, TorchEngine
from truemask.inference.export import MOST_DIFFERING, export, read_metadata
from truemask.inference.parity import LabelledImage, Lazy, compare_predictions
from truemask.inference.sources import Source
from truemask.inference.targets import find_images
from truemask.runs import Run

_COMPARED_AT_START = 3

_MOST_PICTURES = 16
"""Of a folder that is given, to compare on when a file is made."""

_OF_INT8 = 0.05
"""Share of the pixels that a file in int8 may give another class: that it loses no more IoU than is
allowed was proven on many images when it was made; here, that it is of this model."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


_MOST_CACHED = 8
"""Files in the cache; the one that was used longest ago goes first."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine, and why it was taken.

    Attributes:
        engine: ready to compute.
        reason: one clause, such as "its file agrees with the model on 14 pictures of the run".
    """

    engine: Engine
    reason: str


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures to hold a file against.

    Attributes:
        images: as the model takes them.
        whose: where they are from, such as "of the run".
    """

    images: Sequence[LabelledImage]
    whose: str


def find_pictures(source: Source, spec: ImageSpec, folder: Path | None = None) -> Pictures:
    """Those of a folder where one is given, else the small ones that a run keeps, or none.

    Args:
        source: the model.
        spec: the images that it takes.
        folder: any images of the kind that it will see.

    Raises:
        UsageError: the folder holds no image.
    """
    if folder is not None:
        # No folder of masks lies in it, as `find_images` otherwise has to leave one out.
        files = find_images([folder], Path(os.devnull))
        files = files[:: -(-len(files) // _MOST_PICTURES)]
        read = Lazy(len(files), lambda at: LabelledImage(read_image(files[at], spec)))
        return Pictures(images=read, whose=f"of {folder}")
    if source.run is None:
        return Pictures(images=[], whose="")
    return Pictures(images=run_pictures(source.run, spec), whose="of the run")


def choose_engine(
    source: Source, bundle: Bundle, pictures: Pictures, *, threads: int = 0
) -> Choice:
    """ONNX Runtime where it is installed and agrees with the model, else PyTorch.

    Args:
        source: where the model is from; a run keeps its file.
        bundle: the model, on the device where PyTorch would compute.
        pictures: on which the engines are compared.
        threads: of the CPU for one call; 0 takes one for each core.

    Raises:
        UsageError: a picture cannot be read.
    """

    def torch_because(reason: str) -> Choice:
        return Choice(engine=TorchEngine(bundle), reason=reason)

    if bundle.model.mean.device.type != "cpu":
        return torch_because("the model is on a GPU")
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        return torch_because(f"{missing[0]} is not installed: pip install 'truemask[onnx]'")
    if not pictures.images:
        return torch_because(
            "there are no pictures on which an ONNX file could be proven: --images DIR gives some"
        )
    places = [folder / f"serve-{digest(bundle)}.onnx" for folder in _folders(source)]
    for path in places:
        if path.is_file() and _agrees(bundle, path, pictures.images, threads=threads):
            if not _is_of(path, source):
                _note_use(path)
            return Choice(engine=OnnxEngine(path, threads=threads), reason=_kept(path, source))
    places = [path for path in places if _may_write(path.parent)]
    if not places:
        return torch_because(
            "its ONNX file could be kept nowhere: set TRUEMASK_CACHE to a folder to write to"
        )
    path = places[0]
    try:
        path.unlink(missing_ok=True)  # its name is ours; it may hold anything but a file of ours
        made = export(bundle, path, images=pictures.images, probabilities=True)
    except (JobFailed, UsageError, OSError) as error:
        return torch_because(f"no ONNX file could be made: {error}")
    _remove_others(path, most=1 if _is_of(path, source) else _MOST_CACHED)
    parity = made.parity
    return Choice(
        engine=OnnxEngine(path, threads=threads),
        reason=f"its file agrees with the model: {parity.differing} of {parity.pixels:,} pixels "
        f"differ on {parity.images} pictures {pictures.whose}; {_kept(path, source)}",
    )


def open_file(
    path: Path, source: Source, bundle: Bundle, pictures: Pictures, *, threads: int = 0
) -> Choice:
    """ONNX Runtime with a file that the user names, if it says what the model says.

    Raises:
        UsageError: it is no such file, is of other classes or images, or does not agree.
    """
    engine = OnnxEngine(path, threads=threads)
    if engine.labels.names != bundle.labels.names or engine.images != bundle.model.images:
        raise UsageError(f"{path} is of another model than {source.place}: export that one anew")
    if pictures.images and not _agrees(bundle, path, pictures.images, threads=threads):
        raise UsageError(
            f"{path} gives other masks than the model of {source.place}: export it anew"
        )
    return Choice(engine=engine, reason=f"{path.name} was given")


def digest(bundle: Bundle) -> str:
    """Of all that decides what an exported file says; 16 hexadecimal digits."""
    said = {
        "truemask": __version__,
        "network": bundle.network,
        "images": bundle.model.images.to_json(),
        "size": bundle.model.size,
        "labels": bundle.labels.to_json(),
        "temperature": bundle.temperature,
    }
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in bundle.model.network.state_dict().items():
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return found.hexdigest()[:16]


def run_pictures(run: Run, spec: ImageSpec) -> list[LabelledImage]:
    """The small pictures that a run keeps of its images, as the model takes them."""
    try:
        samples = run.samples
    except UsageError:
        return []  # damaged: the run can be served all the same
    return [LabelledImage(_as_images(sample.image, spec)) for sample in samples]


def _as_images(rgb: np.ndarray[Any, np.dtype[np.uint8]], spec: ImageSpec) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    if spec.channels != 3:
        pixels = pixels[:1].expand(spec.channels, -1, -1)
    if spec.dtype == "uint8":
        return pixels.contiguous()
    return pixels.float() / 255 * (spec.high - spec.low) + spec.low


def _agrees(bundle: Bundle, path: Path, pictures: Sequence[LabelledImage], *, threads: int) -> bool:
    said = read_metadata(path)
    if said is None:
        return False
    step = max(1, len(pictures) // _COMPARED_AT_START)
    chosen = [pictures[at] for at in range(0, len(pictures), step)[:_COMPARED_AT_START]]
    engine = OnnxEngine(path, threads=threads)

    def ids(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return engine.predict(image.transpose(0, 3, 1, 2), confidence=False).ids

    try:
        parity = compare_predictions(bundle, ids, chosen)
    except (UsageError, ValueError, RuntimeError):
        return False  # of other images, or with other inputs and outputs than ours
    return parity.share <= (_OF_INT8 if said.get("int8") else MOST_DIFFERING)


def _folders(source: Source) -> list[Path]:
    """Where its file may be kept: in the run, else in the user's cache."""
    own = [] if source.run is None else [source.run.path / "exports"]
    try:
        return [*own, default_cache_folder() / "serve"]
    except RuntimeError:  # a user without a home
        return own


def _is_of(path: Path, source: Source) -> bool:
    return source.run is not None and path.parent.parent == source.run.path


def _kept(path: Path, source: Source) -> str:
    return f"{path.name} in the run's exports" if _is_of(path, source) else f"kept as {path}"


def _may_write(folder: Path) -> bool:
    try:
        make_folder(folder)
    except (UsageError, OSError):
        return False
    return os.access(folder, os.W_OK)


def _note_use(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)


def _remove_others(path: Path, *, most: int) -> None:
    """Remove files of weights, labels or temperatures of before, but for so many in all."""
    there = []
    for other in path.parent.glob("serve-*.onnx"):
        with suppress(OSError):  # another server has removed it
            there.append((other != path, -other.stat().st_mtime_ns, other))
    for _, _, other in sorted(there)[most:]:
        other.unlink(missing_ok=True)
