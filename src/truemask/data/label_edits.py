"""Changing the classes of a dataset: void as a class, merging, ignoring, keeping a few.

The label map is edited, so that it still reads the dataset's files; masks that were read by the old
map go through a table of 256 ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torchvision import tv_tensors

from truemask.build import nearest
from truemask.data.views import (
    Progress,
    Wrapped,
    count_pixels,
    fingerprint,
    measured,
    read_mask,
    resized,
)
from truemask.datasets.layout import some
from truemask.datasets.measuring import Measured
from truemask.datasets.paired import Size
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.labels import Color, LabelMap, default_colors

_GREYS: tuple[Color, ...] = ((224, 224, 224), (160, 160, 160), (96, 96, 96))


@dataclass(frozen=True, kw_only=True)
class LabelEdits:
    """What to change of a label map, done in the order of the attributes.

    Attributes:
        void: the name of a new class, made of the pixels that the dataset ignores; it is the last.
            Padding that is added later stays ignored.
        merge: class -> classes that become it. A class of this name stands where it stood before, a
            new one where the first of its classes stood; in the colour of that.
        ignore: classes whose pixels are ignored.
        keep: the classes that stay, in this order; or how many, which are those with most pixels in
            the training part, in the order of their ids.
        rest: the name of the class that those become which are not kept; it is class 0, unless it
            is one of the kept itself. `None` ignores them.

    Raises:
        UsageError: the edits contradict each other.
    """

    void: str | None = None
    merge: Mapping[str, list[str]] | None = None
    ignore: list[str] | None = None
    keep: int | list[str] | None = None
    rest: str | None = None

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for target, members in (self.merge or {}).items():
            key = f"data.labels.merge.{target}"
            if not isinstance(members, list | tuple) or not members:
                raise UsageError(f"{key} must be a list of classes, got {members!r}")
            if not all(isinstance(name, str) for name in (target, *members)):
                raise UsageError(f"{key} must be names, got {members!r}: put numbers in quotes")
            _refuse_twice(members, key)
            for name in {target, *members}:
                if seen.setdefault(name, target) != target:
                    raise UsageError(
                        f"data.labels.merge names {name!r} for {seen[name]!r} and for {target!r}: "
                        "a class can become one other"
                    )
        _refuse_twice(self.ignore or [], "data.labels.ignore")
        if isinstance(self.keep, int):
            if self.keep < 1:
                raise UsageError(f"data.labels.keep must be at least 1, got {self.keep}")
        elif self.keep is not None:
            if not self.keep:
                raise UsageError("data.labels.keep is empty: name the classes, or say how many")
            _refuse_twice(self.keep, "data.labels.keep")
        if self.rest is not None and self.keep is None:
            raise UsageError(
                f"data.labels.rest={self.rest} needs data.labels.keep: say which classes stay"
            )


def _refuse_twice(names: Sequence[str], key: str) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError(f"{key} names {name!r} twice")


@dataclass(frozen=True)
class _Class:
    """A class on the way: its name, its colour, and the ids of the dataset that make it."""

    name: str
    color: Color
    ids: frozenset[int]


def edit_labels(
    labels: LabelMap, edits: LabelEdits, *, counts: Sequence[int] | None = None
) -> LabelMap:
    """The label map after the edits; it reads the same files.

    Args:
        labels: the dataset's own.
        edits: what to change.
        counts: pixels of each class of `labels` in the training part, and of ignored pixels last,
            as `count_classes` gives them; needed where `edits.keep` is a number.

    Raises:
        UsageError: the edits do not fit the classes, or leave fewer than two.
    """
    if isinstance(edits.keep, int):
        if counts is None:
            raise UsageError(f"data.labels.keep={edits.keep} needs the pixels of each class")
        edits = settle_keep(labels, edits, counts)
    classes = _keep(_before_keep(labels, edits), edits)
    if len(classes) < 2:
        left = f"one class ({classes[0].name})" if classes else "no class"
        raise UsageError(
            f"data.labels leaves {left}, and a task needs two: keep more of "
            f"{', '.join(labels.names)}, or name with data.labels.rest what the others become"
        )
    ids = {old: new for new, one in enumerate(classes) for old in one.ids}
    name, color = labels.ignore_name, labels.ignore_color
    if edits.void is not None:
        # The dataset's name and colour of ignored pixels went to the class.
        taken = {one.name for one in classes}
        name = next(n for n in ("ignored", "padding", "(ignored)") if n not in taken)
        color = next(grey for grey in _GREYS if grey != labels.ignore_color)
    return LabelMap(
        names=tuple(one.name for one in classes),
        values={raw: ids.get(old, labels.ignore_index) for raw, old in labels.values.items()},
        colors=tuple(one.color for one in classes),
        encoding=labels.encoding,
        ignore_index=labels.ignore_index,
        ignore_name=name,
        ignore_color=color,
    )


def settle_keep(labels: LabelMap, edits: LabelEdits, counts: Sequence[int]) -> LabelEdits:
    """The edits with names in `keep` instead of a number, so that they say what was done.

    Args:
        labels: the dataset's own.
        edits: what to change; without a number in `keep` they are returned as they are.
        counts: as for `edit_labels`.

    Raises:
        UsageError: the edits do not fit the classes, or there are not so many.
    """
    if not isinstance(edits.keep, int):
        return edits
    assert len(counts) == labels.num_classes + 1, "one count a class, and ignored pixels last"
    pixels = dict(enumerate(counts[:-1])) | {labels.ignore_index: counts[-1]}
    classes = _before_keep(labels, edits)
    if edits.keep > len(classes):
        raise UsageError(
            f"data.labels.keep={edits.keep}, but there are {len(classes)} classes "
            f"({some([one.name for one in classes], 12)})"
        )
    sums = [sum(pixels[old] for old in one.ids) for one in classes]
    largest = sorted(range(len(classes)), key=lambda place: (-sums[place], place))[: edits.keep]
    return replace(edits, keep=[classes[place].name for place in sorted(largest)])


def _before_keep(labels: LabelMap, edits: LabelEdits) -> list[_Class]:
    """The classes after void, merge and ignore."""
    classes = [
        _Class(name, color, frozenset({index}))
        for index, (name, color) in enumerate(zip(labels.names, labels.colors, strict=True))
    ]
    if edits.void is not None:
        classes.append(_void(labels, edits.void))
    if edits.merge is not None:
        classes = _merge(classes, edits.merge)
    ignored = {_find(classes, name, "ignore").name for name in edits.ignore or []}
    return [one for one in classes if one.name not in ignored]


def _void(labels: LabelMap, name: str) -> _Class:
    if name in labels.names:
        raise UsageError(
            f"data.labels.void={name} is a class already: give the new class another name; "
            "data.labels.merge can then put it into this one"
        )
    if labels.ignore_index not in labels.values.values():
        raise UsageError(
            f"data.labels.void={name} makes a class of the ignored pixels, but this dataset has "
            "none: leave it out"
        )
    return _Class(name, labels.ignore_color, frozenset({labels.ignore_index}))


def _merge(classes: list[_Class], merge: Mapping[str, Sequence[str]]) -> list[_Class]:
    for target, names in merge.items():
        members = [_find(classes, name, f"merge.{target}") for name in names]
        own = [one for one in classes if one.name == target]
        stays = (own or members)[0]
        together = {one.name for one in (*own, *members)}
        ids = frozenset(old for one in classes if one.name in together for old in one.ids)
        classes = [
            _Class(target, stays.color, ids) if one is stays else one
            for one in classes
            if one is stays or one.name not in together
        ]
    return classes


def _keep(classes: list[_Class], edits: LabelEdits) -> list[_Class]:
    if edits.keep is None:
        return classes
    assert not isinstance(edits.keep, int), "settled before"
    kept = [_find(classes, name, "keep") for name in edits.keep]
    if edits.rest is None:
        return kept
    others = [one for one in classes if one not in kept]
    own = next((one for one in classes if one.name == edits.rest), None)
    if not others:
        raise UsageError(
            f"data.labels.rest={edits.rest}, but every class is kept: nothing is left for it"
        )
    ids = frozenset(old for one in others for old in one.ids)
    if own in kept:
        return [replace(one, ids=one.ids | ids) if one is own else one for one in kept]
    color = default_colors(["background"])[0] if own is None else own.color
    return [_Class(edits.rest, color, ids), *kept]


def _find(classes: Sequence[_Class], name: str, key: str) -> _Class:
    for one in classes:
        if one.name == name:
            return one
    names = [one.name for one in classes]
    raise UsageError(
        f"data.labels.{key} names {name!r}, which is no class{nearest(str(name), names)} (the "
        f"classes are {', '.join(names)})"
    )


def count_classes(dataset: SegmentationDataset, *, progress: Progress | None = None) -> list[int]:
    """Pixels of each class, and of ignored pixels last.

    A dataset that knows its `class_pixels` and `ignored_pixels` is not read; of others every mask
    is, once.
    """
    known: Sequence[int] | None = getattr(dataset, "class_pixels", None)
    ignored: int | None = getattr(dataset, "ignored_pixels", None)
    if known is not None and ignored is not None:
        return [*known, ignored]
    counts = count_pixels(dataset, progress=progress).sum(0)
    labels = dataset.labels
    return [int(counts[index]) for index in (*range(labels.num_classes), labels.ignore_index)]


@dataclass(frozen=True, kw_only=True)
class Relabelled(Wrapped):
    """A dataset whose masks show the classes of an edited label map.

    Attributes:
        labels: the dataset's label map, edited.
    """

    dataset: SegmentationDataset
    labels: LabelMap

    @cached_property
    def _table(self) -> tuple[bytes, int | None]:
        """The new id of each of 256, and the id that stands for those of no class."""
        before, after = self.dataset.labels, self.labels
        classes = {*range(after.num_classes), after.ignore_index}
        wrong = next((one for one in range(255, -1, -1) if one not in classes), None)
        table = [after.ignore_index if wrong is None else wrong] * 256
        table[before.ignore_index] = after.ignore_index
        # A class that no value in a file stands for is known by its name alone.
        for index, name in enumerate(before.names):
            if name in after.names:
                table[index] = after.names.index(name)
        for raw, old in before.values.items():
            table[old] = after.values[raw]
        return bytes(table), wrong

    def resized(self, size: Size) -> "Relabelled":
        """The same samples at another height and width."""
        return replace(self, dataset=resized(self.dataset, size))

    def __getitem__(self, index: int) -> Sample:
        """The sample of the dataset, its mask in new ids.

        Raises:
            UsageError: the mask holds an id that is no class of the dataset.
        """
        sample = self.dataset[index]
        return replace(sample, mask=self._translate(sample.mask, sample.name))

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone."""
        return self._translate(read_mask(self.dataset, index), self.names[index])

    @cached_property
    def _edit(self) -> str:
        return repr((self.dataset.labels.to_json(), self.labels.to_json()))

    def fingerprint(self, index: int) -> bytes | None:
        """The dataset's, with both label maps."""
        return fingerprint(self.dataset, index, more=("relabelled", self._edit))

    def measured(self, index: int) -> Measured:
        """The dataset's, its mask in new ids."""
        found = measured(self.dataset, index)
        return found._replace(mask=self._translate(found.mask, self.names[index]))

    def _translate(self, mask: tv_tensors.Mask, name: str) -> tv_tensors.Mask:
        table, wrong = self._table
        # Five times as fast as indexing a table by an array, which widens the ids to 64 bits.
        ids = bytearray(mask.numpy()).translate(table)
        if wrong is not None and wrong in ids:
            strange = sorted({int(old) for old in mask.unique() if table[int(old)] == wrong})
            raise UsageError(
                f"the mask of {name} holds the ids {some(strange)}, which are no classes of its "
                "dataset"
            )
        return tv_tensors.Mask(torch.frombuffer(ids, dtype=torch.uint8).reshape(mask.shape))
