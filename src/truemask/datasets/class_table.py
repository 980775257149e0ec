"""`classes.json`: the names, ids and colours of classes as a user writes them down."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.errors import UsageError
from truemask.files import read_json
from truemask.labels import Color, LabelMap

EXAMPLE = (
    '{"classes": [{"id": 0, "name": "sky", "color": [128, 128, 128]}, {"id": 1, "name": "road", '
    '"color": [128, 64, 128]}], "ignore_id": 255}'
)


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """What a user says of the classes, before it is held against the masks.

    Attributes:
        source: where it was said, for messages.
        names: one a class.
        ids: one a class, ascending: its value in the masks.
        numbered: whether the ids were given, and are not mere positions.
        colors: one a class, None where not given.
        ignore_id: the value of pixels to be ignored, if there is one.
        ignore_name: what such pixels are called.
        ignore_color: the colour of such pixels, if given.
        unused: keys that mean nothing here.
    """

    source: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    numbered: bool
    colors: tuple[Color | None, ...]
    ignore_id: int | None = None
    ignore_name: str = "ignored"
    ignore_color: Color | None = None
    unused: tuple[str, ...] = ()


def read_class_table(path: Path) -> ClassTable | LabelMap:
    """Read a `classes.json`, or the `labels.json` that a label map writes.

    Raises:
        UsageError: it is missing, not JSON, or of no known form.
    """
    return parse_class_table(read_json(path), source=str(path))


def parse_class_table(value: Any, *, source: str) -> ClassTable | LabelMap:
    """Understand the content of a `classes.json`.

    Args:
        value: `{"classes": [...], "ignore_id": ...}` with names or with objects of `id`, `name` and
            `color`; a list of these alone; names by id as `{"0": "sky"}`; or a label map's JSON.
        source: where it stood, for messages.

    Raises:
        UsageError: it is none of these.
    """
    try:
        if isinstance(value, Mapping) and {"encoding", "classes", "ignore"} <= value.keys():
            return LabelMap.from_json(value)
        return _parse(value, source)
    except UsageError as error:
        raise UsageError(f"{source}: {error}; an example that is understood: {EXAMPLE}") from error


def _parse(value: Any, source: str) -> ClassTable:
    options: Mapping[str, Any] = {}
    classes = value
    if isinstance(value, Mapping) and "classes" in value:
        classes, options = value["classes"], value
    if isinstance(classes, Mapping):
        if not all(_is_id(key) for key in classes):
            raise UsageError("the keys must be ids, or there must be a key 'classes'")
        classes = [{"id": int(key), "name": name} for key, name in classes.items()]
    if not isinstance(classes, Sequence) or isinstance(classes, str) or not classes:
        raise UsageError("the classes must be a list that is not empty, or names by id")
    items = [item if isinstance(item, Mapping) else {"name": item} for item in classes]
    numbered = "id" in items[0]
    if any(("id" in item) != numbered for item in items):
        raise UsageError("some classes have an id and some have none")
    if numbered:
        items.sort(key=lambda item: _id(item["id"]))
    known = {"classes", "ignore_id", "ignore_name", "ignore_color"}
    ignore_id, ignore_color = options.get("ignore_id"), options.get("ignore_color")
    table = ClassTable(
        source=source,
        names=tuple(_name(item) for item in items),
        ids=tuple(_id(item["id"]) if numbered else place for place, item in enumerate(items)),
        numbered=numbered,
        colors=tuple(_color_or_none(item.get("color")) for item in items),
        ignore_id=None if ignore_id is None else _id(ignore_id),
        ignore_name=str(options.get("ignore_name", "ignored")),
        ignore_color=_color_or_none(ignore_color),
        unused=tuple(
            sorted(
                {*options.keys()} - known
                | {key for item in items for key in item.keys() - {"id", "name", "color"}}
            )
        ),
    )
    _check(table)
    return table


def _check(table: ClassTable) -> None:
    for what, values in (
        ("classes share the name", table.names),
        ("classes share the id", table.ids),
    ):
        for value in values:
            if values.count(value) > 1:
                raise UsageError(f"two {what} {value!r}")
    if table.ignore_id in table.ids:
        name = table.names[table.ids.index(table.ignore_id)]
        raise UsageError(f"ignore_id {table.ignore_id} is the id of the class {name!r}")
    colors = [color for color in table.colors if color is not None]
    if len(set(colors)) == len(colors) and table.ignore_color in colors:
        raise UsageError(f"ignore_color {table.ignore_color} is the colour of a class")


def _name(item: Mapping[str, Any]) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"the class {dict(item)!r} has no name")
    return name


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and str(value).isdecimal()


def _id(value: Any) -> int:
    if isinstance(value, bool) or not _is_id(value) or int(value) > 0xFFFF:
        raise UsageError(f"{value!r} is no id: ids are whole numbers from 0 to 65535")
    return int(value)


def _color_or_none(value: Any) -> Color | None:
    return None if value is None else parse_color(value)


def parse_color(value: Any) -> Color:
    """A colour from `[r, g, b]`, each 0 to 255, or from "#rrggbb".

    Raises:
        UsageError: it is neither.
    """
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)
    if isinstance(value, Sequence) and len(value) == 3:
        red, green, blue = value
        if all(type(part) is int and 0 <= part <= 255 for part in (red, green, blue)):
            return red, green, blue
    raise UsageError(f'{value!r} is no colour: write [r, g, b] with 0 to 255, or "#rrggbb"')
