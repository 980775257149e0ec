"""GTA5 ("Playing for Data"): 24,966 frames of a game in the classes of Cityscapes.

Richter et al., "Playing for Data: Ground Truth from Computer Games", ECCV 2016.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from truemask.datasets.cityscapes import CLASSES, LABELS, TRAIN_LABELS
from truemask.datasets.decoding import image_size, open_image
from truemask.datasets.layout import some
from truemask.datasets.lists import find_home, require_folder
from truemask.datasets.mask_files import is_grey_gif, palette_of, read_open_mask
from truemask.datasets.matlab import read_mat
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import files_ending, own_parts
from truemask.datasets.reading import read_image
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.images import RGB
from truemask.labels import IGNORE_INDEX, Color

SOURCE = (
    "https://download.visinf.tu-darmstadt.de/data/from_games/ (ten archives of images, ten of "
    "labels)"
)
LAYOUT = "images/00001.png, ... + labels/00001.png, ..."

# Where Cityscapes draws black, the game's masks have a colour of their own for static things.
_STATIC: Color = (20, 20, 20)

# Images of one colour, whose masks show a street.
_BLANK = ("15188", "17705")
# Pairs in which image and mask are said to differ by a few pixels.
_OTHER_SIZE = frozenset(f"{number:05d}" for number in range(20801, 20861))
_HEADERS_LOOKED_AT = 200


def _packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


# The other labels first: a pole group has the colour of a pole, a license plate that of a car.
_CLASS_OF_COLOR = replace(
    CLASSES,
    encoding="colors",
    values={_packed(row.color): IGNORE_INDEX for row in LABELS}
    | {_packed(_STATIC): IGNORE_INDEX}
    | {_packed(row.color): row.train_id for row in TRAIN_LABELS},
)


def gta5(root: Path | str) -> Parts:
    """Open GTA5 in the 19 classes of Cityscapes' benchmark; all other labels are ignored.

    The parts are those of `split.mat` (in `read_mapping.zip`, beside the data) where the folder
    holds it; otherwise everything is one part, "train", to be split. Images and masks that stand
    alone are left out, since the archives can be had one by one, and so are two images that show
    nothing. Masks of another size than their image, which a few are, are brought to its size.

    Args:
        root: holds `images/` and `labels/`.

    Raises:
        UsageError: the folder does not look like GTA5, has no pair, or `split.mat` cannot be read.
    """
    known = {"dataset": "GTA5", "source": SOURCE, "layout": LAYOUT}
    home = find_home(Path(root), ("",), "images", **known)
    require_folder(home / "labels", **known)
    images, masks = files_ending(home / "images", ".png"), files_ending(home / "labels", ".png")
    both = sorted(images.keys() & masks.keys())
    blank = [name for name in both if name in _BLANK and _is_blank(images[name])]
    names = [name for name in both if name not in blank]
    part_of, how = _division(home)
    pairs = [
        Pair(part_of.get(name, None if part_of else "train"), name, images[name], masks[name])
        for name in names
    ]
    notes = []
    for lone, kind, other in (
        (sorted(images.keys() - masks.keys()), "images", "mask"),
        (sorted(masks.keys() - images.keys()), "masks", "image"),
        ([pair.name for pair in pairs if pair.part is None], "pairs", "place in split.mat"),
        (blank, "images", "content"),
    ):
        if lone:
            notes.append(f"{len(lone)} {kind} have no {other} ({some(lone)}): left out.")
    notes += _note_on_sizes(pairs)
    return own_parts(
        [pair for pair in pairs if pair.part is not None],
        CLASSES,
        root=home,
        layout=LAYOUT,
        how=how,
        notes=notes,
        fit_masks=True,
        read_raw=read_classes,
    )


def read_classes(path: Path) -> UInt8[np.ndarray, "H W"]:
    """The class of each pixel's colour.

    Of a palette file, as GTA5's are, it looks up the colours of the palette and not those of the
    two million pixels, which takes a quarter of the time.

    Raises:
        UsageError: the file is unreadable, or a colour is that of no label.
    """
    with open_image(path) as image:
        if image.mode != "P" or is_grey_gif(image):
            return _classes_of(read_open_mask(image, path, colors=True), path)
        indices = read_open_mask(image, path)
        palette = palette_of(image)
    used = np.bincount(indices.ravel(), minlength=256) > 0
    classes = np.zeros(256, dtype=np.uint8)
    try:
        classes[used] = _CLASS_OF_COLOR.encode(palette[used][None])[0]
    except UsageError:
        return _classes_of(palette[indices], path)
    found: UInt8[np.ndarray, "H W"] = classes[indices]
    return found


def _classes_of(colors: UInt8[np.ndarray, "H W 3"], path: Path) -> UInt8[np.ndarray, "H W"]:
    try:
        return _CLASS_OF_COLOR.encode(colors)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _division(home: Path) -> tuple[dict[str, str], str]:
    """Image name -> its part as `split.mat` has it, or nothing; and how the parts come about."""
    path = home / "split.mat"
    if not path.is_file():
        return {}, "are one, as there is no split.mat"
    content = read_mat(path)
    part_of: dict[str, str] = {}
    for key, part in (("trainIds", "train"), ("valIds", "validation"), ("testIds", "test")):
        if key not in content:
            raise UsageError(f"{path} holds no {key}: take split.mat of read_mapping.zip, {SOURCE}")
        for number in content[key].ravel():
            name = f"{int(number):05d}"
            if part_of.setdefault(name, part) != part:
                raise UsageError(f"{path} has {name} in {part_of[name]} and in {part}")
    return part_of, "are those of split.mat"


def _is_blank(path: Path) -> bool:
    pixels = read_image(path, RGB).flatten(1)
    return bool((pixels == pixels[:, :1]).all())


def _note_on_sizes(pairs: list[Pair]) -> list[str]:
    """Whether masks differ in size from their images, by the headers of pairs spread over all."""
    step = -(-len(pairs) // _HEADERS_LOOKED_AT)
    looked_at = [
        pair for place, pair in enumerate(pairs) if place % step == 0 or pair.name in _OTHER_SIZE
    ]
    other = [p.name for p in looked_at if image_size(p.image) != image_size(p.mask)]
    if not other:
        return []
    return [
        f"Of {len(looked_at)} pairs looked at {len(other)} have a mask of another size than the "
        f"image ({some(other)}): such masks are brought to the image's size."
    ]
