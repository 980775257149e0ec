import pytest

from truemask.errors import UsageError
from truemask.training.schedules import Constant, Progress, WarmupCosine
from truemask.training.settings import DataSettings, TrainerSettings, parse_time
from truemask.training.task import Limits


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


@pytest.mark.parametrize("wrong", [{"warmup": 1.0}, {"warmup": -0.1}, {"floor": 2.0}])
def test_impossible_schedules(wrong: dict) -> None:
    with pytest.raises(UsageError):
        WarmupCosine(**wrong)


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
