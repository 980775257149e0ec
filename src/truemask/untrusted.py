"""Reading text that somebody else may have written: it is data, nothing of it is executed.

Whatever is wrong in such a file becomes a `UsageError` that names it.
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from truemask.errors import UsageError
from truemask.files import read_json


def safe_name(name: str, *, what: str) -> str:
    """The name itself, if it leads nowhere but down from the folder where it is used.

    Raises:
        UsageError: it is absolute, goes up, is empty or holds a line break.
    """
    parts = re.split(r"[/\\]", name)
    outside = name.startswith("/") or PureWindowsPath(name).anchor != "" or ".." in parts
    if outside or not name.strip("./\\ ") or any(ord(letter) < 32 for letter in name):
        raise UsageError(
            f"{name!r} cannot be {what}: it must be a relative path without `..` or line breaks"
        )
    return name


def plain_name(name: str, *, what: str) -> str:
    """The name itself, if it can be a part of a file's name.

    Raises:
        UsageError: it has other characters than letters, digits, `-`, `_` and `.`.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise UsageError(f"{name!r} cannot be {what}: use letters, digits, `-`, `_` and `.` only")
    return name


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Say of what is wrong with a file's content which file it is."""
    try:
        yield
    except UsageError as error:
        if str(error).startswith(str(file)):
            raise
        raise UsageError(f"{file}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file} is damaged: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An error's kind and message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise UsageError(f"{file} is damaged: it must hold a mapping")
    return value


def read_objects(file: Path) -> list[dict[str, Any]]:
    """Read a JSON file that holds a list of mappings."""
    value = read_json(file)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{file} is damaged: it must hold a list of mappings")
    return value


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of plain values: no tags, no aliases."""
    text = _read_text(file)
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not plain YAML: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{file} is damaged: it must hold a mapping")
    return value


class _Loader(yaml.SafeLoader):
    """Refuses aliases too: nested, they let a few lines outgrow the memory once written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file that are not empty."""
    lines = _read_text(file).replace("\r\n", "\n").split("\n")
    return [line for line in lines if line != ""]


def read_table(file: Path) -> list[dict[str, str]]:
    """Read a CSV file: column -> text, for each line below the first."""
    reader = csv.DictReader(io.StringIO(_read_text(file), newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UsageError(f"{file} is damaged: line {reader.line_num}: {error}") from error
    for number, row in enumerate(rows, start=2):
        # DictReader marks superfluous and missing cells with None.
        if None in row or None in row.values():
            raise UsageError(f"{file} is damaged: line {number} has not as many cells as line 1")
    return rows


def _read_text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is damaged: it is not UTF-8 text") from error
