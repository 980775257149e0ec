"""How well errors are found: truemask's audit and cleanlab's ranking on the same predictions.

The predictions are made once. Then errors of one kind go into a share of the labels, with several
seeds, and both rank all images. cleanlab knows no ignored pixels: there it is given the model's own
class as the label, which can only help it.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn import functional

from benchmarks.audit.injection import KINDS, Mask, inject
from truemask.analysis.audit_calibration import Calibration, class_logits, draw, fit
from truemask.analysis.audit_image import Evidence, assess
from truemask.analysis.audit_ranking import THRESHOLD, Ranked, rank
from truemask.data.marks import RegionMark, read_runs
from truemask.datasets.folder import folder
from truemask.evaluation import Seen, evaluate
from truemask.labels import LabelMap
from truemask.runs import Run

RATES = (0.05, 0.15)
TEMPERATURES = (0.05, 0.1, 0.5, 1.0)
"""Of cleanlab's softmin; 0.1 is its default."""

PIXEL_ISSUES = "num_pixel_issues"
_ISSUE_SIDE = 96
"""For `num_pixel_issues`, which looks at all images at once, they are brought to this size."""

LARGEST = 100_000
"""Pixels; larger images are halved for both methods, to have time for several seeds."""

OVERLAP = 0.5
"""Intersection over union from which on a region counts as found."""


@dataclass(frozen=True)
class Cell:
    """What came out for one kind, rate and seed: method -> (precision at N, average precision)."""

    kind: str
    rate: float
    seed: int
    injected: int
    methods: Mapping[str, tuple[float, float]]
    flagged: tuple[int, int]
    regions: float | None


@dataclass(frozen=True)
class Trial:
    """What both methods say of a part with errors.

    Attributes:
        kind: of the errors.
        rate: share of the labels that have one.
        seed: of the injection.
        evidence: of each image, in order.
        cleanlab: setting -> how suspicious each image is.
        changed: index of a wrong label -> which pixels were changed.
    """

    kind: str
    rate: float
    seed: int
    evidence: list[Evidence]
    cleanlab: dict[str, Float64[np.ndarray, " N"]]
    changed: dict[int, Bool[np.ndarray, "H W"]]


class Predictions:
    """The logits of the audited part, on disk, and its labels, in memory."""

    def __init__(self, run: Run, data: Path, cache: Path) -> None:
        self.cache = cache
        bundle = run.load_bundle()
        self.labels: LabelMap = bundle.labels
        self.step = 1
        part = folder(data)["test"]
        cache.mkdir(parents=True, exist_ok=True)
        self.masks: list[Mask] = []
        made = (cache / "done").exists()

        def keep(seen: Seen) -> None:
            np.save(cache / f"{len(self.masks)}.npy", seen.logits.cpu().numpy().astype(np.float16))
            self.masks.append(seen.truth.cpu().numpy())

        if made:
            self.masks = [np.asarray(part[i].mask, dtype=np.uint8) for i in range(len(part))]
        else:
            evaluate(bundle.model, part, labels=self.labels, observe=keep)
            (cache / "done").touch()
        if self.masks[0].size > LARGEST:
            self.step = 2
            self.masks = [np.ascontiguousarray(mask[1::2, 1::2]) for mask in self.masks]

    def __len__(self) -> int:
        return len(self.masks)

    def logits(self, index: int) -> Tensor:
        """Of one image, (L, H, W), at the size of its mask."""
        logits = torch.from_numpy(np.load(self.cache / f"{index}.npy").astype(np.float32))
        height, width = self.masks[index].shape
        return functional.avg_pool2d(logits, self.step)[:, :height, :width]

    def probabilities(self, index: int) -> np.ndarray:
        """Of one image as the model gives them, (K, H, W)."""
        return self.labels.probabilities(self.logits(index)[None])[0].numpy()

    @cached_property
    def small(self) -> np.ndarray:
        """Probabilities of all images at one small size, (N, K, S, S)."""
        return np.stack([_small(self.probabilities(i)) for i in range(len(self))])

    def calibrate(self, masks: Sequence[Mask]) -> Calibration:
        """As the audit does."""
        order = np.random.default_rng(0).permutation(len(self))[:150]
        return fit(
            [
                draw(
                    class_logits(self.logits(int(i)), self.labels),
                    masks[int(i)],
                    ignored=self.labels.ignore_index,
                    seed=n,
                )
                for n, i in enumerate(order)
            ]
        )

    def evidence(self, index: int, mask: Mask, calibration: Calibration) -> Evidence:
        """Of one image with this label."""
        found = assess(
            self.logits(index),
            torch.from_numpy(mask),
            labels=self.labels,
            calibration=calibration,
            name=f"{index:05}",
        )
        assert found is not None, "an image without a labelled pixel"
        return found


def _small(array: np.ndarray) -> np.ndarray:
    rows = ((np.arange(_ISSUE_SIDE) + 0.5) * array.shape[-2] / _ISSUE_SIDE).astype(int)
    columns = ((np.arange(_ISSUE_SIDE) + 0.5) * array.shape[-1] / _ISSUE_SIDE).astype(int)
    return np.ascontiguousarray(array[..., rows[:, None], columns])


def average_precision(scores: Float64[np.ndarray, " N"], wrong: Sequence[int]) -> float:
    """Mean over the wrong images of the precision down to each."""
    hits = np.isin(np.argsort(-scores, kind="stable"), wrong)
    return float((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())


def precision(scores: Float64[np.ndarray, " N"], wrong: Sequence[int]) -> float:
    """Share of wrong images among as many as there are."""
    return float(np.isin(np.argsort(-scores, kind="stable")[: len(wrong)], wrong).mean())


def cleanlab_image(probabilities: np.ndarray, mask: Mask, ignored: int) -> dict[str, float]:
    """How suspicious cleanlab finds one image, for each temperature of its softmin."""
    from cleanlab.segmentation.rank import get_label_quality_scores

    labels = np.where(mask == ignored, probabilities.argmax(0), mask).astype(np.int64)
    return {
        f"softmin {temperature:g}": -float(
            get_label_quality_scores(
                labels[None], probabilities[None], temperature=temperature, verbose=False
            )[0][0]
        )
        for temperature in TEMPERATURES
    }


def cleanlab_issues(small: np.ndarray, masks: Sequence[Mask], ignored: int) -> np.ndarray:
    """The same by the number of pixels with issues, for all images at once."""
    from cleanlab.segmentation.rank import get_label_quality_scores

    best = small.argmax(1)
    given = np.stack([_small(mask) for mask in masks])
    labels = np.where(given == ignored, best, given).astype(np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = get_label_quality_scores(
            labels, small, method=PIXEL_ISSUES, verbose=False, n_jobs=1
        )[0]
    return -np.asarray(scores)


def gather(predictions: Predictions, seeds: Sequence[int]) -> list[Trial]:
    """What both methods need, for every kind at every rate with every seed: all that takes time."""
    ignored, classes = predictions.labels.ignore_index, predictions.labels.num_classes
    plain = [
        cleanlab_image(predictions.probabilities(i), mask, ignored)
        for i, mask in enumerate(predictions.masks)
    ]
    trials: list[Trial] = []
    for rate in RATES:
        # The calibration sees errors too: of all kinds, in as many labels. It stays the same for
        # all kinds and seeds, so that the evidence of unchanged images is computed once.
        mixed = inject(
            predictions.masks, list(KINDS), share=rate, seed=500, classes=classes, ignored=ignored
        )
        labels = [mixed[i][1] if i in mixed else mask for i, mask in enumerate(predictions.masks)]
        calibration = predictions.calibrate(labels)
        base = [
            predictions.evidence(i, mask, calibration) for i, mask in enumerate(predictions.masks)
        ]
        for kind in KINDS:
            for seed in seeds:
                trials.append(_trial(predictions, kind, rate, seed, base, plain, calibration))
    return trials


def _trial(
    predictions: Predictions,
    kind: str,
    rate: float,
    seed: int,
    base: Sequence[Evidence],
    plain: Sequence[Mapping[str, float]],
    calibration: Calibration,
) -> Trial:
    ignored, classes = predictions.labels.ignore_index, predictions.labels.num_classes
    injected = inject(
        predictions.masks, [kind], share=rate, seed=seed, classes=classes, ignored=ignored
    )
    evidence, theirs, masks = list(base), list(plain), list(predictions.masks)
    for index, (_, mask) in injected.items():
        masks[index] = mask
        evidence[index] = predictions.evidence(index, mask, calibration)
        theirs[index] = cleanlab_image(predictions.probabilities(index), mask, ignored)
    scores = {name: np.array([one[name] for one in theirs]) for name in theirs[0]}
    scores[PIXEL_ISSUES] = cleanlab_issues(predictions.small, masks, ignored)
    changed = {index: mask != predictions.masks[index] for index, (_, mask) in injected.items()}
    return Trial(kind, rate, seed, evidence, scores, changed)


def judge(trial: Trial) -> Cell:
    """How well each method ranks."""
    wrong = sorted(trial.changed)
    ranked = rank(trial.evidence)
    ours = np.empty(len(ranked))
    for one in ranked:
        ours[int(one.evidence.name)] = one.score
    flagged = np.flatnonzero(ours >= THRESHOLD)
    return Cell(
        kind=trial.kind,
        rate=trial.rate,
        seed=trial.seed,
        injected=len(wrong),
        methods={
            name: (precision(values, wrong), average_precision(values, wrong))
            for name, values in {"audit": ours, **trial.cleanlab}.items()
        },
        flagged=(len(flagged), int(np.isin(flagged, wrong).sum())),
        regions=_regions(ranked, trial.changed)
        if trial.kind in ("swapped class", "missing object")
        else None,
    )


def _regions(ranked: Sequence[Ranked], changed: Mapping[int, Bool[np.ndarray, "H W"]]) -> float:
    """Share of the first N regions that are one of the N that were injected."""
    found = [
        (score, int(one.evidence.name), region) for one in ranked for region, score in one.regions
    ]
    found.sort(key=lambda item: -item[0])
    hits = 0
    for _, index, region in found[: len(changed)]:
        if index not in changed:
            continue
        mark = RegionMark(
            part=None, name="", size=(1, 1), top=region.top, left=region.left,
            height=region.height, width=region.width, cell=region.cell,
            runs=read_runs(region.runs),
        )  # fmt: skip
        inside = np.zeros(changed[index].shape, dtype=bool)
        rows = slice(region.top, region.top + region.height)
        inside[rows, region.left : region.left + region.width] = mark.inside()
        both, any_ = (inside & changed[index]).sum(), (inside | changed[index]).sum()
        hits += both >= OVERLAP * any_
    return float(hits / len(changed))
