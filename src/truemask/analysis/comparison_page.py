"""The page of a comparison: one file, which works offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truemask.analysis.compare_samples import Pictures, ShownImage
from truemask.analysis.comparison import SAID, Chosen, Comparison, Score
from truemask.analysis.comparison_charts import comparison_charts, varied
from truemask.analysis.run_settings import MOST_NAMED, last_names, short, shown
from truemask.files import write_text
from truemask.labels import LabelMap
from truemask.report import formats, pictures
from truemask.report.gallery import Fact, GalleryItem, gallery_content
from truemask.report.pages import MOST_BYTES, render_page
from truemask.report.pictures import QUALITIES, Picture, Quality

_ERRORS = 2
"""Groups whose errors are shown beside their predictions."""


def write_page(comparison: Comparison, taken: Pictures, *, path: Path) -> None:
    """Write the page, atomically.

    Args:
        comparison: what is shown.
        taken: the pictures of its chosen images.
        path: of the page.

    Raises:
        UsageError: it cannot be written, or a run is damaged.
    """
    groups = comparison.groups
    context = {
        "comparison": comparison,
        "charts": comparison_charts(comparison),
        "parts": [part for part in ("validation", "test") if part in groups[0].means],
        "metric": SAID[comparison.metric],
        "several": any(len(group.runs) > 1 for group in groups),
        "columns": _columns(comparison),
        "named": last_names(comparison.keys),
        "tables": _tables(comparison),
        "detailed": comparison.detailed,
        "labels": taken.labels,
        "shown": shown,
        "duration": formats.duration,
        "digits": formats.digits,
        "signed": formats.signed,
    }
    for quality in QUALITIES:
        page = render_page(
            "comparison.html", context | {"taken": _gallery(comparison, taken, quality)}
        )
        if len(page.encode()) < MOST_BYTES:
            break
    write_text(path, page)


def _columns(comparison: Comparison) -> list[str]:
    """The settings that stand in columns of their own, where these tell each group from others."""
    keys = varied(comparison)
    told = {short(group.settings) for group in comparison.groups}
    return keys if len(keys) <= MOST_NAMED and len(told) == len(comparison.groups) else []


def _tables(comparison: Comparison) -> list[tuple[str, str, dict[str, list[Score]]]]:
    """(title, of what, row -> score of each detailed group): the classes, then each attribute."""
    found = [group.details for group in comparison.detailed if group.details is not None]
    if len(found) < 2:
        return []
    tables = [("Classes", "class", {k: [d.classes[k] for d in found] for k in found[0].classes})]
    for attribute, values in found[0].subgroups.items():
        rows = {value: [d.subgroups[attribute][value] for d in found] for value in values}
        tables.append((attribute, "value", rows))
    return tables


def _gallery(comparison: Comparison, taken: Pictures, quality: Quality) -> dict[str, Any] | None:
    """The chosen images that have pictures."""
    if taken.labels is None:
        return None
    names = [group.name for group in comparison.detailed]
    items = [
        _item(chosen, taken.shown[chosen.name], names, taken.labels, quality)
        for chosen in comparison.chosen
        if chosen.source is not None
    ]
    return gallery_content(items) if items else None


def _item(
    chosen: Chosen,
    seen: ShownImage,
    names: Sequence[str],
    labels: LabelMap,
    quality: Quality,
) -> GalleryItem:
    layers: list[tuple[str, Picture]] = [
        ("image", pictures.photo(seen.image, quality)),
        ("truth", pictures.mask(seen.truth, labels, quality)),
    ]
    for number, ids in sorted(seen.predictions.items()):
        layers.append((names[number], pictures.mask(ids, labels, quality)))
    for number, ids in sorted(seen.predictions.items())[:_ERRORS]:
        wrong = pictures.errors(seen.image, seen.truth, ids, labels, quality)
        layers.append((f"errors of {names[number]}", wrong))
    facts: dict[str, Fact] = {
        "best group": "gains most here" if chosen.kind == "gained" else "loses most here",
        "best": round(chosen.scores[0], 4),
        "second": round(chosen.scores[1], 4),
    }
    scores = ", ".join(
        f"{name} {formats.number(score)}" for name, score in zip(names, chosen.scores, strict=True)
    )
    # The card shows the errors of whichever is worse there.
    worse = f"errors of {names[1 if chosen.kind == 'gained' else 0]}"
    cover = next((i for i, (layer, _) in enumerate(layers) if layer == worse), 0)
    return GalleryItem(
        name=chosen.name, pictures=tuple(layers), facts=facts, note=scores, cover=cover
    )
