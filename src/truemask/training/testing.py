"""The figures of a run's best weights, read back from the bundle that users will get."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from torch import nn

from truemask.bundle import Bundle
from truemask.data.randomness import epoch_order
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.evaluation import Observer, evaluate
from truemask.images import ImageSpec, to_rgb
from truemask.memory import explain_memory
from truemask.metrics.confusion import headline, iou
from truemask.models.tiling import image_logits
from truemask.per_image import Evaluation, save_parts
from truemask.results import PartResult
from truemask.run_search import CONFIG
from truemask.runs import UNFINISHED, Run, RunSample
from truemask.training.hardware import uses_gpu
from truemask.training.loss_setup import make_loss
from truemask.training.opening import open_parts
from truemask.training.settings import DataSettings, TrainerSettings
from truemask.training.setup import settings
from truemask.untrusted import naming

DATASETS = frozenset(
    f"truemask.datasets.{name}.{name}"
    for name in (
        "bdd100k", "bsds500", "camvid", "carvana", "cityscapes", "folder", "gta5", "oxford_pet",
        "shards", "textures", "voc",
    )
)  # fmt: skip
"""What the configuration of a run may build to evaluate it: anybody may have written it."""

LOSSES = frozenset(
    f"truemask.losses.{name}"
    for name in ("CrossEntropy", "BinaryCrossEntropy", "Focal", "Dice", "MeanSquaredError", "Sum")
)

SPLITS = frozenset({"truemask.data.splits.Ratio", "truemask.data.splits.KFold"})

_SHOWN = 4
"""Best, worst and training images that a run keeps pictures of, each."""


def test_parts(
    run: Run,
    bundle: Bundle,
    parts: Mapping[str, SegmentationDataset],
    *,
    loss: nn.Module,
    workers: int,
    gpu: bool,
    console: Console,
) -> dict[str, PartResult]:
    """Evaluate a bundle on validation and, where there is one, test; fill the run folder."""
    results: dict[str, PartResult] = {}
    evaluations: dict[str, Evaluation] = {}
    samples = _training_samples(parts["train"])
    judged = [name for name in ("validation", "test") if name in parts]
    for name in judged:
        evaluation = _evaluate(
            bundle,
            parts[name],
            loss=loss,
            workers=workers,
            gpu=gpu,
            title=f"Testing: {name}",
            console=console,
        )
        evaluations[name] = evaluation
        results[name] = evaluation.result()
        if name == judged[-1]:
            samples += _best_and_worst(bundle, parts[name], evaluation, part=name)
    save_parts(run.per_image_path, evaluations)
    run.write_samples(samples)
    run.write_results(results)
    return results


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedRun:
    """A run's best weights and its data, ready to be evaluated.

    Attributes:
        run: where it is.
        bundle: the weights, as users get them.
        parts: the data, in the parts of the training.
        loss: the training's.
        batch_size: samples that a loading process hands over at once.
        workers: loading processes.
        gpu: whether to compute on one.
    """

    run: Run
    bundle: Bundle
    parts: Mapping[str, SegmentationDataset]
    loss: nn.Module
    batch_size: int
    workers: int
    gpu: bool

    @property
    def unfinished(self) -> str | None:
        """Where the training has not come to its end: that, and which weights these are."""
        if self.run.finished:
            return None
        epoch = self.bundle.info.get("epoch")
        of = f", of epoch {epoch + 1}" if type(epoch) is int else ""
        return f"{UNFINISHED}: these are its best weights so far{of}."

    def part(self, split: str | None) -> str:
        """The part of that name; of `None` test, or validation where there is no test part.

        Raises:
            UsageError: the data has no such part.
        """
        if split is None:
            split = "test" if "test" in self.parts else "validation"
        if split not in self.parts:
            raise UsageError(
                f"this data has no {split} part (it has {', '.join(self.parts)}): choose with "
                "--split"
            )
        return split

    def evaluate(
        self,
        split: str,
        *,
        console: Console,
        dataset: SegmentationDataset | None = None,
        observe: Observer | None = None,
        title: str = "Evaluating",
    ) -> Evaluation:
        """Count one part, or some images of it, as every figure of the run is counted.

        Args:
            split: the part.
            console: where progress is shown.
            dataset: some of its images; by default all.
            observe: see `evaluation.evaluate`.
            title: what the progress is called.
        """
        return _evaluate(
            self.bundle,
            self.parts[split] if dataset is None else dataset,
            loss=self.loss,
            batch_size=self.batch_size,
            workers=self.workers,
            gpu=self.gpu,
            title=f"{title}: {split}",
            console=console,
            observe=observe,
        )


def open_run(
    run: Run,
    *,
    config: Mapping[str, Any],
    other_data: bool = False,
    allow: Mapping[str, Any],
    console: Console,
) -> OpenedRun:
    """Open the best weights of a run and its data, as its configuration describes it.

    Args:
        run: any run, also somebody else's.
        config: the run's configuration, with changes.
        other_data: whether the changes name other data than the run's, so that its saved split does
            not hold.
        allow: by dotted name, what the run may be built of besides the package's own: a network, a
            dataset, a loss.
        console: where notes are shown.

    Raises:
        UsageError: there are no weights, or the configuration, which anybody may have written,
            holds nonsense.
    """
    with naming(run.path / CONFIG):
        trainer: TrainerSettings = settings(TrainerSettings, config["trainer"], key="trainer")
        seed = config["seed"]
        if type(seed) is not int or seed < 0:
            raise UsageError(f"seed is {seed!r}, but must be a whole number from 0 on")
    bundle = run.load_bundle(allow=allow)
    data: DataSettings = settings(DataSettings, config["data"], key="data")
    parts, data = open_parts(
        data,
        assignments=None if other_data else run.splits or None,
        seed=seed,
        allow=DATASETS | SPLITS | set(allow),
    )
    for note in parts.notes if other_data else ():
        console.print(f"- {note}", highlight=False, markup=False)
    opened = OpenedRun(
        run=run,
        bundle=bundle,
        parts=parts,
        loss=make_loss(config["loss"], allow=LOSSES | set(allow)),
        # Anybody may have written how many.
        batch_size=min(data.batch_size, 64),
        workers=min(data.num_workers or 0, os.cpu_count() or 1),
        gpu=uses_gpu(trainer.accelerator),
    )
    if opened.unfinished is not None:
        console.print(f"Warning: {opened.unfinished}", highlight=False, markup=False)
    return opened


def evaluate_run(
    run: Run,
    *,
    split: str | None,
    config: Mapping[str, Any],
    other_data: bool,
    allow: Mapping[str, Any],
    console: Console,
) -> tuple[str, PartResult, Evaluation]:
    """Evaluate the best weights of a run on one part.

    Args:
        run: any run, also somebody else's.
        split: "train", "validation" or "test"; `None` for test, or validation where there is none.
        config: see `open_run`, as all others.
        other_data: likewise.
        allow: likewise.
        console: likewise.

    Raises:
        UsageError: the part does not exist, the data does not fit the model, or the configuration
            holds nonsense.
    """
    opened = open_run(run, config=config, other_data=other_data, allow=allow, console=console)
    split = opened.part(split)
    evaluation = opened.evaluate(split, console=console)
    return split, evaluation.result(), evaluation


def _evaluate(
    bundle: Bundle,
    dataset: SegmentationDataset,
    *,
    loss: nn.Module,
    workers: int,
    gpu: bool,
    batch_size: int = 1,
    title: str,
    console: Console,
    observe: Observer | None = None,
) -> Evaluation:
    remedy = "free some, or train a smaller model (model.widths)"
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
        explain_memory(where="while testing", remedy=remedy),
    ):
        task = bar.add_task(title, total=len(dataset))
        return evaluate(
            bundle.model,
            dataset,
            labels=bundle.labels,
            loss=loss,
            batch_size=batch_size,
            num_workers=workers,
            device="cuda" if gpu else "cpu",
            progress=lambda done, total: bar.update(task, completed=done),
            observe=observe,
        )


def _picture(
    sample: Sample,
    spec: ImageSpec,
    *,
    part: str,
    kind: str,
    score: float | None = None,
    prediction: np.ndarray[Any, np.dtype[np.uint8]] | None = None,
) -> RunSample:
    return RunSample(
        part=part,
        kind=kind,  # type: ignore[arg-type]
        name=sample.name,
        iou=score,
        image=to_rgb(sample.image, spec),
        truth=np.asarray(sample.mask, dtype=np.uint8),
        prediction=prediction,
    )


def _training_samples(dataset: SegmentationDataset) -> list[RunSample]:
    chosen = sorted(epoch_order(len(dataset), seed=0, epoch=0)[:_SHOWN])
    return [
        _picture(dataset[index], dataset.images, part="train", kind="train") for index in chosen
    ]


def _best_and_worst(
    bundle: Bundle, dataset: SegmentationDataset, evaluation: Evaluation, *, part: str
) -> list[RunSample]:
    """Pictures of the images with the highest and the lowest IoU, of those that have one."""
    scores = dict(zip(evaluation.names, headline(iou(evaluation.matrices)), strict=True))
    position = {name: index for index, name in enumerate(dataset.names)}
    ranked = sorted((name for name in scores if np.isfinite(scores[name])), key=lambda n: scores[n])
    shown = min(_SHOWN, len(ranked) // 2)
    chosen: Sequence[tuple[str, str]] = [
        *(("best", name) for name in reversed(ranked[len(ranked) - shown :])),
        *(("worst", name) for name in ranked[:shown]),
    ]
    if not shown:
        chosen = [("typical", name) for name in ranked]
    pictures = []
    for kind, name in chosen:
        sample = dataset[position[name]]
        ids = bundle.labels.decode(image_logits(bundle.model, sample.image)[None])[0]
        pictures.append(
            _picture(
                sample,
                dataset.images,
                part=part,
                kind=kind,
                score=float(scores[name]),
                prediction=ids.cpu().numpy(),
            )
        )
    return pictures
