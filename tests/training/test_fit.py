"""Whole trainings, small ones: what they leave, that they repeat, that they can be interrupted."""

import csv
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from forked import Forked, program
from truemask.cli import main
from truemask.compose import compose_config, resume_config
from truemask.errors import JobFailed, UsageError
from truemask.evaluation import evaluate
from truemask.per_image import load_parts
from truemask.runs import Run
from truemask.training.fit import train
from truemask.training.loaders import TrainingSamples
from truemask.training.loop import Loop
from truemask.training.opening import open_parts
from truemask.training.record import Record
from truemask.training.settings import DataSettings
from truemask.training.setup import prepare

SMALL = [
    "experiment=textures/demo",
    "data.dataset.size=32",
    "data.dataset.train=16",
    "data.dataset.validation=4",
    "data.dataset.test=5",
    "model.channels=4",
    "trainer.max_steps=null",
    "trainer.max_epochs=3",
    "data.batch_size=4",
]


def run_training(runs: Path, *words: str) -> Run:
    config = compose_config([*SMALL, f"runs={runs}", *words])
    return Run.open(Path(train(config, console=Console(quiet=True)).run))


def figures(run: Run) -> list[dict[str, str]]:
    """The history without what depends on the clock."""
    with (run.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows
    ]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.bundle_folder / "model.safetensors")


def assert_equal_weights(one: Run, other: Run) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_training(tmp_path_factory.mktemp("runs"))


def test_a_run_folder_holds_all_that_is_promised(finished: Run) -> None:
    for name in (
        "config.yaml",
        "environment.json",
        "labels.json",
        "history.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "model/model.json",
        "model/model.safetensors",
        "results.json",
        "report.html",
    ):
        assert (finished.path / name).is_file(), name
    assert not list(finished.path.rglob("*.part"))
    results = json.loads((finished.path / "results.json").read_text())
    assert set(results) == {"validation", "test"}
    assert results["test"]["images"] == 5
    low, high = results["test"]["intervals"]["iou"]
    assert low <= results["test"]["iou"] <= high


def test_the_same_seed_gives_the_same_history_and_weights(finished: Run, tmp_path: Path) -> None:
    again = run_training(tmp_path)
    assert figures(again) == figures(finished)
    assert_equal_weights(again, finished)


def test_another_seed_gives_another_history(finished: Run, tmp_path: Path) -> None:
    assert figures(run_training(tmp_path, "seed=1")) != figures(finished)


def test_the_number_of_workers_changes_nothing(finished: Run, tmp_path: Path) -> None:
    assert figures(run_training(tmp_path, "data.num_workers=2")) == figures(finished)


def test_the_history_s_best_epoch_is_what_was_tested(finished: Run) -> None:
    rows = figures(finished)
    best = max(rows, key=lambda row: float(row["validation_iou"]))
    assert finished.environment["training"]["best_epoch"] == int(best["epoch"])
    tested = finished.results["validation"].iou
    # The history is counted in the training's precision, the results in float32.
    assert tested == pytest.approx(float(best["validation_iou"]), abs=0.03)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_results_do_not_depend_on_the_batch_size(finished: Run, batch_size: int) -> None:
    bundle = finished.load_bundle()
    parts, _ = open_parts(DataSettings(**finished.config["data"]))
    found = evaluate(bundle.model, parts["test"], labels=bundle.labels, batch_size=batch_size)
    saved = load_parts(finished.per_image_path)["test"]
    assert found.names == saved.names
    assert (found.matrices == saved.matrices).all()


def test_resuming_a_finished_run_tests_it_again_and_changes_nothing(tmp_path: Path) -> None:
    run = run_training(tmp_path)
    before = figures(run), weights(run), run.results["test"]
    train(run.config, console=Console(quiet=True), resume=run)
    assert figures(run) == before[0]
    assert run.results["test"] == before[2]
    for name, value in weights(run).items():
        assert torch.equal(value, before[1][name])


def start_in_the_background(runs: Path, *words: str) -> Forked:
    return program("train", *SMALL, f"runs={runs}", *words, output=runs / "said")


def wait_for(path: Path, pattern: str, process: Forked) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = sorted(path.rglob(pattern))
        if found:
            return found[0]
        assert process.running, process.errors
        time.sleep(0.01)
    raise AssertionError(f"no {pattern} after two minutes")


LONGER = ("trainer.max_epochs=60", "trainer.patience=null")


@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(tmp_path: Path) -> None:
    first = start_in_the_background(tmp_path / "undisturbed", *LONGER)
    assert first.wait(300) == 0, first.errors
    (config,) = (tmp_path / "undisturbed").rglob("config.yaml")
    undisturbed = Run.open(config.parent)
    delays = random.Random(0)
    process = start_in_the_background(tmp_path / "killed", *LONGER)
    run = Run(wait_for(tmp_path / "killed", "config.yaml", process).parent)
    kills = 0
    for _ in range(4):
        time.sleep(delays.uniform(0.0, 0.6))
        if not process.running:
            break
        process.send(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        kills += 1
        for file in run.path.rglob("*.json"):
            json.loads(file.read_text())
        if run.last_checkpoint.exists():
            torch.load(run.last_checkpoint, weights_only=True)
        before = run.last_checkpoint.stat().st_mtime_ns if run.last_checkpoint.exists() else 0
        process = program("train", f"resume={run.path}", output=tmp_path / "said")
        deadline = time.monotonic() + 120
        while process.running and time.monotonic() < deadline:
            if run.last_checkpoint.exists() and run.last_checkpoint.stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
    assert process.wait(300) == 0, process.errors
    assert kills >= 1
    assert figures(run) == figures(undisturbed)
    assert_equal_weights(run, undisturbed)


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_tests_it_and_says_so(tmp_path: Path) -> None:
    words = ("trainer.max_epochs=10000", "trainer.patience=null")
    process = start_in_the_background(tmp_path, *words)
    history = wait_for(tmp_path, "last.ckpt", process)
    process.send(signal.SIGINT)
    assert process.wait(300) == 0, process.errors
    run = Run.open(history.parent.parent)
    assert "Ending after this step" in process.errors
    assert run.environment["training"]["stopped"] == "you stopped it"
    assert run.results["test"].images == 5
    assert os.path.getsize(run.report_path) > 1000


def test_time_ends_a_training_too(tmp_path: Path) -> None:
    words = ("trainer.max_epochs=null", "trainer.max_time=0:02", "trainer.patience=null")
    run = run_training(tmp_path, *words)
    assert run.environment["training"]["stopped"] == "the time given is used"
    assert float(run.history[-1]["seconds"]) < 30


def test_training_stops_early(tmp_path: Path) -> None:
    run = run_training(
        tmp_path, "trainer.max_epochs=50", "trainer.patience=2", "optimizer.lr=1e-12"
    )
    assert "no better validation" in run.environment["training"]["stopped"]
    assert len(run.history) < 50


def test_a_loss_that_is_no_number_ends_the_training_and_is_said(tmp_path: Path) -> None:
    run = run_training(
        tmp_path, "optimizer.lr=1e30", "trainer.gradient_clip=null", "trainer.average=null"
    )
    assert "no longer a finite number" in run.environment["training"]["stopped"]


def write_folder(folder: Path, count: int = 6, size: tuple[int, int] = (40, 30)) -> Path:
    """Dark images with a light square, masks of 0 and 255."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image, mask = Image.new("RGB", size, (40, 50, 60)), Image.new("L", size)
        box = (i, i, i + 12, i + 12)
        image.paste((200, 190, 180), box)
        mask.paste(255, box)
        image.save(folder / "images" / f"{i}.png")
        mask.save(folder / "masks" / f"{i}.png")
    return folder


FAST = ["model.widths=[4,8]", "trainer.max_epochs=2", "data.batch_size=2"]


def train_folder(folder: Path, runs: Path, *words: str) -> Run:
    config = compose_config([*FAST, f"runs={runs}", *words], folder=folder)
    return Run.open(Path(train(config, console=Console(quiet=True)).run))


def test_a_folder_with_nothing_else(tmp_path: Path) -> None:
    run = train_folder(write_folder(tmp_path / "squares"), tmp_path / "runs")
    assert run.path.parent.name == "squares"
    assert run.labels.num_logits == 1
    names = [name for part in run.splits.values() for name in part]
    assert len(names) == len(set(names)) == 6
    assert run.config["data"]["crop"] == [30, 40]


def test_resume_and_evaluate_keep_the_split_when_files_are_added(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "squares")
    run = train_folder(folder, tmp_path / "runs")
    split = run.splits
    for kind in ("images", "masks"):
        shutil.copy(folder / kind / "0.png", folder / kind / "new.png")
    parts, _ = open_parts(DataSettings(**run.config["data"]), assignments=run.splits)
    assert {name: list(part.names) for name, part in parts.items()} == split


def test_weightings_are_settled_into_the_configuration(tmp_path: Path) -> None:
    run = train_folder(write_folder(tmp_path / "squares"), tmp_path / "runs")
    weight = run.config["loss"]["losses"][0]["weight"]
    counts = list(run.environment["training"]["class_counts"].values())
    expected = [(sum(counts) / n) ** 0.5 for n in counts]
    assert weight[1] / weight[0] == pytest.approx(expected[1] / expected[0], rel=1e-3)


def test_a_crop_larger_than_every_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"data\.crop is 64 x 64, larger than every training image"
    ):
        train_folder(write_folder(tmp_path / "squares"), tmp_path / "runs", "data.crop=[64,64]")


def test_a_batch_larger_than_the_part_is_made_smaller_and_said(tmp_path: Path) -> None:
    run = train_folder(write_folder(tmp_path / "squares"), tmp_path / "runs", "data.batch_size=100")
    assert run.config["data"]["batch_size"] == 4
    assert any("instead of 100" in note for note in run.environment["training"]["notes"])


def test_too_little_memory_says_what_to_lower(tmp_path: Path, monkeypatch) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("truemask.training.step.OptimizerStep.take", exhausted)
    with pytest.raises(
        UsageError, match=r"out of memory while training: lower data\.batch_size \(now 2\)"
    ):
        train_folder(write_folder(tmp_path / "squares"), tmp_path / "runs")


def test_every_epoch_has_new_textures() -> None:
    prepared = prepare(compose_config(SMALL))
    samples = TrainingSamples(prepared.parts["train"], transforms=[], seed=0)
    assert not torch.equal(samples[(0, 3)].image, samples[(1, 3)].image)
    assert torch.equal(samples[(1, 3)].image, samples[(1, 3)].image)


def test_a_finished_run_goes_on_when_there_is_more_to_do(tmp_path: Path) -> None:
    run = run_training(tmp_path)
    longer = resume_config(run.config, ["trainer.max_epochs=5"])
    train(longer, console=Console(quiet=True), resume=run)
    assert [row["epoch"] for row in figures(run)] == ["0", "1", "2", "3", "4"]
    assert run.config["trainer"]["max_epochs"] == 5


def test_resuming_with_workers_is_exact_too(tmp_path: Path) -> None:
    words = ("trainer.max_epochs=4", "data.num_workers=2", "schedule=constant")
    whole = run_training(tmp_path / "whole", *words)
    run = run_training(tmp_path / "parts", *words[1:], "trainer.max_epochs=2")
    train(
        resume_config(run.config, ["trainer.max_epochs=4"]),
        console=Console(quiet=True),
        resume=run,
    )
    assert figures(run) == figures(whole)
    assert_equal_weights(run, whole)


def test_an_interrupted_epoch_does_not_become_the_best(tmp_path: Path, monkeypatch) -> None:
    original = Loop._step

    def interrupt(self, batches):
        original(self, batches)
        if self.state.step == 6:  # in the middle of the second epoch
            self.interruption.stop = True

    monkeypatch.setattr(Loop, "_step", interrupt)
    run = run_training(tmp_path)
    assert run.environment["training"]["stopped"] == "you stopped it"
    assert run.environment["training"]["best_epoch"] == 0
    assert run.load_bundle().info["epoch"] == 0
    monkeypatch.setattr(Loop, "_step", original)
    train(run.config, console=Console(quiet=True), resume=run)
    whole = run_training(tmp_path / "whole")
    assert figures(run) == figures(whole)
    assert_equal_weights(run, whole)


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "photos [old]")
    (folder / "classes.json").write_text(
        json.dumps({"0": "road [wet]", "255": "car [/i]"}), encoding="utf-8"
    )
    words = [*FAST, f"runs={tmp_path / 'runs'}"]
    assert main(["train", str(folder), *words]) == 0
    shown = capsys.readouterr()
    assert "photos [old]" in shown.out.replace("\n", "")
    assert "road [wet]" in shown.out
    assert "car [/i]" in shown.out


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", ["before", "between"])
def test_best_weights_that_a_kill_kept_from_being_written_are_made_up_for(
    tmp_path: Path, monkeypatch, place: str
) -> None:
    calls = []
    original = Record.keep_best

    def killed(self, state, model):
        calls.append(model)
        if len(calls) == 2:
            if place == "between":
                self.save_model(model, state.best_epoch, state.best_step)
            raise Killed
        original(self, state, model)

    monkeypatch.setattr(Record, "keep_best", killed)
    with pytest.raises(Killed):
        run_training(tmp_path / "killed", "trainer.monitor=validation_loss")
    monkeypatch.setattr(Record, "keep_best", original)
    (folder,) = (tmp_path / "killed" / "textures" / "demo").iterdir()
    run = Run.open(folder)
    # With nothing left to do, what is missing must come from the checkpoint.
    done = len(run.history)
    config = resume_config(run.config, [f"trainer.max_epochs={done}"])
    train(config, console=Console(quiet=True), resume=run)
    best = run.environment["training"]["best_epoch"]
    assert best == run.load_bundle().info["epoch"]
    content = torch.load(run.best_checkpoint, weights_only=True)
    assert content["state"]["best_epoch"] == best
    assert content["state"]["best_step"] == content["state"]["step"]


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        [1],
        {"state": {}, "step": {}},
        {"state": {"extra": 1}, "step": {}},
        {"state": 1},
    ],
)
def test_a_checkpoint_of_something_else_is_one_line(tmp_path: Path, content) -> None:
    run = run_training(tmp_path)
    torch.save(content, run.last_checkpoint)
    with pytest.raises(UsageError, match=r"last\.ckpt"):
        train(run.config, console=Console(quiet=True), resume=run)


def test_a_folder_may_be_called_like_an_interpolation(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in${oc.env:HOME}")
    words = [*FAST, f"runs={tmp_path / 'runs'}"]
    assert main(["train", str(folder), *words]) == 0
    (found,) = (tmp_path / "runs").rglob("config.yaml")
    assert main(["evaluate", str(found.parent), "data.batch_size=3"]) == 0
    assert main(["train", f"resume={found.parent}"]) == 0
    assert "${oc.env:HOME}" in found.read_text()


@pytest.mark.parametrize(
    "end",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."),
        RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
    ],
)
def test_an_end_from_outside_is_a_failed_job_that_can_go_on(
    tmp_path: Path, monkeypatch, end
) -> None:
    def ended(*_: object) -> None:
        raise end

    monkeypatch.setattr("truemask.training.step.OptimizerStep.take", ended)
    with pytest.raises(JobFailed, match="go on with `truemask train resume="):
        run_training(tmp_path)
