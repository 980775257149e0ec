"""Rules on the values of masks: blended, of no class, colours as ids, foreground ignored."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from statistics import median

from truemask.checks.finding import Finding, rule
from truemask.checks.mask_palettes import Reading, explain_values
from truemask.checks.mask_part import Part, named, names
from truemask.checks.mask_records import Record
from truemask.checks.mask_values import Borders
from truemask.datasets.layout import some
from truemask.errors import counted

_BLENDED = 0.7
"""Share of the borders with room for a value between that hold one, from which on it is a fault."""

_BETWEEN = 0.1
"""The least share of thin runs that are of a value between."""

_BORDERS = 40
"""The fewest borders with room from which a single mask is judged."""

_MANY_VALUES = 32
"""More values than these in a typical mask without a class table are no classes."""


@rule("TM106", "smoothed-mask", "error")
def smoothed_mask(part: Part) -> Iterator[Finding]:
    """A mask went through JPEG or a smooth resize, which makes labels that nobody drew.

    Why it matters:
        Between a pixel of class 1 and one of class 9, bilinear interpolation puts class 5. Where
        that is a class too, nothing complains: every object gets a thin rim of another class, which
        is then learnt, and counted in every score. JPEG does the same and adds noise around. Two of
        the published projects trained on such masks.

    How it decides:
        A file of a lossy format is one. Otherwise the runs of equal pixels along rows and columns
        are looked at: of all borders between values that leave room for one between, the share that
        is crossed through thin runs (1 to 3 pixels) of values between. It is an error from 70 %,
        over at least 40 borders of a mask, or of the part where each mask has fewer, if also
        10 % of all thin runs are of a value between, and these are not all one value that occurs
        hardly anywhere else (the outline of a trimap). Single sound masks of CamVid stay below
        15 %, of generated driving scenes of 100 pixels below 22 %; resized by bilinear, bicubic or
        Lanczos interpolation, or after JPEG of quality 75 to 98, they have 73 % to 100 %. Where a
        class table is known and every value is of a class, borders between classes are looked at,
        not between raw values, which may count votes. Masks of floating point with some fractions
        are another sign.

    False alarms:
        Masks whose values are ordinal on purpose (depth, votes) without a label map that says so.

    How to mend:
        Export the masks again from their source as PNG, and resize them by the nearest pixel:
        `Image.NEAREST`, `cv2.INTER_NEAREST`, `InterpolationMode.NEAREST`. Rounding what is there
        does not help.
    """
    yield from _lossy(part)
    yield from _blended(part)
    yield from _fractions(part)


def _lossy(part: Part) -> Iterator[Finding]:
    found = [record for record in part.records if record.lossy]
    if found:
        first = found[0]
        yield smoothed_mask.finding(
            f"{counted(len(found), 'mask')} of {len(part.records)} "
            f"{'was' if len(found) == 1 else 'were'} saved with loss, the first as {first.lossy} "
            f"with {counted(len(first.pixels), 'different value')} ({named(found)}).",
            where=part.where(first.where),
            remedy="Export the masks again from their source as PNG; converting these files keeps "
            "the damage.",
            evidence=part.evidence(
                masks=names(found), count=len(found), values=[len(r.pixels) for r in found[:50]]
            ),
            pictures=part.pictures(found, "values that JPEG made"),
        )


def _blended(part: Part) -> Iterator[Finding]:
    found = [record for record in blended_masks(part) if not record.lossy]
    if not found:
        return
    borders = _merged(found)
    values: Counter[int] = Counter()
    for record in found:
        values.update(record.blended)
    common = [value for value, _ in values.most_common(6)]
    yield smoothed_mask.finding(
        f"{counted(len(found), 'mask')} of {len(part.read)} "
        f"{'was' if len(found) == 1 else 'were'} resized smoothly or went through JPEG: "
        f"{borders.share_blended:.0%} of the borders with room for a value between the two sides "
        f"hold one, such as {some([_shown(part, value, found) for value in common])} "
        f"({named(found)}).",
        where=part.where(found[0].where),
        remedy="Export the masks again as PNG and resize them by the nearest pixel "
        "(InterpolationMode.NEAREST).",
        evidence=part.evidence(
            masks=names(found), count=len(found), share_blended=round(borders.share_blended, 3),
            borders=borders.blended + borders.direct, values=common,
        ),
        pictures=part.pictures(found, "values between those of the two sides"),
    )  # fmt: skip


def _shown(part: Part, value: int, found: Sequence[Record]) -> str:
    return f"#{value:06x}" if any(record.colored for record in found) else str(value)


def blended_masks(part: Part) -> list[Record]:
    """The masks that were smoothed, by themselves or by all of the part together."""
    masks = [record for record in part.read if not _is_outline(part, record)]
    found = [record for record in masks if _is_blended(record.borders)]
    small = [r for r in masks if 0 < r.borders.blended + r.borders.direct < _BORDERS]
    if len(small) >= 3 and _is_blended(_merged(small)):
        found += [record for record in small if record.borders.share_blended >= _BLENDED]
    return found


def _merged(records: Sequence[Record]) -> Borders:
    return reduce(Borders.merge, (record.borders for record in records), Borders())


def _is_blended(borders: Borders) -> bool:
    return (
        borders.blended + borders.direct >= _BORDERS
        and borders.share_blended >= _BLENDED
        and borders.share_between >= _BETWEEN
    )


def _is_outline(part: Part, record: Record) -> bool:
    """Whether what lies between is one value that is hardly elsewhere, and a class."""
    total = sum(record.blended.values())
    if total == 0 or record.lines < 0.5 or max(record.blended.values()) < 0.95 * total:
        return False
    return len(record.pixels) <= 4 and all(map(part.meanings.known, record.pixels))


def _fractions(part: Part) -> Iterator[Finding]:
    found = [record for record in part.records if 0 < record.fractions < 0.5]
    if found:
        first = found[0]
        yield smoothed_mask.finding(
            f"{counted(len(found), 'mask')} of {len(part.records)} "
            f"{'holds' if len(found) == 1 else 'hold'} fractions, such as {first.fraction:.3g}, in "
            f"{first.fractions:.2%} of the pixels of the first, as a smooth resize leaves them "
            f"({named(found)}).",
            where=part.where(first.where),
            remedy="Resize masks by the nearest pixel (InterpolationMode.NEAREST).",
            evidence=part.evidence(masks=names(found), count=len(found), fraction=first.fraction),
            pictures=part.pictures(found, "fractions at the borders"),
        )


@rule("TM107", "unknown-ids", "error")
def unknown_ids(part: Part) -> Iterator[Finding]:
    """A mask holds ids that are in no class.

    Why it matters:
        A cross-entropy on a GPU ends with an assertion that names nothing, or reads beyond its
        table; code that clips or casts ids turns them into another class in silence. Ids counted
        from 1 shift every class by one.

    How it decides:
        Every value of every mask against the class table: the label map or `classes.json` of the
        data, or 0 to `num_classes` - 1 and the ignored id. Values that another rule explains
        (blended at borders, the greys of colours) are left to it. Without a table, masks of which a
        typical one holds more than 32 values are reported, as they number something else, and
        masks of floating point that hold fractions throughout, as `ToTensor` makes of ids.

    False alarms:
        None known, as long as `num_classes` and `ignore_index` are those of the training.

    How to mend:
        Correct the class table or `num_classes`, map the ids, or pass the ignored id that the masks
        use.
    """
    yield from _scaled(part)
    if not part.meanings.told:
        yield from _too_many(part)
        return
    if colour_reading(part) is not None or any(record.colored for record in part.read):
        return
    explained = blended_masks(part)
    strange: Counter[int] = Counter()
    found = []
    for record in part.read:
        own = {v: n for v, n in record.pixels.items() if not part.meanings.known(v)}
        if own and not record.lossy and not record.fractions and record not in explained:
            found.append(record)
            strange.update(own)
    if not found:
        return
    share = sum(strange.values()) / max(int(part.areas.sum()), 1)
    values = sorted(strange)
    yield unknown_ids.finding(
        f"{counted(len(found), 'mask')} of {len(part.read)} "
        f"{'holds' if len(found) == 1 else 'hold'} ids that are in no class: {some(values, 8)} "
        f"({share:.2%} of the pixels), while classes are {part.meanings.describe()}"
        f"{_ignored(part)}{_from_one(part, values)} ({named(found)}).",
        where=part.where(found[0].where),
        remedy="Correct the class table or num_classes, or map these ids to classes or to the "
        "ignored id.",
        evidence=part.evidence(
            masks=names(found), count=len(found),
            pixels={str(value): strange[value] for value in values[:50]},
        ),
        pictures=part.pictures(found, "holds ids that are in no class"),
    )  # fmt: skip


def _ignored(part: Part) -> str:
    ignored = sorted(part.meanings.ignored)
    return f" and {some(ignored)} ignored" if ignored else ""


def _from_one(part: Part, strange: Sequence[int]) -> str:
    """A hint if the ids run from 1 to K."""
    total = len(part.meanings.names)
    counts_zero = any(0 in record.pixels for record in part.read)
    return "; ids seem to count from 1" if list(strange) == [total] and not counts_zero else ""


def _scaled(part: Part) -> Iterator[Finding]:
    found = [record for record in part.records if record.fractions >= 0.5]
    if found:
        fraction = found[0].fraction or 0.0
        yield unknown_ids.finding(
            f"{counted(len(found), 'mask')} of {len(part.records)} "
            f"{'holds' if len(found) == 1 else 'hold'} fractions such as {fraction:.4f} instead of "
            f"ids{', which are ids over 255' if _over_255(fraction) else ''} ({named(found)}).",
            where=part.where(found[0].where),
            remedy="Read masks as integers (torch.from_numpy, PILToTensor), without the scaling "
            "of ToTensor.",
            evidence=part.evidence(masks=names(found), count=len(found), fraction=fraction),
        )


def _over_255(fraction: float) -> bool:
    return abs(fraction * 255 - round(fraction * 255)) < 1e-3


def _too_many(part: Part) -> Iterator[Finding]:
    masks = [r for r in part.read if not r.lossy and not r.fractions]
    counts = [len(record.pixels) for record in masks]
    if not counts or median(counts) <= _MANY_VALUES or blended_masks(part):
        return
    yield unknown_ids.finding(
        f"A typical mask holds {median(counts):.0f} different values, too many for classes: they "
        f"may number instances or regions ({named(masks)}).",
        where=part.where(masks[0].where),
        remedy="Write masks of class ids, or pass num_classes or a label map.",
        evidence=part.evidence(masks=names(masks), values=counts[:50]),
        pictures=part.pictures(masks, f"{counts[0]} values"),
    )


@rule("TM108", "colour-mask-as-ids", "error")
def colour_mask_as_ids(part: Part) -> Iterator[Finding]:
    """A mask of colours is read as if it held ids: as grey levels, as one channel, or as RGB.

    Why it matters:
        A mask that a viewer shows in colours holds palette indices or colours. Opened with
        `cv2.imread(path, 0)` or `.convert("L")` it becomes grey levels such as 38 and 75, opened
        with `.convert("RGB")` three numbers a pixel, and classes whose colours are equally bright
        become one.

    How it decides:
        An error if masks hold colours where ids are expected: three unequal channels from a
        dataset, or from files where `num_classes` or ids were given. For grey masks: if the values
        that are in no class are the brightness (as Pillow or OpenCV round it, or a plain mean) or
        one channel of colours of a known table (the label map's own, PASCAL VOC, CamVid,
        Cityscapes): all of them, at least two, and three quarters of the values of the masks that
        hold such, 0 and the ignored id apart. Without a class table at least four values must
        match a brightness.

    False alarms:
        Hardly: four random grey levels are all in VOC's table once in 20,000 cases.

    How to mend:
        Open palette masks with `Image.open` and take their array as it is; map colours to ids by a
        label map.
    """
    colored = [record for record in part.read if record.colored]
    strange = [r for r in colored if not all(map(part.meanings.known, r.pixels))]
    if colored and (part.meanings.loaded or (part.meanings.told and len(strange) > 0)):
        if not part.meanings.loaded and part.meanings.colors & set(strange[0].pixels):
            return
        found = strange or colored
        yield colour_mask_as_ids.finding(
            f"{counted(len(found), 'mask')} of {len(part.read)} "
            f"{'holds' if len(found) == 1 else 'hold'} colours such as "
            f"{some([f'#{value:06x}' for value in sorted(found[0].pixels)], 4)}, while ids "
            f"{part.meanings.describe() if part.meanings.told else ''} are expected "
            f"({named(found)}).",
            where=part.where(found[0].where),
            remedy="Map the colours to ids by a label map; take the indices of a palette file as "
            "they are, without convert('RGB').",
            evidence=part.evidence(masks=names(found), count=len(found)),
            pictures=part.pictures(found, "colours instead of ids"),
        )
    reading = colour_reading(part)
    if reading is not None:
        found = [r for r in part.read if any(value in reading.colors for value in r.pixels)]
        pairs = [f"{grey} = #{color:06x}" for grey, color in sorted(reading.colors.items())]
        yield colour_mask_as_ids.finding(
            f"The values of {counted(len(found), 'mask')} are {reading.kind} of the colours of "
            f"{reading.table}: {some(pairs, 4)} ({named(found)}).",
            where=part.where(found[0].where),
            remedy="Read the colours or the palette's indices and map them to ids, without "
            "convert('L') or IMREAD_GRAYSCALE.",
            evidence=part.evidence(
                masks=names(found), count=len(found), reading=reading.kind, table=reading.table,
                colors={str(grey): f"#{color:06x}" for grey, color in reading.colors.items()},
            ),
            pictures=part.pictures(found, "greys of colours"),
        )  # fmt: skip


def colour_reading(part: Part) -> Reading | None:
    """How the values of grey masks come from colours, if they do."""
    masks = [set(r.pixels) for r in part.read if not (r.colored or r.lossy or r.fractions)]
    told = part.meanings.told
    if told:  # Sound masks beside such say nothing of them.
        masks = [values for values in masks if not all(map(part.meanings.known, values))]
    values = set[int]().union(*masks)
    strange = {value for value in values if not part.meanings.known(value)} if told else values
    ignored = part.meanings.ignored | {0, 255}
    return explain_values(values - ignored, strange - ignored, own=part.meanings.colors, told=told)


@rule("TM109", "foreground-ignored", "error")
def foreground_ignored(part: Part) -> Iterator[Finding]:
    """The foreground of binary masks has the ignored id, so that it is never trained.

    Why it matters:
        Masks of black and white hold 0 and 255, and 255 is the usual ignored id. Loss and metric
        then see background only: the loss falls to nothing, the accuracy is 100 %, and the model
        predicts nothing at all.

    How it decides:
        All pixels of the part that are not ignored are of class 0, and the ignored id occurs. Or
        the part mixes masks of 0 and 1 with masks of 0 and 255 (a tenth of them at least), and no
        mask holds both. A warning where neither a class table nor `num_classes` was given and the
        masks come from a dataset; nothing is said of files then, as whoever reads them may map 255
        to 1.

    False alarms:
        A part that shows one class only, with pixels to be ignored.

    How to mend:
        Map 255 to 1 when the masks are read (`mask > 0`, or a label map), or pass another
        `ignore_index`.
    """
    meanings = part.meanings
    if not part.read or not (meanings.told or meanings.loaded) or not part.ignored.any():
        return
    level = None if meanings.told else "warning"
    used = part.pixels.sum(0)
    only_zero = used[0] > 0 and not used[1:].any() and len(used) >= (2 if meanings.told else 1)
    unknown = part.areas.sum() - part.ignored.sum() - used.sum()
    if only_zero and unknown == 0:
        share = part.ignored.sum() / part.areas.sum()
        found = [r for r, n in zip(part.read, part.ignored, strict=True) if n]
        yield foreground_ignored.finding(
            f"All pixels of the part are of class 0 or have the ignored id "
            f"{some(sorted(meanings.ignored))} ({share:.2%}), so that no foreground is trained.",
            level="warning" if level else "error",
            where=part.where(found[0].where),
            remedy="Map 255 to class 1 when masks are read (mask > 0), or pass another "
            "ignore_index.",
            evidence=part.evidence(ignored=float(share), masks=names(found)),
            pictures=part.pictures(found, "its foreground is ignored"),
        )
        return
    yield from _two_scales(part)


def _two_scales(part: Part) -> Iterator[Finding]:
    values = {value for record in part.read for value in record.pixels}
    if values != {0, 1, 255} or 255 not in part.meanings.ignored:
        return
    high = [record for record in part.read if 255 in record.pixels]
    low = [record for record in part.read if 1 in record.pixels]
    if any(1 in record.pixels for record in high) or len(high) < max(2, 0.1 * len(part.read)):
        return
    yield foreground_ignored.finding(
        f"{counted(len(high), 'mask')} of {len(part.read)} hold 0 and 255 ({named(high)}), "
        f"{len(low)} hold 0 and 1 ({named(low)}), and none holds both: the foreground of the "
        "former is ignored.",
        where=part.where(high[0].where),
        remedy="Write the foreground of all masks alike, as 1.",
        evidence=part.evidence(masks=names(high), count=len(high), of_0_and_1=len(low)),
        pictures=part.pictures(high, "its foreground is ignored"),
    )
