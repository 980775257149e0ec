"""Which images train, validate and test: the parts on disk, a seeded split, or a saved one."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from truemask.datasets.layout import some
from truemask.datasets.pairing import Pair
from truemask.datasets.scanning import shuffle_key
from truemask.errors import UsageError, counted

PARTS = ("train", "validation", "test")


FEWEST = 3
"""Images below which there is nothing to split: all train, and no training takes them."""


def split_pairs(
    pairs: Sequence[Pair], root: Path, *, shares: Sequence[float], seed: int
) -> tuple[dict[str, list[Pair]], list[str]]:
    """The parts of a folder: those on disk, and what they lack by a seeded split.

    Args:
        pairs: all pairs, sorted by name.
        root: their folder, for messages.
        shares: of train, validation and test; they add up to 1.
        seed: of the split. It depends on the names besides, and on nothing else.

    Returns:
        Part -> pairs, in the order of names; and a sentence for each decision.

    Raises:
        UsageError: the shares are no shares, or there are too few images.
    """
    _check_shares(shares)
    on_disk = {part: [pair for pair in pairs if pair.part == part] for part in PARTS}
    on_disk = {part: members for part, members in on_disk.items() if members}
    if {"train", "validation"} <= on_disk.keys() or (on_disk and "train" not in on_disk):
        return on_disk, _describe(on_disk, "are on disk")
    if len(on_disk.get("train", pairs)) < FEWEST and shares[0] > 0 and shares[1] > 0:
        alone = on_disk.get("train", list(pairs))
        number = counted(len(alone), "image")
        return {**on_disk, "train": alone}, [
            f"{number} {'is' if len(alone) == 1 else 'are'} too few to be split into parts: at "
            f"least {FEWEST} are needed, better 20."
        ]
    if "test" in on_disk:
        to_train, to_validation = shares[0], shares[1]
        both = to_train + to_validation
        if both <= 0:
            raise UsageError(f"split {list(shares)} leaves nothing to train and validate on")
        parts = _split(on_disk["train"], (to_train / both, to_validation / both, 0.0), seed)
        parts["test"] = on_disk["test"]
        how = f"come from test/ and a split of train/ (seed {seed})"
    else:
        parts = _split(pairs, shares, seed)
        rule = "/".join(f"{share:.0%}" for share in shares)
        how = f"come from a split by {rule} (seed {seed})"
    return parts, _describe(parts, how)


def _check_shares(shares: Sequence[float]) -> None:
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(
            f"split {list(shares)} must be the shares of train, validation and test, which add up "
            "to 1, as [0.7, 0.15, 0.15]"
        )


def _split(pairs: Sequence[Pair], shares: Sequence[float], seed: int) -> dict[str, list[Pair]]:
    shuffled = sorted(pairs, key=lambda pair: shuffle_key(pair.name, seed))
    parts: dict[str, list[Pair]] = {}
    start = 0
    for part, count in zip(PARTS, whole_counts(len(pairs), shares, filled=2), strict=True):
        if count > 0:
            members = shuffled[start : start + count]
            parts[part] = sorted(members, key=lambda pair: pair.name)
        start += count
    return parts


def whole_counts(total: int, shares: Sequence[float], *, filled: int) -> list[int]:
    """Shares of a number as whole numbers, by the largest remainder.

    Args:
        total: what is shared out.
        shares: they add up to 1.
        filled: so many of the first get at least 1 where their share is not 0, if `total` suffices.
    """
    exact = [total * share for share in shares]
    # A share of 0.15 of 20 is 3, not 2.9999999999999996.
    counts = [int(part + 1e-9) for part in exact]
    order = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    for i in range(filled):
        if counts[i] == 0 and shares[i] > 0:
            counts[counts.index(max(counts))] -= 1
            counts[i] = 1
    return counts


def _describe(parts: Mapping[str, Sequence[Pair]], how: str) -> list[str]:
    sizes = ", ".join(f"{len(members)} {part}" for part, members in parts.items())
    notes = [f"The parts ({sizes}) {how}."]
    if "train" not in parts:
        notes.append("There is no train part: this folder can be evaluated on, not trained on.")
    elif "test" not in parts:
        notes.append("There is no test part: results are judged on validation.")
    return notes


def check_saved(
    assignments: Mapping[str, Sequence[str]], known: Container[str], *, where: str
) -> None:
    """Hold a saved split against the names that there are in a place.

    Raises:
        UsageError: a name is unknown or stands twice, or a part is empty.
    """
    owner: dict[str, str] = {}
    for part, names in assignments.items():
        if len(names) == 0:
            raise UsageError(f"the saved split has an empty part {part!r}")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(
                f"{where} lacks {len(unknown)} images of the saved split's part {part!r} "
                f"({some(unknown)}): give the data that the split was made of"
            )
        for name in names:
            if name in owner:
                both = f"in {owner[name]!r} and {part!r}" if owner[name] != part else f"in {part!r}"
                raise UsageError(f"the saved split names {name!r} twice, {both}")
            owner[name] = part


def assign_pairs(
    pairs: Sequence[Pair], root: Path, assignments: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[Pair]], list[str]]:
    """The parts of a saved split, whatever the folder says.

    Raises:
        UsageError: a name is unknown or stands twice, or a part is empty.
    """
    by_name = {pair.name: pair for pair in pairs}
    check_saved(assignments, by_name, where=str(root))
    parts = {part: [by_name[name] for name in names] for part, names in assignments.items()}
    notes = _describe(parts, "are those of the saved split")
    named = {name for names in assignments.values() for name in names}
    left_out = [name for name in by_name if name not in named]
    if left_out:
        notes.append(f"{len(left_out)} images are not in the saved split ({some(left_out)}).")
    return parts, notes
