"""Oxford-IIIT Pet: cats and dogs of 37 breeds, each with a trimap of pet, border and background.

    images/NAME.jpg               images; a few are PNG files in spite of their ending
    annotations/trimaps/NAME.png  masks: 1 pet, 2 background, 3 border
    annotations/trainval.txt      lines "NAME CLASS SPECIES BREED", as test.txt

Parkhi et al., Cats and Dogs, CVPR 2012.
"""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import OxfordIIITPet

from truemask.datasets.downloads import fetch, terminal_progress
from truemask.datasets.lists import (
    find_home,
    pairs_of,
    read_list,
    read_words,
    require_folder,
)
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import own_parts, path_of
from truemask.datasets.receiving import Archive
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.labels import LabelMap

LABELS = LabelMap(
    names=("background", "pet"),
    values={1: 1, 2: 0, 3: 255},
    ignore_name="border",
)
"""The border is a band around the outline, of which nobody says where in it the pet ends."""

_HOME = "oxford-iiit-pet"
_DATASET = "Oxford-IIIT Pet"
_LAYOUT = "images/*.jpg + annotations/{trimaps/*.png,trainval.txt,test.txt}"
_SOURCE = (
    "https://www.robots.ox.ac.uk/~vgg/data/pets/ (free, CC BY-SA 4.0, no registration), or let "
    "download=true fetch it"
)
_SPECIES = {"1": "cat", "2": "dog"}
_LISTS = {"trainval": "train", "test": "test"}


def oxford_pet(root: Path | str, *, download: bool = False) -> Parts:
    """Open Oxford-IIIT Pet: its list "trainval" trains, "test" tests; no part validates.

    Each sample has the attributes `species` ("cat" or "dog") and `breed` ("Egyptian Mau").

    Args:
        root: the folder with `images` and `annotations`, or the one that holds it under the name
            `oxford-iiit-pet`, as torchvision has it.
        download: fetch what is missing, into `root/oxford-iiit-pet`, and check it; 0.8 GB. Nothing
            is fetched where all is there.

    Raises:
        UsageError: there is no such dataset, or files of it are missing.
        JobFailed: the download failed.
    """
    root = Path(root)
    if download and not _is_whole(root):
        home = root if root.name == _HOME or (root / "images").is_dir() else root / _HOME
        with terminal_progress() as progress:
            for url, md5 in OxfordIIITPet._RESOURCES:
                fetch(Archive(url=url, md5=md5), home, progress=progress)
    return _open(root)


def _is_whole(root: Path) -> bool:
    """Whether every file of every list is there, so that nothing needs to be fetched."""
    try:
        return len(_open(root)) == len(_LISTS)
    except UsageError:
        return False


def _open(root: Path) -> Parts:
    home = find_home(
        root, (_HOME, ""), "annotations", dataset=_DATASET, source=_SOURCE, layout=_LAYOUT
    )
    for folder in ("images", "annotations/trimaps"):
        require_folder(home / folder, dataset=_DATASET, source=_SOURCE, layout=_LAYOUT)
    image = path_of(home / "images", ".jpg")
    mask = path_of(home / "annotations" / "trimaps", ".png")
    pairs: list[Pair] = []
    for listed, part in _LISTS.items():
        path = home / "annotations" / f"{listed}.txt"
        known = _attributes(path)
        pairs += pairs_of(
            read_list(path),
            part=part,
            image=image,
            mask=mask,
            attributes=known.__getitem__,
            source=str(path),
        )
    return own_parts(pairs, LABELS, root=home, layout=_LAYOUT, how="are those of its lists")


def _attributes(path: Path) -> dict[str, Mapping[str, str]]:
    """Species and breed of each name of a list."""
    known: dict[str, Mapping[str, str]] = {}
    for words in read_words(path):
        if len(words) != 4 or words[2] not in _SPECIES or "_" not in words[0]:
            raise UsageError(
                f"{path} has the line {' '.join(words)!r}, which is not NAME CLASS SPECIES BREED "
                "with the species 1 or 2: extract annotations.tar.gz again"
            )
        breed = words[0].rpartition("_")[0].replace("_", " ").title()
        known[words[0]] = {"species": _SPECIES[words[2]], "breed": breed}
    return known
