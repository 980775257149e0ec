"""What a mask says of itself: of which image it is, how it was made, and what was counted.

It stands in the mask's own header (a PNG's text, a TIFF's description), so that it is there as soon
as the mask is, whole or not at all, and whoever else writes into the folder.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL.PngImagePlugin import PngImageFile, PngInfo

from truemask import __version__
from truemask.bundle import Bundle
from truemask.inference import tiff_tags as tiff
from truemask.inference.settings import Settings
from truemask.inference.tiff_tags import tags_in

SOFTWARE = "truemask"

_FILES_BEFORE = (".color.png", ".overlay.jpg", ".npz")
"""What versions wrote that did not say so."""


@dataclass(frozen=True)
class Record:
    """What a mask says of itself.

    Attributes:
        name: its image, by the path below the input that this was found in.
        key: a digest of the image's file, the model and the settings; empty where an earlier
            version wrote none.
        figures: what was counted of it.
        files: endings of the files that were written beside it.
    """

    name: str
    key: str
    figures: Mapping[str, Any]
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        value = {"source": self.name, "key": self.key, "files": list(self.files)}
        return value | {"figures": dict(self.figures)}

    def text(self) -> str:
        """As it is written into a header: ASCII."""
        return json.dumps(self.to_json())

    @classmethod
    def parse(cls, text: str | bytes) -> "Record":
        """The inverse of `text`.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        value = json.loads(text)
        files = tuple(map(str, value["files"]))
        return cls(str(value["source"]), str(value["key"]), dict(value["figures"]), files)

    def png_info(self) -> PngInfo:
        """The header of a PNG."""
        info = PngInfo()
        info.add_text("Software", SOFTWARE)
        info.add_itxt("Source", self.name)
        info.add_text("Prediction", self.text())
        return info


def read_record(mask: Path) -> Record | None:
    """What a mask that was written here says of itself; `None` for every other file."""
    try:
        with mask.open("rb") as file:
            return record_in(file, raster=mask.suffix == ".tif")
    except OSError:
        return None


def record_in(file: BinaryIO, *, raster: bool) -> Record | None:
    """As `read_record`, of an open file; of a raster, a TIFF."""
    try:
        return _of_tiff(file) if raster else _of_png(PngImageFile(file))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return None


def _of_png(image: PngImageFile) -> Record | None:
    if image.info.get("Software") != SOFTWARE:
        return None
    name = str(image.info.get("Source"))
    text = image.info.get("Prediction")
    return Record(name, "", {}, _FILES_BEFORE) if text is None else Record.parse(str(text))


def _of_tiff(file: BinaryIO) -> Record | None:
    tags = tags_in(file)
    if tags.get(tiff.SOFTWARE) != SOFTWARE:
        return None
    return Record.parse(str(tags[tiff.DESCRIPTION]))


def model_key(bundle: Bundle, settings: Settings) -> str:
    """A digest of all that decides a mask but its image: weights, labels, settings, version."""
    digest = hashlib.sha256()
    model = bundle.model
    described = {
        "version": __version__,
        "network": bundle.network,
        "images": model.images.to_json(),
        "size": model.size,
        "labels": bundle.labels.to_json(),
        "temperature": bundle.temperature,
        "inputs": None if bundle.inputs is None else bundle.inputs.value,
        "settings": asdict(settings),
    }
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def image_key(model: str, source: Path, frame: int | None = None, version: str = "") -> str:
    """A digest of a model and of a file as it is now, told by its size and time of change.

    Args:
        model: what `model_key` gives.
        source: the file.
        frame: which frame, of a video.
        version: of an object in a bucket, what stands for both.

    Raises:
        OSError: it is not there.
    """
    if not version:
        state = source.stat()
        version = f"{state.st_size} {state.st_mtime_ns}"
    text = f"{model} {version} {frame}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
