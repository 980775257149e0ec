"""Trainings that are checked: what stops them, what they keep, and what a guard says on the way."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from truemask.cli import main
from truemask.compose import compose_config, resume_config
from truemask.datasets.sample import Sample
from truemask.errors import JobFailed
from truemask.runs import Run
from truemask.training import fit, fitting
from truemask.training.checking import TrainingChecks
from truemask.training.loaders import TrainingSamples
from truemask.training.settings import CheckSettings

QUIET = Console(quiet=True)
TEXTURES = [
    "experiment=textures/demo", "data.dataset.size=32", "data.dataset.train=16",
    "data.dataset.validation=4", "data.dataset.test=5", "model.channels=4", "data.batch_size=4",
    "trainer.max_steps=null", "trainer.max_epochs=25", "trainer.eval_interval=5",
    "trainer.average=null", "optimizer.lr=0.02",
    "checks.enabled=true",
]  # fmt: skip
FOLDER = [
    "model=unet", "model.widths=[4,8]", "trainer.patience=null", "data.batch_size=2",
    "data.crop=[24,24]", "trainer.max_epochs=1", "trainer.tune=false", "checks.enabled=true",
]  # fmt: skip


class Constant(nn.Module):
    """Says the same of every pixel: a model that has collapsed."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((1, out_channels, 1, 1), -3.0))

    @staticmethod
    def input_size(height: int, width: int) -> tuple[int, int]:
        return height, width

    output_size = input_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1, *images.shape[-2:])


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on noise, parted on disk; no two images are alike."""
    root = tmp_path_factory.mktemp("data") / "squares"
    generator = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 6)):
        for name in ("images", "masks"):
            (root / part / name).mkdir(parents=True)
        for i in range(count):
            ground = generator.integers(0, 120, (4, 5, 3)).repeat(10, 0).repeat(10, 1)
            mask = np.zeros((40, 50), np.uint8)
            top, left, side = generator.integers([0, 0, 12], [22, 32, 19])
            mask[top : top + side, left : left + side] = 255
            noise = generator.integers(0, 40, (40, 50, 3))
            pixels = (ground + noise + mask[..., None] // 3).astype(np.uint8)
            Image.fromarray(pixels).save(root / part / "images" / f"{part}{i:02}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{part}{i:02}.png")
    return root


@pytest.fixture
def leaking(squares: Path, tmp_path: Path) -> Path:
    """The squares with two training images among the validation images."""
    root = shutil.copytree(squares, tmp_path / "leaking")
    for i in range(2):
        for name in ("images", "masks"):
            source = root / "train" / name / f"train{i:02}.png"
            shutil.copy(source, root / "val" / name / f"again{i:02}.png")
    return root


def only_run(runs: Path) -> Run:
    (found,) = [path.parent for path in runs.rglob("config.yaml")]
    return Run.open(found)


def levels(run: Run) -> dict[str, set[str]]:
    assert run.findings is not None
    return {
        level: {f["code"] for f in run.findings if f["level"] == level}
        for level in ("error", "warning", "note")
    }


def test_the_textures_are_trained_to_the_end_and_nothing_is_wrong(tmp_path: Path) -> None:
    assert main(["train", *TEXTURES, f"runs={tmp_path}"]) == 0
    run = only_run(tmp_path)
    assert run.finished
    assert levels(run)["error"] == set()


def test_a_sound_folder_is_trained_to_the_end_and_nothing_is_wrong(
    squares: Path, tmp_path: Path
) -> None:
    words = ["trainer.max_epochs=10", "trainer.eval_interval=5", "optimizer.lr=0.02"]
    assert main(["train", str(squares), *FOLDER, *words, f"runs={tmp_path}"]) == 0
    run = only_run(tmp_path)
    assert run.finished
    assert levels(run)["error"] == set()


def test_an_error_ends_it_before_the_first_step_and_leaves_nothing(
    leaking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    words = ["checks.select=[TM201,TM202]", f"runs={runs}"]
    assert main(["train", str(leaking), *FOLDER, *words]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "TM201" in said
    assert "nothing was trained" in said
    assert "checks.stop=false" in said
    assert not runs.exists() or not list(runs.rglob("*"))


def test_it_goes_on_where_it_shall_and_the_findings_are_kept(leaking: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ["checks.select=[TM201,TM202]", "checks.stop=false", f"runs={runs}"]
    assert main(["train", str(leaking), *FOLDER, *words]) == 0
    run = only_run(runs)
    assert run.finished
    assert "TM201" in levels(run)["error"]
    kept = json.loads((run.path / "findings.json").read_text())
    assert {item["when"] for item in kept} == {"before"}
    page = run.report_path.read_text()
    assert "error TM201" in page
    assert 'id="findings"' in page


def test_batches_are_checked_and_the_training_stays_the_same(squares: Path, tmp_path: Path) -> None:
    """Weights are equal to the last bit, whether or not its batches were looked at before."""
    weights = []
    for select in ("TM3", "TM607"):
        runs = tmp_path / select
        words = [f"checks.select=[{select}]", f"runs={runs}"]
        assert main(["train", str(squares), *FOLDER, *words]) == 0
        weights.append(load_file(only_run(runs).bundle_folder / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def _regions(root: Path, images: int) -> Path:
    """Photographs of bright and dark regions, in one part."""
    rows, columns = np.mgrid[:96, :128]
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(images):
        generator = np.random.default_rng(i)
        places = generator.uniform(0, 1, (12, 2)) * (96, 128)
        nearest = (rows - places[:, 0, None, None]) ** 2 + (columns - places[:, 1, None, None]) ** 2
        mask = (nearest.argmin(0) % 2).astype(np.uint8)
        grey = 60 + 120 * mask + generator.normal(0, 12, mask.shape)
        Image.fromarray(np.repeat(grey.astype(np.uint8)[..., None], 3, 2)).save(
            root / "images" / f"{i:02}.png"
        )
        Image.fromarray(255 * mask).save(root / "masks" / f"{i:02}.png")
    return root


def test_a_mask_that_is_not_transformed_along_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _regions(tmp_path / "regions", 24)
    original = TrainingSamples.__getitem__

    def flipped(samples: TrainingSamples, address: Any) -> Sample:
        sample = original(samples, address)
        return replace(sample, image=sample.image.flip(-1)) if address[1] % 2 else sample

    monkeypatch.setattr(TrainingSamples, "__getitem__", flipped)
    words = ["checks.select=[TM3]", "data.batch_size=4", "data.crop=[80,96]"]
    assert main(["train", str(data), *FOLDER, *words, f"runs={tmp_path / 'runs'}"]) == 1
    assert "TM303" in capsys.readouterr().err


def test_what_is_left_out_stops_nothing(leaking: Path, tmp_path: Path) -> None:
    words = ["checks.select=[TM2]", "checks.ignore=[TM201,TM202]", f"runs={tmp_path / 'runs'}"]
    assert main(["train", str(leaking), *FOLDER, *words]) == 0


def test_a_run_that_goes_on_is_not_checked_again(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    original = fitting.check_before

    def counted(*arguments: Any, **named: Any) -> Any:
        looks.append(1)
        return original(*arguments, **named)

    monkeypatch.setattr(fitting, "check_before", counted)
    config = compose_config(
        [*FOLDER, "checks.select=[TM2]", f"runs={tmp_path}", "name=bad_name_2"], folder=squares
    )
    fit.train(config, console=QUIET)
    run = only_run(tmp_path)
    earlier = [{"code": "TM203", "level": "warning", "message": "Seen before.", "when": "before"}]
    run.write_findings(earlier)
    again = resume_config(run.config, ["trainer.max_epochs=2"])
    fit.train(again, console=QUIET, resume=run)
    assert looks == [1]
    assert run.findings is not None
    assert run.findings[: len(earlier)] == earlier


def test_a_model_that_says_one_class_of_all_is_seen_on_the_way(
    squares: Path, tmp_path: Path
) -> None:
    words = [
        *FOLDER, "trainer.max_epochs=6", "trainer.eval_interval=1", "checks.select=[TM601]",
        f"runs={tmp_path}",
    ]  # fmt: skip
    config = compose_config(words, folder=squares)
    config["model"] = {"_target_": f"{__name__}.Constant"}
    config["optimizer"]["lr"] = 1e-4
    fit.train(config, console=QUIET)
    found = [f for f in only_run(tmp_path).findings or [] if f["when"] == "during"]
    assert [(f["code"], f["level"]) for f in found] == [("TM601", "error")]


@pytest.fixture
def watched(tmp_path: Path) -> tuple[TrainingChecks, Any, Run]:
    """Checks whose guard looks at a loop that a test moves by hand."""
    run = Run.create(tmp_path, experiment="watched")
    checking = TrainingChecks(CheckSettings(enabled=True), QUIET)
    loop = SimpleNamespace(watch=lambda loop: None, judge=None, step=SimpleNamespace(value=1.0))
    checking.guard(loop, run)  # type: ignore[arg-type]
    return checking, loop, run


ONE_CLASS = np.array([[900, 0], [100, 0]])
BOTH = np.array([[880, 20], [30, 70]])


@pytest.mark.parametrize(("last", "level"), [(BOTH, "note"), (ONE_CLASS, "error")])
def test_a_collapse_is_a_note_where_the_model_recovered(
    watched: tuple[TrainingChecks, Any, Run], last: np.ndarray, level: str
) -> None:
    checking, loop, run = watched
    for _ in range(5):
        loop.judge(SimpleNamespace(matrix=ONE_CLASS))
    assert levels(run)["error"] == {"TM601"}  # kept at once: the process may not live on
    loop.judge(SimpleNamespace(matrix=last))
    checking.ended(run)
    assert run.findings is not None
    (finding,) = run.findings
    assert finding["level"] == level
    assert ("recovered" in finding["message"]) == (level == "note")


def test_the_last_steps_are_looked_at_when_training_has_ended(
    watched: tuple[TrainingChecks, Any, Run],
) -> None:
    checking, loop, run = watched
    for loss in (1.0, float("nan"), float("nan"), float("nan")):
        loop.step.value = torch.tensor(loss)
        loop.watch(loop)
    assert run.findings is None
    checking.ended(run)
    assert levels(run)["error"] == {"TM602"}


def test_an_error_is_a_job_that_failed_for_a_caller_too(leaking: Path, tmp_path: Path) -> None:
    config = compose_config(
        [*FOLDER, "checks.select=[TM201]", f"runs={tmp_path / 'runs'}"], folder=leaking
    )
    with pytest.raises(JobFailed, match="nothing was trained"):
        fit.train(config, console=QUIET)
