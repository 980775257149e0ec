"""Loaders for training and validation, in Lightning's form."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from truemask.data.batches import Address, EpochBatches
from truemask.data.collate import collate
from truemask.data.transforms import Transform, augment
from truemask.datasets.sample import Sample, SegmentationDataset


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


class SegmentationData(LightningDataModule):
    """Training batches, and validation images one by one at their own size.

    Args:
        train: the training part.
        validation: the images to validate on.
        transforms: what is done to a training sample, in order.
        batches: which samples make which batch.
        num_workers: processes that load.
        seed: of the transforms.
        stride: what the height and the width of a padded batch are multiples of.
    """

    def __init__(
        self,
        *,
        train: SegmentationDataset,
        validation: SegmentationDataset,
        transforms: Sequence[Transform],
        batches: EpochBatches,
        num_workers: int,
        seed: int,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.train = TrainingSamples(train, transforms=transforms, seed=seed)
        self.validation = validation
        self.batches = batches
        self.num_workers = num_workers
        self.stride = stride
        self.collate = partial(collate, ignore_index=train.labels.ignore_index)

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented batches."""
        return DataLoader(
            self.train,
            batch_sampler=self.batches,
            collate_fn=partial(self.collate, stride=self.stride),
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
