"""The survey that a plan rests on: of the training part, with the counts of earlier surveys."""

from collections.abc import Callable, Mapping

from truemask.analysis.plan_facts import Facts
from truemask.analysis.survey import survey
from truemask.analysis.survey_cache import CountsCache
from truemask.analysis.survey_result import PartSurvey
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.datasets.scanning import shuffle_key
from truemask.errors import counted

MOST_COUNTED = 5000
"""Images that are counted for a plan, at most."""

_GENERATED = 400
"""Samples that are counted of those that are generated without end."""


def look_at(
    parts: Mapping[str, SegmentationDataset], *, progress: Callable[[int, int], None] | None = None
) -> tuple[Facts, list[str]]:
    """The facts of the training part, by a survey of it: what one has counted before is known.

    Args:
        parts: the data, its images at their own size.
        progress: called with (done, total) while images are counted.

    Returns:
        The facts, and sentences on what the plan's reader must know of the data.

    Raises:
        UsageError: no image can be read.
    """
    train = parts["train"]
    endless = bool(getattr(train, "endless", False))
    few = range(min(_GENERATED, len(train)))
    some = View.some(train, few) if endless else _drawn(train)
    found = survey({"train": some}, name="", cache=CountsCache(), progress=progress).parts["train"]
    facts = Facts.of(found, images=len(train), spec=train.images, endless=endless)
    return facts, _warnings(facts, found)


def _drawn(train: SegmentationDataset) -> SegmentationDataset:
    """The whole part, or of a large one some images that are drawn by their names alone."""
    if len(train) <= MOST_COUNTED:
        return train
    view = View.of([train])
    order = sorted(range(len(view)), key=lambda index: shuffle_key(view.names[index], 0))
    return view.take(sorted(order[:MOST_COUNTED]))


def _warnings(facts: Facts, found: PartSurvey) -> list[str]:
    notes = []
    if missing := facts.missing:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" * (len(missing) > 8))
        one = len(missing) == 1
        notes.append(
            f"{shown} never occur{'s' if one else ''} in the {facts.counted:,} training images "
            f"that were counted: nothing can be learnt of {'it' if one else 'them'}, and a model "
            f"that never finds {'it' if one else 'them'} scores 0 there; take other parts "
            "(data.split), or leave the class out (data.labels)."
        )
    if found.unreadable:
        name, reason = found.failed[0]
        shown = reason if name in reason else f"{name}: {reason}"
        notes.append(f"{counted(found.unreadable, 'image')} cannot be read, the first: {shown}")
    return notes
