"""Rows 31 to 33: what a training leaves behind."""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.faults.case import STRENGTHS, Check, Fault, Strength
from benchmarks.faults.foreign_models import SmallUNet
from benchmarks.faults.run_material import copy_of, trained
from truemask.per_image import Evaluation, load_parts, save_parts
from truemask.runs import Run

Rows = list[dict[str, float]]


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _collapsed()
    yield from _not_finite()
    yield from _still()
    yield from _trivial()
    yield from _other_weights()


def run_fault(
    row: int,
    code: str,
    name: str,
    strength: Strength,
    prepare: Callable[[], Check],
    detail: str = "",
    also: tuple[str, ...] = (),
) -> Fault:
    """A fault of a run."""
    return Fault(
        row=row, code=code, name=name, strength=strength, detail=detail, base="runs",
        prepare=prepare, also=also,
    )  # fmt: skip


def check_of_history(rows: Any, **said: Any) -> Check:
    """`check_history` on what somebody's loop wrote down."""

    def check() -> list[Any]:
        from truemask.checks.run import check_history

        return check_history(rows, **said)

    return check


def check_of_run(run: Run) -> Check:
    """`check_run` on a run folder."""

    def check() -> list[Any]:
        from truemask.checks.run import check_run

        return check_run(run.path)

    return check


def learning(
    epochs: int = 20, *, seed: int = 0, least: float = 0.2, gap: float = 1.1, noise: float = 0.02
) -> Rows:
    """A history as it should be: both losses fall and level off, the score rises."""
    random = np.random.default_rng(seed)
    rows = []
    for epoch in range(epochs):
        loss = least + 1.2 * math.exp(-epoch / (epochs / 5))
        shake, other = 1 + noise * random.standard_normal(2)
        rows.append(
            {
                "epoch": float(epoch),
                "train_loss": loss * shake,
                "val_loss": loss * gap * other,
                "val_iou": 0.8 * (1 - math.exp(-(epoch + 1) / (epochs / 5))) * other,
            }
        )
    return rows


def with_columns(rows: Rows, **columns: Callable[[int, float], float]) -> Rows:
    """The rows with columns made anew from the epoch and the old value."""
    return [
        {**row, **{key: change(i, row[key]) for key, change in columns.items()}}
        for i, row in enumerate(rows)
    ]


def _collapsed() -> Iterator[Fault]:
    # As published: a plain BCE on 3.6 % positives, seven epochs without any hit, then few.
    late = (0.0095, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0002, 0.0014, 0.0055)
    for strength, scores in (
        ("weak", late), ("realistic", (0.0095, *[0.0] * 9)), ("strong", (0.0,) * 10),
    ):  # fmt: skip
        rows = with_columns(learning(10), val_iou=lambda i, _, s=scores: s[i])
        yield run_fault(
            31, "TM601", "a history without any hit", strength,
            lambda r=rows: check_of_history(r), "foreground IoU by epoch",
        )  # fmt: skip
    for strength, left in zip(STRENGTHS, (0.01, 0.001, 0.0), strict=True):
        yield run_fault(
            31, "TM601", "the test predicts one class", strength,
            lambda n=left: check_of_run(_predicting("edges_weighted", n)),
            f"{left:.1%} of the foreground is predicted", ("TM604",),
        )  # fmt: skip
    yield run_fault(
        31, "TM601", "a real training on few positives with a plain loss", "realistic",
        lambda: check_of_run(Run(trained("edges_unweighted"))),
    )  # fmt: skip


def _edited(name: str, change: Callable[[str, Evaluation], Evaluation]) -> Run:
    """A run whose evaluations are others, as if the model had predicted so."""
    run = copy_of(name)
    parts = {part: change(part, found) for part, found in load_parts(run.per_image_path).items()}
    save_parts(run.per_image_path, parts)
    run.write_results({part: found.result(resamples=200) for part, found in parts.items()})
    rows = run.history
    best = parts["validation"].result(resamples=0)
    for row in rows:
        for key, value in (("validation_iou", best.iou), ("validation_dice", best.dice)):
            if row[key]:
                row[key] = str(value)
    run.write_history(rows)
    return run


def _predicting(name: str, left: float) -> Run:
    """Only a share of the foreground's true positives is left of all positive predictions."""

    def change(part: str, found: Evaluation) -> Evaluation:
        matrices = found.matrices.copy()
        hits = (matrices[:, 1].sum(1) * left).astype(np.int64)
        matrices[:, 0, 0] += matrices[:, 0, 1]
        matrices[:, 0, 1] = 0
        matrices[:, 1, 0] = matrices[:, 1].sum(1) - hits
        matrices[:, 1, 1] = hits
        return replace(found, matrices=matrices)

    return _edited(name, change)


def _not_finite() -> Iterator[Fault]:
    nan, inf = math.nan, math.inf
    for strength, which in (("weak", {7}), ("realistic", set(range(9, 20))), ("strong", None)):
        for value, word in ((nan, "NaN"), (inf, "infinite")):
            rows = with_columns(
                learning(),
                train_loss=lambda i, v, w=which, n=value: n if w is None or i in w else v,
            )
            yield run_fault(
                31, "TM602", f"{word} training loss", strength,
                lambda r=rows: check_of_history(r),
                "every epoch" if which is None else f"{len(which)} of 20 epochs",
            )  # fmt: skip
        rows = with_columns(
            learning(), val_loss=lambda i, v, w=which: math.nan if w is None or i in w else v
        )
        yield run_fault(
            31, "TM602", "NaN validation loss", strength,
            lambda r=rows: check_of_history(r),
            "every epoch" if which is None else f"{len(which)} of 20 epochs",
        )  # fmt: skip
    yield run_fault(
        31, "TM602", "a real training that diverges", "realistic",
        lambda: check_of_run(Run(trained("diverged"))),
    )  # fmt: skip


def _still() -> Iterator[Fault]:
    random = np.random.default_rng(5)
    shakes = random.standard_normal(100)
    for strength, noise, epochs in (
        ("weak", 0.01, 20),
        ("realistic", 1e-4, 20),
        ("strong", 0, 100),
    ):
        rows = [
            {
                "epoch": float(i),
                "loss": (math.log(2) if noise else 0.0) * (1 + noise * shakes[i]),
            }
            for i in range(epochs)
        ]
        yield run_fault(
            31, "TM603", "a loss that stays where it began", strength,
            lambda r=rows: check_of_history(r),
            f"{epochs} epochs, shaken by {noise:.2%}" if noise else "0 for 100 epochs",
        )  # fmt: skip
    yield run_fault(
        31, "TM603", "a real training with a learning rate of 1e-12", "realistic",
        lambda: check_of_run(Run(trained("standstill"))),
    )  # fmt: skip


def _trivial() -> Iterator[Fault]:
    def blended(share: float) -> Callable[[str, Evaluation], Evaluation]:
        """Predictions that know a share of what the model knew, else follow the class shares."""

        def change(part: str, found: Evaluation) -> Evaluation:
            truth = found.matrices.sum(2, keepdims=True)
            shares = truth.sum(0)[:, 0] / truth.sum()
            blind = truth * shares[None, None, :]
            mixed = share * found.matrices + (1 - share) * blind
            return replace(found, matrices=np.round(mixed).astype(np.int64))

        return change

    def largest(part: str, found: Evaluation) -> Evaluation:
        """Always the largest class."""
        matrices = np.zeros_like(found.matrices)
        truth = found.matrices.sum(2)
        matrices[:, :, int(truth.sum(0).argmax())] = truth
        return replace(found, matrices=matrices)

    def everything(part: str, found: Evaluation) -> Evaluation:
        """Always the foreground: for a foreground IoU the better of the two constants."""
        matrices = np.zeros_like(found.matrices)
        matrices[:, :, 1] = found.matrices.sum(2)
        return replace(found, matrices=matrices)

    for run in ("carvana", "textures"):
        for strength, name, change in (
            ("strong", "always the largest class", largest),
            ("realistic", "always the foreground", everything),
            ("weak", "predictions at random, in the shares of the classes", blended(0.0)),
        ):
            yield run_fault(
                32, "TM604", name, strength,
                lambda r=run, c=change: check_of_run(_edited(r, c)), run, ("TM601",),
            )  # fmt: skip
    yield run_fault(
        32, "TM604", "a real training that learnt nothing", "realistic",
        lambda: check_of_run(Run(trained("standstill"))),
    )  # fmt: skip

    def constant_map(strength: Strength) -> Check:
        """A fixed camera: what the model gets, the most frequent class at each place gets too."""
        random = np.random.default_rng(0)
        truth = np.zeros((40, 48, 64), np.int64)
        for i in range(40):
            truth[i, 24 + random.integers(-3, 4) :] = 1
        pattern = np.broadcast_to(truth.mean(0) > 0.5, truth.shape).astype(np.int64)
        wrong = {"weak": 0.0, "realistic": 0.02, "strong": 0.1}[strength]
        predicted = np.where(random.random(truth.shape) < wrong, 1 - pattern, pattern)
        model, trivial = (
            np.stack(
                [np.bincount(2 * t.ravel() + p.ravel(), minlength=4).reshape(2, 2)
                 for t, p in zip(truth, predictions, strict=True)]
            )
            for predictions in (predicted, pattern)
        )  # fmt: skip

        def check() -> list[Any]:
            from truemask.checks.trivial import trivial_score

            return trivial_score(model, names=("sky", "ground"), maps={"map": trivial})

        return check

    for strength in STRENGTHS:
        yield run_fault(
            32, "TM604", "no better than the best constant map", strength,
            lambda s=strength: constant_map(s),
        )  # fmt: skip


def _other_weights() -> Iterator[Fault]:
    def moved(amount: float, which: str = "") -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        best = SmallUNet()
        last = SmallUNet()
        last.load_state_dict(best.state_dict())
        with torch.no_grad():
            for name, value in last.named_parameters():
                if which in name:
                    value += amount * torch.randn(value.shape)
        return last, best

    def check(amount: float, which: str = "") -> Check:
        last, best = moved(amount, which)

        def run() -> list[Any]:
            from truemask.checks.tested import check_tested

            return check_tested(last, best.state_dict())

        return run

    for strength, amount in zip(STRENGTHS, (1e-5, 1e-3, 0.1), strict=True):
        yield run_fault(
            33, "TM605", "the last weights tested, not the best", strength,
            lambda a=amount: check(a), f"they differ by {amount}",
        )  # fmt: skip
    yield run_fault(33, "TM605", "the head is another", "realistic", lambda: check(0.01, "head"))

    def statistics() -> Check:
        """Parameters are the best ones, the running means of batch norm are later ones."""
        last, best = moved(0.0)
        last.train()
        last(torch.randn(4, 3, 32, 32))

        def run() -> list[Any]:
            from truemask.checks.tested import check_tested

            return check_tested(last, best)

        return run

    yield run_fault(33, "TM605", "running statistics of another epoch", "weak", statistics)

    def bundle(amount: float) -> Run:
        """The bundle on disk is overwritten by a later epoch's weights."""
        from safetensors.torch import load_file, save_file

        run = copy_of("textures")
        file = run.bundle_folder / "model.safetensors"
        torch.manual_seed(0)
        weights = {
            name: value + amount * value.abs().mean() * torch.randn(value.shape)
            if value.is_floating_point()
            else value
            for name, value in load_file(file).items()
        }
        save_file(weights, file)
        return run

    for strength, amount in zip(STRENGTHS, (1e-3, 0.05, 1.0), strict=True):
        yield run_fault(
            33, "TM605", "the run's bundle holds other weights", strength,
            lambda a=amount: check_of_run(bundle(a)), f"moved by {amount:.1%}",
        )  # fmt: skip

    def another_run() -> Run:
        run = copy_of("textures")
        shutil.rmtree(run.bundle_folder)
        shutil.copytree(Run(trained("standstill")).bundle_folder, run.bundle_folder)
        return run

    yield run_fault(
        33, "TM605", "the bundle of another run", "realistic",
        lambda: check_of_run(another_run()),
    )  # fmt: skip

    def scores_of_last(drop: float) -> Run:
        """The history's best epoch is better than what the test found."""
        run = copy_of("textures")
        rows = run.history
        validated = [row for row in rows if row["validation_iou"]]
        best = max(validated, key=lambda row: float(row["validation_iou"]))
        best["validation_iou"] = str(float(best["validation_iou"]) + drop)
        run.write_history(rows)
        return run

    for strength, drop in zip(STRENGTHS, (0.005, 0.02, 0.06), strict=True):
        yield run_fault(
            33, "TM605", "the test's validation score is not the best epoch's", strength,
            lambda d=drop: check_of_run(scores_of_last(d)), f"{drop} lower",
        )  # fmt: skip

    def unknown() -> Run:
        """Nothing says which weights were tested."""
        run = copy_of("textures")
        shutil.rmtree(run.checkpoints_folder)
        shutil.rmtree(run.bundle_folder)
        return run

    yield run_fault(
        33, "TM605", "cannot tell which weights were tested", "realistic",
        lambda: check_of_run(unknown()),
    )  # fmt: skip
