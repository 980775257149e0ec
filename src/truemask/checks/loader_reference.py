"""The images of a loader beside those of the dataset's own files: TM302."""

from collections.abc import Iterator, Sequence
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
def swapped_channels(drawn: Drawn, dataset: Any) -> Iterator[Finding]:
    """Red and blue are exchanged: the images are BGR, as OpenCV reads them.

    Why it matters:
        Weights that were trained on RGB see a blue world as an orange one, and a mean and standard
        deviation are applied to the wrong channels. Training from random weights hides it, until
        somebody predicts with images that another library has read.

    How it decides:
        Thumbnails of the batches' images are matched with those of the dataset's own files (or
        samples), by grey value, also mirrored; a match correlates by 0.95 or more. Of a matched
        pair each channel must correlate with the same channel of the file more than with the
        opposite one. An error is at least three images with a clear answer, nine tenths of which
        say that the channels are exchanged. Without files that match nothing is said.

    False alarms:
        None known. A random exchange of channels as an augmentation is not found.

    How to mend:
        `cv2.cvtColor(image, cv2.COLOR_BGR2RGB)` right after `cv2.imread`, or read with PIL or
        torchvision.
    """
    images = [taken for taken in drawn.images if len(taken.image) == 3]
    references = reference_thumbnails(dataset) if images else None
    if references is None:
        return
    votes = []
    for taken in images:
        margin = _margin(_thumbnail(taken.image), references)
        if margin is not None and abs(margin) > 0.003:
            votes.append(margin)
    swapped = sum(vote < 0 for vote in votes)
    if len(votes) < 3 or swapped < 0.9 * len(votes):
        return
    yield swapped_channels.finding(
        f"In {swapped} of {len(votes)} images that could be compared with their files, the first "
        "channel is the file's blue one and the third its red one.",
        remedy="Convert after reading: cv2.cvtColor(image, cv2.COLOR_BGR2RGB), or image[..., ::-1] "
        "once.",
        evidence={"swapped": swapped, "compared": len(votes), "margin": float(np.median(votes))},
    )


def _margin(thumb: Float[Tensor, "3 T T"], references: Float[Tensor, "N 3 T T"]) -> float | None:
    """How much better the channels correlate as they are than exchanged; None without a match."""
    best: tuple[float, Float[Tensor, "3 T T"]] | None = None
    for placed in (thumb, thumb.flip(2)):
        grey = _standardized(placed.mean(0, keepdim=True))
        scores = (references.mean(1, keepdim=True).flatten(1), grey.flatten())
        others = scores[0] - scores[0].mean(1, keepdim=True)
        others = others / others.norm(dim=1, keepdim=True).clamp_min(1e-9)
        found = others @ (scores[1] / scores[1].norm().clamp_min(1e-9))
        score = float(found.max())
        if best is None or score > best[0]:
            best = (score, torch.stack([placed, references[int(found.argmax())]]))
    if best is None or best[0] < _ALIKE:
        return None
    own, file = (_standardized(values).flatten(1) for values in best[1])
    table = own @ file.T / own.shape[1]
    return float(table[0, 0] + table[2, 2] - table[0, 2] - table[2, 0])


def _standardized(values: Float[Tensor, "C T T"]) -> Float[Tensor, "C T T"]:
    centred = values - values.mean((1, 2), keepdim=True)
    return centred / centred.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-9)


def _thumbnail(image: Tensor) -> Float[Tensor, "3 T T"]:
    return adaptive_avg_pool2d(image.float()[None], (_THUMB, _THUMB))[0]


def reference_thumbnails(dataset: Any) -> Float[Tensor, "N 3 T T"] | None:
    """Thumbnails of the files of a dataset, or of its samples, RGB; None where it has none."""
    sources: Sequence[Any] | None = files_of(dataset)
    if sources is None:
        return None
    step = max(len(sources) // _MOST, 1)
    thumbs = [thumb for source in sources[::step] if (thumb := _read(source)) is not None]
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
    if isinstance(pairs, Sequence) and len(pairs) and hasattr(pairs[0], "image"):
        return [pair.image for pair in pairs]
    for _, held in sorted(getattr(dataset, "__dict__", {}).items()):
        listed = isinstance(held, list | tuple) and 0 < len(held) == _length(dataset)
        if listed and all(_is_file(entry) for entry in held) and _is_photo(held[0]):
            return list(held)
    return files_of(inner) if inner is not None else None


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
