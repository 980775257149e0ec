"""Loaders for training and validation."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from truemask.data.batches import Address, EpochBatches
from truemask.data.collate import collate, collate_step
from truemask.data.shard_order import PrefetchedBatches, sharded
from truemask.data.transforms import Transform, augment
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.training.interruption import spare_worker
from truemask.training.processes import Place


class TrainingSamples(Dataset[Sample]):
    """The training part, augmented, indexed by (epoch, index)."""

    def __init__(
        self, dataset: SegmentationDataset, *, transforms: Sequence[Transform], seed: int
    ) -> None:
        self.dataset = dataset
        self.transforms = transforms
        self.seed = seed

    def __getitem__(self, address: Address) -> Sample:
        epoch, index = address
        endless = getattr(self.dataset, "endless", False)
        sample = self.dataset[index + epoch * len(self.dataset) if endless else index]
        return augment(sample, self.transforms, address=(self.seed, epoch, index))


def training_loader(
    dataset: SegmentationDataset,
    *,
    transforms: Sequence[Transform],
    batches: EpochBatches,
    num_workers: int,
    seed: int,
    stride: int = 1,
) -> DataLoader[Any]:
    """Lists of augmented batches, one list an optimiser step.

    Args:
        dataset: the training part.
        transforms: what is done to a sample, in order.
        batches: which samples make which step.
        num_workers: processes that load.
        seed: of the transforms.
        stride: what the height and the width of a padded batch are multiples of.
    """
    make = partial(
        collate_step,
        share=batches.share,
        ignore_index=dataset.labels.ignore_index,
        stride=stride,
    )
    samples = TrainingSamples(dataset, transforms=transforms, seed=seed)
    shards = sharded(dataset)
    sampler = batches if shards is None else PrefetchedBatches(batches, shards)
    return _loader(samples, num_workers, collate_fn=make, batch_sampler=sampler)


def validation_loader(
    dataset: SegmentationDataset, *, num_workers: int, place: Place
) -> DataLoader[Any]:
    """Single images in order, at their own size; of several processes each takes every n-th."""
    mine = range(place.rank, len(dataset), place.processes)
    make = partial(collate, ignore_index=dataset.labels.ignore_index)
    return _loader(dataset, num_workers, collate_fn=make, batch_size=1, sampler=list(mine))


def _loader(samples: Any, num_workers: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        samples,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=spare_worker,
        pin_memory=torch.cuda.is_available(),
        # Its own, so that starting to load does not move the random state of the training.
        generator=torch.Generator(),
        **options,
    )
