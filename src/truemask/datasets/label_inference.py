"""The label map of masks that come without a list of classes, and why it is so."""

from collections.abc import Sequence
from typing import Any

from truemask.datasets.class_table import parse_color
from truemask.datasets.evidence import Evidence, refuse_what_is_no_class
from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX, Color, LabelMap

Void = int | str | Sequence[int] | None
"""The value of pixels to be ignored: an id, a colour, "none", or None to tell by the masks."""

VOC_VOID = 0xE0E0C0
"""The colour of PASCAL VOC's void label."""

# Colours and ids up to here are "small": 255 beside them is a mark, not the next of a row of greys.
_SMALL_ID = 64


def infer_labels(evidence: Evidence, *, void: Void = None) -> tuple[LabelMap, list[str]]:
    """Make each value that occurs a class, in ascending order, but for one that marks void.

    Args:
        evidence: the masks.
        void: the value to ignore, or "none"; None to tell by the masks.

    Returns:
        The label map, and a sentence for each decision.

    Raises:
        UsageError: the values cannot be classes, or only one is left.
    """
    refuse_what_is_no_class(evidence)
    ignored, notes = find_void(evidence, void)
    classes = [value for value in evidence.values if value != ignored]
    if len(classes) < 2:
        raise UsageError(
            f"{evidence.scans[0].path.parent}: beside the ignored value the masks hold the "
            f"value {evidence.show_all(classes)} only, so that there is nothing to learn"
        )
    names, why = _name_classes(evidence, classes)
    values = {value: index for index, value in enumerate(classes)}
    if ignored is not None:
        values[ignored] = IGNORE_INDEX
    labels = LabelMap(
        names=names,
        colors=_colors(evidence, classes),
        values=values,
        encoding=evidence.encoding,
        ignore_name="void" if ignored is not None else "ignored",
    )
    if evidence.reason:
        notes.insert(0, f"Masks are read as colours, since {evidence.reason}.")
    return labels, [*notes, why]


def find_void(evidence: Evidence, void: Void) -> tuple[int | None, list[str]]:
    """The value of ignored pixels, as the user says or as the masks show, and a note."""
    if void is not None:
        value = parse_void(void, evidence)
        if value is not None and value not in evidence.pixels:
            return value, [
                f"The void value {evidence.show(value)} occurs in no mask that was read."
            ]
        return value, []
    values = evidence.values
    if len(values) == 2:
        return None, []
    if evidence.encoding == "colors":
        if VOC_VOID in evidence.pixels:
            return VOC_VOID, [_void_note(evidence, VOC_VOID, "VOC's colour for void")]
        return None, []
    voc = [value for value in values if evidence.shown.get(value) == VOC_VOID]
    if voc:
        return voc[0], [
            _void_note(evidence, voc[0], "its palette shows it in VOC's colour for void")
        ]
    if values[-1] != IGNORE_INDEX:
        return None, []
    refuse_two_scales(evidence)
    steps = [after - before for before, after in zip(values, values[1:], strict=False)]
    if values[-2] >= _SMALL_ID and min(steps) >= 16:
        return None, [
            f"255 is a class, as the last of the grey levels {evidence.show_all(values)}."
        ]
    return IGNORE_INDEX, [_void_note(evidence, IGNORE_INDEX, "the other ids are small")]


def _void_note(evidence: Evidence, value: int, why: str) -> str:
    return (
        f"{evidence.show(value)} ({evidence.share(value):.2%} of the pixels) is void and ignored, "
        f"since {why}; `data.dataset.void=none` makes it a class."
    )


def refuse_two_scales(evidence: Evidence) -> None:
    """Refuse some masks of 0 and 1 with others of 0 and 255, whose foreground would be void.

    Raises:
        UsageError: there are both, and no mask holds 1 and 255.
    """
    if evidence.values != [0, 1, IGNORE_INDEX]:
        return
    high = [scan for scan in evidence.scans if IGNORE_INDEX in scan.pixels]
    low = [scan for scan in evidence.scans if 1 in scan.pixels]
    if all(1 not in scan.pixels for scan in high):
        raise UsageError(
            f"{high[0].path} holds 255 and no 1, {low[0].path} holds 1 and no 255, and no mask "
            "holds both: write the foreground of all masks alike, or say `void: 255` if 255 is to "
            "be ignored"
        )


def parse_void(void: Void, evidence: Evidence) -> int | None:
    """The value that `void` names, None for "none".

    Raises:
        UsageError: it is no id or colour, or not what the masks hold.
    """
    value: Any = void
    if isinstance(value, str) and value.lower() == "none":
        return None
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if evidence.encoding == "ids" and 0 <= value <= 0xFFFF:
            return value
        raise UsageError(
            f"void {value} is no value of these masks, which hold {evidence.encoding} such as "
            f"{evidence.show_all(evidence.values, 3)}"
        )
    try:
        red, green, blue = parse_color(value)
    except UsageError as error:
        raise UsageError(f'void must be an id, a colour or "none": {error}') from error
    if evidence.encoding == "ids":
        raise UsageError(
            f"void {value!r} is a colour, but the masks hold ids such as "
            f"{evidence.show_all(evidence.values, 3)}"
        )
    return red << 16 | green << 8 | blue


def _name_classes(evidence: Evidence, classes: list[int]) -> tuple[tuple[str, ...], str]:
    listed = evidence.show_all(classes)
    if len(classes) == 2 and classes[0] == 0:
        other = classes[1]
        hold = "Masks hold" if len(evidence.values) == 2 else "Beside it, masks hold"
        return ("background", "foreground"), (
            f"{hold} {evidence.show(0)} and {evidence.show(other)} only: {evidence.show(other)} is "
            f'the foreground, class 1 "foreground" ({evidence.share(other):.2%} of the pixels).'
        )
    what = "colours" if evidence.encoding == "colors" else "ids"
    if evidence.shown:
        what = "palette indices"
    note = (
        f"Masks hold {len(classes)} {what} ({listed}), each of which is a class, in this order; "
        "a classes.json would name them."
    )
    if not evidence.complete:
        note += f" Only {len(evidence.scans)} masks were read, so that a rare one may be missing."
    prefix = "color_" if evidence.encoding == "colors" else "class_"
    return tuple(prefix + evidence.show(value).lstrip("#") for value in classes), note


def _colors(evidence: Evidence, classes: list[int]) -> tuple[Color, ...]:
    """The colours that the files themselves give, where these tell the classes apart."""
    packed = classes if evidence.encoding == "colors" else [evidence.shown.get(v) for v in classes]
    if None in packed or len(set(packed)) < len(packed):
        return ()
    return tuple((c >> 16, c >> 8 & 255, c & 255) for c in packed if c is not None)
