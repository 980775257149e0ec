"""Grey values that are those of colours: of which colour table, and how they were made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from truemask.datasets.camvid import LABELS
from truemask.datasets.cityscapes import LABELS as CITYSCAPES

Channels = tuple[int, int, int]


@dataclass(frozen=True)
class Reading:
    """How masks of colours became masks of greys.

    Attributes:
        table: whose colours they are.
        kind: what was made of them, such as "the brightness".
        colors: grey value -> the packed colour that it may come from.
    """

    table: str
    kind: str
    colors: Mapping[int, int]


def _pillow(c: Channels) -> int:
    return (c[0] * 19595 + c[1] * 38470 + c[2] * 7471 + 0x8000) >> 16


def _opencv(c: Channels) -> int:
    return (c[0] * 4899 + c[1] * 9617 + c[2] * 1868 + 0x2000) >> 14


_BRIGHTNESS: tuple[tuple[str, Callable[[Channels], int]], ...] = (
    ("the brightness", _pillow),
    ("the brightness", _opencv),
    ("the mean of the channels", lambda c: sum(c) // 3),
)
_CHANNELS: tuple[tuple[str, Callable[[Channels], int]], ...] = (
    ("the red channel", lambda c: c[0]),
    ("the green channel", lambda c: c[1]),
    ("the blue channel", lambda c: c[2]),
)


def explain_values(
    values: set[int], strange: set[int], *, own: Iterable[int], told: bool
) -> Reading | None:
    """How the values of masks come from the colours of a table, if they do.

    Args:
        values: that occur, without 0 and the ignored ones.
        strange: those of them that are in no class.
        own: packed colours of the data's own table.
        told: whether there is a class table, so that `strange` means something.
    """
    if len(strange) < (2 if told else 4) or len(strange) < 0.75 * len(values):
        return None
    tables = {"the label map": [_unpack(color) for color in own], **_TABLES}
    for kind, grey_of in _BRIGHTNESS + (_CHANNELS if told else ()):
        for table, colors in tables.items():
            greys = {grey_of(color): color for color in reversed(colors)}
            if strange <= greys.keys():
                found = {value: _pack(greys[value]) for value in strange}
                return Reading(table, kind, found)
    return None


def voc_colors(count: int = 21) -> list[Channels]:
    """PASCAL VOC's colours, and that of void: an id's bits, spread over the channels from above."""
    colors = []
    for index in (*range(count), 255):
        channels = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                bit = index >> (3 * place + channel) & 1
                channels[channel] |= bit << (7 - place)
        colors.append((channels[0], channels[1], channels[2]))
    return colors


def _pack(color: Channels) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _unpack(color: int) -> Channels:
    return color >> 16, color >> 8 & 255, color & 255


_TABLES: dict[str, list[Channels]] = {
    "PASCAL VOC": voc_colors(),
    "CamVid": [color for _, color, _ in LABELS],
    "Cityscapes": [label.color for label in CITYSCAPES],
}
