"""A model over a dataset: each image goes through it alone, in float32, and is counted.

So neither the batch size nor the number of processes can change a count, and `predict`, which sees
images in the same way, gives the very masks that were counted here.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.metrics.confusion import confusion_matrices
from truemask.models.segmenter import Segmenter, evaluating
from truemask.models.tiling import image_logits
from truemask.per_image import Evaluation, refuse_twins


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """An image and what was predicted of it, at the moment when it is counted.

    Attributes:
        sample: as the dataset gave it, on the CPU.
        truth: its class ids and the ignored id, on the model's device.
        logits: of the model, on its device.
        ids: what they decode to: the very ids that are counted.
    """

    sample: Sample
    truth: UInt8[Tensor, "H W"]
    logits: Float[Tensor, "L H W"]
    ids: UInt8[Tensor, "H W"]


Observer = Callable[[Seen], None]


def evaluate(
    model: Segmenter,
    dataset: SegmentationDataset,
    *,
    labels: LabelMap,
    loss: nn.Module | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    observe: Observer | None = None,
) -> Evaluation:
    """Count a model's hits and misses on every image of a dataset.

    Each image goes through the model alone, in float32 and evaluation mode, at its own size, just
    as `predict` sees it. So the counts depend on nothing else: not on the batch size, the number of
    workers or the order. The model is left in the mode and on the device it had.

    Args:
        model: the model.
        dataset: images with masks; of an endless one, the first `len(dataset)`.
        labels: the model's label map; the dataset must have the same classes in the same order, its
            raw values and colours may differ.
        loss: called with float32 logits (1, L, H, W) and class ids (1, H, W) for each image.
        batch_size: how many samples a worker hands over at once; it costs memory and saves time.
        num_workers: processes that read samples; 0 reads in this one.
        device: where to compute; by default where the model is.
        progress: called with the number of images done and the number of all.
        observe: called with each image as it is counted, in the order of the dataset, by who wants
            to know more than the counts; it must keep no tensor of it, or the memory grows.

    Raises:
        UsageError: the dataset is empty, has other classes or other images than the model, or a
            sample is unusable.
    """
    _check(model, dataset, labels)
    names: list[str] = []
    attributes: list[Mapping[str, str]] = []
    matrices: list[Tensor] = []
    losses: list[Tensor] = []
    with _computing(model, loss, device=device) as place:
        for samples in _load(dataset, batch_size=batch_size, num_workers=num_workers):
            counted = [
                _count(
                    model, sample, labels=dataset.labels, loss=loss, device=place, observe=observe
                )
                for sample in samples
            ]
            # One transfer a batch, not one an image: each waits for the device.
            matrices.append(torch.cat([matrix for matrix, _ in counted]).cpu())
            losses.append(torch.stack([value for _, value in counted]).double().cpu())
            names += [sample.name for sample in samples]
            attributes += [sample.attributes for sample in samples]
            if progress is not None:
                progress(len(names), len(dataset))
    return Evaluation(
        names=names,
        matrices=torch.cat(matrices).numpy(),
        losses=torch.cat(losses).numpy(),
        attributes=attributes,
        labels=labels,
    )


def _count(
    model: Segmenter,
    sample: Sample,
    *,
    labels: LabelMap,
    loss: nn.Module | None,
    device: torch.device,
    observe: Observer | None,
) -> tuple[Int64[Tensor, "1 K K"], Float64[Tensor, ""]]:
    """The confusion matrix and the loss of one image."""
    image, mask = sample.image.as_subclass(Tensor), sample.mask.as_subclass(Tensor)
    if mask.shape != image.shape[-2:]:
        raise UsageError(
            f"{sample.name}: the mask has the size {tuple(mask.shape)}, the image "
            f"{tuple(image.shape[-2:])}; they must be equal"
        )
    # Asked here, where the name of the image is known; CUDA could not say which image it was.
    strange = mask[(mask >= labels.num_classes) & (mask != labels.ignore_index)]
    if len(strange) > 0:
        raise UsageError(
            f"{sample.name}: the mask holds the id {int(strange[0])}, which is neither a class "
            f"(0 to {labels.num_classes - 1}) nor the ignored id ({labels.ignore_index})"
        )
    truth = mask[None].to(device, non_blocking=True)
    logits = image_logits(model, image.to(device, non_blocking=True))[None]
    if logits.shape[1] != labels.num_logits:
        raise UsageError(
            f"the model puts out {logits.shape[1]} channels, but {labels.num_classes} classes need "
            f"{labels.num_logits}"
        )
    ids = labels.decode(logits)
    matrix = confusion_matrices(
        truth,
        ids,
        num_classes=labels.num_classes,
        ignore_index=labels.ignore_index,
    )
    value = torch.tensor(math.nan) if loss is None else loss(logits, truth)
    if observe is not None:
        observe(Seen(sample=sample, truth=truth[0], logits=logits[0], ids=ids[0]))
    return matrix, value


@contextmanager
def _computing(
    model: nn.Module, loss: nn.Module | None, *, device: torch.device | str | None
) -> Iterator[torch.device]:
    """Evaluation mode and float32 on a device; modes and devices are restored afterwards."""
    roots = [model] if loss is None else [model, loss]
    homes = [_home(root) for root in roots]
    place = homes[0] if device is None else torch.device(device)
    try:
        for root in roots:
            root.to(place)
        with (
            evaluating(*roots),
            torch.inference_mode(),
            torch.autocast(place.type, enabled=False),
        ):
            yield place
    finally:
        for root, home in zip(roots, homes, strict=True):
            root.to(home)


def _home(module: nn.Module) -> torch.device:
    """Where a module's tensors are."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


class _Readings(Dataset[Sample | UsageError]):
    """Samples, or the reason why one cannot be read.

    A worker's exception would arrive as a traceback of many lines; as a value it arrives as it is.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | UsageError:
        try:
            return self.dataset[index]
        except UsageError as error:
            return error


def _load(
    dataset: SegmentationDataset, *, batch_size: int, num_workers: int
) -> Iterator[list[Sample]]:
    loader: DataLoader[Any] = DataLoader(
        _Readings(dataset),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=list,
        # Its own, so that evaluating in between does not move the random state of a training.
        generator=torch.Generator(),
    )
    for readings in loader:
        samples: list[Sample] = []
        for reading in readings:
            if isinstance(reading, UsageError):
                raise reading
            samples.append(reading)
        yield samples


def _check(model: Segmenter, dataset: SegmentationDataset, labels: LabelMap) -> None:
    if len(dataset) == 0:
        raise UsageError("the dataset to evaluate on is empty: name a part that has images")
    if dataset.labels.names != labels.names:
        raise UsageError(
            f"the dataset's classes ({_listed(dataset.labels.names)}) are not the model's "
            f"({_listed(labels.names)}): give it a label map with the same classes in that order"
        )
    refuse_twins(dataset.names)
    wanted, given = model.images, dataset.images
    for key in ("channels", "dtype", "low", "high"):
        if getattr(wanted, key) != getattr(given, key):
            raise UsageError(
                f"images.{key} of the dataset is {getattr(given, key)!r}, but the model was made "
                f"for {getattr(wanted, key)!r}: evaluate on images like those of its training"
            )


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
