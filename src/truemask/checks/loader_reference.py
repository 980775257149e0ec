"""The images of a loader beside those of the dataset's own files: TM302."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.items import image_and_mask, image_array
from truemask.checks.loader_samples import Drawn

_THUMB = 24
_ALIKE = 0.95
"""Correlation of grey thumbnails of an image with its own file, at least."""

_MOST = 300
_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@rule("TM302", "swapped-channels", "error")
def swapped_channels(drawn: Drawn, dataset: Any, *, given: bool = False) -> Iterator[Finding]:
    """Channels are exchanged: most often the images are BGR, as OpenCV reads them.

    Why it matters:
        Weights that were trained on RGB see a blue world as an orange one, and a mean and standard
        deviation are applied to the wrong channels. Training from random weights hides it, until
        somebody predicts with images that another library has read.

    How it decides:
        Thumbnails of the batches' images are matched with those of the dataset's own files (or of
        the samples of a dataset that was given), by grey value, also mirrored; a match correlates
        by 0.95 or more. The channels of a matched pair are correlated with those of the file, in
        each of the six orders. An image is exchanged where its own order is worse than another by
        0.02 and more. An error is three such images and a tenth of those that could be told, nine
        tenths of which have one and the same other order. Without files that match nothing is said.

    False alarms:
        An augmentation that exchanges channels at random, of which one order prevails.

    How to mend:
        `cv2.cvtColor(image, cv2.COLOR_BGR2RGB)` right after `cv2.imread`, or read with PIL or
        torchvision.
    """
    images = [taken for taken in drawn.images if len(taken.image) == 3]
    references = reference_thumbnails(dataset, given=given) if images else None
    if references is None:
        return
    votes: Counter[tuple[int, ...]] = Counter()
    margins = []
    for taken in images:
        told = _order(_thumbnail(taken.image), references)
        if told is not None:
            order, margin = told
            votes[order] += 1
            margins += [margin] if order != _OWN else []
    compared, swapped = votes.total(), len(margins)
    if swapped < max(3, 0.1 * compared):
        return
    order, most = max(((o, n) for o, n in votes.items() if o != _OWN), key=lambda item: item[1])
    if most < 0.9 * swapped:
        return
    names = ", ".join(f"the file's {_NAMES[c]} one" for c in order)
    yield swapped_channels.finding(
        f"In {most} of {compared} images that could be compared with their files, the channels are "
        f"{names}, in this order.",
        remedy="Convert after reading: cv2.cvtColor(image, cv2.COLOR_BGR2RGB), or image[..., ::-1] "
        "once.",
        evidence={
            "swapped": most,
            "compared": compared,
            "order": list(order),
            "margin": float(np.median(margins)),
        },
    )


_OWN = (0, 1, 2)
_NAMES = ("red", "green", "blue")
_CLEAR = 0.02
"""By how much the correlations of two orders must differ for either to be told."""


def _order(
    thumb: Float[Tensor, "3 T T"], references: Float[Tensor, "N 3 T T"]
) -> tuple[tuple[int, ...], float] | None:
    """Which channel of its file each channel is, and by how much; None where that is unclear."""
    best: tuple[float, Float[Tensor, "2 3 T T"]] | None = None
    others = references.mean(1, keepdim=True).flatten(1)
    others = others - others.mean(1, keepdim=True)
    others = others / others.norm(dim=1, keepdim=True).clamp_min(1e-9)
    for placed in (thumb, thumb.flip(2)):
        grey = _standardized(placed.mean(0, keepdim=True)).flatten()
        found = others @ (grey / grey.norm().clamp_min(1e-9))
        score = float(found.max())
        if best is None or score > best[0]:
            best = (score, torch.stack([placed, references[int(found.argmax())]]))
    if best is None or best[0] < _ALIKE:
        return None
    own, file = (_standardized(values).flatten(1) for values in best[1])
    table = (own @ file.T / own.shape[1]).tolist()
    scores = {order: sum(table[c][o] for c, o in enumerate(order)) for order in permutations(_OWN)}
    highest = max(scores, key=lambda order: scores[order])
    if highest != _OWN:
        margin = scores[highest] - scores[_OWN]
    else:
        margin = scores[_OWN] - max(score for order, score in scores.items() if order != _OWN)
    return (highest, margin) if margin >= _CLEAR else None


def _standardized(values: Float[Tensor, "C T T"]) -> Float[Tensor, "C T T"]:
    centred = values - values.mean((1, 2), keepdim=True)
    return centred / centred.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-9)


def _thumbnail(image: Tensor) -> Float[Tensor, "3 T T"]:
    return adaptive_avg_pool2d(image.float()[None], (_THUMB, _THUMB))[0]


def reference_thumbnails(dataset: Any, *, given: bool = False) -> Float[Tensor, "N 3 T T"] | None:
    """Thumbnails of the files of a dataset, RGB; None where it has none.

    Args:
        dataset: see `files_of`.
        given: whether the caller vouches for its samples, which stand for files it does not have.
    """
    sources: Sequence[Any] | None = files_of(dataset)
    if sources is None and given and _length(dataset) > 0:
        sources = _Samples(dataset)
    if sources is None:
        return None
    places = range(0, len(sources), max(len(sources) // _MOST, 1))
    thumbs = [thumb for place in places if (thumb := _read(sources[place])) is not None]
    return torch.stack(thumbs) if thumbs else None


def files_of(dataset: Any) -> Sequence[Any] | None:
    """The image files behind a dataset, or else what stands for them.

    A list of files is taken as it is. Of a dataset, a list of image files that it holds and that
    is as long as it; of one with Truemask's `pairs`, their images; of a `Subset`, those of its
    indices. Without such a list there is none: a dataset's own images are what is in question.
    """
    if dataset is None:
        return None
    if isinstance(dataset, Sequence) and len(dataset) and _is_file(dataset[0]):
        return dataset
    indices, inner = getattr(dataset, "indices", None), getattr(dataset, "dataset", None)
    if indices is not None and inner is not None:
        files = files_of(inner)
        return None if files is None else [files[int(index)] for index in indices]
    pairs = getattr(dataset, "pairs", None)
    if isinstance(pairs, Sequence) and len(pairs) and _is_file(getattr(pairs[0], "image", None)):
        return [pair.image for pair in pairs]
    for _, held in sorted(getattr(dataset, "__dict__", {}).items()):
        listed = isinstance(held, list | tuple) and 0 < len(held) == _length(dataset)
        if listed and all(_is_file(entry) for entry in held) and _is_photo(held[0]):
            return list(held)
    return files_of(inner) if inner is not None else None


class _Samples(Sequence[Any]):
    """The samples of a dataset, which may have no more than a length and an index."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return _length(self.dataset)

    def __getitem__(self, place: Any) -> Any:
        return self.dataset[place]


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError:
        return -1


def _is_file(entry: Any) -> bool:
    return isinstance(entry, str | Path) and str(entry).lower().endswith(_ENDINGS)


def _is_photo(entry: Any) -> bool:
    """Whether a file is a colour image, and not a mask."""
    thumb = _read(entry)
    return thumb is not None and bool((thumb[0] != thumb[2]).any())


def _read(source: Any) -> Float[Tensor, "3 T T"] | None:
    try:
        if _is_file(source):
            with Image.open(source) as image:
                image.draft("RGB", (256, 256))
                pixels = np.asarray(image.convert("RGB"))
        else:
            pixels = image_array(image_and_mask(source)[0])
    except Exception:  # A file that cannot be read is another rule's.
        return None
    if pixels.shape[2] != 3:
        return None
    return _thumbnail(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))


RULES: tuple[Rule, ...] = (swapped_channels,)
