"""Check images and masks by themselves: one part of a dataset, in one pass over its samples.

```python
check_masks("my_data")                                   # a folder of images and masks
check_masks(mask_paths, num_classes=21)                  # files, or pairs of image and mask files
check_masks(dataset, num_classes=5, ignore_index=255)    # anything that gives (image, mask)
```
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from truemask.checks.finding import Finding, Rule, worst_first
from truemask.checks.mask_classes import absent_class, ignored_image, imbalance, lost_by_resizing
from truemask.checks.mask_files import (
    exif_orientation,
    size_mismatch,
    unpaired_file,
    unreadable_file,
)
from truemask.checks.mask_labels import (
    colour_mask_as_ids,
    foreground_ignored,
    smoothed_mask,
    unknown_ids,
)
from truemask.checks.mask_pairs import misaligned_pair
from truemask.checks.mask_part import Part, meanings_of
from truemask.checks.mask_places import class_out_of_place, constant_region, missing_common_class
from truemask.checks.mask_records import Record, record_of
from truemask.checks.probe import Probe
from truemask.checks.probing import LIMIT, Samples, each, samples_of
from truemask.labels import LabelMap

RULES: tuple[Rule, ...] = (
    unreadable_file,
    unpaired_file,
    size_mismatch,
    exif_orientation,
    misaligned_pair,
    smoothed_mask,
    unknown_ids,
    colour_mask_as_ids,
    foreground_ignored,
    absent_class,
    ignored_image,
    imbalance,
    missing_common_class,
    class_out_of_place,
    constant_region,
    lost_by_resizing,
)
"""The rules of one part, in the order of their codes."""


def check_masks(
    paths_or_dataset: Any,
    *,
    num_classes: int | None = None,
    ignore_index: int | None = 255,
    class_names: Sequence[str] | None = None,
    loss: Callable[..., Any] | None = None,
    train_size: tuple[int, int] | None = None,
    limit: int = LIMIT,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Check the images and masks of one part.

    Args:
        paths_or_dataset: whatever `probing.samples_of` understands: a folder, a list of mask files
            or of (image file, mask file), or a dataset with a length and an index.
        num_classes: how many classes there are; None to tell by the data's label map, or to take
            every value for a class.
        ignore_index: the id of pixels that neither train nor count; None for none.
        class_names: in the order of ids, for messages.
        loss: what is to be trained with, called with (logits, target); None says nothing of it.
        train_size: height and width that masks are resized to for training; None for their own.
        limit: of more samples, so many are drawn and read.
        seed: of what is drawn.
        progress: called with (done, total) samples.

    Returns:
        The findings, the worst first; none for sound data.

    Raises:
        UsageError: this is no dataset, or it is empty.
    """
    samples = samples_of(paths_or_dataset, limit=limit, seed=seed)
    records = list(each(samples, recorder(samples, train_size=train_size), progress=progress))
    return check_records(
        samples,
        records,
        num_classes=num_classes,
        ignore_index=ignore_index,
        class_names=class_names,
        loss=loss,
        train_size=train_size,
    )


def recorder(
    samples: Samples, *, train_size: tuple[int, int] | None = None
) -> Callable[[Probe], Record]:
    """What is to be applied to each sample of a part, in a pass that others may share."""
    labels = samples.labels if not samples.encoded else None
    labels = labels if isinstance(labels, LabelMap) else None
    return partial(record_of, labels=labels, train_size=train_size)


def check_records(
    samples: Samples,
    records: Sequence[Record],
    *,
    name: str = "",
    num_classes: int | None = None,
    ignore_index: int | None = 255,
    class_names: Sequence[str] | None = None,
    loss: Callable[..., Any] | None = None,
    train_size: tuple[int, int] | None = None,
) -> list[Finding]:
    """Apply all rules to the records of a part.

    Args:
        samples: where the records come from.
        records: one a sample, of `recorder`.
        name: of the part.
        num_classes: as in `check_masks`, likewise all others.
        ignore_index: see there.
        class_names: see there.
        loss: see there.
        train_size: see there.
    """
    meanings = meanings_of(
        samples,
        records,
        num_classes=num_classes,
        ignore_index=ignore_index,
        class_names=class_names,
    )
    part = Part(
        name=name,
        samples=samples,
        records=records,
        meanings=meanings,
        loss=loss,
        train_size=train_size,
    )
    return worst_first(found for rule in RULES for found in rule(part))
