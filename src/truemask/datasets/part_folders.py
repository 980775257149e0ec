"""Folders of a published dataset, `train/`, `val/` and `test/`: their files, pairs and parts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from truemask.datasets.layout import some
from truemask.datasets.lists import pairs_of, repeated
from truemask.datasets.paired import PairedDataset, RawMask
from truemask.datasets.pairing import Pair
from truemask.datasets.sample import Parts
from truemask.datasets.splitting import PARTS
from truemask.errors import UsageError
from truemask.labels import LabelMap

PART_OF_FOLDER = {"train": "train", "val": "validation", "test": "test"}
"""The usual names of folders and lists -> the parts that they hold."""


def files_ending(folder: Path, *endings: str) -> dict[str, Path]:
    """The files of a folder by what stands before their ending; none if there is no such folder.

    Endings may be in small letters or capitals. Hidden files, which macOS leaves beside every file
    of an archive, are no part of a dataset.
    """
    if not folder.is_dir():
        return {}
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return {
        name[: len(name) - len(ending)]: folder / name
        for ending in endings
        for name in names
        if name.lower().endswith(ending.lower())
    }


def path_of(folder: Path, *endings: str) -> Callable[[str], Path]:
    """Name -> the file of a folder with one of these endings, or the path where it is missing."""
    found = files_ending(folder, *endings)
    return lambda name: found.get(name, folder / f"{name}{endings[0]}")


def pairs_in(
    images: Path,
    masks: Path,
    *,
    part: str | None,
    image_endings: Sequence[str],
    mask_ending: str,
    attributes: Callable[[str], Mapping[str, str]] | None = None,
) -> list[Pair]:
    """Every image of a folder with its mask in another, sorted by name.

    Args:
        images: folder of the images.
        masks: folder of the masks.
        part: "train", "validation", "test", or None.
        image_endings: how names of images end behind what they share with their mask's.
        mask_ending: how names of masks end.
        attributes: name -> what else is known of it; None for nothing.

    Raises:
        UsageError: an image or a mask stands alone, as after half a download.
    """
    found, labelled = files_ending(images, *image_endings), files_ending(masks, mask_ending)
    return pairs_of(
        sorted(found.keys() | labelled.keys()),
        part=part,
        image=path_of(images, *image_endings),
        mask=path_of(masks, mask_ending),
        attributes=attributes,
        source=str(images.parent if images.parent == masks.parent else images),
    )


def own_parts(
    pairs: Sequence[Pair],
    labels: LabelMap,
    *,
    root: Path,
    layout: str,
    how: str,
    notes: Sequence[str] = (),
    fit_masks: bool = False,
    read_raw: Callable[[Path], RawMask] | None = None,
) -> Parts:
    """The parts that the pairs name, with notes on where they come from and which are missing.

    Args:
        pairs: each with its part.
        labels: classes and raw values.
        root: the folder of the dataset, for messages.
        layout: what it must look like, in one line.
        how: how the parts came about, as in "are those on disk".
        notes: what else the user should know.
        fit_masks: as `PairedDataset`.
        read_raw: as `PairedDataset`.

    Raises:
        UsageError: there are no pairs, or two share a name.
    """
    if not pairs:
        raise UsageError(f"{root} holds no images with masks: it must look like {layout}")
    twice = repeated([pair.name for pair in pairs])
    if twice:
        raise UsageError(
            f"the lists of {root} name {some(twice)} more than once, so that an image would both "
            "train and test: extract its archive again"
        )
    parts = {
        part: PairedDataset(
            pairs=tuple(sorted(chosen, key=lambda pair: pair.name)),
            labels=labels,
            fit_masks=fit_masks,
            as_stored=True,  # as their authors' programs read them
            read_raw=read_raw,
        )
        for part in PARTS
        if (chosen := [pair for pair in pairs if pair.part == part])
    }
    sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    division = [f"The parts ({sizes}) {how}."]
    if "train" not in parts:
        division.append("There is no train part: these images can be evaluated on, not trained on.")
    elif "validation" not in parts:
        division.append("There is no validation part: data.split makes one.")
    elif "test" not in parts:
        division.append("There is no test part: results are judged on validation.")
    return Parts(parts, notes=(*division, *notes), division=tuple(division))
