"""What a comparison says in one sentence: which is best, where, and how sure that is."""

from collections.abc import Sequence

from truemask.analysis.comparison import SAID, Difference, Group, Images, Metric, Needed, Part
from truemask.errors import counted
from truemask.report import formats

_MANY = 1_000_000
"""Images above which a number of them says no more."""


def headline(
    groups: Sequence[Group], metric: Metric, judged: Part, images: Images | None, *, why: str = ""
) -> str:
    """One sentence: which is best, where, and how sure that is.

    Args:
        groups: the best on validation first.
        metric: that they are compared by.
        judged: the part.
        images: that they were judged on, where they can be held against each other.
        why: where they cannot, a sentence that says why.
    """
    best, what = groups[0], f"{judged} {SAID[metric]}"
    if len(groups) == 1:
        return (
            f"There is nothing to compare {best.name} with: its {what} is {_shown(best, judged)}."
        )
    second = groups[1]
    gap = second.difference
    if images is None and why and (gap is None or gap.interval is None):
        return f"Which is better cannot be said: {why}"
    if gap is None:
        return f"{best.name} is best on validation; nothing can be said of how sure that is."
    if gap.identical:
        on: str = judged
        if images is not None:
            on = counted(images.total, f"{judged} image")
            on = f"the only {judged} image" if images.total == 1 else f"every one of {on}"
        said = f"No difference: {best.name} and {second.name} have the very same counts on {on}"
    elif not gap.certain:
        said = (
            f"Cannot tell {best.name}, which is best on validation, from {second.name}: they "
            f"differ by {_by(gap, -1)} in {what}{_over(groups, images)}{_needs(gap.needed)}"
        )
    elif gap.value > 0:
        said = (
            f"{best.name} is best on validation, but {second.name} is better than it by "
            f"{_by(gap, 1)} in {what}{_over(groups, images)}{_classes(second, better=True)}"
        )
    else:
        said = (
            f"{best.name} is better than {second.name} by {_by(gap, -1)} in {what}"
            f"{_over(groups, images)}{_classes(second, better=False)}"
        )
    return f"{said}{_others(groups[1:], best.name)}."


def _by(gap: Difference, sign: int) -> str:
    """How much the better one is better, and its interval."""
    ends = None if gap.interval is None else sorted(sign * end for end in gap.interval)
    digits = formats.digits(gap.interval, gap.value)
    by = f"{_plain(sign * gap.value, digits)}"
    return by if ends is None else f"{by} [{_plain(ends[0], digits)}, {_plain(ends[1], digits)}]"


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _over(groups: Sequence[Group], images: Images | None) -> str:
    """Over what the interval of the first two groups is."""
    gap = groups[1].difference
    if gap is None or gap.interval is None:
        return ", of which no interval is known"
    best, second = (len(group.runs) for group in groups[:2])
    counted = {
        "images": f"{images.total:,} images" if images else "images",
        "seeds": f"{best} seeds each" if best == second else f"{best} and {second} seeds",
    }
    said = f" (95 % interval over {' and '.join(counted[over] for over in gap.over)}"
    if "seeds" not in gap.over:
        said += "; what another seed would change is not in it"
    return said + ")"


def _needs(needed: Needed | None) -> str:
    """What would show a difference of this size in four of five cases."""
    if needed is None:
        return ""
    size = "to see a difference of this size"
    if needed.images > _MANY:
        return f"; more than a million images would be needed {size}"
    if needed.seeds is None:
        return f"; about {needed.images:,} images would be needed {size}"
    return (
        f"; about {needed.seeds:,} seeds of each and {needed.images:,} images would be needed "
        f"{size}"
    )


def _classes(group: Group, *, better: bool) -> str:
    """In how many classes the better one is better, where all are known."""
    if group.details is None:
        return ""
    gaps = [one.difference for one in group.details.classes.values() if one.difference]
    signed = [gap for gap in gaps if (gap.value > 0) == better and gap.value != 0]
    if len(gaps) < 2:
        return ""
    sure = sum(gap.certain for gap in signed)
    if len(signed) == len(gaps) == sure:
        return f"; better in {'both' if sure == 2 else f'all {sure}'} classes"
    share = f"all {len(gaps)}" if len(signed) == len(gaps) else f"{len(signed)} of {len(gaps)}"
    return f"; better in {share} classes, surely in {sure or 'none'}"


def _others(groups: Sequence[Group], best: str) -> str:
    """How it stands to all, where there are more than two; with 95 % confidence together."""
    if len(groups) < 2:
        return ""
    gaps = [group.difference for group in groups if group.difference]
    worse = sum(gap.certain and gap.value < 0 for gap in gaps)
    return f"; {best} is surely better than {worse or 'none'} of the {len(groups)} others"


def _shown(group: Group, part: Part) -> str:
    mean, deviation = group.means[part], group.deviations[part]
    if mean is None:
        return "not known"
    if deviation is None:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {deviation:.3f} over {len(group.runs)} runs"
