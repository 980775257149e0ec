"""What a comparison says in one sentence: which is best, and how sure that is."""

from collections.abc import Sequence

from truemask.analysis.comparison import SAID, Difference, Group, Metric, Part


def headline(groups: Sequence[Group], metric: Metric, judged: Part) -> str:
    """One sentence: which is best, and how sure that is."""
    best, what = groups[0], f"{judged} {SAID[metric]}"
    if len(groups) == 1:
        return (
            f"There is nothing to compare {best.name} with: its {what} is {_shown(best, judged)}."
        )
    second = groups[1]
    gap = second.difference
    if gap is None:
        return f"{best.name} is best on validation; nothing can be said of how sure that is."
    # Told as how much better the best is than the second.
    by = f"{-gap.value:.3f}"
    if gap.interval is not None:
        by += f" [{-gap.interval[1]:.3f}, {-gap.interval[0]:.3f}]"
    if gap.interval is None or not gap.certain:
        return (
            f"Cannot tell {best.name}, which is best on validation, from {second.name}: they "
            f"differ by {by} in {what}{_over(gap)}."
        )
    if gap.value > 0:
        return (
            f"{best.name} is best on validation, but {second.name} is better than it by "
            f"{gap.value:.3f} [{gap.interval[0]:.3f}, {gap.interval[1]:.3f}] in {what}{_over(gap)}."
        )
    return f"{best.name} is better than {second.name} by {by} in {what}{_over(gap)}."


def _over(gap: Difference) -> str:
    if gap.interval is None:
        return ", of which no interval is known"
    said = f" (95 % interval over {' and '.join(gap.over)}"
    if "seeds" not in gap.over:
        said += "; what another seed would change is not in it"
    return said + ")"


def _shown(group: Group, part: Part) -> str:
    mean, deviation = group.means[part], group.deviations[part]
    if mean is None:
        return "not known"
    if deviation is None:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {deviation:.3f} over {len(group.runs)} runs"
