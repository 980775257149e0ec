"""Training by steps: rounds of batches that run on over the epochs."""

import csv
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from truemask.compose import compose_config, resume_config
from truemask.errors import UsageError
from truemask.runs import Run
from truemask.training.fit import train
from truemask.training.loop import Loop

# Epochs of 5 batches, 2 a step: rounds do not end where epochs do.
STEPS = [
    "experiment=textures/demo",
    "data.dataset.size=32",
    "data.dataset.train=22",
    "data.dataset.validation=6",
    "data.dataset.test=3",
    "data.batch_size=4",
    "trainer.interval_unit=steps",
    "trainer.max_steps=12",
    "trainer.eval_interval=4",
    "trainer.save_interval=6",
    "trainer.accumulate=2",
]
SMALL = [
    "model.channels=4",
    "optimizer.lr=0.01",
    "schedule=step",
    "schedule.step_size=1",
    "schedule.gamma=0.5",
]


def run_steps(runs: Path, *words: str) -> Run:
    small = [] if any(word.startswith("schedule=") for word in words) else SMALL
    config = compose_config([*STEPS, *small, f"runs={runs}", *words])
    return Run.open(Path(train(config, console=Console(quiet=True)).run))


def rows_of(run: Run) -> list[dict[str, str]]:
    with (run.path / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_steps(tmp_path_factory.mktemp("runs"), "trainer.pictures=2")


def test_there_is_a_row_for_each_round_and_a_validation_where_it_is_due(finished: Run) -> None:
    rows = rows_of(finished)
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    assert [bool(row["validation_iou"]) for row in rows] == [False, True] * 3
    # A step is two batches, and an epoch five: the last batch of step s is number 2 s - 1.
    assert [int(row["epoch"]) for row in rows] == [(2 * s - 1) // 5 for s in (2, 4, 6, 8, 10, 12)]


def test_schedules_count_epochs_not_rounds(finished: Run) -> None:
    for row in rows_of(finished):
        assert float(row["learning_rate"]) == pytest.approx(0.01 * 0.5 ** int(row["epoch"]))


def test_pictures_of_the_predictions_are_kept(finished: Run) -> None:
    names = sorted(file.name for file in (finished.path / "pictures").iterdir())
    steps = [f"step-{step:07d}.png" for step in (4, 8, 12)]
    assert names == ["image.png", *steps, "truth.png"]


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_a_run_that_broke_off_after_any_round_ends_as_if_nothing_had_happened(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    write = Loop._end_round

    def breaking(self, validation):
        write(self, validation)
        if self.state.round == after:
            raise OSError("the power is gone")

    monkeypatch.setattr(Loop, "_end_round", breaking)
    with pytest.raises(OSError, match="power"):
        run_steps(tmp_path)
    monkeypatch.undo()
    (run,) = [Run(path.parent) for path in tmp_path.rglob("config.yaml")]
    train(resume_config(run.config, []), console=Console(quiet=True), resume=run)
    clock = ("seconds", "images_per_second")
    ours, other = (
        [{k: r[k] for k in r if k not in clock} for r in rows_of(x)] for x in (run, finished)
    )
    assert ours == other
    mine, theirs = (load_file(x.bundle_folder / "model.safetensors") for x in (run, finished))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    words = [
        "model=unet", "model.widths=[4,8]", "model.normalization=none", "loss=cross_entropy",
        "optimizer=sgd", "optimizer.lr=0.5", "schedule=constant", "trainer.average=null",
        "trainer.precision=32", "trainer.max_steps=3", "trainer.eval_interval=3",
        "trainer.save_interval=null", "data.dataset.train=24",
    ]  # fmt: skip
    one = run_steps(tmp_path / "one", *words, "data.batch_size=8", "trainer.accumulate=1")
    many = run_steps(tmp_path / "many", *words, "data.batch_size=2", "trainer.accumulate=4")
    first, second = (load_file(x.bundle_folder / "model.safetensors") for x in (one, many))
    losses = [[float(row["train_loss"]) for row in rows_of(run)] for run in (one, many)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)


def test_few_images_can_be_validated_on_and_all_are_tested(tmp_path: Path) -> None:
    run = run_steps(tmp_path, "trainer.eval_iterations=2", "trainer.max_steps=4")
    assert run.results["validation"].images == 6
    assert len(rows_of(run)) == 2


def test_all_parameters_decay_where_it_is_asked_for(tmp_path: Path) -> None:
    words = ["optimizer=sgd", "optimizer.lr=1e-9", "optimizer.weight_decay=1e8"]
    words += ["trainer.average=null", "schedule=constant", "trainer.max_steps=4"]
    states = {}
    for kind in ("weights", "all"):
        run = run_steps(tmp_path / kind, *words, f"trainer.decay={kind}")
        state = load_file(run.bundle_folder / "model.safetensors")
        states[kind] = {name: v for name, v in state.items() if name.endswith("bias")}
    for name, kept in states["weights"].items():
        assert states["all"][name].abs().sum() < kept.abs().sum() or not kept.any()


def test_a_raised_limit_goes_on_alike_with_and_without_workers(tmp_path: Path) -> None:
    runs = []
    for workers in (0, 2):
        run = run_steps(tmp_path / str(workers), "trainer.max_steps=5")
        words = ["trainer.max_steps=9", f"data.num_workers={workers}"]
        train(resume_config(run.config, words), console=Console(quiet=True), resume=run)
        runs.append(run)
    first, second = (load_file(x.bundle_folder / "model.safetensors") for x in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_interrupt_on_the_last_batch_of_a_round_keeps_its_validation(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._step

    def interrupting(self, batches):
        step(self, batches)
        if self.state.step == 4:
            self.interruption.stop = True

    monkeypatch.setattr(Loop, "_step", interrupting)
    run = run_steps(tmp_path)
    monkeypatch.undo()
    assert [row["validation_iou"] for row in rows_of(run)][1] == rows_of(finished)[1][
        "validation_iou"
    ]
    train(resume_config(run.config, []), console=Console(quiet=True), resume=run)
    assert [r["validation_loss"] for r in rows_of(run)] == [
        r["validation_loss"] for r in rows_of(finished)
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.eval_interval=null"], "interval_unit=steps needs trainer.eval_interval"),
        (["trainer.accumulate=0"], r"trainer\.accumulate must be at least 1"),
        (["trainer.pictures=-1"], r"trainer\.pictures must be 0 or more"),
        (
            ["trainer.accumulate=9", "trainer.max_epochs=1", "trainer.max_steps=null"],
            "there would be no step",
        ),
        (
            ["trainer.interval_unit=epochs", "trainer.accumulate=9"],
            "accumulate is 9, but an epoch has only 5 batches",
        ),
    ],
)
def test_impossible_intervals_are_one_line(tmp_path: Path, words, message) -> None:
    with pytest.raises(UsageError, match=message):
        run_steps(tmp_path, *words)
