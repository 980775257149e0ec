"""Whether the weights that were tested are the best ones: TM605."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.histories import Column, History
from truemask.checks.weights import Weights, same
from truemask.errors import UsageError
from truemask.per_image import load_parts
from truemask.runs import Run

_APART = {32: 0.002}
"""IoU by which the test may differ from the validation of the same weights, by precision."""
_APART_ELSE = 0.01
"""The same where the validation was in bfloat16 or float16, and the test in float32.

Five short trainings in bfloat16 differed by 0.0001 or less, one that had learnt nothing, so that
all its logits were near each other, by 0.001.
"""


@rule("TM605", "other-weights-tested", "error")
def other_weights_tested(run: Run, history: History, monitor: Column | None) -> Iterator[Finding]:
    """The test ran on other weights than the best ones, or nothing tells on which it ran.

    Why it matters:
        The driving project kept its best weights and then tested the last ones, which were still in
        memory: its published figure is of a model that nobody has.

    How it decides:
        Of a run: the step that the bundle's weights say they are from must be that of the best row
        of the history, by the column that was to choose them (the first, where several are equal);
        the weights must be those of `checkpoints/best.ckpt`, number by number; `results.json` must
        hold the sums of the counts in `per_image.npz`; and the validation IoU of the test must lie
        within 0.002 of the best row's (0.01 if that was not in float32), where all validation
        images were looked at. Weights that
        do not say which step they are of are a warning. Of anybody's model (`check_tested`): the
        weights that were tested against a checkpoint of the best ones, number by number; names may
        differ by what stands before them.

    False alarms:
        Weights that were changed on purpose after training (averaged over several runs, quantised)
        differ from the checkpoint, and are reported.

    How to mend:
        Load the best checkpoint again before testing, and write its step beside the figure. In
        Truemask run `truemask evaluate RUN`, or train again.
    """
    if not run.bundle_folder.exists():
        if run.finished and not run.best_checkpoint.exists():
            yield other_weights_tested.finding(
                "There are results, but neither the weights that were tested nor a checkpoint.",
                level="warning",
                where=str(run.path),
                evidence={"bundle": False, "best_checkpoint": False},
                remedy="Keep the weights beside their figures, or test again.",
            )
        return
    info = _bundle_info(run.bundle_folder / "model.safetensors")
    yield from _step_against_history(run, info, history, monitor)
    yield from _against_checkpoint(run)
    yield from _results_against_counts(run)
    yield from _results_against_history(run, info, history, monitor)


def _bundle_info(file: Path) -> dict[str, Any]:
    try:
        with safe_open(str(file), framework="pt", device="cpu") as content:
            info = json.loads((content.metadata() or {}).get("info", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    return info if isinstance(info, dict) else {}


def _best_place(history: History, monitor: Column | None) -> int | None:
    """The row whose weights are kept: the first of the best."""
    if monitor is None or not monitor.finite:
        return None
    best = min(monitor.finite) if monitor.is_loss else max(monitor.finite)
    return monitor.places[monitor.values.index(best)]


def _step_against_history(
    run: Run, info: dict[str, Any], history: History, monitor: Column | None
) -> Iterator[Finding]:
    place, steps = _best_place(history, monitor), history.columns.get("step")
    if place is None or steps is None or place not in steps.places or monitor is None:
        return
    best = int(steps.values[steps.places.index(place)])
    step = info.get("step")
    where = str(run.bundle_folder)
    if not isinstance(step, int):
        yield other_weights_tested.finding(
            "The tested weights do not say which step of the training they are from.",
            level="warning",
            where=where,
            evidence={"best_step": best, "monitor": monitor.name},
            remedy="Save the step with the weights, and load the best ones before testing.",
        )
    elif step != best:
        kept = int(monitor.places.index(place))
        yield other_weights_tested.finding(
            f"The tested weights are of step {step}, but {monitor.name} was best at step {best} "
            f"({monitor.values[kept]:.4f}).",
            where=where,
            evidence={"tested_step": step, "best_step": best, "monitor": monitor.name},
            remedy="Load the best checkpoint and test again.",
        )


def _against_checkpoint(run: Run) -> Iterator[Finding]:
    if not run.best_checkpoint.exists():
        return
    equal, gap = same(run.bundle_folder, run.best_checkpoint)
    if equal is False:
        yield other_weights_tested.finding(
            f"The tested weights are not those of the best checkpoint: they differ by up to "
            f"{gap:.3g}.",
            where=str(run.bundle_folder),
            evidence={"largest_difference": gap, "checkpoint": str(run.best_checkpoint)},
            remedy="Load checkpoints/best.ckpt and test again.",
        )


def _results_against_counts(run: Run) -> Iterator[Finding]:
    if not run.finished or not run.per_image_path.exists():
        return
    evaluations = load_parts(run.per_image_path)
    for part, result in run.results.items():
        found = evaluations.get(part)
        total = None if found is None else found.matrices.sum(0)
        if total is None or not np.array_equal(total, np.array(result.confusion)):
            yield other_weights_tested.finding(
                f"The scores of {part} in results.json are not those of the counts in "
                f"{run.per_image_path.name}.",
                where=f"{run.path / 'results.json'}",
                evidence={"part": part, "counted": found is not None},
                remedy="Evaluate again: `truemask evaluate RUN`, or train again.",
            )
            continue
        told = found.result(resamples=0) if found is not None else result
        for name in ("iou", "dice", "pixel_accuracy"):
            ours, saved = getattr(told, name), getattr(result, name)
            if not np.isclose(_number(ours), _number(saved), rtol=0, atol=1e-9, equal_nan=True):
                yield other_weights_tested.finding(
                    f"The {name} of {part} is {saved} in results.json, but {ours} by its counts.",
                    where=f"{run.path / 'results.json'}",
                    evidence={"part": part, "metric": name, "saved": saved, "counted": ours},
                    remedy="Evaluate again: `truemask evaluate RUN`, or train again.",
                )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _results_against_history(
    run: Run, info: dict[str, Any], history: History, monitor: Column | None
) -> Iterator[Finding]:
    """The validation of the test against that of the training, by the same images."""
    column, place = history.columns.get("validation_iou"), _best_place(history, monitor)
    trainer = run.config.get("trainer")
    some = isinstance(trainer, dict) and trainer.get("eval_iterations") is not None
    if column is None or place not in column.places or some or not run.finished:
        return
    result = run.results.get("validation")
    tested = None if result is None else result.iou
    if tested is None:
        return
    best = column.values[column.places.index(place)]
    if abs(best - tested) > _limit(run):
        nearest = min(range(len(column.values)), key=lambda i: abs(column.values[i] - tested))
        yield other_weights_tested.finding(
            f"The test gives a validation IoU of {tested:.4f}, the history's best row has "
            f"{best:.4f}; nearest is {history.place(column.places[nearest])} with "
            f"{column.values[nearest]:.4f}.",
            where=str(run.path / "results.json"),
            evidence={"tested": tested, "best_row": best, "step_of_weights": info.get("step")},
            remedy="Load the best checkpoint and test again.",
        )


def _limit(run: Run) -> float:
    """How far the test may lie from the validation of the same weights."""
    try:
        precision = run.environment["training"]["precision"]
    except (UsageError, KeyError, TypeError):
        return _APART_ELSE
    return _APART.get(32 if str(precision) == "32" else 0, _APART_ELSE)


def check_tested(tested: Weights, best: Weights) -> list[Finding]:
    """Look whether a model that is, or was, tested has the best weights.

    Args:
        tested: the model, its state dict, or a file of weights.
        best: the checkpoint of the best weights; files are read without executing anything.

    Raises:
        UsageError: a file cannot be read.
    """
    equal, gap = same(tested, best)
    where = str(best) if isinstance(best, str | Path) else "best weights"
    if equal is None:
        return [
            other_weights_tested.finding(
                "No weights of the best checkpoint have the names and shapes of the tested ones.",
                level="warning",
                where=where,
                remedy="Give the checkpoint of this very model.",
            )
        ]
    if equal:
        return []
    return [
        other_weights_tested.finding(
            f"The tested weights are not the best ones: they differ by up to {gap:.3g}.",
            where=where,
            evidence={"largest_difference": gap},
            remedy="Load the best checkpoint before testing, and test again.",
        )
    ]


RULES: tuple[Rule, ...] = (other_weights_tested,)
