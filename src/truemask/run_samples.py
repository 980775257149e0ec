"""The small pictures of a run: some samples with truth and prediction, for its report."""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.errors import UsageError
from truemask.files import atomic_path, make_folder, write_json
from truemask.untrusted import naming, read_objects, safe_name

LONG_SIDE = 640
"""The most pixels that a side of a saved picture has."""

Kind = Literal["train", "best", "worst", "typical"]

_INDEX = "samples.json"
_PICTURE = r"[0-9a-f]{32}\.(jpg|png)"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunSample:
    """A sample of the data, and what the model made of it.

    Attributes:
        part: the part of the dataset that it is from.
        kind: why it was chosen.
        name: its name in the dataset.
        iou: of the prediction, from 0 to 1; `None` where there is none or no class occurs.
        image: RGB.
        truth: class ids.
        prediction: class ids.
    """

    part: str
    kind: Kind
    name: str
    iou: float | None
    image: UInt8[np.ndarray, "H W 3"]
    truth: UInt8[np.ndarray, "H W"]
    prediction: UInt8[np.ndarray, "H W"] | None = None


def write_samples(folder: Path, samples: Sequence[RunSample]) -> None:
    """Write `samples.json` and its pictures in place of earlier ones, none above `LONG_SIDE`.

    Raises:
        UsageError: the folder cannot be written.
    """
    make_folder(folder)
    items = [_write_sample(sample, folder) for sample in samples]
    write_json(folder / _INDEX, items)
    # Only now, so that at every moment the pictures that samples.json names are there.
    used = {item[key] for item in items for key in ("image", "truth", "prediction")}
    for file in sorted(folder.iterdir()):
        if re.fullmatch(_PICTURE, file.name) and file.name not in used:
            file.unlink()


def read_samples(folder: Path) -> list[RunSample]:
    """Read what `write_samples` wrote; nothing where it did not.

    Raises:
        UsageError: a file is damaged, or is none that belongs there.
    """
    index = folder / _INDEX
    if not index.exists():
        return []
    items = read_objects(index)
    with naming(index):
        return [_read_sample(item, folder) for item in items]


def _write_sample(sample: RunSample, folder: Path) -> dict[str, Any]:
    image = Image.fromarray(sample.image)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)

    def write_ids(mask: UInt8[np.ndarray, "H W"]) -> str:
        small = Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST)
        return _write_picture(small, folder, suffix="png", format="PNG")

    return {
        "part": sample.part,
        "kind": sample.kind,
        "name": sample.name,
        "iou": None if sample.iou is None or np.isnan(sample.iou) else float(sample.iou),
        "image": _write_picture(image, folder, suffix="jpg", format="JPEG", quality=88),
        "truth": write_ids(sample.truth),
        "prediction": None if sample.prediction is None else write_ids(sample.prediction),
    }


def _write_picture(picture: Image.Image, folder: Path, *, suffix: str, **options: Any) -> str:
    """Write a picture under a name made of its content, so that no other is ever overwritten."""
    content = io.BytesIO()
    picture.save(content, **options)
    name = f"{hashlib.sha256(content.getvalue()).hexdigest()[:32]}.{suffix}"
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(content.getvalue())
    return name


def _read_sample(item: dict[str, Any], folder: Path) -> RunSample:
    if item["kind"] not in get_args(Kind):
        raise UsageError(f"kind is {item['kind']!r}; allowed are {', '.join(get_args(Kind))}")
    predicted = item["prediction"] is not None
    sample = RunSample(
        part=str(item["part"]),
        kind=item["kind"],
        name=safe_name(str(item["name"]), what="the name of a sample"),
        iou=None if item["iou"] is None else float(item["iou"]),
        image=_read_picture(folder, item["image"], mode="RGB"),
        truth=_read_picture(folder, item["truth"], mode="L"),
        prediction=_read_picture(folder, item["prediction"], mode="L") if predicted else None,
    )
    for ids in (sample.truth, sample.prediction):
        if ids is not None and ids.shape != sample.image.shape[:2]:
            raise UsageError(f"the pictures of {sample.name} differ in size")
    return sample


def _read_picture(folder: Path, name: Any, *, mode: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not isinstance(name, str) or not re.fullmatch(_PICTURE, name):
        raise UsageError(f"{name!r} is no name of a picture in this folder")
    try:
        with Image.open(folder / name, formats=["JPEG" if mode == "RGB" else "PNG"]) as picture:
            if max(picture.size) > LONG_SIDE or picture.mode != mode:
                raise UsageError(f"{name} is {picture.mode} {picture.size}, as no sample is")
            return np.asarray(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
