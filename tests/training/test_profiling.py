"""Profiles: sections that add up, operations counted against closed forms, advice for each case."""

import io
import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from truemask.images import ImageSpec
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.training import profiling
from truemask.training.advice import Settings, advise
from truemask.training.clock import StepClock
from truemask.training.peak import convolution_peak, count_flops
from truemask.training.profiling import Profiling

CPU = torch.device("cpu")
SETTINGS = Settings(batch_size=2, num_workers=0, precision="bf16", gpu=False, fused=True)


@pytest.fixture(autouse=True)
def quick_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that these tests need not take."""
    monkeypatch.setattr(profiling, "convolution_peak", lambda device, dtype: 1e11)


def model() -> Segmenter:
    torch.manual_seed(0)
    network = UNet(in_channels=3, out_channels=4, widths=(4, 8))
    return Segmenter(network=network, images=ImageSpec())


class Step:
    """What a profile asks of an optimiser step, with sections that sleep."""

    def __init__(self) -> None:
        self.model = model()
        self.device = CPU
        self.section = self.untimed = lambda name: nullcontext()

    def take(self, images: torch.Tensor, seconds: dict[str, float]) -> None:
        for name, pause in seconds.items():
            with self.section(name):
                time.sleep(pause)
        self.model(images)


def run(measured: Profiling, step: Step, steps: int) -> None:
    images = torch.zeros(2, 3, 8, 12, dtype=torch.uint8)
    for _ in range(steps):
        step.take(images, {"data": 0.02, "forward": 0.01})
        measured.after_step()


def test_sections_are_what_passed_in_them_and_add_up_to_the_step() -> None:
    clock = StepClock(CPU)
    with clock("data"):
        time.sleep(0.02)
    with clock("forward"):
        time.sleep(0.01)
        with clock("loss"):
            time.sleep(0.03)
    time.sleep(0.01)
    seconds, sections = clock.end_step()
    assert sum(sections.values()) == pytest.approx(seconds)
    for name, least in {"data": 0.02, "forward": 0.01, "loss": 0.03, "other": 0.01}.items():
        assert least <= sections[name] < seconds - (0.07 - least) + 1e-3


def test_what_lies_between_two_rounds_is_no_part_of_a_step() -> None:
    clock = StepClock(CPU)
    with clock("data"):  # nothing is left in the round
        pass
    time.sleep(0.2)  # a validation
    with clock("data"):
        pass
    seconds, sections = clock.end_step()
    assert seconds < 0.1
    assert sections.keys() == {"data", "other"}


def test_a_section_that_raises_is_closed() -> None:
    clock = StepClock(CPU)
    with pytest.raises(ValueError, match="bad"), clock("data"):
        raise ValueError("bad")
    with clock("data"):
        time.sleep(0.01)
    assert clock.end_step()[1]["data"] >= 0.01


def test_a_profile_covers_a_window_after_the_warm_up_and_is_written(tmp_path: Path) -> None:
    step, console = Step(), Console(record=True, file=io.StringIO(), width=200)
    measured = Profiling(
        step, settings=SETTINGS, folder=tmp_path, console=console, warmup=2, steps=3
    )
    run(measured, step, 4)
    assert measured.profile is None
    run(measured, step, 2)
    profile = measured.profile
    assert profile is not None
    assert profile.steps == 3
    assert step.section is step.untimed
    assert profile.sections["data"] >= 0.02
    assert sum(profile.sections.values()) == pytest.approx(profile.seconds)
    assert profile.images_per_second == pytest.approx(2 / profile.seconds)
    assert profile.flops == count_flops(step.model.network, (2, 3, 8, 12))
    assert profile.share_of_peak == pytest.approx(profile.flops / profile.seconds / profile.peak)
    assert json.loads((tmp_path / "profile.json").read_text()) == profile.to_json()
    measured.end()
    text = console.export_text()
    assert "data" in text
    assert "images/s" in text
    assert profile.advice[0] in text
    assert not (tmp_path / "trace.json").exists()


def test_a_training_shorter_than_the_window_is_profiled_by_what_there_is(tmp_path: Path) -> None:
    step, console = Step(), Console(quiet=True)
    measured = Profiling(
        step, settings=SETTINGS, folder=tmp_path, console=console, warmup=1, steps=30
    )
    run(measured, step, 3)
    measured.end()
    assert measured.profile is not None
    assert measured.profile.steps == 2


def test_a_training_too_short_for_any_figure_says_so(tmp_path: Path) -> None:
    step, console = Step(), Console(record=True, file=io.StringIO())
    measured = Profiling(step, settings=SETTINGS, folder=tmp_path, console=console)
    run(measured, step, 3)
    measured.end()
    assert "too short to be profiled" in console.export_text()
    assert not (tmp_path / "profile.json").exists()


def test_a_trace_names_the_operations_of_the_steps_after_the_window(tmp_path: Path) -> None:
    step = Step()
    measured = Profiling(
        step,
        settings=SETTINGS,
        folder=tmp_path,
        console=Console(quiet=True),
        trace=True,
        warmup=1,
        steps=1,
    )
    run(measured, step, 6)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [event["name"] for event in events]
    assert names.count("aten::max_pool2d") == 3  # one a step of the network of two levels


def test_operations_are_counted_as_convolutions_have_them() -> None:
    """Forward, gradient of the weights, and of the input for all but the first layer."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1))
    pixels = 2 * 16 * 10
    first, second = 2 * pixels * 3 * 8 * 9, 2 * pixels * 8 * 5
    assert count_flops(network, (2, 3, 16, 10)) == 2 * first + 3 * second


def test_counting_leaves_the_network_as_it_is() -> None:
    network = model().network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert count_flops(network, (1, 3, 8, 8)) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_looks_at_its_values_cannot_be_counted() -> None:
    class Looking(nn.Module):
        def forward(self, images):
            return images * 2 if images.sum() > 0 else images

    assert count_flops(Looking(), (1, 3, 8, 8)) is None


def test_the_peak_is_above_what_one_slow_convolution_reaches() -> None:
    state = torch.get_rng_state()
    rate = convolution_peak(CPU, torch.float32, seconds=0.2, repeats=2)
    assert torch.equal(torch.get_rng_state(), state)
    images, weights = torch.rand(1, 3, 64, 64), torch.rand(4, 3, 3, 3)
    start = time.perf_counter()
    torch.nn.functional.conv2d(images, weights)
    assert rate > 2 * 9 * 62**2 * 12 / (time.perf_counter() - start)


@pytest.mark.parametrize(
    ("sections", "change", "share", "expected"),
    [
        ({"data": 0.31, "forward": 0.69}, {}, 0.5, "loading takes 31%: raise data.cache"),
        (
            {"data": 0.31, "forward": 0.69},
            {"gpu": True},
            0.5,
            "loading takes 31%: raise data.num_workers (now 0)",
        ),
        ({"transfer": 0.2, "forward": 0.8}, {}, 0.5, "moving batches to the device takes 20%"),
        ({"optimizer": 0.4, "forward": 0.6}, {"fused": False}, 0.5, "optimizer.fused=true"),
        ({"optimizer": 0.4, "forward": 0.6}, {}, 0.5, "trainer.accumulate"),
        ({"average": 0.1, "forward": 0.9}, {}, 0.5, "the average of the weights takes 10%"),
        ({"metrics": 0.1, "forward": 0.9}, {}, 0.5, "counting takes 10%"),
        ({"forward": 1.0}, {"precision": 32}, 0.5, "trainer.tune=true"),
        ({"forward": 1.0}, {}, 0.2, "batch 2 reaches 20% of the peak: raise data.batch_size"),
        ({"forward": 1.0}, {}, 0.6, "nothing stands out"),
        ({"forward": 1.0}, {"batch_size": 16}, 0.2, "nothing stands out"),
        ({"forward": 1.0}, {}, None, "nothing stands out"),
    ],
)
def test_advice(sections, change, share, expected: str) -> None:
    settings = Settings(**{**vars(SETTINGS), **change})
    (sentence,) = advise(settings, sections, share_of_peak=share)
    assert expected in sentence


def test_the_largest_gain_comes_first() -> None:
    sections = {"optimizer": 0.2, "data": 0.3, "average": 0.1, "forward": 0.4}
    words = [
        sentence.split(" takes")[0] for sentence in advise(SETTINGS, sections, share_of_peak=1)
    ]
    assert words == ["loading", "the optimiser", "the average of the weights"]
