import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from truemask.build import build
from truemask.compose import compose_config, options
from truemask.errors import UsageError
from truemask.training.limits import Limits
from truemask.training.schedules import (
    Constant,
    OneCycle,
    Polynomial,
    Progress,
    Schedule,
    StepDecay,
    WarmupCosine,
    WarmupInverseSqrt,
)
from truemask.training.settings import DataSettings, TrainerSettings, parse_time


def at(fraction: float) -> Progress:
    return Progress(step=0, epoch=0, fraction=fraction)


def test_warmup_cosine_by_hand() -> None:
    schedule = WarmupCosine(warmup=0.1, floor=0.2)
    expected = {0.0: 0.01, 0.05: 0.5, 0.1: 1.0, 0.55: 0.6, 1.0: 0.2}
    for fraction, factor in expected.items():
        assert schedule(at(fraction)) == pytest.approx(factor)


def test_without_warmup_it_starts_high() -> None:
    assert WarmupCosine(warmup=0.0)(at(0.0)) == 1.0


def test_constant() -> None:
    assert {Constant()(at(f / 10)) for f in range(11)} == {1.0}


def torch_factors(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    """The factors with which torch's scheduler makes these steps, relative to a rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    factors = []
    with warnings.catch_warnings():
        # torch misses optimizer.step() between the steps of its scheduler.
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        scheduler = make(optimizer)
        for step in range(steps):
            factors.append(optimizer.param_groups[0]["lr"])
            if step + 1 < steps:
                scheduler.step()
    return factors


def along(schedule: Schedule, steps: int) -> list[float]:
    """The factors over a training of that many steps, its end included."""
    return [schedule(Progress(step, 0, step / steps)) for step in range(steps + 1)]


@pytest.mark.parametrize(("size", "gamma"), [(10, 0.1), (3, 0.5), (1, 1.0)])
def test_step_decay_is_torch_s(size: int, gamma: float) -> None:
    schedule = StepDecay(step_size=size, gamma=gamma)
    expected = torch_factors(lambda o: lr_scheduler.StepLR(o, size, gamma), 25)
    got = [schedule(Progress(7 * epoch, epoch, epoch / 25)) for epoch in range(25)]
    assert got == pytest.approx(expected, rel=1e-12)


def test_cosine_is_torch_s() -> None:
    expected = torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.1), 41)
    assert along(WarmupCosine(warmup=0.0, floor=0.1), 40) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("power", [0.9, 1.0, 2.5])
def test_polynomial_is_torch_s(power: float) -> None:
    expected = torch_factors(lambda o: lr_scheduler.PolynomialLR(o, 40, power), 41)
    assert along(Polynomial(power=power), 40) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_polynomial_after_a_warmup() -> None:
    schedule = Polynomial(power=0.5, warmup=0.2)
    expected = {0.0: 0.01, 0.1: 0.5, 0.2: 1.0, 0.8: 0.5, 1.0: 0.0}
    for fraction, factor in expected.items():
        assert schedule(at(fraction)) == pytest.approx(factor)


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize(
    ("pct_start", "div_factor", "final_div_factor"), [(0.3, 25.0, 1e4), (0.5, 2.0, 1.0)]
)
def test_one_cycle_is_torch_s(
    anneal: str, pct_start: float, div_factor: float, final_div_factor: float
) -> None:
    settings = {"div_factor": div_factor, "final_div_factor": final_div_factor}

    def torch_s(steps: int, share: float) -> list[float]:
        kind = lr_scheduler.OneCycleLR
        options: dict[str, Any] = settings | {"pct_start": share, "anneal_strategy": anneal}
        return torch_factors(
            lambda o: kind(o, 1.0, total_steps=steps, cycle_momentum=False, **options), steps
        )

    got = along(OneCycle(pct_start=pct_start, anneal=anneal, **settings), 100)
    # torch counts both ends and puts the peak one step early: these shares undo that.
    expected = torch_s(101, (100 * pct_start + 1) / 101)
    assert got == pytest.approx(expected, rel=1e-9)
    # With the same numbers, the two are never further apart than the rate changes in a step.
    slope = max(abs(a - b) for a, b in zip(got, got[1:], strict=False))
    for ours, theirs in zip(got[:-1], torch_s(100, pct_start), strict=True):
        assert abs(ours - theirs) <= slope * 1.01


def test_warmup_inverse_sqrt_by_hand() -> None:
    schedule = WarmupInverseSqrt(warmup_steps=99, decay_factor=2.0, floor=0.25)
    expected = {0: 0.25, 49: 0.25, 74: 0.5625, 98: 0.9801, 99: 1.0, 99 + 99 * 4: 1 / 3, 10**7: 0.25}
    for step, factor in expected.items():
        assert schedule(Progress(step, 0, 0.0)) == pytest.approx(factor)


def test_warmup_inverse_sqrt_with_a_factor_of_1_is_the_transformer_s() -> None:
    schedule = WarmupInverseSqrt(warmup_steps=400)
    for step in (400, 500, 1600, 40_000):
        expected = (400 / step) ** 0.5
        assert schedule(Progress(step, 3, 0.2)) == pytest.approx(expected)
    assert schedule(at(0.0)) > 0  # the first step moves the weights
    assert WarmupInverseSqrt(warmup_steps=0)(at(0.0)) == 1.0


shares = st.floats(0, 1)
SCHEDULES: list[st.SearchStrategy[Schedule]] = [
    st.builds(Constant),
    st.builds(StepDecay, step_size=st.integers(1, 50), gamma=st.floats(0.01, 1)),
    st.builds(WarmupCosine, warmup=st.floats(0, 0.99), floor=shares),
    st.builds(Polynomial, power=st.floats(0.1, 10), warmup=st.floats(0, 0.99)),
    st.builds(
        OneCycle,
        pct_start=st.floats(0.01, 0.99),
        anneal=st.sampled_from(["cos", "linear"]),
        div_factor=st.floats(1, 1e6),
        final_div_factor=st.floats(1, 1e6),
    ),
    st.builds(
        WarmupInverseSqrt,
        warmup_steps=st.integers(0, 10**6),
        decay_factor=st.floats(0, 100),
        floor=shares,
    ),
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    schedule=st.one_of(SCHEDULES),
    step=st.integers(0, 10**7),
    epoch=st.integers(0, 10**5),
    fraction=shares,
)
def test_a_factor_is_from_0_to_1(
    schedule: Schedule, step: int, epoch: int, fraction: float
) -> None:
    assert 0 <= schedule(Progress(step, epoch, fraction)) <= 1
    assert schedule(Progress(0, 0, 0.0)) > 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    schedule=st.one_of(
        st.builds(WarmupCosine, warmup=st.sampled_from([0.0, 0.05, 0.5])),
        st.builds(Polynomial, power=st.floats(0.9, 3), warmup=st.sampled_from([0.0, 0.05, 0.5])),
        st.builds(
            OneCycle, pct_start=st.floats(0.05, 0.95), anneal=st.sampled_from(["cos", "linear"])
        ),
        st.builds(
            WarmupInverseSqrt, warmup_steps=st.integers(200, 9000), decay_factor=st.floats(0, 5)
        ),
    )
)
def test_no_factor_jumps(schedule: Schedule) -> None:
    factors = along(schedule, 10_000)
    assert max(abs(a - b) for a, b in zip(factors, factors[1:], strict=False)) < 0.02
    assert max(factors) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", options("schedule"))
def test_every_file_makes_a_schedule(name: str) -> None:
    schedule = build(compose_config([f"schedule={name}"])["schedule"], key="schedule")
    assert 0 < schedule(at(0.0)) <= 1


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (WarmupCosine, {"warmup": 1.0}),
        (WarmupCosine, {"warmup": -0.1}),
        (WarmupCosine, {"floor": 2.0}),
        (StepDecay, {"step_size": 0}),
        (StepDecay, {"gamma": 0.0}),
        (StepDecay, {"gamma": 1.5}),
        (Polynomial, {"power": 0.0}),
        (Polynomial, {"power": float("inf")}),
        (Polynomial, {"warmup": 1.0}),
        (OneCycle, {"pct_start": 0.0}),
        (OneCycle, {"pct_start": 1.0}),
        (OneCycle, {"anneal": "cosine"}),
        (OneCycle, {"div_factor": 0.5}),
        (OneCycle, {"final_div_factor": float("nan")}),
        (WarmupInverseSqrt, {"warmup_steps": -1}),
        (WarmupInverseSqrt, {"decay_factor": -0.1}),
        (WarmupInverseSqrt, {"floor": 1.1}),
    ],
)
def test_impossible_schedules(kind: Callable[..., Schedule], wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        kind(**wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:20:00", 1200), ("1:00:00", 3600), ("0:30", 30), ("1:0:0:0", 86400)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["20", "20m", "", "1:2:3:4:5", "00:00", "-1:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"trainer\.max_time"):
        TrainerSettings(max_time=text)


def test_epochs_have_a_default_only_where_nothing_else_ends_the_training() -> None:
    assert TrainerSettings().epochs == 100
    assert TrainerSettings(max_steps=5).epochs is None
    assert TrainerSettings(max_time="1:00").epochs is None
    assert TrainerSettings(max_time="1:00", max_epochs=3).epochs == 3


@pytest.mark.parametrize(
    "wrong", [{"max_epochs": 0}, {"patience": 0}, {"average": 1.0}, {"gradient_clip": 0.0}]
)
def test_impossible_trainers(wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"trainer.{next(iter(wrong))}"):
        TrainerSettings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"crop": [1]}, {"crop": [0, 3]}, {"statistics": 0}]
)
def test_impossible_data(wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"data.{next(iter(wrong))}"):
        DataSettings(dataset={}, **wrong)


def test_the_limit_that_comes_first_counts() -> None:
    limits = Limits(steps=100, seconds=10.0)
    assert limits.fraction(step=50, seconds=1.0) == 0.5
    assert limits.fraction(step=1, seconds=9.0) == 0.9
    assert limits.fraction(step=200, seconds=0.0) == 1.0
    assert Limits(steps=None, seconds=10.0).fraction(step=10**9, seconds=5.0) == 0.5
