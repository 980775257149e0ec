"""Which samples train, validate and test: by shares, by folds, or as saved.

A split is called with all samples and says which belongs to which part. That depends on their names
(and, where asked, groups and classes), the settings and the seed, never on the order of files.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Int64

from truemask.build import nearest
from truemask.data.apportion import apportion_at_random, apportion_in_order
from truemask.data.views import Progress, View, count_pixels
from truemask.datasets.layout import some
from truemask.datasets.sample import SegmentationDataset
from truemask.datasets.scanning import shuffle_key
from truemask.datasets.splitting import PARTS, check_saved, whole_counts
from truemask.errors import UsageError


class Split(Protocol):
    """What the `_target_` of `data.split` makes.

    It may have an attribute `keep_test`: whether the data's own test part stays out of the pool.
    """

    def __call__(
        self, pool: View, *, progress: Progress | None = None
    ) -> Mapping[str, Sequence[int]]:
        """Part -> indices of the pool."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Parts by shares.

    Attributes:
        shares: of train, validation and test; they add up to 1. A part with a share of 0 is left
            out, every other gets one image (or group) at least.
        shuffle: whether images (or groups) are taken in a random order that depends on the seed;
            else by their sorted names, first train, then validation, then test.
        seed: of what is random.
        stratify: whether each class is to occur in about as large a share of the images of every
            part; all masks are read.
        group: an attribute of the samples, as "city"; samples with the same value stay together.
        pattern: a regular expression that is searched in the names; its first group tells which
            samples stay together.
        keep_test: whether the data's own test part stays, and only the others are parted anew; the
            share of test is 0 then.

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """

    shares: Sequence[float] = (0.7, 0.15, 0.15)
    shuffle: bool = True
    seed: int = 0
    stratify: bool = False
    group: str | None = None
    pattern: str | None = None
    keep_test: bool = False

    def __post_init__(self) -> None:
        shares = list(self.shares)
        if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
            raise UsageError(
                f"shares {shares} must be those of train, validation and test, which add up to 1, "
                "as [0.7, 0.15, 0.15]"
            )
        if self.keep_test and shares[2] > 0:
            raise UsageError(
                f"shares {shares} make a test part, but keep_test keeps the data's own: set the "
                "third share to 0"
            )
        _check_rules(self)

    def __call__(self, pool: View, *, progress: Progress | None = None) -> dict[str, list[int]]:
        """Part -> indices of the pool, sorted; masks are read only to stratify.

        Raises:
            UsageError: samples lack the group, or there are too few.
        """
        shares = {part: share for part, share in zip(PARTS, self.shares, strict=True) if share > 0}
        return _share_out(pool, shares, self, progress)


@dataclass(frozen=True, kw_only=True)
class KFold:
    """Cross-validation: one fold validates, all others train.

    Attributes:
        folds: how many there are, 2 or more.
        fold: which one validates, from 0 on.
        shuffle: as for `Ratio`.
        seed: as for `Ratio`; the folds of one seed belong together.
        stratify: as for `Ratio`.
        group: as for `Ratio`.
        pattern: as for `Ratio`.
        keep_test: whether the data's own test part, if it has one, stays out of the folds.

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """

    folds: int = 5
    fold: int = 0
    shuffle: bool = True
    seed: int = 0
    stratify: bool = False
    group: str | None = None
    pattern: str | None = None
    keep_test: bool = True

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"folds must be at least 2, got {self.folds}")
        if not 0 <= self.fold < self.folds:
            raise UsageError(
                f"fold must be from 0 to {self.folds - 1} for {self.folds} folds, got {self.fold}"
            )
        _check_rules(self)

    def __call__(self, pool: View, *, progress: Progress | None = None) -> dict[str, list[int]]:
        """The parts "train" and "validation" -> indices of the pool, sorted.

        Raises:
            UsageError: samples lack the group, or there are too few.
        """
        shares = {f"fold {fold}": 1 / self.folds for fold in range(self.folds)}
        folds = list(_share_out(pool, shares, self, progress).values())
        others = [index for fold in folds if fold is not folds[self.fold] for index in fold]
        return {"train": sorted(others), "validation": folds[self.fold]}


def _check_rules(rules: Ratio | KFold) -> None:
    if rules.stratify and not rules.shuffle:
        raise UsageError("stratify=true cannot keep the order of names: leave out shuffle=false")
    if rules.group is not None and rules.pattern is not None:
        raise UsageError("group and pattern both say what stays together: give one of them")
    if rules.pattern is not None:
        try:
            groups = re.compile(rules.pattern).groups
        except re.error as error:
            raise UsageError(
                f"pattern {rules.pattern!r} is no regular expression: {error}"
            ) from error
        if groups == 0:
            raise UsageError(
                f"pattern {rules.pattern!r} has no group: put the part of the name that tells "
                "what stays together in parentheses"
            )


def _share_out(
    pool: View, shares: Mapping[str, float], rules: Ratio | KFold, progress: Progress | None
) -> dict[str, list[int]]:
    """Part -> indices of the pool, sorted, for shares that are all positive."""
    refuse_overlap({"pool": pool})
    units = _units(pool, rules)
    if len(units) < len(shares):
        what = "images" if rules.group is None and rules.pattern is None else "groups of images"
        raise UsageError(
            f"data.split cannot make {len(shares)} parts of {len(units)} {what}: each needs one at "
            "least"
        )
    alone = len(units) == len(pool) and not rules.stratify
    if rules.shuffle and alone:
        units = dict(sorted(units.items(), key=lambda unit: shuffle_key(unit[0], rules.seed)))
    sizes = [len(members) for members in units.values()]
    counts = whole_counts(len(pool), list(shares.values()), filled=len(shares))
    if alone or not rules.shuffle:
        chosen = apportion_in_order(sizes, counts)
    else:
        presence = _presence(pool, list(units.values()), progress) if rules.stratify else None
        chosen = apportion_at_random(list(units), sizes, counts, seed=rules.seed, presence=presence)
    parts: dict[str, list[int]] = {part: [] for part in shares}
    for part, members in zip(chosen, units.values(), strict=True):
        parts[list(shares)[part]] += members
    return {part: sorted(members) for part, members in parts.items()}


def _presence(
    pool: View, units: Sequence[Sequence[int]], progress: Progress | None
) -> Int64[np.ndarray, "U K"]:
    """How many images of each unit show each class."""
    shown = count_pixels(pool, progress=progress)[:, : pool.labels.num_classes] > 0
    return np.array([shown[members].sum(0) for members in units], dtype=np.int64)


def _units(pool: View, rules: Ratio | KFold) -> dict[str, list[int]]:
    """Group -> its samples, in the order of names; each sample is its own where none is asked."""
    groups = _groups(pool, rules)
    units: dict[str, list[int]] = {}
    for index in sorted(range(len(pool)), key=lambda index: pool.names[index]):
        units.setdefault(groups[index], []).append(index)
    return units


def _groups(pool: View, rules: Ratio | KFold) -> Sequence[str]:
    found: list[str | None]
    if rules.pattern is not None:
        matches = [re.search(rules.pattern, name) for name in pool.names]
        found = [match[1] if match else None for match in matches]
        problem = f"data.split.pattern={rules.pattern!r} finds no group in the names of"
        hint = ": write it so that it fits every name"
    elif rules.group is not None:
        found = [known.get(rules.group) for known in pool.attributes]
        problem = f"data.split.group={rules.group}: this attribute is missing for"
        hint = _attribute_hint(pool, rules.group)
    else:
        return pool.names
    missing = [name for name, group in zip(pool.names, found, strict=True) if group is None]
    if missing:
        raise UsageError(f"{problem} {len(missing)} of {len(pool)} images ({some(missing)}){hint}")
    return [str(group) for group in found]


def _attribute_hint(pool: View, group: str) -> str:
    known = sorted({attribute for one in pool.attributes for attribute in one})
    if not known:
        return ": this data has no attributes; data.split.pattern can tell groups by the names"
    return nearest(group, set(known) - {group}) + f" (there are {', '.join(known)})"


def resplit(
    parts: Mapping[str, SegmentationDataset], split: Split, *, progress: Progress | None = None
) -> dict[str, SegmentationDataset]:
    """All samples of all parts, parted anew; the test part stays where `split.keep_test` says so.

    Raises:
        UsageError: two parts share a name, a part is endless, or the split does not suit the data.
    """
    refuse_overlap(parts)
    keep = bool(getattr(split, "keep_test", False))
    if keep and "test" not in parts and isinstance(split, Ratio):
        raise UsageError("data.split.keep_test: this data has no test part of its own")
    kept = {"test": parts["test"]} if keep and "test" in parts else {}
    if kept and len(parts) == 1:
        raise UsageError("data.split.keep_test: this data has nothing but a test part")
    pool = View.of(part for name, part in parts.items() if name not in kept)
    chosen = split(pool, progress=progress)
    times = Counter(index for members in chosen.values() for index in members)
    twice = [pool.names[index] for index, count in times.items() if count > 1]
    if twice:
        raise UsageError(
            f"data.split puts {len(twice)} images into more than one place ({some(twice)})"
        )
    made = {name: pool.take(members) for name, members in chosen.items() if len(members) > 0}
    return {**made, **kept}


def assign(pool: View, assignments: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Part -> indices of the pool, as a saved split names them, in its order.

    Samples of the pool that it does not name are left out.

    Raises:
        UsageError: a name is unknown or stands twice, or a part is empty.
    """
    refuse_overlap({"pool": pool})
    place = {name: index for index, name in enumerate(pool.names)}
    check_saved(assignments, place, where="the data")
    return {part: [place[name] for name in names] for part, names in assignments.items()}


def refuse_overlap(parts: Mapping[str, SegmentationDataset]) -> None:
    """Hold the names of parts against each other.

    Raises:
        UsageError: two parts share a name, or one has it twice.
    """
    owner: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for part, dataset in parts.items():
        for name in dataset.names:
            if name in owner:
                shared.setdefault((owner[name], part), []).append(name)
            owner.setdefault(name, part)
    for (first, second), names in shared.items():
        if first == second:
            raise UsageError(
                f"the {first} part has {some(names)} twice: an image may count once only"
            )
        raise UsageError(
            f"the {first} and {second} parts share {len(names)} images ({some(names)}): remove "
            "them from one, or their scores mean nothing"
        )
