"""What the checks said of a run, and the pictures that show it."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.errors import UsageError
from truemask.files import atomic_path, make_folder, write_json
from truemask.untrusted import read_objects

LONG_SIDE = 512
"""The most pixels that a side of a saved picture has."""

_INDEX = "findings.json"
_FOLDER = "findings"
_PICTURE = r"[0-9a-f]{32}\.png"


class Picture(Protocol):
    """A picture as a check gives it: (H, W, 3) RGB from 0 to 255, and a line to read below it."""

    @property
    def caption(self) -> str:
        """The line."""

    @property
    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture."""


def write_findings(run: Path, findings: Sequence[Mapping[str, Any]]) -> None:
    """Write `findings.json`, and the pictures of each finding below `findings/`.

    Args:
        run: the run's folder.
        findings: plain values, with the pictures of a finding under "pictures", new ones or as
            `read_findings` gives them.

    Raises:
        UsageError: the folder cannot be written.
    """
    folder = run / _FOLDER
    items = []
    for finding in findings:
        pictures: Sequence[Picture | dict[str, str]] = finding.get("pictures", ())
        saved = [_saved(folder, picture) for picture in pictures]
        items.append({**finding, "pictures": saved} if saved else dict(finding))
    write_json(run / _INDEX, items)
    used = {picture["file"] for item in items for picture in item.get("pictures", ())}
    for file in sorted(folder.glob("*.png")):
        if re.fullmatch(_PICTURE, file.name) and file.name not in used:
            file.unlink()


def read_findings(run: Path) -> list[dict[str, Any]] | None:
    """What `write_findings` wrote; `None` where no check ran. A picture stands as its file.

    Raises:
        UsageError: the file is damaged.
    """
    index = run / _INDEX
    return read_objects(index) if index.exists() else None


def read_picture(run: Path, name: Any) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of a finding.

    Args:
        run: the run's folder.
        name: its "file".

    Raises:
        UsageError: it is damaged, or no picture of that folder.
    """
    if not isinstance(name, str) or not re.fullmatch(_PICTURE, name):
        raise UsageError(f"{name!r} is no name of a picture in {run / _FOLDER}")
    file = run / _FOLDER / name
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if max(picture.size) > LONG_SIDE or picture.mode != "RGB":
                raise UsageError(f"{file} is {picture.mode} {picture.size}, as no such picture is")
            return np.asarray(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def _saved(folder: Path, picture: Picture | dict[str, str]) -> dict[str, str]:
    if isinstance(picture, dict):
        return picture
    return {"caption": picture.caption, "file": _write(folder, picture.pixels)}


def _write(folder: Path, pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """Write a picture under a name made of its content, so that no other is ever overwritten."""
    picture = Image.fromarray(np.asarray(pixels, np.uint8)).convert("RGB")
    if max(picture.size) > LONG_SIDE:
        picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    name = f"{hashlib.sha256(content.getvalue()).hexdigest()[:32]}.png"
    make_folder(folder)
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(content.getvalue())
    return name
