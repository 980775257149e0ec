"""A model over a dataset: a confusion matrix an image, from which every score and interval follows.

An `Evaluation` is counts, not scores, so that evaluations merge: parts of a dataset, evaluated
anywhere and merged in any order, are the evaluation of the whole, bit for bit. Scores are worked
out last, by `Evaluation.result`.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.files import atomic_path
from truemask.labels import LabelMap
from truemask.metrics.confusion import confusion_matrices
from truemask.metrics.scoring import score
from truemask.models.segmenter import Segmenter, evaluating
from truemask.models.tiling import image_logits
from truemask.results import PartResult

_FORMAT = 1
_SUBGROUPS = range(2, 21)
"""How many distinct values an attribute may have to be reported by value."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Counts and losses of a dataset's images, in the order of their names.

    Attributes:
        names: N names, each once.
        matrices: pixel counts of each image, rows are the truth, columns the prediction.
        losses: the training loss of each image alone; NaN where it is not known.
        attributes: what else is known of each image.
        labels: the classes.
    """

    names: Sequence[str]
    matrices: Int64[np.ndarray, "N K K"]
    losses: Float64[np.ndarray, " N"]
    attributes: Sequence[Mapping[str, str]]
    labels: LabelMap

    def __post_init__(self) -> None:
        images, classes = len(self.names), self.labels.num_classes
        if self.matrices.shape != (images, classes, classes) or self.matrices.dtype != np.int64:
            raise UsageError(
                f"confusion matrices of {images} images and {classes} classes must be int64 of "
                f"shape {(images, classes, classes)}, got {self.matrices.dtype} of "
                f"shape {self.matrices.shape}"
            )
        if self.losses.shape != (images,) or len(self.attributes) != images:
            raise UsageError(
                f"{images} images need as many losses and attributes, got losses of shape "
                f"{self.losses.shape} and {len(self.attributes)} attributes"
            )
        if (self.matrices < 0).any():
            raise UsageError("a confusion matrix holds a negative count")
        _refuse_twins(self.names)
        order = sorted(range(images), key=self.names.__getitem__)
        object.__setattr__(self, "names", tuple(self.names[i] for i in order))
        object.__setattr__(self, "matrices", self.matrices[order])
        object.__setattr__(self, "losses", self.losses[order].astype(np.float64))
        object.__setattr__(self, "attributes", tuple(dict(self.attributes[i]) for i in order))

    def merge(self, other: "Evaluation") -> "Evaluation":
        """The evaluation of the images of both; the order of merging does not matter.

        Raises:
            UsageError: the label maps differ, or an image is in both.
        """
        if self.labels != other.labels:
            raise UsageError("two evaluations with different label maps cannot be merged")
        return Evaluation(
            names=(*self.names, *other.names),
            matrices=np.concatenate((self.matrices, other.matrices)),
            losses=np.concatenate((self.losses, other.losses)),
            attributes=(*self.attributes, *other.attributes),
            labels=self.labels,
        )

    def result(self, *, resamples: int = 2000, seed: int = 0) -> PartResult:
        """Every score, with its 95 % bootstrap interval over images.

        An attribute with 2 to 20 distinct values (such as a scene or a camera) has a result for
        each value. One image alone has no intervals.

        Args:
            resamples: how often the images are drawn again; 0 gives no intervals.
            seed: the same seed gives the same intervals.

        Raises:
            UsageError: there is no image.
        """
        whole = self._score(slice(None), resamples=resamples, seed=seed)
        subgroups = {
            attribute: {
                value: self._score(images, resamples=resamples, seed=seed)
                for value, images in groups.items()
            }
            for attribute, groups in self._groups().items()
        }
        return replace(whole, subgroups=subgroups)

    def _groups(self) -> dict[str, dict[str, list[int]]]:
        """Attribute -> value -> images, for attributes that make a few groups of them."""
        groups: dict[str, dict[str, list[int]]] = {}
        for i, attributes in enumerate(self.attributes):
            for attribute, value in attributes.items():
                groups.setdefault(attribute, {}).setdefault(value, []).append(i)
        return {
            attribute: dict(sorted(values.items()))
            for attribute, values in sorted(groups.items())
            if len(values) in _SUBGROUPS
        }

    def _score(self, images: slice | list[int], *, resamples: int, seed: int) -> PartResult:
        return score(
            self.matrices[images],
            self.losses[images],
            names=self.labels.names,
            resamples=resamples,
            seed=seed,
        )

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically.

        Raises:
            UsageError: the file cannot be written.
        """
        _write_arrays(path, self._arrays())

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            UsageError: the file is missing, or is not an evaluation.
        """
        with _reading(path) as arrays:
            return cls._of(arrays)

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {
            "format": np.array(_FORMAT),
            "names": np.array(self.names, dtype=np.str_),
            "matrices": self.matrices,
            "losses": self.losses,
            "attributes": np.array([json.dumps(item) for item in self.attributes], dtype=np.str_),
            "labels": np.array(json.dumps(self.labels.to_json())),
        }

    @classmethod
    def _of(cls, arrays: Mapping[str, np.ndarray[Any, Any]]) -> "Evaluation":
        if int(arrays["format"]) != _FORMAT:
            raise UsageError(f"its format is {arrays['format']}, this version reads {_FORMAT}")
        return cls(
            names=[str(name) for name in arrays["names"]],
            matrices=arrays["matrices"],
            losses=arrays["losses"],
            attributes=[_attributes(str(item)) for item in arrays["attributes"]],
            labels=LabelMap.from_json(json.loads(str(arrays["labels"]))),
        )


def save_parts(path: Path, parts: Mapping[str, Evaluation]) -> None:
    """Write the evaluations of several parts into one .npz file, atomically.

    The arrays of a part stand under its name, such as "test/matrices".

    Raises:
        UsageError: the file cannot be written.
    """
    arrays = {
        f"{part}/{key}": array
        for part, evaluation in parts.items()
        for key, array in evaluation._arrays().items()
    }
    _write_arrays(path, arrays)


def load_parts(path: Path) -> dict[str, Evaluation]:
    """Read what `save_parts` wrote; nothing in the file is executed.

    Raises:
        UsageError: the file is missing, or does not hold evaluations.
    """
    with _reading(path) as arrays:
        found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        for name in arrays:
            part, _, key = name.rpartition("/")
            found.setdefault(part, {})[key] = arrays[name]
        return {part: Evaluation._of(group) for part, group in found.items()}


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextmanager
def _reading(path: Path) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            yield file
    # Zip, zlib, NumPy and JSON each fail in their own ways at a file that may be anything.
    except Exception as error:
        raise UsageError(f"{path} is no readable evaluation: {error}; evaluate again") from error


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
                _count(model, sample, labels=dataset.labels, loss=loss, device=place)
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
    matrix = confusion_matrices(
        truth,
        labels.decode(logits),
        num_classes=labels.num_classes,
        ignore_index=labels.ignore_index,
    )
    value = torch.tensor(math.nan) if loss is None else loss(logits, truth)
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
    _refuse_twins(dataset.names)
    wanted, given = model.images, dataset.images
    for key in ("channels", "dtype", "low", "high"):
        if getattr(wanted, key) != getattr(given, key):
            raise UsageError(
                f"images.{key} of the dataset is {getattr(given, key)!r}, but the model was made "
                f"for {getattr(wanted, key)!r}: evaluate on images like those of its training"
            )


def _refuse_twins(names: Sequence[str]) -> None:
    ordered = sorted(names)
    for name, following in zip(ordered, ordered[1:], strict=False):
        if name == following:
            raise UsageError(f"two images are called {name!r}: an image must not count twice")


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def _attributes(text: str) -> dict[str, str]:
    value = json.loads(text)
    return {str(key): str(item) for key, item in value.items()}
