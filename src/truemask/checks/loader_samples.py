"""What a loader gives, image by image, drawn without leaving a trace in it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from truemask.checks.batches import class_ids, read_batch
from truemask.checks.failures import in_short
from truemask.errors import UsageError

ENOUGH = 64
"""Images that are read: a fault in a tenth of them is missed once in 800 times."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """One image of a batch, as it would reach the model, and its mask.

    Attributes:
        batch: number of the batch.
        place: number of the image within it.
        image: (C, H, W), as it came.
        mask: (H, W), ids; None where the masks hold none, or there are no masks.
    """

    batch: int
    place: int
    image: Shaped[Tensor, "C H W"]
    mask: Int64[np.ndarray, "H W"] | None

    @property
    def pixels(self) -> Shaped[np.ndarray, "H W C"]:
        """The image with its channels last; floating point unless it is uint8."""
        image = self.image if self.image.dtype == torch.uint8 else self.image.float()
        return image.permute(1, 2, 0).numpy()

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"image {self.place} of batch {self.batch}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Some batches.

    Attributes:
        images: all of them.
        masks: of each batch, as they came.
        channels_last: whether the images came as (B, H, W, C).
    """

    images: tuple[Taken, ...]
    masks: tuple[Tensor, ...]
    channels_last: bool


def draw(loader: Iterable[Any], *, num_classes: int, batches: int) -> Drawn:
    """The first batches of a loader, until there are enough images.

    Raises:
        UsageError: there are none, one cannot be read, no images can be told in them, or it can be
            iterated only once.
    """
    if hasattr(loader, "__next__"):
        raise UsageError(
            "the loader is an iterator that can be read only once, so that a check would take its "
            "batches away: give the DataLoader, or a list of batches"
        )
    taken: list[Taken] = []
    masks: list[Tensor] = []
    last = False
    with _generators_kept(loader):
        for number, batch in zip(range(batches), _read(loader), strict=False):
            read = read_batch(batch)
            images = read.images.detach().cpu()
            if images.shape[1] > 16 and images.shape[3] in (1, 3, 4):
                images, last = images.permute(0, 3, 1, 2), True
            size = (images.shape[-2], images.shape[-1])
            ids = None
            if read.masks is not None:
                masks.append(read.masks.detach().cpu())
                ids = class_ids(masks[-1], size, num_classes=num_classes)
            taken += [
                Taken(
                    batch=number,
                    place=place,
                    image=image,
                    mask=None if ids is None else ids[place].numpy(),
                )
                for place, image in enumerate(images)
            ]
            if len(taken) >= ENOUGH:
                break
    if not taken:
        raise UsageError("the loader gives no batch: its dataset is empty, or drop_last left none")
    return Drawn(images=tuple(taken), masks=tuple(masks), channels_last=last)


def _read(loader: Iterable[Any]) -> Iterator[Any]:
    """The batches.

    Raises:
        UsageError: reading one fails.
    """
    try:
        yield from loader
    except Exception as error:  # Other people's code may raise anything.
        raise UsageError(f"the loader cannot be read: {in_short(error)}") from error


@contextmanager
def _generators_kept(loader: Any) -> Iterator[None]:
    """Random generators of the loader and its samplers are left as they were."""
    holders = [loader]
    for attribute in ("sampler", "batch_sampler", "dataset"):
        holders.append(getattr(loader, attribute, None))
    holders.append(getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    found = {
        id(generator): generator
        for holder in holders
        if isinstance(generator := getattr(holder, "generator", None), torch.Generator)
    }
    states = [(generator, generator.get_state()) for generator in found.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
