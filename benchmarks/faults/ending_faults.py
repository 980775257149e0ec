"""Rows 34, 35, 37 and 38: state from before, names, differences, endings."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.faults.case import STRENGTHS, Check, Fault, Strength
from benchmarks.faults.foreign_models import SmallUNet
from benchmarks.faults.run_faults import (
    Rows,
    check_of_history,
    check_of_run,
    learning,
    run_fault,
    with_columns,
)
from benchmarks.faults.run_material import copy_of
from truemask.runs import Run


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _carried()
    yield from _names()
    yield from _differences()
    yield from _endings()


def _carried() -> Iterator[Fault]:
    def check(
        make_model: Callable[[], nn.Module],
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    ) -> Check:
        def run() -> list[Any]:
            from truemask.checks.fresh import check_fresh

            return check_fresh(make_model, make_optimizer)

        return run

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), 1e-3)

    def global_model() -> Check:
        """As published: both trainings use the one model of the notebook."""
        model = SmallUNet()
        return check(lambda: model, adam)

    def global_optimizer() -> Check:
        model = SmallUNet()
        optimizer = adam(model)
        return check(lambda: model, lambda _: optimizer)

    def stale_optimizer() -> Check:
        """A new model each time, an optimiser that was made once."""
        optimizer = adam(SmallUNet())
        return check(SmallUNet, lambda _: optimizer)

    def shared_encoder() -> Check:
        """A new decoder around one encoder that was made once."""
        encoder = SmallUNet().d1

        def make() -> nn.Module:
            model = SmallUNet()
            model.d1 = encoder
            return model

        return check(make, adam)

    def shared_norm() -> Check:
        """One default argument that all models share: 32 numbers."""
        norm = nn.BatchNorm2d(16)

        def make() -> nn.Module:
            model = SmallUNet()
            model.c1[4] = norm
            return model

        return check(make, adam)

    def warm_state() -> Check:
        """The optimiser's moments come from the run before."""
        old = SmallUNet()
        state = adam(old)
        old(torch.randn(2, 3, 16, 16)).mean().backward()
        state.step()

        def make(model: nn.Module) -> torch.optim.Optimizer:
            optimizer = adam(model)
            optimizer.load_state_dict(state.state_dict())
            return optimizer

        return check(SmallUNet, make)

    for strength, name, prepare in (
        ("strong", "model and optimiser made once", global_optimizer),
        ("realistic", "model made once", global_model),
        ("realistic", "optimiser made once, of another model", stale_optimizer),
        ("realistic", "optimiser starts with moments", warm_state),
        ("weak", "one encoder in all models", shared_encoder),
        ("weak", "one norm in all models", shared_norm),
    ):
        yield run_fault(34, "TM606", name, strength, prepare)


def _names() -> Iterator[Fault]:
    sgd: dict[str, Any] = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01}}
    momentum: dict[str, Any] = {"optimizer": {**sgd["optimizer"], "momentum": 0.9}}
    adam: dict[str, Any] = {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001}}
    plain: dict[str, Any] = {"loss": {"_target_": "torch.nn.CrossEntropyLoss", "weight": None}}
    flat: dict[str, Any] = {
        "optimizer": "adam", "lr": 1e-4, "batch_size": 8, "loss": "ce", "dropout": 0.0,
        "pretrained": False, "weight_decay": 0.0,
    }  # fmt: skip
    cases: tuple[tuple[Strength, str, str, Mapping[str, Any]], ...] = (
        ("realistic", "sgd with momentum", "sgd", momentum),
        ("realistic", "sgd with momentum", "texture_sgd_1e-2_run3", momentum),
        ("strong", "another optimiser", "unet-sgd", adam),
        ("realistic", "another optimiser", "adamw_baseline", adam),
        ("realistic", "weighted without a weight", "weighted", plain),
        ("realistic", "weighted without a weight", "voc_weighted_ce", plain),
        ("realistic", "another loss", "focal-gamma2", flat),
        ("realistic", "another loss", "dice_only", flat),
        ("realistic", "dropout without dropout", "attention_dropout0.2", flat),
        ("weak", "another learning rate", "adam_lr1e-3", flat),
        ("weak", "another batch size", "unet_bs16", flat),
        ("weak", "another weight decay", "l2_wd1e-2", flat),
        ("weak", "pretrained from scratch", "resnet_pretrained", flat),
    )
    for strength, what, name, settings in cases:
        yield run_fault(
            35, "TM607", what, strength, lambda n=name, s=settings: _named(n, s),
            f"called {name!r}",
        )  # fmt: skip

    def objects() -> Check:
        from truemask.checks.naming import check_name

        model = SmallUNet()
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        return lambda: check_name("sgd_unweighted", optimizer=optimizer, model=model)

    yield run_fault(35, "TM607", "sgd with momentum, by the optimiser itself", "realistic", objects)

    def of_run(name: str) -> Run:
        run = copy_of("textures")
        run.write_config({**run.config, "name": name})
        return run

    for strength, name in (("weak", "seed7"), ("realistic", "sgd"), ("strong", "weighted_focal")):
        yield run_fault(
            35, "TM607", "the name of a run folder", strength,
            lambda n=name: check_of_run(of_run(n)), f"called {name!r}",
        )  # fmt: skip


def _named(name: str, settings: Mapping[str, Any]) -> Check:
    def check() -> list[Any]:
        from truemask.checks.naming import check_name

        return check_name(name, settings)

    return check


def two_models(gain: float, images: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices (N, 2, 2) of two models on the same images of unequal difficulty."""
    random = np.random.default_rng(seed)
    pixels = 10_000
    share = random.uniform(0.1, 0.4, images)
    hard = random.normal(0.15, 0.05, images).clip(0.02, 0.5)
    matrices = []
    for factor in (1.0, 1.0 - gain):
        wrong = (hard * factor * random.normal(1, 0.1, images)).clip(0.005, 0.8)
        positive = (share * pixels).astype(np.int64)
        missed = (wrong * positive).astype(np.int64)
        false = (wrong * positive * random.uniform(0.8, 1.2, images)).astype(np.int64)
        rows = [[pixels - positive - false, false], [missed, positive - missed]]
        matrices.append(np.array(rows).transpose(2, 0, 1).astype(np.int64))
    return matrices[0], matrices[1]


def _differences() -> Iterator[Fault]:
    for strength, gain, images in zip(STRENGTHS, (0.02, 0.01, 0.0), (12, 50, 200), strict=True):
        yield run_fault(
            37, "TM613", "a difference within chance", strength,
            lambda g=gain, n=images: _difference(*two_models(g, n, seed=4)),
            f"errors {gain:.0%} fewer, {images} images",
        )  # fmt: skip

    def scores(images: int) -> Check:
        random = np.random.default_rng(3)
        first = random.normal(0.7, 0.1, images)
        return _difference(first, first + random.normal(0.003, 0.05, images))

    yield run_fault(
        37, "TM613", "a difference of scores within chance", "realistic",
        lambda: scores(30), "0.003 with a spread of 0.05, 30 images",
    )  # fmt: skip


def _difference(first: Any, second: Any) -> Check:
    def check() -> list[Any]:
        from truemask.checks.difference import check_difference

        return check_difference(first, second)

    return check


def _endings() -> Iterator[Fault]:
    for strength, pace in zip(STRENGTHS, (0.02, 0.05, 0.12), strict=True):

        def rows(i: int, _: float, p: float = pace) -> float:
            return float(1.4 * math.exp(-p * i) + 0.002 * math.sin(i))

        falling = with_columns(
            learning(20), train_loss=rows, val_loss=rows,
            val_iou=lambda i, _, p=pace: 0.3 + 0.5 * (1 - math.exp(-p * i)),
        )  # fmt: skip
        yield run_fault(
            38, "TM614", "still improving at its end", strength,
            lambda r=falling: check_of_history(r),
            f"{pace:.0%} lower each epoch, the last is the best",
        )  # fmt: skip
    for strength, epochs, rise in (
        ("weak", 30, 0.01),
        ("realistic", 40, 0.03),
        ("strong", 60, 0.1),
    ):
        over = with_columns(
            learning(epochs),
            train_loss=lambda i, v, n=epochs: v * math.exp(-2.0 * i / n),
            val_loss=lambda i, v, n=epochs, r=rise: v * (1 + r * max(0, i - n // 3)),
        )
        yield run_fault(
            38, "TM615", "validation loss rises for long", strength,
            lambda r=over: check_of_history(r),
            f"for two thirds of {epochs} epochs, {rise:.0%} an epoch",
        )  # fmt: skip

    def falling_score(epochs: int, loss: float) -> Rows:
        return with_columns(
            learning(epochs),
            train_loss=lambda i, v, n=epochs: v * math.exp(-2.0 * i / n),
            val_loss=lambda i, v, n=epochs: v * (1 + 0.03 * max(0, i - n // 3)),
            val_iou=lambda i, v, n=epochs, k=loss: v * (1 - k * max(0, i - n // 3) / n),
        )

    for strength, loss in zip(STRENGTHS, (0.05, 0.2, 0.6), strict=True):
        yield run_fault(
            38, "TM615", "validation score falls for long", strength,
            lambda k=loss: check_of_history(falling_score(40, k)), f"by {loss:.0%} in all",
        )  # fmt: skip
