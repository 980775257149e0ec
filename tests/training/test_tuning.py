"""Tuning: the fastest way is chosen, within the time, and nothing is changed by it."""

import sys
import time
from collections.abc import Callable
from time import sleep

import pytest
import torch
from torch import Tensor, nn

from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.losses import CrossEntropy
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.training import tuning
from truemask.training.tuning import Choice, Trial, Tuning, rule, tune

LABELS = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})


def unet() -> Segmenter:
    torch.manual_seed(0)
    network = UNet(in_channels=3, out_channels=3, widths=(4, 8), dropout=0.2)
    return Segmenter(network=network, images=ImageSpec())


class Sleeping(nn.Module):
    """A network that takes as long as it is told, by what it is given and how."""

    def __init__(self, seconds) -> None:
        super().__init__()
        self.seconds = seconds
        self.head = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        bits = 16 if torch.is_autocast_enabled("cpu") else 32
        last = images.is_contiguous(memory_format=torch.channels_last)
        sleep(self.seconds(bits, last, torch.get_num_threads()))
        return self.head(images)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


def tuned(seconds, *, limit: float = 20.0) -> Tuning:
    model = Segmenter(network=Sleeping(seconds), images=ImageSpec())
    return tune(
        model,
        CrossEntropy(),
        LABELS,
        batch_size=2,
        crop=(8, 8),
        accelerator="cpu",
        seconds=limit,
    )


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this processor computed bfloat16 natively."""
    monkeypatch.setattr(tuning, "choose_precision", lambda settings, gpu: "bf16")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a pass took just as long as its network says, whatever else the machine does."""
    slept: list[float] = []

    def seconds_of(step: Callable[[], None], device: torch.device) -> float:
        slept.clear()
        step()
        return sum(slept)

    monkeypatch.setattr(sys.modules[__name__], "sleep", slept.append)
    monkeypatch.setattr(tuning, "seconds_of", seconds_of)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling would take longer than all the rest."""
    changes = tuning._changes
    monkeypatch.setattr(
        tuning, "_changes", lambda *args: [c for c in changes(*args) if "compile" not in c]
    )


@pytest.mark.usefixtures("bf16", "told", "uncompiled")
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("last", [True, False])
def test_the_fastest_is_chosen(bits: int, last: bool) -> None:
    def seconds(used_bits: int, used_last: bool, threads: int) -> float:
        return 0.01 + 0.02 * (used_bits != bits) + 0.01 * (used_last != last)

    found = tuned(seconds)
    assert found.choice.precision == (32 if bits == 32 else "bf16")
    assert found.choice.channels_last is last
    expected = (0.01 + 0.02 * (bits == 32) + 0.01 * (not last)) / 0.01
    assert found.speedup == pytest.approx(expected)
    assert found.trials[0].choice == rule("cpu")


@pytest.mark.usefixtures("told", "uncompiled")
def test_fewer_threads_are_chosen_where_they_are_faster() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = tuned(lambda bits, last, threads: 0.02 * threads)
        assert found.choice.threads == 2
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("told", "uncompiled")
def test_without_a_gain_the_rule_stays() -> None:
    found = tuned(lambda *how: 0.02)
    assert found.choice == rule("cpu")
    assert found.speedup == 1.0
    assert "as without tuning" in found.note


def test_the_time_is_kept() -> None:
    start = time.perf_counter()
    found = tuned(lambda *how: 0.2, limit=1.0)
    assert time.perf_counter() - start < 2.5
    assert any("no time" in trial.failure for trial in found.trials)
    assert found.choice == rule("cpu")


@pytest.mark.usefixtures("bf16")
def test_a_way_that_takes_too_long_is_cut_off() -> None:
    def seconds(bits: int, last: bool, threads: int) -> float:
        return 30.0 if bits == 32 else 0.01

    start = time.perf_counter()
    found = tuned(seconds, limit=1.0)
    assert time.perf_counter() - start < 3
    failures = {trial.choice.precision: trial.failure for trial in found.trials[:2]}
    assert failures["bf16"] == ""
    assert failures[32].startswith("took more than the")


@pytest.mark.usefixtures("bf16", "uncompiled")
def test_a_way_that_fails_is_left_out_and_said() -> None:
    def seconds(bits: int, last: bool, threads: int) -> float:
        if bits == 32:
            raise RuntimeError("out of memory\nmore lines")
        return 0.001

    found = tuned(seconds)
    assert found.trials[1].failure == "out of memory"
    assert found.trials[1].seconds is None
    assert found.choice.precision == "bf16"


@pytest.mark.usefixtures("uncompiled")
def test_the_model_and_the_random_numbers_stay_as_they_are() -> None:
    model = unet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    tune(
        model,
        CrossEntropy(),
        LABELS,
        batch_size=2,
        crop=(16, 20),
        accelerator="cpu",
        seconds=5,
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.channels_last


def test_batches_are_of_the_range_that_the_model_takes() -> None:
    spec = ImageSpec(channels=1, dtype="float32", low=-1.0, high=2.0)
    model = Segmenter(network=UNet(in_channels=1, out_channels=3, widths=(4, 8)), images=spec)
    images, masks = tuning._random_batch(model, LABELS, 3, (8, 10))
    assert images.shape == (3, 1, 8, 10)
    assert -1 <= images.min() < 0 < 1 < images.max() <= 2
    assert masks.unique().tolist() == [0, 1, 2]


def test_what_is_written_tells_all_trials() -> None:
    first = Choice(precision="bf16", channels_last=True, compile=False, threads=2)
    second = Choice(precision=32, channels_last=True, compile=False, threads=2)
    trials = [
        Trial(choice=first, seconds=0.3, speedup=1.0),
        Trial(choice=second, seconds=0.2, speedup=1.5),
    ]
    found = Tuning(choice=second, speedup=1.5, trials=trials, seconds=7.4)
    assert found.note == (
        "Tuned in 7 s: 32 bits, channels last, not compiled, 2 threads; "
        "1.50 times as fast as bfloat16, channels last, not compiled, 2 threads."
    )
    plain = found.to_json()
    assert [trial["choice"]["precision"] for trial in plain["trials"]] == ["bf16", 32]
    assert plain["choice"] == {
        "precision": 32,
        "channels_last": True,
        "compile": False,
        "threads": 2,
    }
