"""One COCO file for all images of a folder, as programs that read COCO expect it: `OUT/coco.json`.

It is put together at the end, image after image, from the files that were written beside the masks:
so a prediction that was ended goes on, several processes and machines share a folder, and only the
names of the images are in memory. Images and annotations are numbered in the order of the images'
names. Whoever finishes last writes the file that has all; until then it is not there, or has what
others had finished.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from truemask import __version__
from truemask.errors import UsageError
from truemask.files import atomic_path, read_json, remove_partial
from truemask.inference.records import read_record
from truemask.inference.summary import SUMMARY, alone
from truemask.labels import LabelMap

COCO = "coco.json"
_ENDING = ".coco.json"
_DESCRIPTION = "Masks by truemask predict"
_BEGINNING = json.dumps({"info": {"description": _DESCRIPTION}})[:-2]


@dataclass(frozen=True, order=True)
class _Entry:
    """An image: its name, its own file, and its size."""

    name: str
    file: str
    height: int
    width: int


def made_here(out: Path) -> bool:
    """Whether there is such a file, and it was written here.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with (out / COCO).open(encoding="utf-8", errors="replace") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError(f"cannot read {out / COCO}: {error.strerror}") from error


def require_no_other(out: Path) -> None:
    """Nothing, unless a file of another program would be overwritten.

    Raises:
        UsageError: it would.
    """
    if (out / COCO).exists() and not made_here(out):
        raise UsageError(
            f"{out / COCO} exists, and no prediction wrote it: choose another --out, or move it "
            "away"
        )


def write_coco(out: Path, labels: LabelMap) -> int:
    """Write the file of all images in the table that have outlines of this format.

    Args:
        out: the folder of the masks.
        labels: the classes; their ids are those of the categories.

    Returns:
        How many images it has; without one there is no file.

    Raises:
        UsageError: it cannot be written, or the file of an image is damaged.
    """
    with alone(out, COCO) as alive:
        remove_partial([out / COCO])  # of a process that was killed
        entries = _entries(out, alive)
        if not entries:
            if made_here(out):
                (out / COCO).unlink(missing_ok=True)
            return 0
        with (
            atomic_path(out / COCO) as temporary,
            # Bytes of names that are no UTF-8 become escapes, which JSON has for them.
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            _write(file, entries, out, labels, alive)
    return len(entries)


def _write(
    file: IO[str], entries: list[_Entry], out: Path, labels: LabelMap, alive: Callable[[], None]
) -> None:
    file.write(f'{_BEGINNING}, "version": {json.dumps(__version__)}}},\n"licenses": [],\n')
    categories = [{"id": i, "name": name} for i, name in enumerate(labels.names)]
    file.write(f'"categories": {_text(categories)},\n"images": [')
    for number, entry in enumerate(entries, start=1):
        image = {"id": number, "file_name": entry.name, "height": entry.height,
                 "width": entry.width}  # fmt: skip
        file.write(f"{',' if number > 1 else ''}\n{_text(image)}")
    file.write('\n],\n"annotations": [')
    count = 0
    for number, entry in enumerate(entries, start=1):
        alive()
        for annotation in _annotations(out / entry.file):
            count += 1
            numbered = annotation | {"id": count, "image_id": number}
            file.write(f"{',' if count > 1 else ''}\n{_text(numbered)}")
    file.write("\n]}\n")


def _annotations(file: Path) -> list[dict[str, Any]]:
    with _of_image(file):
        found: list[dict[str, Any]] = read_json(file)["annotations"]
    return found


@contextmanager
def _of_image(file: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError) as error:
        raise UsageError(
            f"{file} is no COCO file of an image: predict again with --fresh"
        ) from error


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _entries(out: Path, alive: Callable[[], None]) -> list[_Entry]:
    """The images whose masks say that a file of their outlines is theirs, by their names.

    An image that got another mask since, as others of its name came beside it, is there once.
    """
    found: dict[tuple[str, str], _Entry] = {}
    for mask, image in _masks(out):
        alive()
        record = read_record(mask)
        if record is None or _ENDING not in record.files:
            continue
        file = mask.with_name(mask.name[: -len(mask.suffix)] + _ENDING)
        if file.is_file():
            height, width = (int(record.figures[name]) for name in ("height", "width"))
            name = record.name
            if "?" in name:  # perhaps for bytes that are no UTF-8
                with _of_image(file):
                    name = str(read_json(file)["images"][0]["file_name"])
            found[name, image] = _Entry(name, str(file.relative_to(out)), height, width)
    return sorted(found.values())


def _masks(out: Path) -> Iterator[tuple[Path, str]]:
    """The masks of the table, in its order, and of which images they are."""
    table = out / SUMMARY
    if not table.is_file():
        return
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = out / row["mask"]
            if not path.exists():  # a name that is no UTF-8 stands there as escapes
                path = out / re.sub(r"\\u(dc[89a-f][0-9a-f])", _unescaped, row["mask"])
            yield path, row["file"]


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
