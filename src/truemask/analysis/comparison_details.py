"""The charts of where a run is better: in which classes, on which images."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from truemask.analysis.charts import Chart, chart, wrapped
from truemask.analysis.comparison import SAID, Comparison
from truemask.report import formats

_MOST_CLASSES = 40
"""Classes in the picture of these."""
_MANY_DOTS = 400
"""Dots from which on they are drawn as pixels, not each as a shape of its own."""


def class_text(comparison: Comparison) -> str:
    """What the picture of the classes means."""
    text = (
        "IoU of each class, and how much better it is than the best group's, with its 95 % "
        "interval: right of 0 is better."
    )
    if comparison.detailed and len(_classes(comparison)) > _MOST_CLASSES:
        text += f" The first {_MOST_CLASSES} classes."
    return text


def _classes(comparison: Comparison) -> list[str]:
    details = comparison.groups[0].details
    return [] if details is None else list(details.classes)


def class_chart(comparison: Comparison) -> Chart | None:
    """Bars of each class's IoU, and beside them the differences to the best with their whiskers."""
    names = _classes(comparison)[:_MOST_CLASSES]
    groups = comparison.detailed
    if len(groups) < 2 or not names:
        return None
    tables = [group.details.classes for group in groups if group.details is not None]
    thickness = 0.8 / len(groups)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for k, (group, classes) in enumerate(zip(groups, tables, strict=True)):
            places = [i + (k - (len(groups) - 1) / 2) * thickness for i in range(len(names))]
            values = [classes[name].value or 0.0 for name in names]
            left.barh(places, values, thickness * 0.9, color=f"C{k}", label=wrapped(group.name))
            for place, name in zip(places, names, strict=True):
                gap = classes[name].difference
                if gap is None:
                    continue
                right.plot([gap.value], [place], "o", color=f"C{k}", markersize=4)
                if gap.interval is not None:
                    right.hlines(place, *gap.interval, colors=f"C{k}", linewidth=1.6)
        right.axvline(0, color="#8a94a0", linewidth=1, linestyle="-")
        left.set_yticks(range(len(names)), [wrapped(name, 24) for name in names])
        left.set_ylim(len(names) - 0.4, -0.6)
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
        left.set_xlabel("IoU")
        right.set_xlabel("difference to the best")
        figure.legend(loc="outside lower center", ncols=min(3, len(groups)))

    said = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{group.name} {formats.number(classes[name].value)}"
            for group, classes in zip(groups, tables, strict=True)
        )
        for name in names
    )
    height = 1.4 + len(names) * (0.16 + 0.13 * len(groups)) + 0.2 * len(groups) / 3
    return chart(draw, said=f"IoU of the classes: {said}", width=9.2, height=height)


def image_text(comparison: Comparison) -> str:
    """What the picture of the images means."""
    side = "Below" if comparison.metric == "loss" else "Above"
    return (
        f"Left, a dot is an image: its own {SAID[comparison.metric]} with the best and with the "
        f"second; {side.lower()} the line the second is better. Right, how many images differ by "
        "how much."
    )


def image_chart(comparison: Comparison) -> Chart | None:
    """Each image's score with the best against that with the second, and their differences."""
    images = comparison.images
    if images is None or len(images.scores) < 2 or len(images.names) < 2:
        return None
    best, second = images.scores[:2]
    ends = [min(min(best), min(second)), max(max(best), max(second))]
    names = [wrapped(group.name, 30) for group in comparison.groups[:2]]
    gaps = [y - x for x, y in zip(best, second, strict=True)]
    said = SAID[comparison.metric]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(ends, ends, color="#8a94a0", linewidth=1, linestyle="-")
        left.plot(
            best, second, "o", color="C0", markersize=4, alpha=0.6, markeredgewidth=0,
            rasterized=len(best) > _MANY_DOTS,
        )  # fmt: skip
        left.set_xlabel(f"{said}, {names[0]}")
        left.set_ylabel(f"{said}, {names[1]}")
        left.set_aspect("equal")
        right.hist(gaps, bins=min(40, max(5, len(gaps) // 5)), color="C0")
        right.axvline(0, color="#8a94a0", linewidth=1, linestyle="-")
        right.set_xlabel(f"difference in {said} (second - best)")
        right.set_ylabel("images")
        right.yaxis.set_major_locator(MaxNLocator(integer=True))

    higher = sum(gap > 0 for gap in gaps)
    words = f"{len(gaps)} images, {higher} of them score higher with {comparison.groups[1].name}"
    return chart(draw, said=words, width=9.2, height=4.4)
