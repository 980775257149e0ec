"""What one pass over the images counts of each; it adds up, and holds no image.

Of an image a few hundred numbers are kept, so that every share can have its interval over images;
what is told of each class is summed at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from truemask.analysis.explain_places import (
    border_counts,
    border_distances,
    position_counts,
    region_counts,
)
from truemask.bundle import Bundle
from truemask.evaluation import Seen
from truemask.labels import LabelMap
from truemask.metrics.calibration import reliability_counts

_STRIP = 1 << 20
"""Pixels whose probabilities are in memory at once."""


@dataclass
class Tally:
    """The counts of some images; call it with each.

    Attributes:
        labels: the classes.
        temperatures: those at which confidences are counted; T of them.
        names: of the images so far; N.
        reliability: of each image [T, 15, 3], see `calibration.reliability_counts`.
        borders: of each image [7, 2], see `explain_places.border_counts`.
        regions: of each image [24, 4], see `explain_places.region_counts`.
        reliability_per_class: [T, K, 15, 3], by predicted class.
        regions_per_class: [K, 24, 4].
        positions: [8, 12, 2], see `explain_places.position_counts`.
    """

    labels: LabelMap
    temperatures: tuple[float, ...] = (1.0,)
    names: list[str] = field(default_factory=list)
    reliability: list[Int64[np.ndarray, "T 15 3"]] = field(default_factory=list)
    borders: list[Int64[np.ndarray, "7 2"]] = field(default_factory=list)
    regions: list[Int64[np.ndarray, "24 4"]] = field(default_factory=list)
    reliability_per_class: Int64[np.ndarray, "T K 15 3"] | int = 0
    regions_per_class: Int64[np.ndarray, "K 24 4"] | int = 0
    positions: Int64[np.ndarray, "8 12 2"] | int = 0

    def __call__(self, seen: Seen) -> None:
        """Count one more image."""
        labels = self.labels
        truth, ids = seen.truth.cpu().numpy(), seen.ids.cpu().numpy()
        valid = truth != labels.ignore_index
        wrong = valid & (truth != ids)
        reliability = np.stack(
            [
                reliability_counts(
                    confidences(seen.logits, labels, temperature)[valid],
                    ~wrong[valid],
                    ids[valid],
                    num_classes=labels.num_classes,
                )
                for temperature in self.temperatures
            ]
        )
        regions = region_counts(truth, valid & ~wrong, labels)
        self.names.append(seen.sample.name)
        self.reliability.append(reliability.sum(1))
        self.borders.append(border_counts(border_distances(truth, labels), valid, wrong))
        # The background around a few objects is not what their sizes are asked for.
        self.regions.append(regions[1] if labels.num_classes == 2 else regions.sum(0))
        self.reliability_per_class = self.reliability_per_class + reliability
        self.regions_per_class = self.regions_per_class + regions
        self.positions = self.positions + position_counts(valid, wrong)

    def merge(self, other: "Tally") -> "Tally":
        """The tally of the images of both; the order of merging does not matter."""
        assert (self.labels, self.temperatures) == (other.labels, other.temperatures)
        names = [*self.names, *other.names]
        order = sorted(range(len(names)), key=names.__getitem__)

        def join(mine: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> list[np.ndarray]:
            both = [*mine, *theirs]
            return [both[place] for place in order]

        return Tally(
            labels=self.labels,
            temperatures=self.temperatures,
            names=[names[place] for place in order],
            reliability=join(self.reliability, other.reliability),
            borders=join(self.borders, other.borders),
            regions=join(self.regions, other.regions),
            reliability_per_class=self.reliability_per_class + other.reliability_per_class,
            regions_per_class=self.regions_per_class + other.regions_per_class,
            positions=self.positions + other.positions,
        )


def confidences(
    logits: Float[Tensor, "L H W"], labels: LabelMap, temperature: float
) -> Float[np.ndarray, "H W"]:
    """The probability of the predicted class of each pixel, as `predict` gives it."""
    rows = max(1, _STRIP // logits.shape[-1])
    strips = [
        _calibrated(logits[None, :, top : top + rows], labels, temperature).amax(1)[0]
        for top in range(0, logits.shape[1], rows)
    ]
    found: Float[np.ndarray, "H W"] = torch.cat(strips).cpu().numpy()
    return found


def _calibrated(
    logits: Float[Tensor, "B L H W"], labels: LabelMap, temperature: float
) -> Float[Tensor, "B K H W"]:
    return labels.probabilities(logits if temperature == 1.0 else logits / temperature)


LOGITS = 4_000_000
"""Numbers that are kept of all images together, to fit a temperature: 16 MB."""


@dataclass
class Sampled:
    """Logits of pixels drawn from each image, to fit a temperature; call it with each image.

    All valid pixels of an image count, each one drawn for as many as were there for one drawn.

    Attributes:
        labels: the classes.
        most: pixels to draw of each image.
        seed: the same seed draws the same pixels of an image, whatever other images there are.
    """

    labels: LabelMap
    most: int
    seed: int
    logits: list[Float[np.ndarray, "P L"]] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    pixels: int = 0

    @classmethod
    def of(cls, bundle: Bundle, *, images: int, seed: int) -> "Sampled":
        """As many pixels of each image as the memory allows."""
        labels = bundle.labels
        most = max(1, LOGITS // (labels.num_logits * images))
        return cls(labels=labels, most=most, seed=seed)

    def __call__(self, seen: Seen) -> None:
        """Draw from one more image."""
        truth = seen.truth.flatten().cpu()
        places = (truth != self.labels.ignore_index).nonzero()[:, 0]
        if len(places) == 0:
            return
        valid = len(places)
        if valid > self.most:
            key = [self.seed, *seen.sample.name.encode()]
            drawn = np.random.default_rng(key).choice(
                valid, self.most, replace=False, shuffle=False
            )
            places = places[torch.from_numpy(np.sort(drawn))]
        chosen = seen.logits.flatten(1)[:, places.to(seen.logits.device)]
        self.logits.append(chosen.T.contiguous().cpu().numpy())
        self.truth.append(truth[places].numpy())
        self.weights.append(np.full(len(places), valid / len(places)))
        self.pixels += len(places)
