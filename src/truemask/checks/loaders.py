"""Checks of batches as they reach the model, from anybody's loader."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from truemask.checks import loader_masks, loader_reference, loader_scaling
from truemask.checks.batches import class_ids, one_hot_axis
from truemask.checks.finding import Finding, Rule, worst_first
from truemask.checks.loader_masks import counted_padding, mask_not_transformed
from truemask.checks.loader_reference import swapped_channels
from truemask.checks.loader_samples import Drawn, draw
from truemask.checks.loader_scaling import declared, wrong_scaling
from truemask.checks.mask_labels import foreground_ignored
from truemask.checks.untouched import untouched
from truemask.errors import UsageError

_DRAWN = 16
"""Masks that show something ignored among the background, at least."""


def check_loader(
    loader: Iterable[Any],
    *,
    num_classes: int,
    ignore_index: int = 255,
    normalization: Any = None,
    dataset: Any = None,
    batches: int = 16,
) -> list[Finding]:
    """Look for silent bugs in batches, by what is in them.

    Random numbers, and the generators of the loader and its samplers, are as before.

    Args:
        loader: gives batches (images, masks), mappings, or objects with both; a `DataLoader` or a
            list. Images are (B, C, H, W) or (B, H, W, C), masks ids or one-hot.
        num_classes: K.
        ignore_index: id of pixels that do not count.
        normalization: what the values of the images should be: "imagenet", "0-1", "-1-1", "0-255";
            {"mean": ..., "std": ..., "range": (0, 1)}; or a Truemask `ImageSpec`. Without it only
            values that no scaling gives are reported.
        dataset: image files to compare channels with, or a dataset whose files, or else samples,
            are known to be right; by default the files of the loader's dataset.
        batches: how many are read, at most; after 64 images it is enough.

    Returns:
        Findings, the worst first; none for a sound loader.

    Raises:
        UsageError: the loader gives no batch, or none in which images can be told; `normalization`
            is none of the above.
    """
    if num_classes < 1 or batches < 1:
        raise UsageError(
            f"num_classes is {num_classes} and batches is {batches}; both must be 1 or more"
        )
    scaling = declared(normalization)
    source = dataset if dataset is not None else getattr(loader, "dataset", None)
    with untouched(None):
        drawn = draw(loader, num_classes=num_classes, batches=batches)
        return worst_first(
            [
                *_unusable_masks(drawn, num_classes, ignore_index),
                *_foreground_ignored(drawn, num_classes, ignore_index),
                *wrong_scaling(drawn, scaling),
                *swapped_channels(drawn, source, given=dataset is not None),
                *mask_not_transformed(drawn),
                *counted_padding(drawn, ignore_index),
            ]
        )


def _unusable_masks(drawn: Drawn, num_classes: int, ignore_index: int) -> Iterator[Finding]:
    """What stands in masks and is no class: TM107, as for files."""
    for number, masks in enumerate(drawn.masks):
        image = next(taken.image for taken in drawn.images if taken.batch == number)
        size = (image.shape[1], image.shape[2])
        fault = _fault_of(masks, size, num_classes, ignore_index)
        if fault is not None:
            message, remedy = fault
            yield Finding(
                code="TM107",
                name="unknown-ids",
                level="error",
                message=message,
                remedy=remedy,
                where=f"batch {number}",
                evidence={"shape": list(masks.shape), "dtype": str(masks.dtype)},
            )
            return


def _foreground_ignored(drawn: Drawn, num_classes: int, ignore_index: int) -> Iterator[Finding]:
    """Binary masks whose foreground has the ignored id: TM109, as for files.

    Rows and columns that are ignored as a whole may be padding, and do not speak for it.
    """
    if num_classes > 2:
        return
    zeros = ignored = drawing = 0
    for number, masks in enumerate(drawn.masks):
        image = next(taken.image for taken in drawn.images if taken.batch == number)
        ids = class_ids(masks, (image.shape[1], image.shape[2]), num_classes=num_classes)
        if ids is None or not ((ids == 0) | (ids == ignore_index)).all():
            return
        void = ids == ignore_index
        beside = (~void).any(1, keepdim=True) & (~void).any(2, keepdim=True)
        zeros += int((~void).sum())
        ignored += int(void.sum())
        drawing += int((void & beside).flatten(1).any(1).sum())
    if zeros and drawing >= _DRAWN:
        yield foreground_ignored.finding(
            f"All pixels of the masks are of class 0 or have the ignored id {ignore_index} "
            f"({ignored / (zeros + ignored):.2%}), so that no foreground is trained.",
            where="all batches",
            remedy="Map 255 to class 1 when masks are read (mask > 0), or pass another "
            "ignore_index.",
            evidence={"ignored": ignored / (zeros + ignored), "masks": drawing},
        )


def _fault_of(
    masks: Tensor, size: tuple[int, int], num_classes: int, ignore_index: int
) -> tuple[str, str] | None:
    shape = tuple(masks.shape)
    ids = class_ids(masks, size, num_classes=num_classes)
    if ids is None:
        if masks.is_floating_point() and masks.ndim in (3, 4) and 0 < float(masks.max()) <= 1:
            fraction = masks[(masks > 0) & (masks < 1)]
            if fraction.numel():
                return (
                    f"The masks hold fractions such as {float(fraction[0]):.4g}: ids that were "
                    "divided by 255, as ToTensor does, or masks that were resized smoothly.",
                    "Turn masks into tensors with torch.as_tensor(np.array(mask)).long(), and "
                    "resize them with InterpolationMode.NEAREST.",
                )
        if masks.ndim == 4 and one_hot_axis(masks, size, num_classes=num_classes) is None:
            return (
                f"The masks have the shape {shape} and are neither ids (B, H, W) nor one-hot with "
                f"{num_classes} channels.",
                "Give ids of the shape (B, H, W), int64.",
            )
        return None
    limit = max(num_classes, 2)
    unknown = ids[((ids < 0) | (ids >= limit)) & (ids != ignore_index)]
    if unknown.numel() == 0:
        return None
    values = sorted({int(value) for value in torch.unique(unknown)[:8].tolist()})
    share = unknown.numel() / ids.numel()
    return (
        f"The masks hold {', '.join(map(str, values))} ({share:.1%} of the pixels), but there are "
        f"{num_classes} classes and the ignored id {ignore_index}.",
        f"Map every value to a class id from 0 to {limit - 1}, or to {ignore_index}.",
    )


RULES: tuple[Rule, ...] = (
    *loader_scaling.RULES,
    *loader_reference.RULES,
    *loader_masks.RULES,
)
