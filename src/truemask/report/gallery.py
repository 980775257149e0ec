"""A gallery of many images: small cards that are drawn as they come into view, and a viewer.

The page holds the pictures once, as text that no script engine runs; a card or a view is made of
them only when somebody looks at it. So 5,000 images open as fast as five.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from truemask.report import formats
from truemask.report.pictures import Picture

Fact = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class GalleryItem:
    """An image of a gallery.

    Attributes:
        name: of the image, shown below it; the gallery's search looks here.
        pictures: the layers, each with its name, in the order in which the viewer shows them; the
            first is the card's.
        facts: name -> a number or a word. Cards sort by numbers; words with few different values
            choose among the cards. Every item of a gallery has the same facts in the same order;
            one that it lacks is `None`.
        note: a sentence for the viewer.
        cover: which picture stands on the card.
    """

    name: str
    pictures: tuple[tuple[str, Picture], ...]
    facts: Mapping[str, Fact] = field(default_factory=dict)
    note: str = ""
    cover: int = 0


MOST_WORDS = 40
"""Different words of a fact among which a reader can choose."""


def gallery_content(items: Iterable[GalleryItem]) -> dict[str, Any]:
    """What the macro `gallery` of `macros.html` draws.

    Args:
        items: in the order in which they are first shown.

    Returns:
        `count`, the names of the facts to `sort` and to `choose` by with the words of each, and the
        items as `data`, JSON that can stand in a page.

    Raises:
        ValueError: the items have different facts, or one has no picture.
    """
    chosen: Sequence[GalleryItem] = list(items)
    names = list(chosen[0].facts) if chosen else []
    if any(list(item.facts) != names for item in chosen):
        raise ValueError("all items of a gallery need the same facts in the same order")
    if any(not item.pictures for item in chosen):
        raise ValueError("every item of a gallery needs a picture")
    numbers = [n for n in names if any(formats.is_number(item.facts[n]) for item in chosen)]
    words = {
        name: sorted({str(item.facts[name]) for item in chosen if item.facts[name] is not None})
        for name in names
        if name not in numbers
    }
    data = {
        "facts": names,
        "numbers": numbers,
        "items": [_plain(item, numbers) for item in chosen],
    }
    return {
        "count": len(chosen),
        "sort": numbers,
        "choose": {name: found for name, found in words.items() if 1 < len(found) <= MOST_WORDS},
        "data": embedded_json(data),
    }


def embedded_json(value: Any) -> Markup:
    """JSON that can stand within a `script` element of a page: nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(
        text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )


def _plain(item: GalleryItem, numbers: Sequence[str]) -> list[Any]:
    facts = [
        (value if formats.is_number(value) else None)
        if name in numbers
        else (None if value is None else str(value))
        for name, value in item.facts.items()
    ]
    pictures = [[name, p.uri, p.width, p.height] for name, p in item.pictures]
    return [item.name, facts, item.note, item.cover, pictures]
