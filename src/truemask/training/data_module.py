"""Loaders for training and validation, in Lightning's form."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from truemask.data.collate import collate
from truemask.data.randomness import epoch_order
from truemask.data.transforms import Transform, augment
from truemask.datasets.sample import Sample, SegmentationDataset

Address = tuple[int, int]
"""Epoch and index: all that a training sample is a function of, beside the seed."""


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


class EpochBatches(Sampler[list[Address]]):
    """Batches of addresses in an order that is a function of (seed, epoch).

    Every batch is full: the few samples left over at an epoch's end have their turn in another
    epoch.
    """

    def __init__(self, length: int, *, batch_size: int, seed: int) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        # Lightning announces the epoch to `batch_sampler.sampler`.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[Address]]:
        order = epoch_order(self.length, seed=self.seed, epoch=self.epoch)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [(self.epoch, index) for index in order[start : start + self.batch_size]]


class SegmentationData(LightningDataModule):
    """Training batches at the crop's size, validation images one by one at their own size."""

    def __init__(
        self,
        *,
        train: SegmentationDataset,
        validation: SegmentationDataset,
        transforms: Sequence[Transform],
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.train = TrainingSamples(train, transforms=transforms, seed=seed)
        self.validation = validation
        self.batches = EpochBatches(len(train), batch_size=batch_size, seed=seed)
        self.num_workers = num_workers
        self.collate = partial(collate, ignore_index=train.labels.ignore_index)

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented batches."""
        return DataLoader(
            self.train,
            batch_sampler=self.batches,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Single images in order."""
        return DataLoader(
            self.validation,  # type: ignore[arg-type]  # any sequence serves
            batch_size=1,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
