"""BSDS500: 500 photographs, each outlined by 4 to 9 people; which pixels are boundaries?

Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011.

People rarely draw through the very same pixel: about 6 % of the pixels were drawn by somebody, and
less than 1 % by half of those asked. So a pixel that only some drew is neither a boundary nor none.
Liu et al., "Richer Convolutional Features for Edge Detection" (CVPR 2017, equation 1), leave such
pixels out of the loss, as is done here by default.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, UInt8

from truemask.datasets.lists import require_folder
from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.matlab import read_mat, shape_in_mat
from truemask.datasets.paired import RawMask
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import (
    PART_OF_FOLDER,
    files_ending,
    own_parts,
    pairs_in,
)
from truemask.datasets.sample import Parts
from truemask.errors import UsageError
from truemask.files import read_json
from truemask.labels import IGNORE_INDEX, LabelMap

SOURCE = (
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html "
    "(BSR_bsds500.tgz)"
)
LAYOUT = (
    "images/{train,val,test}/*.jpg + groundTruth/{train,val,test}/*.mat, or "
    "{train,val}/images/*.jpg + {train,val}/boundaries/*.png + {train,val}/counts.json"
)

_HOMES = ("", "data", "BSDS500/data", "BSR/BSDS500/data")
_VARIABLE = "groundTruth"

# What `judge` makes of a pixel.
NOBODY, BOUNDARY, DOUBTFUL = 0, 1, 2

DEFAULT_AGREEMENT = 0.5


def bsds500(
    root: Path | str,
    *,
    agreement: float | None = None,
    doubtful: Literal["ignored", "background"] = "ignored",
    annotator: int | None = None,
) -> Parts:
    """Open BSDS500 as a task of two classes, boundary and background.

    Each sample has the attribute `annotators`, how many people outlined it.

    Args:
        root: holds `images/` and `groundTruth/` (or is the folder that the archive makes), or
            `train/` and `val/` of a copy with `boundaries/`, PNGs in which a pixel's value is the
            number of people who drew through it, and `counts.json`, how many were asked.
        agreement: share of its annotators, over 0 and up to 1, that must have drawn a pixel to make
            it a boundary; None for a half.
        doubtful: what becomes of pixels that some drew, but too few.
        annotator: take the drawing of one annotator, counted from 1, instead; who that is differs
            from image to image. The original only.

    Raises:
        UsageError: the folder does not look like BSDS500, files are missing, or an option is out of
            range or cannot be had of a copy.
    """
    _check_options(agreement, doubtful, annotator)
    share = DEFAULT_AGREEMENT if agreement is None else agreement
    root = Path(root)
    home = _home(root)
    if home is not None:
        pairs = _original_pairs(home, annotator)
        read_raw: Callable[[Path], RawMask] = partial(
            read_drawings, agreement=share, annotator=annotator
        )
    else:
        pairs = _copied_pairs(root, annotator)
        read_raw = partial(
            read_sums,
            agreement=share,
            asked={p.mask: int(p.attributes["annotators"]) for p in pairs},
        )
    return own_parts(
        pairs,
        _label_map(doubtful),
        root=root,
        layout=LAYOUT,
        how="are BSDS500's own",
        notes=(_what_counts(share, doubtful, annotator),),
        read_raw=read_raw,
    )


def annotations(root: Path) -> dict[str, Path]:
    """Image name -> its original annotation; empty for a copy, which has only sums of them.

    Raises:
        UsageError: files are missing.
    """
    home = _home(root)
    return {} if home is None else {pair.name: pair.mask for pair in _original_pairs(home, None)}


def _home(root: Path) -> Path | None:
    return next((root / home for home in _HOMES if (root / home / _VARIABLE).is_dir()), None)


def _check_options(agreement: float | None, doubtful: str, annotator: int | None) -> None:
    if agreement is not None and not 0 < agreement <= 1:
        raise UsageError(f"agreement {agreement} must be a share over 0 and up to 1")
    if doubtful not in ("ignored", "background"):
        raise UsageError(f"doubtful is {doubtful!r}; allowed are ignored and background")
    if annotator is None:
        return
    if annotator < 1:
        raise UsageError(f"annotator {annotator} must be 1 or more: annotators count from 1")
    if agreement is not None:
        raise UsageError(
            f"annotator={annotator} and agreement={agreement} exclude each other: one person's "
            "drawing needs no agreement"
        )


def _label_map(doubtful: str) -> LabelMap:
    return LabelMap(
        names=("background", "boundary"),
        values={
            NOBODY: 0,
            BOUNDARY: 1,
            DOUBTFUL: 0 if doubtful == "background" else IGNORE_INDEX,
        },
        ignore_name="doubtful",
    )


def _what_counts(share: float, doubtful: str, annotator: int | None) -> str:
    if annotator is not None:
        return f"Boundaries are what annotator {annotator} of each image drew."
    fate = "ignored" if doubtful == "ignored" else "background"
    return (
        f"Boundaries are what at least {share:.4g} of an image's annotators drew; what fewer drew "
        f"is {fate}."
    )


def judge(
    votes: Int[np.ndarray, "H W"], *, asked: int, agreement: float
) -> UInt8[np.ndarray, "H W"]:
    """Whether each pixel is drawn by nobody, by enough people (a boundary), or by too few.

    Args:
        votes: how many people drew through each pixel.
        asked: how many annotators there are.
        agreement: share of them that makes a boundary.
    """
    # 0.6 of 5 is 3, even where the product in floating point is a little more.
    needed = max(1, ceil(agreement * asked - 1e-9))
    verdict: UInt8[np.ndarray, "H W"] = np.select(
        [votes >= needed, votes > 0],
        [np.uint8(BOUNDARY), np.uint8(DOUBTFUL)],
        default=np.uint8(NOBODY),
    )
    return verdict


def read_sums(path: Path, *, agreement: float, asked: dict[Path, int]) -> UInt8[np.ndarray, "H W"]:
    """The verdict on a PNG that holds numbers of annotators.

    Raises:
        UsageError: the file is unreadable, or more drew a pixel than were asked.
    """
    votes = read_mask_raw(path)
    if votes.ndim != 2 or votes.max() > asked[path]:
        held = "colours" if votes.ndim != 2 else f"the value {votes.max()}"
        raise UsageError(
            f"{path} holds {held}, but counts.json says that {asked[path]} people outlined this "
            "image: a pixel's value must be how many of them drew through it"
        )
    return judge(votes.astype(np.int64), asked=asked[path], agreement=agreement)


def read_annotators(path: Path) -> Bool[np.ndarray, "K H W"]:
    """What each annotator drew, of an original annotation.

    Raises:
        UsageError: the file is unreadable, or no annotation of BSDS500.
    """
    try:
        people = read_mat(path)[_VARIABLE].ravel()
        drawn: Bool[np.ndarray, "K H W"] = np.stack(
            [person["Boundaries"][0, 0] != 0 for person in people]
        )
        if drawn.ndim != 3:
            raise ValueError("not (N, H, W)")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} holds no annotation of BSDS500 ({_VARIABLE} with Boundaries): extract the "
            "archive again"
        ) from error
    return drawn


def read_drawings(
    path: Path, *, agreement: float, annotator: int | None
) -> UInt8[np.ndarray, "H W"]:
    """The verdict on an original annotation, or what one annotator drew.

    Raises:
        UsageError: the file is unreadable, or no annotation of BSDS500.
    """
    drawn = read_annotators(path)
    if annotator is not None:
        own: UInt8[np.ndarray, "H W"] = drawn[annotator - 1].astype(np.uint8)
        return own
    return judge(drawn.sum(0), asked=len(drawn), agreement=agreement)


def _original_pairs(home: Path, annotator: int | None) -> list[Pair]:
    require_folder(home / "images", dataset="BSDS500", source=SOURCE, layout=LAYOUT)
    pairs = [
        pair
        for folder, part in PART_OF_FOLDER.items()
        for pair in pairs_in(
            home / "images" / folder,
            home / _VARIABLE / folder,
            part=part,
            image_endings=(".jpg",),
            mask_ending=".mat",
        )
    ]
    asked = {pair.mask: shape_in_mat(pair.mask, _VARIABLE)[-1] for pair in pairs}
    fewest = min(asked, key=lambda path: asked[path], default=None)
    if annotator is not None and fewest is not None and annotator > asked[fewest]:
        raise UsageError(
            f"annotator {annotator}: {fewest} has only {asked[fewest]}; choose 1 to {asked[fewest]}"
        )
    return [
        Pair(pair.part, pair.name, pair.image, pair.mask, {"annotators": str(asked[pair.mask])})
        for pair in pairs
    ]


def _copied_pairs(root: Path, annotator: int | None) -> list[Pair]:
    folders = {
        name: root / name for name in PART_OF_FOLDER if (root / name / "boundaries").is_dir()
    }
    if not folders:
        require_folder(root / _VARIABLE, dataset="BSDS500", source=SOURCE, layout=LAYOUT)
    if annotator is not None:
        raise UsageError(
            f"{root} is a copy of BSDS500 that holds sums over the annotators, so annotator="
            f"{annotator} cannot be had of it: get the original from {SOURCE}"
        )
    return [
        pair
        for name, folder in folders.items()
        for pair in pairs_in(
            folder / "images",
            folder / "boundaries",
            part=PART_OF_FOLDER[name],
            image_endings=(".jpg",),
            mask_ending=".png",
            attributes=_asked(folder),
        )
    ]


def _asked(folder: Path) -> Callable[[str], dict[str, str]]:
    """Image name -> how many annotators it had, as `counts.json` says."""
    path = folder / "counts.json"
    counts = read_json(path)
    names = files_ending(folder / "boundaries", ".png")
    if not isinstance(counts, dict):
        raise UsageError(f"{path} must hold the number of annotators by image name")
    for name in names:
        count = counts.get(name)
        if type(count) is not int or count < 1:
            raise UsageError(
                f"{path} says {count!r} of {name}: it must be how many annotators the image had"
            )
    return lambda name: {"annotators": str(counts.get(name, 0))}
