"""Two processes do what one does."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import check_processes
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from forked import Forked, program
from truemask.bundle import load_bundle
from truemask.cli import main
from truemask.compose import compose_config, resume_config
from truemask.errors import UsageError
from truemask.runs import Run
from truemask.training import launching
from truemask.training.fit import train
from truemask.training.launching import _environment, _free_port
from truemask.training.processes import Place, find_place

WORDS = [
    "experiment=textures/demo", "data.dataset.size=32", "data.dataset.train=21",
    "data.dataset.validation=5", "data.dataset.test=3", "data.batch_size=5", "model=unet",
    "model.widths=[4,8]", "trainer.precision=32", "optimizer.lr=0.003",
    "trainer.interval_unit=steps", "trainer.max_steps=6", "trainer.eval_interval=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("found")
    port = _free_port()
    places = [(0, 1), (0, 2), (1, 2)]
    running = [
        Forked(
            check_processes.main,
            str(folder),
            output=tmp_path_factory.mktemp("said") / "said",
            variables=_environment(rank, count, port),
        )
        for rank, count in places
    ]
    for process in running:
        assert process.wait(600) == 0, process.errors
    return {file.stem: torch.load(file, weights_only=False) for file in folder.iterdir()}


TWO = [f"2-{rank}-{strategy}" for strategy in ("ddp", "fsdp") for rank in (0, 1)]


def test_validation_counts_the_same_integers_for_parts_of_1_to_17_images(found) -> None:
    whole = found["1-0-ddp"]["counts"]
    assert len(whole) == 17
    for name in TWO:
        for size, (one, two) in enumerate(zip(whole, found[name]["counts"], strict=True), 1):
            assert torch.equal(one[0], two[0]), size
            assert int(one[0].sum()) == size * 16 * 16
            assert two[1] == pytest.approx(one[1], rel=1e-6)


def test_gradients_are_those_of_one_process_on_the_whole_batch(found) -> None:
    """And so are weights, their average and the optimiser's moments, also after reloading."""
    for name in TWO:
        whole = found["1-0-ddp"]["gradients"]
        for one, two in zip(whole, found[name]["gradients"], strict=True):
            assert one.keys() == two.keys()
            largest = max(float(value.double().norm()) for value in one.values())
            for key, value in one.items():
                difference = float((value.double() - two[key].double()).norm())
                # Biases before a batch norm have no gradient but rounding.
                scale = max(float(value.double().norm()), 1e-2 * largest)
                assert difference <= 1e-6 * scale, key


def run_training(runs: Path, *words: str) -> Run:
    config = compose_config([*WORDS, f"runs={runs}", *words])
    return Run.open(Path(train(config, console=Console(quiet=True)).run))


def assert_alike(one: Run, two: Run) -> None:
    keys = ("train_loss", "validation_loss", "validation_iou")
    rows = [[[float(row[key]) for key in keys] for row in run.history] for run in (one, two)]
    torch.testing.assert_close(torch.tensor(rows[0]), torch.tensor(rows[1]), atol=1e-5, rtol=0)
    first, second = (load_file(run.bundle_folder / "model.safetensors") for run in (one, two))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-5, rtol=1e-5)
    assert two.results["test"].iou == pytest.approx(one.results["test"].iou, abs=1e-5)


class ForkedProcess:
    """What `launch` asks of a process, which runs what the module `launching` runs."""

    def __init__(self, command: list[str], *, env: dict[str, str]) -> None:
        order, answer = command[3:]
        self.forked = Forked(
            launching.main, order, answer, output=Path(f"{order}-{env['RANK']}"), variables=env
        )

        self.kill, self.wait = self.forked.process.kill, self.forked.process.join

    def poll(self) -> int | None:
        return self.forked.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.poll()


@pytest.mark.slow
def test_a_training_goes_from_one_process_to_two_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two launches; others here, and what a user does, start programs.
    monkeypatch.setattr(launching, "subprocess", SimpleNamespace(Popen=ForkedProcess))
    moving = run_training(tmp_path / "moving", "trainer.max_steps=2", "schedule=constant")
    whole = run_training(tmp_path / "whole", "trainer.max_steps=8", "schedule=constant")
    for steps, devices, strategy in ((4, 2, "ddp"), (6, 2, "fsdp"), (8, 1, "ddp")):
        words = [f"max_steps={steps}", f"devices={devices}", f"strategy={strategy}"]
        config = resume_config(moving.config, [f"trainer.{word}" for word in words])
        train(config, console=Console(quiet=True), resume=moving)
        assert load_bundle(moving.bundle_folder).info["step"] <= steps
    assert [row["step"] for row in moving.history] == ["2", "4", "6", "8"]
    assert_alike(whole, moving)


def test_a_usage_error_of_the_processes_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, f"runs={tmp_path}", "trainer.devices=2", "data.batch_size=1"]
    assert main(["train", *words]) == 2
    shown = capsys.readouterr().err
    assert "data.batch_size is 1, fewer than the 2 processes" in shown
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trainer.devices=1"], "trainer.devices=2 or more"),
        (["trainer.devices=2", "trainer.compile=true"], "trainer.compile=false"),
        (["trainer.devices=2", "profile=true"], "trainer.strategy=ddp"),
    ],
)
def test_what_sharded_weights_exclude_is_said_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["train", *WORDS, f"runs={tmp_path}", "trainer.strategy=fsdp", *words]) == 2
    shown = capsys.readouterr().err
    assert line in shown
    assert len(shown.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_ends_all(tmp_path: Path) -> None:
    words = [*WORDS, f"runs={tmp_path}", "trainer.devices=2", "trainer.max_steps=100000"]
    process = program("train", *words, output=tmp_path / "said")
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
        assert process.running, process.errors
        time.sleep(0.05)
    process.send(signal.SIGTERM)
    assert process.wait(120) == 1, process.errors
    assert "ended by SIGTERM; go on with" in process.errors
    (run,) = [Run(path.parent) for path in tmp_path.rglob("config.yaml")]
    saved = torch.load(run.last_checkpoint, weights_only=True)["state"]
    steps = saved["step"] + 3
    train(
        resume_config(run.config, [f"trainer.max_steps={steps}", "trainer.devices=1"]),
        console=Console(quiet=True),
        resume=run,
    )
    assert int(run.history[-1]["step"]) == steps


def test_a_process_learns_its_place_from_what_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    for name in [*os.environ]:
        if name in names or name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    assert find_place() == Place()
    for name, value in zip(names, ("5", "8", "1", "4"), strict=True):
        monkeypatch.setenv(name, value)
    assert find_place() == Place(rank=5, processes=8, local_rank=1, nodes=2)
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(UsageError, match="torchrun"):
        find_place()
    for name in names:
        monkeypatch.delenv(name)
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NNODES": "2"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert find_place() == Place()  # in the job's script, outside of srun
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert find_place() == Place(rank=3, processes=4, local_rank=1, nodes=2)
