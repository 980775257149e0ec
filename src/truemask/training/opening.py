"""The parts of the data as its settings describe them: opened, parted, relabelled, resized."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from truemask.build import build, check_settings, locate
from truemask.data.label_edits import (
    LabelEdits,
    Relabelled,
    count_classes,
    edit_labels,
    settle_keep,
)
from truemask.data.randomness import epoch_order
from truemask.data.splits import Ratio, assign, refuse_overlap, resplit
from truemask.data.views import View, resized
from truemask.datasets.sample import Parts, SegmentationDataset
from truemask.datasets.splitting import FEWEST
from truemask.errors import UsageError, counted
from truemask.labels import LabelMap
from truemask.training.marking import exclude, ignore_regions
from truemask.training.settings import DataSettings

Assignments = Mapping[str, Sequence[str]]
"""Part -> names of the samples of a saved split."""

Progress = Callable[[int, int], None]
"""Called with the number of things done and of all."""


class Opened:
    """A dataset that was opened already, so that what follows need not open it again.

    Opening a folder reads its masks; a plan and the training by it want the same.
    """

    def __init__(self) -> None:
        self._known: tuple[str, Parts] | None = None

    def find(self, key: str) -> Parts | None:
        """What was opened by the same settings; else `None`."""
        return None if self._known is None or self._known[0] != key else self._known[1]

    def keep(self, key: str, parts: Parts) -> None:
        """Keep what was opened by these settings."""
        self._known = (key, parts)


def open_parts(
    data: DataSettings,
    *,
    assignments: Assignments | None = None,
    seed: int = 0,
    training: bool = False,
    fetch: bool = False,
    allow: frozenset[str] | None = None,
    opened: Opened | None = None,
    progress: Progress | None = None,
) -> tuple[Parts, DataSettings]:
    """The parts that `data` describes.

    Args:
        data: the settings.
        assignments: a saved split, which is taken as it is.
        seed: of `data.subset`.
        training: whether the training part is for training, and resized as `data.resize` says; else
            it is as the others, by `data.evaluation_size`.
        fetch: whether a dataset may be downloaded. What an existing run has read is on disk, and
            somebody else's must not make this machine fetch anything.
        allow: targets that may be built; `None` allows all.
        opened: what was opened before in this process, and what is opened now.
        progress: called while masks are read.

    Returns:
        The parts, and the settings with `labels.keep` by name.

    Raises:
        UsageError: the data or a setting cannot be used.
    """
    parts = _open(data, assignments, allow, fetch=fetch, opened=opened)
    if data.split is not None or assignments is not None:
        parts = _part(data, parts, assignments, allow, progress)
    known = {name: part.names for name, part in parts.items()}
    if data.exclude is not None and assignments is None:
        parts = exclude(Path(data.exclude), parts)
    if data.subset is not None and assignments is None:
        parts = _subset(data.subset, parts, seed)
    refuse_overlap(parts)
    labels, data, notes = _edit(data, parts, progress)
    made = {
        name: _finish(part, data, labels, resize=training and name == "train")
        for name, part in parts.items()
    }
    if training and data.ignore_regions is not None:
        made["train"], settled, note = ignore_regions(
            data.ignore_regions,
            made,
            known=known if assignments is None else None,
            own_size=data.resize is None,
        )
        data = replace(data, ignore_regions=settled)
        notes.append(note)
    return Parts(made, (*parts.notes, *notes)), data


def require_trainable(parts: Parts) -> None:
    """Refuse data without images to train on, or to validate with.

    Raises:
        UsageError: such a part is missing or empty.
    """
    every = sum(map(len, parts.values()))
    for name in ("train", "validation"):
        if name in parts and len(parts[name]) > 0:
            continue
        if 0 < every < FEWEST:
            raise UsageError(
                f"data.dataset is too small to be split into parts: it holds "
                f"{counted(every, 'image')}, and at least {FEWEST} are needed, better 20"
            )
        raise UsageError(
            f"data.dataset has no {name} images, and every training needs some: give "
            "'data.split={_target_: truemask.data.splits.Ratio}' to part those that there are"
        )


def _open(
    data: DataSettings,
    assignments: Assignments | None,
    allow: frozenset[str] | None,
    *,
    fetch: bool,
    opened: Opened | None,
) -> Parts:
    key = "data.dataset"
    target = locate(str(data.dataset.get("_target_")), key=key, allow=allow)
    dataset = {k: v for k, v in data.dataset.items() if fetch or k != "download"}
    given: dict[str, Any] = {}
    # A folder works its classes out of the images that it is given: of all, not of a subset.
    whole = data.split is None and data.subset is None and data.exclude is None
    if "assignments" in inspect.signature(target).parameters and whole:
        given["assignments"] = assignments
    settings = repr((dataset, given))
    if opened is not None and (known := opened.find(settings)) is not None:
        return known
    parts = build(dataset, key=key, allow=allow, **given)
    if not isinstance(parts, Parts):
        raise UsageError(f"{key}._target_ must return Parts, not {type(parts).__name__}")
    if opened is not None:
        opened.keep(settings, parts)
    return parts


def _is_endless(parts: Parts) -> bool:
    return any(getattr(part, "endless", False) for part in parts.values())


def _part(
    data: DataSettings,
    parts: Parts,
    assignments: Assignments | None,
    allow: frozenset[str] | None,
    progress: Progress | None,
) -> Parts:
    """All samples in other parts: those of a saved split, or of `data.split`."""
    if _is_endless(parts):
        if data.split is not None:
            raise UsageError("data.split: these samples are generated, and cannot be parted anew")
        return parts
    notes = tuple(note for note in parts.notes if note not in parts.division)
    if assignments is None:
        rule = build(data.split or {}, key="data.split", allow=allow)
        if not callable(rule):
            raise UsageError(
                f"data.split._target_ must make a split, such as {Ratio.__module__}.Ratio, not "
                f"{type(rule).__name__}"
            )
        made = resplit(parts, rule, progress=progress)
        how = f"come from {type(rule).__name__} (data.split)"
    elif {name: list(part.names) for name, part in parts.items()} == dict(assignments):
        return parts
    else:
        pool = View.of(parts.values())
        made = {name: pool.take(places) for name, places in assign(pool, assignments).items()}
        how = "are those of the saved split"
    sizes = ", ".join(f"{len(part)} {name}" for name, part in made.items())
    return Parts(made, (*notes, f"The parts ({sizes}) {how}."))


def _subset(subset: Mapping[str, int], parts: Parts, seed: int) -> Parts:
    if _is_endless(parts):
        raise UsageError("data.subset: these samples are generated: give their number instead")
    made: dict[str, SegmentationDataset] = dict(parts)
    notes = []
    for name, count in subset.items():
        if name not in parts:
            raise UsageError(
                f"data.subset.{name}: this data has no such part (it has {', '.join(parts)})"
            )
        if count < len(parts[name]):
            chosen = sorted(epoch_order(len(parts[name]), seed=seed, epoch=0)[:count])
            notes.append(f"{count} of {len(parts[name])} {name} images are used (data.subset).")
            made[name] = View.of([parts[name]]).take(chosen)
    return Parts(made, (*parts.notes, *notes))


def _edit(
    data: DataSettings, parts: Parts, progress: Progress | None
) -> tuple[LabelMap, DataSettings, list[str]]:
    before = next(iter(parts.values())).labels
    if data.labels is None:
        return before, data, []
    check_settings(LabelEdits, data.labels, key="data.labels")
    edits = LabelEdits(**data.labels)
    if isinstance(edits.keep, int):
        if "train" not in parts:
            raise UsageError(
                "data.labels.keep counts the pixels of the training part, which this data lacks: "
                "name the classes instead"
            )
        edits = settle_keep(before, edits, count_classes(parts["train"], progress=progress))
    after = edit_labels(before, edits)
    settled = {key: value for key, value in asdict(edits).items() if value is not None}
    note = f"The classes are {', '.join(after.names)} (data.labels)."
    return after, replace(data, labels=settled), [note]


def _finish(
    part: SegmentationDataset, data: DataSettings, labels: LabelMap, *, resize: bool
) -> SegmentationDataset:
    if data.resize is not None and (resize or data.evaluation_size == "resized"):
        part = resized(part, (data.resize[0], data.resize[1]))
    return part if part.labels == labels else Relabelled(dataset=part, labels=labels)
