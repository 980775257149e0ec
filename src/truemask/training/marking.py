"""Leaving out what a list says is labelled wrongly: `data.exclude` and `data.ignore_regions`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from truemask.data.marked import ignoring
from truemask.data.marks import match, read_marks
from truemask.data.views import View
from truemask.datasets.sample import Parts, SegmentationDataset
from truemask.errors import UsageError, counted

_JUDGES = "test"


def exclude(file: Path, parts: Parts) -> Parts:
    """The parts without the flagged images of a list; the test part stays as it is.

    Raises:
        UsageError: the list cannot be read, names images that the data lacks or has in other parts,
            changes nothing, or leaves a part empty.
    """
    _refuse_endless(parts, "data.exclude")
    marks = read_marks(file)
    known = {name: part.names for name, part in parts.items()}
    found = match(marks.images, known, file=file)
    match(marks.regions, known, file=file)  # a slip there would go unseen
    kept = len(found.get(_JUDGES, []))
    made: dict[str, SegmentationDataset] = dict(parts)
    told: list[str] = []
    for name, names in found.items():
        if name == _JUDGES or not names:
            continue
        if len(names) == len(parts[name]):
            raise UsageError(f"data.exclude: {file} flags every image of the {name} part")
        left = set(names)
        stay = [place for place, one in enumerate(parts[name].names) if one not in left]
        told.append(f"{len(names)} of {len(parts[name])} {name} images")
        made[name] = View.of([parts[name]]).take(_in_order(parts[name], stay))
    if not told:
        why = (
            f" but {counted(kept, 'image')} of the test part, which stays as it is" if kept else ""
        )
        raise UsageError(f"data.exclude: {file} flags no image{why}: leave it out")
    note = f"Left out, by {file.name} (data.exclude): {', '.join(told)}."
    if kept:
        note += f" {counted(kept, 'flagged image')} of the test part stay{'s' * (kept == 1)} in."
    return Parts(made, (*parts.notes, note))


def _in_order(part: SegmentationDataset, places: Sequence[int]) -> list[int]:
    """Places in `View.of([part])`, which sorts by name, of these places in the part."""
    ordered = sorted(range(len(part)), key=lambda place: part.names[place])
    position = {place: index for index, place in enumerate(ordered)}
    return [position[place] for place in places]


def ignore_regions(
    setting: str | Mapping[str, str],
    parts: Mapping[str, SegmentationDataset],
    *,
    known: Mapping[str, Sequence[str]] | None,
    own_size: bool,
) -> tuple[SegmentationDataset, dict[str, str], str]:
    """The training part without the flagged regions of a list.

    Args:
        setting: the file; of a run that goes on with its SHA-256.
        parts: the data.
        known: part -> names of all samples, also those that other settings leave out; `None` for a
            run that goes on, whose names were held against the data when it began.
        own_size: whether masks come at their own size.

    Returns:
        The part, the setting with the file's SHA-256, and a note.

    Raises:
        UsageError: the list cannot be read, changed since the run began, names images that the data
            lacks or has in other parts, or changes nothing.
    """
    key = "data.ignore_regions"
    _refuse_endless(parts, key)
    file = Path(setting if isinstance(setting, str) else setting["file"])
    marks = read_marks(file)
    if not isinstance(setting, str) and setting["sha256"] != marks.digest:
        raise UsageError(
            f"{key}: {file} is not what the run began with: bring back that file, or train anew"
        )
    if not marks.regions:
        raise UsageError(f"{key}: {file} flags no region: leave it out")
    train = parts["train"]
    if known is not None:
        match(marks.regions, known, file=file)
        match(marks.images, known, file=file)  # a slip there would go unseen
    here = set(train.names)
    used = [mark for mark in marks.regions if mark.name in here]
    if not used:
        raise UsageError(
            f"{key}: {file} flags {counted(len(marks.regions), 'region')}, none in an image that "
            "trains: audit the training part too (`truemask audit RUN --folds 5`)"
        )
    pixels = sum(int(mark.inside().sum()) for mark in used)
    images = len({mark.name for mark in used})
    note = (
        f"{counted(len(used), 'region')} of {counted(images, 'training image')} "
        f"({pixels:,} pixels of their masks) {'is' if len(used) == 1 else 'are'} ignored, by "
        f"{file.name} ({key})."
    )
    if others := len(marks.regions) - len(used):
        note += (
            f" {counted(others, 'flagged region')} of images that do not train: no change there."
        )
    made = ignoring(train, used, digest=marks.digest, own_size=own_size)
    return made, {"file": str(file), "sha256": marks.digest}, note


def _refuse_endless(parts: Mapping[str, SegmentationDataset], key: str) -> None:
    if any(getattr(part, "endless", False) for part in parts.values()):
        raise UsageError(f"{key}: these samples are generated, and have no labels to mistrust")
