"""The checks of a training: everything before the first step, guards on the way, the run after."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor, nn
from torch.optim import Optimizer

from truemask import checks
from truemask.checks.catalogue import Selection
from truemask.checks.finding import Finding
from truemask.checks.guards import Guard
from truemask.checks.loader_reference import files_of
from truemask.checks.naming import check_name
from truemask.checks.outcome import Outcome
from truemask.checks.position import constant_map, map_matrices, place_counts
from truemask.checks.run import check_run
from truemask.checks.terminal import print_findings, print_outcome
from truemask.data.collate import Batch, collate
from truemask.data.randomness import epoch_order
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import JobFailed
from truemask.models.segmenter import Segmenter
from truemask.per_image import Evaluation, load_parts, save_parts
from truemask.runs import Run
from truemask.training.loaders import TrainingSamples
from truemask.training.loop import Loop
from truemask.training.settings import CheckSettings
from truemask.training.setup import Prepared, make_transforms
from truemask.untrusted import one_line

_MAP_IMAGES = 200
"""Training masks from which the best constant map is made."""

_SAMPLES = 4
"""Samples of the batch that the model is probed with, and of each other batch that is looked at."""

_BATCHES = 4
"""Batches that are looked at as they reach the model."""


def check_before(
    prepared: Prepared,
    config: Mapping[str, Any],
    *,
    model: Segmenter,
    loss: nn.Module,
    optimizer: Optimizer,
    selection: Selection,
) -> Outcome:
    """Everything that can be known before the first step: data, batches, loss, weights, model.

    Args:
        prepared: the data and the settled settings.
        config: the whole configuration.
        model: with fresh weights; it is left as it is.
        loss: of the training.
        optimizer: of the training, or one like it over the model's parameters.
        selection: which rules count; what none of them needs is not done.
    """
    outcome = Outcome()
    labels = prepared.labels
    classes: dict[str, Any] = {
        "num_classes": labels.num_classes,
        "ignore_index": labels.ignore_index,
    }
    batches, files = example_batches(prepared, seed=int(config["seed"]))
    batch = batches[0]

    def run(prefixes: Sequence[str], what: str, check: Callable[[], Sequence[Finding]]) -> None:
        if not selection.takes_any(*prefixes):
            return
        try:
            outcome.run(what, check)
        except Exception as error:  # of anybody's code: no check may keep a training from running
            outcome.skip(what, one_line(error))

    parts = {name: part for name, part in prepared.parts.items()}
    if any(getattr(part, "endless", False) for part in parts.values()):
        outcome.skip("files and parts", "the images are generated")
    else:
        sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
        run(
            ("TM1", "TM2"),
            f"images and masks ({sizes})",
            lambda: checks.check_dataset(parts, **classes, class_names=labels.names),
        )
    run(
        ("TM3",),
        f"batches ({sum(len(one.names) for one in batches)} samples)",
        lambda: checks.check_loader(batches, **classes, normalization=prepared.spec, dataset=files),
    )
    run(
        ("TM401", "TM402", "TM403", "TM406", "TM407", "TM408", "TM409"),
        f"the loss ({type(loss).__name__})",
        lambda: checks.check_loss(loss, **classes),
    )
    weights = _weights(prepared.loss_config)
    if weights is not None:
        run(
            ("TM404", "TM405"),
            "class weights",
            lambda: checks.check_weights(
                weights,
                prepared.statistics.class_counts,
                **classes,
                ignored=prepared.statistics.ignored,
                class_names=labels.names,
            ),
        )
    run(
        ("TM5",),
        f"the model ({type(model.network).__name__})",
        lambda: checks.check_model(
            model,
            (batch.images, batch.masks),
            **classes,
            loss=loss,
            optimizer=optimizer,
            num_logits=labels.num_logits,
            overfit_seconds=0,
        ),
    )
    run(("TM607",), "the name", lambda: check_name(str(config["name"]), config))
    outcome.findings = selection.apply(outcome.findings)
    return outcome


def example_batches(prepared: Prepared, *, seed: int) -> tuple[list[Batch], list[Path] | None]:
    """The first augmented samples as training steps get them, and their image files if known.

    Samples draw their random numbers from their address, so that the training gets the same ones.
    """
    train = prepared.parts["train"]
    transforms = make_transforms(prepared.data, prepared.labels)
    samples = TrainingSamples(train, transforms=transforms, seed=seed)
    size = min(_SAMPLES, prepared.data.batch_size)
    chosen = list(epoch_order(len(train), seed=seed, epoch=0)[: _BATCHES * size])
    files = files_of(train)
    batches = [
        collate(
            [samples[0, index] for index in chosen[start : start + size]],
            ignore_index=prepared.labels.ignore_index,
            stride=prepared.stride,
        )
        for start in range(0, len(chosen), size)
    ]
    return batches, None if files is None else [Path(files[index]) for index in chosen]


def _weights(loss: Any) -> Any:
    """The class weights in the settled settings of a loss; of a sum, those of its first part."""
    if isinstance(loss, Mapping):
        for key in ("weight", "pos_weight"):
            if loss.get(key) is not None:
                return loss[key]
        loss = list(loss.values())
    if isinstance(loss, list):
        return next((w for item in loss if (w := _weights(item)) is not None), None)
    return None


class TrainingChecks:
    """What the checks say of one training, from before its first step to after its test.

    Args:
        settings: what is checked.
        console: where findings are shown.
        earlier: what was found before, where a run goes on.
    """

    def __init__(
        self,
        settings: CheckSettings,
        console: Console,
        *,
        earlier: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.settings = settings
        self.console = console
        self.selection = Selection.of(settings.select, settings.ignore)
        self.found: list[Mapping[str, Any]] = [f for f in earlier if f.get("when") != "after"]
        self._guard: Guard | None = None

    def before(self, look: Callable[[Selection], Outcome]) -> None:
        """Check all that can be known, and show it.

        Args:
            look: does the checks.

        Raises:
            JobFailed: there is an error, and `checks.stop` says to end then.
        """
        if not self.settings.enabled:
            return
        outcome = look(self.selection)
        self._keep(outcome.findings, when="before")
        if outcome.findings:
            print_outcome(outcome, self.console)
        else:
            self.console.print(f"Checks: nothing found ({outcome.seconds:.1f} s).", highlight=False)
        if self.settings.stop and (errors := outcome.count("error")):
            raise JobFailed(
                f"the checks found {errors} error{'s' * (errors > 1)}, so nothing was trained: "
                "mend what they say, leave a check out by checks.ignore=[CODE], or go on all the "
                "same with checks.stop=false"
            )

    def guard(self, loop: Loop, run: Run) -> None:
        """Have a guard look at every step and validation of a loop."""
        if not self.settings.enabled:
            return
        guard = self._guard = Guard()
        watch = loop.watch

        def step(loop: Loop) -> None:
            watch(loop)
            self._during(guard.step(loop.step.value), run)

        loop.watch = step
        loop.judge = lambda validation: self._during(guard.validated(validation.matrix), run)

    def _during(self, findings: Sequence[Finding], run: Run) -> None:
        """Show what a guard found, and keep it in the run at once."""
        if not findings:
            return
        chosen = self.selection.apply(findings)
        if chosen:
            print_findings(chosen, self.console)
            self._keep(chosen, when="during")
            self.write(run)

    def ended(self, run: Run) -> None:
        """Have the guard look at the last steps; a collapse that is over by now becomes a note."""
        guard = self._guard
        if guard is None:
            return
        seen = len(guard.findings)
        self._during(guard.finish()[seen:], run)
        if guard.recovered:
            self.found = [_past(item) for item in self.found]
            self.write(run)

    def after(self, run: Run, parts: Mapping[str, SegmentationDataset]) -> None:
        """Check the finished run, and show what is found."""
        if self.settings.enabled:
            if self.selection.takes("TM604"):
                write_trivial(run, parts)
            known = {(f["code"], f["message"]) for f in self.found}
            findings = [
                finding
                for finding in self.selection.apply(check_run(run.path))
                if (finding.code, finding.message) not in known
            ]
            print_findings(findings, self.console)
            self._keep(findings, when="after")
        self.write(run)

    def write(self, run: Run) -> None:
        """Write what was found so far into the run; nothing where no check was wanted."""
        if self.settings.enabled:
            run.write_findings(self.found)

    def _keep(self, findings: Sequence[Finding], *, when: str) -> None:
        for finding in findings:
            pictures = {"pictures": finding.pictures} if finding.pictures else {}
            self.found.append({**finding.to_json(), "when": when, **pictures})


def _past(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """A finding as it is kept; a note where it is a collapse of a guard."""
    if item["code"] != "TM601" or item["when"] != "during" or item["level"] == "note":
        return item
    return {**item, "level": "note", "message": f"{item['message']} It recovered later."}


def write_trivial(run: Run, parts: Mapping[str, SegmentationDataset]) -> None:
    """Count what the best constant map of the training masks scores on the judged parts."""
    train = parts["train"]
    labels = train.labels
    chosen = sorted(epoch_order(len(train), seed=0, epoch=0)[:_MAP_IMAGES])
    counts = place_counts((_mask(train, i) for i in chosen), num_classes=labels.num_classes)
    best = constant_map(counts)
    found = {}
    for name, judged in load_parts(run.per_image_path).items():
        part = parts[name]
        masks = (_mask(part, i) for i in range(len(part)))
        matrices = map_matrices(best, masks, num_classes=labels.num_classes)
        found[name] = Evaluation(
            names=list(islice(part.names, len(part))),
            matrices=matrices,
            losses=np.full(len(matrices), np.nan),
            attributes=[{}] * len(matrices),
            labels=judged.labels,
        )
    save_parts(run.trivial_path, found)


def _mask(part: SegmentationDataset, index: int) -> np.ndarray[Any, Any]:
    mask: np.ndarray[Any, Any] = part[index].mask.as_subclass(Tensor).numpy()
    return mask
