"""The counts of an evaluation: a confusion matrix an image, from which every score follows.

An `Evaluation` is counts, not scores, so that evaluations merge: parts of a dataset, evaluated
anywhere and merged in any order, are the evaluation of the whole, bit for bit. Scores are worked
out last, by `Evaluation.result`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.metrics.arrays import reading_arrays, write_arrays
from truemask.metrics.scoring import score
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
        refuse_twins(self.names)
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
        write_arrays(path, self._arrays())

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            UsageError: the file is missing, or is not an evaluation.
        """
        with reading_arrays(path) as arrays:
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
    write_arrays(path, arrays)


def load_parts(path: Path) -> dict[str, Evaluation]:
    """Read what `save_parts` wrote; nothing in the file is executed.

    Raises:
        UsageError: the file is missing, or does not hold evaluations.
    """
    with reading_arrays(path) as arrays:
        found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        for name in arrays:
            part, _, key = name.rpartition("/")
            found.setdefault(part, {})[key] = arrays[name]
        return {part: Evaluation._of(group) for part, group in found.items()}


def refuse_twins(names: Sequence[str]) -> None:
    """Names must tell images apart.

    Raises:
        UsageError: two are the same.
    """
    ordered = sorted(names)
    for name, following in zip(ordered, ordered[1:], strict=False):
        if name == following:
            raise UsageError(f"two images are called {name!r}: an image must not count twice")


def _attributes(text: str) -> dict[str, str]:
    value = json.loads(text)
    return {str(key): str(item) for key, item in value.items()}
