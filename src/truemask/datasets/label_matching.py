"""The label map of masks whose classes the user has listed: the list held against the masks."""

from collections.abc import Mapping
from dataclasses import replace

from truemask.datasets.class_table import ClassTable
from truemask.datasets.evidence import Evidence, gather
from truemask.datasets.label_inference import VOC_VOID, Void, parse_void, refuse_two_scales
from truemask.errors import UsageError, counted
from truemask.labels import IGNORE_INDEX, Color, LabelMap, default_colors


def match_labels(
    table: ClassTable | LabelMap, evidence: Evidence, *, void: Void = None
) -> tuple[LabelMap, list[str]]:
    """Find out which value of the masks is which class of the list.

    Args:
        table: the list.
        evidence: the masks.
        void: the value to ignore whatever the list says, or "none".

    Returns:
        The label map, and a sentence for each decision.

    Raises:
        UsageError: a value of the masks is in no class, or the list contradicts the masks.
    """
    if isinstance(table, LabelMap):
        if void is not None:
            raise UsageError("void cannot be given beside a label map, which says what is ignored")
        evidence = gather(
            evidence.scans, complete=evidence.complete, as_colors=table.encoding == "colors"
        )
        refuse_unknown(evidence, table.values, "the label map")
        return table, []
    notes = []
    if table.unused:
        notes.append(f"{table.source}: not used are the keys {', '.join(table.unused)}.")
    evidence, why_colors = _choose_encoding(table, evidence)
    notes += why_colors
    if void is not None:
        table = _with_void(table, evidence, parse_void(void, evidence))
    match = _match_colors if evidence.encoding == "colors" else _match_ids
    values, why = match(table, evidence, void_given=void is not None)
    refuse_unknown(evidence, values, table.source)
    given = default_colors(table.names)
    labels = LabelMap(
        names=table.names,
        colors=tuple(color or given[i] for i, color in enumerate(table.colors)),
        values=values,
        encoding=evidence.encoding,
        ignore_name=table.ignore_name,
        ignore_color=table.ignore_color or (224, 224, 224),
    )
    return labels, [*notes, *why, *_absent(labels, evidence)]


def _choose_encoding(table: ClassTable, evidence: Evidence) -> tuple[Evidence, list[str]]:
    """Whether the values or the colours of palette and grey files are what the table lists."""
    if any(scan.colored for scan in evidence.scans):
        return evidence, []
    known = {*table.ids, table.ignore_id, IGNORE_INDEX}
    colors = {_pack(color) for color in (*table.colors, table.ignore_color) if color is not None}
    by_id = gather(evidence.scans, complete=evidence.complete, as_colors=False)
    shown = {color for scan in evidence.scans for color in (scan.shown or {0: -1}).values()}
    disagree = evidence.encoding == "colors"
    if shown <= colors and (disagree or not {*by_id.values} <= known):
        by_color = gather(evidence.scans, complete=evidence.complete, as_colors=True)
        return by_color, [
            f"Masks are read as colours: those they show are the colours of {table.source}, and "
            "their values are not its ids."
        ]
    if disagree and {*by_id.values} <= known and None not in table.colors:
        return by_id, [
            f"Masks are read as ids, though {evidence.reason}: they show no colours of "
            f"{table.source}."
        ]
    return evidence, []


def _with_void(table: ClassTable, evidence: Evidence, value: int | None) -> ClassTable:
    if evidence.encoding == "ids":
        if value in table.ids:
            name = table.names[table.ids.index(value)]
            raise UsageError(f"void {value} is the id of the class {name!r} in {table.source}")
        return replace(table, ignore_id=value)
    color = None if value is None else (value >> 16, value >> 8 & 255, value & 255)
    if color is not None and color in table.colors:
        name = table.names[table.colors.index(color)]
        raise UsageError(f"void {color} is the colour of the class {name!r} in {table.source}")
    return replace(table, ignore_color=color)


def _match_colors(
    table: ClassTable, evidence: Evidence, *, void_given: bool
) -> tuple[dict[int, int], list[str]]:
    without = [n for n, color in zip(table.names, table.colors, strict=True) if color is None]
    if without:
        raise UsageError(
            f"{table.source} gives no colour for {without[0]!r}, but the masks hold colours "
            f"({evidence.show_all(evidence.values)}): add a color to each class"
        )
    values = {_pack(color): i for i, color in enumerate(table.colors) if color is not None}
    if len(values) < len(table.colors):
        raise UsageError(f"{table.source} gives two classes one colour, but the masks hold colours")
    if table.ignore_color is not None:
        values[_pack(table.ignore_color)] = IGNORE_INDEX
    if VOC_VOID in evidence.pixels and VOC_VOID not in values and not void_given:
        values[VOC_VOID] = IGNORE_INDEX
        return values, [f"{evidence.show(VOC_VOID)}, VOC's colour for void, is ignored."]
    return values, []


def _match_ids(
    table: ClassTable, evidence: Evidence, *, void_given: bool
) -> tuple[dict[int, int], list[str]]:
    values = {raw: index for index, raw in enumerate(table.ids)}
    if table.ignore_id is not None:
        values[table.ignore_id] = IGNORE_INDEX
    present = {*evidence.values}
    classes = [value for value in evidence.values if value != table.ignore_id]
    count = len(table.names)
    if present <= {table.ids[0], IGNORE_INDEX} and IGNORE_INDEX in present and not void_given:
        return _match_binary(table, evidence, values)
    if present <= values.keys():
        return values, []
    if IGNORE_INDEX not in values and not void_given:
        rest = [value for value in classes if value != IGNORE_INDEX]
        if {*rest} <= values.keys():
            refuse_two_scales(evidence)
            share = evidence.share(IGNORE_INDEX)
            return values | {IGNORE_INDEX: IGNORE_INDEX}, [
                f"255 ({share:.2%} of the pixels) is in no class and is ignored, since the masks "
                "hold other ids too."
            ]
        if not table.numbered and len(rest) == count and len(classes) == count + 1:
            values = {raw: index for index, raw in enumerate(rest)} | {IGNORE_INDEX: IGNORE_INDEX}
            return values, [_in_order(table, evidence, rest), "255 is in no class and is ignored."]
    if not table.numbered and len(classes) == count:
        by_rank = {raw: index for index, raw in enumerate(classes)}
        if table.ignore_id is not None:
            by_rank[table.ignore_id] = IGNORE_INDEX
        return by_rank, [_in_order(table, evidence, classes)]
    return values, []


def _in_order(table: ClassTable, evidence: Evidence, classes: list[int]) -> str:
    return (
        f"Masks hold {evidence.show_all(classes)}, as many values as there are class names: they "
        f"are taken in order, {classes[0]} as {table.names[0]!r} to {classes[-1]} as "
        f"{table.names[-1]!r}."
    )


def _match_binary(
    table: ClassTable, evidence: Evidence, values: dict[int, int]
) -> tuple[dict[int, int], list[str]]:
    """Masks of nothing but the first class and 255: is 255 ignored, or the other class?"""
    if IGNORE_INDEX in table.ids:
        return values, []
    holds = f"the masks hold {evidence.show_all(evidence.values)} only"
    if len(table.names) > 2:
        raise UsageError(
            f"{table.source} lists {len(table.names)} classes, but {holds}: are these the masks?"
        )
    other = table.names[1]
    if table.ignore_id == IGNORE_INDEX:
        raise UsageError(
            f"{table.source} ignores 255, but {holds}, so that nothing of {other!r} "
            f"({table.ids[1]}) would be left to learn: if 255 is {other!r}, give it the id 255 and "
            "remove ignore_id"
        )
    return values | {IGNORE_INDEX: 1}, [
        f"255 is the class {other!r}, since {holds} and its id {table.ids[1]} never occurs."
    ]


def refuse_unknown(evidence: Evidence, values: Mapping[int, int], source: str) -> None:
    """Refuse masks with a value that is no class and not ignored.

    Raises:
        UsageError: names the first such mask, its values and their pixels.
    """
    unknown = {*evidence.pixels} - values.keys()
    if not unknown:
        return
    scan = next(scan for scan in evidence.scans if unknown & evidence.values_of(scan).keys())
    found = evidence.values_of(scan)
    strange = sorted(unknown & found.keys(), key=lambda value: (-found[value], value))
    shown = ", ".join(f"{evidence.show(v)} ({counted(found[v], 'pixel')})" for v in strange[:4])
    hint = (
        "so many suggest that the masks went through JPEG or a smooth resize"
        if len(unknown) > 16
        else "add it to the classes, or name it as ignored"
    )
    raise UsageError(
        f"{scan.path} holds {shown}{' and others' if len(strange) > 4 else ''}, in no class of "
        f"{source}, which knows {evidence.show_all(sorted(values))}: {hint}"
    )


def _absent(labels: LabelMap, evidence: Evidence) -> list[str]:
    occurring = {labels.values[value] for value in evidence.values}
    absent = [name for i, name in enumerate(labels.names) if i not in occurring]
    if not absent or not evidence.complete:
        return []
    return [f"No mask holds the class{'es' if len(absent) > 1 else ''} {', '.join(absent)}."]


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
