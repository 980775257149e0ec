"""The engine of a run: ONNX Runtime where its file is proven to say what the model says.

The file is made once and kept in the run (`exports/serve-<digest>.onnx`; the digest is of weights,
labels, temperature and version). It is held against the model on the run's own pictures when it
is made, and on a few of them at each start: another version of ONNX Runtime, another processor or
another hand may have changed what it says.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from truemask import __version__
from truemask.bundle import Bundle
from truemask.errors import JobFailed, UsageError
from truemask.images import ImageSpec
from truemask.inference.engine import Engine, OnnxEngine, TorchEngine
from truemask.inference.export import MOST_DIFFERING, export, read_metadata
from truemask.inference.parity import LabelledImage, compare_predictions
from truemask.runs import Run

_COMPARED_AT_START = 3

_OF_INT8 = 0.05
"""Share of the pixels that a file in int8 may give another class: that it loses no more IoU than is
allowed was proven on many images when it was made; here, that it is of this model."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine, and why it was taken.

    Attributes:
        engine: ready to compute.
        reason: one clause, such as "its file agrees with the model on 14 pictures of the run".
    """

    engine: Engine
    reason: str


def choose_engine(run: Run, bundle: Bundle, *, threads: int = 0) -> Choice:
    """ONNX Runtime where it is installed and agrees with the model, else PyTorch.

    Args:
        run: whose pictures the engines are compared on, and where the file is kept.
        bundle: its model, on the device where PyTorch would compute.
        threads: of the CPU for one call; 0 takes one for each core.
    """

    def torch_because(reason: str) -> Choice:
        return Choice(engine=TorchEngine(bundle), reason=reason)

    if bundle.model.mean.device.type != "cpu":
        return torch_because("the model is on a GPU")
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        return torch_because(f"{missing[0]} is not installed: pip install 'truemask[onnx]'")
    pictures = run_pictures(run, bundle.model.images)
    if not pictures:
        return torch_because("the run keeps no pictures on which a file could be proven")
    path = run.path / "exports" / f"serve-{digest(bundle)}.onnx"
    if path.is_file() and _agrees(bundle, path, pictures, threads=threads):
        return Choice(
            engine=OnnxEngine(path, threads=threads), reason=f"{path.name} in the run's exports"
        )
    try:
        made = export(bundle, path, images=pictures, probabilities=True)
    except (JobFailed, UsageError) as error:
        return torch_because(f"no ONNX file could be made: {error}")
    _remove_others(path)
    parity = made.parity
    return Choice(
        engine=OnnxEngine(path, threads=threads),
        reason=f"its file agrees with the model: {parity.differing} of {parity.pixels:,} pixels "
        f"differ on {parity.images} pictures of the run",
    )


def open_file(path: Path, bundle: Bundle, run: Run, *, threads: int = 0) -> Choice:
    """ONNX Runtime with a file that the user names, if it says what the run's model says.

    Raises:
        UsageError: it is no such file, is of other classes or images, or does not agree.
    """
    engine = OnnxEngine(path, threads=threads)
    if engine.labels.names != bundle.labels.names or engine.images != bundle.model.images:
        raise UsageError(f"{path} is of another model than {run.path}: export that run anew")
    pictures = run_pictures(run, bundle.model.images)
    if pictures and not _agrees(bundle, path, pictures, threads=threads):
        raise UsageError(f"{path} gives other masks than the model of {run.path}: export it anew")
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
    chosen = pictures[:: max(1, len(pictures) // _COMPARED_AT_START)][:_COMPARED_AT_START]
    engine = OnnxEngine(path, threads=threads)

    def ids(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return engine.predict(image.transpose(0, 3, 1, 2), confidence=False).ids

    try:
        parity = compare_predictions(bundle, ids, chosen)
    except (UsageError, ValueError, RuntimeError):
        return False  # of other images, or with other inputs and outputs than ours
    return parity.share <= (_OF_INT8 if said.get("int8") else MOST_DIFFERING)


def _remove_others(path: Path) -> None:
    """Remove the files of weights, labels or temperatures that the run had before."""
    for other in path.parent.glob("serve-*.onnx"):
        if other != path:
            other.unlink(missing_ok=True)
