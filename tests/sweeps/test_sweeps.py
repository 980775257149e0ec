"""Sweeps: what is varied, what becomes of jobs that fail, what goes on, what Optuna is told."""

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console
from sweep_material import BASE, QUIET, FakeTraining, quality, training

from truemask.compose import compose_config
from truemask.errors import JobFailed, UsageError
from truemask.runs import list_runs
from truemask.sweeps.launchers import Job, find_launcher
from truemask.sweeps.progress import Progress
from truemask.sweeps.request import read_request, resumed
from truemask.sweeps.results import SweepResult
from truemask.sweeps.space import Span, plain_value, read_space
from truemask.sweeps.study import FILE as STUDY
from truemask.sweeps.study import PRUNED
from truemask.sweeps.sweep import run_sweep

__all__ = ["training"]


@pytest.fixture
def sweep(tmp_path: Path):
    def run(*words: str, **options) -> SweepResult:
        base = () if any(word.startswith("resume=") for word in words) else BASE
        runs = () if base == () else (f"runs={tmp_path}",)
        return run_sweep([*base, *runs, *words], **{"console": QUIET, **options})

    return run


def rates(result: SweepResult) -> list[float]:
    return [job.settings["optimizer.lr"] for job in result.jobs]


# What is varied


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=0.1,0.01", "seed=1,2,3", "model.channels=4"],
        ["seed=range(1,8,2)", "data.crop=[32,32],null", "+x='a b',c"],
        ["optimizer.lr=choice(1e-3,1e-2)", "seed=sort(3,1,2)", "y={a:1},{a:2}"],
        ["model.channels=4"],
    ],
)
def test_a_grid_has_hydra_s_own_combinations_in_its_order(words: list[str]) -> None:
    space = read_space(words)
    parsed = OverridesParser.create().parse_overrides(words)
    expected = BasicSweeper.split_arguments(parsed, None)[0]
    found = [space.whole(chosen) for chosen in space.grid()]
    assert found == [list(words) for words in expected]
    assert [space.whole(space.chosen(whole)) for whole in found] == found


def test_a_range_of_floats_has_no_rounding_digits() -> None:
    assert read_space(["a=range(0.1,0.5,0.1)"]).grid() == [
        ("a=0.1",), ("a=0.2",), ("a=0.3",), ("a=0.4",)
    ]  # fmt: skip


def test_options_of_a_group_can_be_globbed() -> None:
    assert read_space(["schedule=glob(warmup*)"]).grid() == [
        ("schedule=warmup_cosine",), ("schedule=warmup_inverse_sqrt",)
    ]  # fmt: skip


def test_draws_fill_the_interval_evenly_on_its_scale() -> None:
    words = ["a=interval(2,6)", "b=tag(log,interval(1e-4,1e-2))", "c=int(interval(1,4))", "d=x,y"]
    draws = read_space(words).draws(400, seed=0)
    a, b, c, d = zip(*[[plain_value(word) for word in words] for words in draws], strict=True)
    assert min(a) >= 2
    assert max(a) <= 6
    assert abs(np.mean(a) - 4) < 0.2
    assert min(b) >= 1e-4
    assert max(b) <= 1e-2
    assert abs(np.mean(np.log10(b)) + 3) < 0.1
    assert set(c) == {1, 2, 3, 4}
    assert min(c.count(value) for value in (1, 4)) > 70  # the ends are as likely as the rest
    assert abs(d.count("x") - 200) < 40


def test_draws_are_a_function_of_the_seed_and_differ() -> None:
    space = read_space(["a=interval(0,1)", "b=1,2"])
    assert space.draws(9, seed=1) == space.draws(9, seed=1)
    assert space.draws(9, seed=1)[:4] == space.draws(4, seed=1)
    assert space.draws(9, seed=1) != space.draws(9, seed=2)
    few = read_space(["a=1,2,3", "b=1,2"]).draws(50, seed=0)
    assert sorted(few) == sorted(read_space(["a=1,2,3", "b=1,2"]).grid())


def test_corners_hold_every_value_once_at_least() -> None:
    space = read_space(["a=1,2,3", "x=7", "b=interval(0.5,2)"])
    words = {word for corner in space.corners() for word in corner}
    assert words == {"a=1", "a=2", "a=3", "b=0.5", "b=2.0"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=1,2", "a=3,4"], "a is varied twice"),
        (["a=interval(3,1)"], "from a smaller to a larger"),
        (["a=tag(log,interval(0,1))"], "begins above 0"),
        (["a=)"], "cannot read 'a=\\)'"),
        (["model=glob(nothing*)"], "leaves nothing to choose from"),
    ],
)
def test_a_word_that_cannot_vary_is_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_space(words)


# What is asked for


def test_the_words_are_parted() -> None:
    request = read_request(
        ["hydra/launcher=slurm", "optimizer.lr=1,2", "hydra.launcher.jobs=3", "sweep.method=random"]
    )
    assert request.words == ["optimizer.lr=1,2"]
    assert (request.launcher, request.launcher_settings) == ("slurm", {"jobs": 3})
    assert request.settings.method == "random"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra/sweeper=optuna"], "sweep.method=NAME"),
        (["sweep.method=random,grid"], "needs a single value"),
        (["sweep=random"], "write sweep.method="),
        (["sweep.methd=random"], "did you mean 'method'"),
        (["sweep.method=best"], "sweep.method is 'best'"),
        (["sweep.trials=5"], "sweep.trials says nothing to a grid"),
        (["sweep.method=random", "sweep.trials=0"], "sweep.trials must be at least 1"),
        (["sweep.method=random", "seed=1"], "needs something to vary"),
        (["optimizer.lr=interval(0.1,1)"], "sweep.method=random"),
        (["hydra/launcher=slrum"], "did you mean 'slurm'"),
        (["hydra.launcher.job=2"], "did you mean 'jobs'"),
        (["hydra.launcher.jobs=0"], "hydra.launcher.jobs must be at least 1"),
        (["optimizer.lrr=1,2"], "did you mean 'lr'"),
        (["sweep.method=optuna", "optimizer.lrr=interval(1,2)"], "did you mean 'lr'"),
        (["sweep.method=optuna", "model.channels=interval(1,8)"], "must be a whole number"),
        (["runs=a,b"], "runs is the folder of the whole sweep"),
        (
            ["sweep.method=optuna", "trainer.monitor=validation_loss", "loss=cross_entropy,dice"],
            "trainer.monitor=validation_iou",
        ),
        (
            ["sweep.method=optuna", "trainer.monitor=validation_loss,validation_iou"],
            "give one value",
        ),
    ],
)
def test_a_mistake_is_said_before_anything_is_made(
    sweep, training: FakeTraining, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        sweep(*words)
    assert not list(tmp_path.iterdir())
    assert not training.calls


def test_on_resuming_only_where_and_how_many_may_change() -> None:
    before = read_request(
        ["seed=1,2", "sweep.method=random", "hydra/launcher=ray", "hydra.launcher.cpus=2"]
    )
    more = resumed(before, ["sweep.trials=40", "hydra.launcher.gpus=1"])
    assert more.settings.trials == 40
    assert more.launcher_settings == {"cpus": 2, "gpus": 1}
    assert resumed(before, ["hydra/launcher=local"]).launcher_settings == {}
    for word in ("seed=3", "sweep.seed=1"):
        with pytest.raises(UsageError, match="another sweep"):
            resumed(before, [word])


def test_what_runs_a_shell_is_not_taken_from_a_file() -> None:
    before = read_request(["hydra/launcher=slurm", "hydra.launcher.setup=['echo a']"])
    with pytest.raises(UsageError, match="hydra.launcher.setup=.*give the word again"):
        resumed(before, [])
    again = resumed(before, ["hydra.launcher.setup=['echo b']"])
    assert again.launcher_settings == {"setup": ["echo b"]}
    assert resumed(before, ["hydra/launcher=local"]).launcher_settings == {}


# What becomes of the jobs


def test_every_combination_has_its_result(sweep, training: FakeTraining) -> None:
    result = sweep("optimizer.lr=0.1,0.01", "seed=1,2,3")
    assert [job.settings for job in result.jobs] == [
        {"optimizer.lr": rate, "seed": seed} for rate in (0.1, 0.01) for seed in (1, 2, 3)
    ]
    assert result.complete
    assert {job.state for job in result.jobs} == {"done"}
    for job in result.jobs:
        config = compose_config([*BASE, f"optimizer.lr={job.settings['optimizer.lr']}"])
        config["seed"] = job.settings["seed"]
        assert job.score == pytest.approx(quality(config), abs=0.01)
        assert job.run is not None
        assert Path(job.run).is_dir()
    # The test part of the fake would choose the other one.
    assert result.headline is not None
    assert result.headline.startswith("lr=0.01")
    assert (Path(result.folder) / "comparison.json").is_file()
    assert result.page is not None
    assert Path(result.page).is_file()
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain["complete"] is True
    assert len(plain["jobs"]) == 6


def test_two_that_fail_of_eight_leave_six_results_and_two_reasons(
    sweep, training: FakeTraining, capsys
) -> None:
    training.fail = {0.2: UsageError("data.crop is\ntoo large"), 0.3: RuntimeError("a bug")}
    words = "optimizer.lr=0.1,0.2,0.3,0.01,0.02,0.03,0.001,0.002"
    result = sweep(words, console=Console(width=200))
    assert [job.state for job in result.jobs].count("done") == 6
    failed = {job.settings["optimizer.lr"]: job.error for job in result.jobs if job.error}
    assert failed[0.2] == "data.crop is too large"
    assert failed[0.3].startswith("RuntimeError: a bug; see ")
    assert not result.complete
    shown = capsys.readouterr().out
    assert "job 1 (optimizer.lr=0.2): failed: data.crop is too large" in shown
    assert [job.settings["optimizer.lr"] for job in result.ranked][:2] == [0.01, 0.02]
    comparison = json.loads((Path(result.folder) / "comparison.json").read_text())
    assert len(comparison["runs"]) == 6
    assert "data.crop is too large" in comparison["notes"][0]


def test_a_resumed_sweep_keeps_what_is_done_and_goes_on_with_the_rest(
    sweep, training: FakeTraining
) -> None:
    training.fail = {
        0.2: UsageError("no"),
        0.02: JobFailed("ended by SIGTERM; go on with `truemask train resume=...`"),
    }
    first = sweep("optimizer.lr=0.1,0.2,0.02")
    assert [job.state for job in first.jobs] == ["done", "failed", "interrupted"]
    kept = {file: file.stat().st_mtime_ns for file in Path(first.jobs[0].run).rglob("*.json")}
    training.calls.clear()
    training.fail.clear()
    second = sweep(f"resume={first.folder}")
    assert training.calls == [(0.2, True), (0.02, True)]
    assert second.complete
    assert [job.run for job in second.jobs] == [job.run for job in first.jobs]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_job_without_a_checkpoint_begins_anew(sweep, training: FakeTraining) -> None:
    training.fail = {0.2: RuntimeError("early")}
    first = sweep("optimizer.lr=0.1,0.2")
    for run in list_runs(Path(first.folder) / "jobs" / "001"):
        run.last_checkpoint.unlink()
    training.calls.clear()
    training.fail.clear()
    assert sweep(f"resume={first.folder}").complete
    assert training.calls == [(0.2, False)]


def only_sweep(root: Path) -> Path:
    (path,) = root.glob("textures/demo/sweep_*")
    return path


class Killed(BaseException):
    """Ends the process that it is raised in."""


def test_a_killed_sweep_goes_on(sweep, training: FakeTraining, tmp_path: Path) -> None:
    training.fail = {0.2: Killed()}
    with pytest.raises(Killed):
        sweep("optimizer.lr=0.1,0.2,0.3")
    training.calls.clear()
    training.fail.clear()
    assert sweep(f"resume={only_sweep(tmp_path)}").complete
    assert training.calls == [(0.2, True), (0.3, False)]


def test_more_draws_leave_those_before_as_they_were(sweep, training: FakeTraining) -> None:
    words = ["optimizer.lr=tag(log,interval(1e-4,1))", "sweep.method=random", "sweep.seed=5"]
    first = sweep(*words, "sweep.trials=3")
    again = sweep(f"resume={first.folder}", "sweep.trials=5")
    assert rates(again)[:3] == rates(first)
    assert len(set(rates(again))) == 5
    assert len(training.calls) == 5
    assert rates(sweep(*words, "sweep.trials=5")) == rates(again)


def test_what_is_no_sweep_or_is_being_trained_is_refused(
    sweep, training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is not a sweep"):
        sweep(f"resume={tmp_path}")
    result = sweep("optimizer.lr=0.1")
    with pytest.raises(UsageError, match="leave the rest out"):
        sweep(f"resume={result.folder}", folder=tmp_path)
    with pytest.raises(UsageError, match="another sweep"):
        sweep(f"resume={result.folder}", "seed=1")

    def again(*arguments, **options):
        with pytest.raises(UsageError, match="by another process"):
            run_sweep([f"resume={result.folder}"], console=QUIET)
        yield from ()

    monkeypatch.setattr("truemask.sweeps.local.launch", again)
    sweep(f"resume={result.folder}")


def test_a_sweep_that_somebody_else_made_builds_nothing_unknown(
    sweep, training: FakeTraining
) -> None:
    training.fail = {0.2: UsageError("no")}
    result = sweep("optimizer.lr=0.1,0.2")
    file = Path(result.folder) / "jobs" / "001" / "job.json"
    value = json.loads(file.read_text())
    value["config"]["model"] = {"_target_": "os.system"}
    file.write_text(json.dumps(value))
    training.calls.clear()
    with pytest.raises(UsageError, match="not on the list of what a run may build"):
        sweep(f"resume={result.folder}")
    assert not training.calls


def test_ctrl_c_ends_the_sweep_in_good_order(
    sweep, training: FakeTraining, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    import signal

    def launch(jobs, settings, *, console, stop):
        from truemask.sweeps.job import run_job

        yield run_job(next(jobs), console=QUIET)
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()

    monkeypatch.setattr("truemask.sweeps.local.launch", launch)
    before = signal.getsignal(signal.SIGINT)
    result = sweep("optimizer.lr=0.1,0.2", console=Console(width=200))
    assert signal.getsignal(signal.SIGINT) is before
    assert [job.state for job in result.jobs] == ["done", "waiting"]
    shown = capsys.readouterr().out
    assert "job 0 (optimizer.lr=0.1): done, validation 0.7" in shown
    assert "Ending" in shown


def test_a_terminal_shows_every_job(sweep, training: FakeTraining) -> None:
    training.fail = {0.2: UsageError("no")}
    result = sweep("optimizer.lr=0.1,0.2", "seed=1,2")
    jobs = [Job.read(Path(result.folder) / "jobs" / f"00{i}") for i in range(4)]
    progress = Progress(Console(force_terminal=True), jobs, total=6)
    for job in jobs[1::2]:
        job.forget()
    progress.take(jobs[3])
    console = Console(width=120, force_terminal=False)
    with console.capture() as shown:
        console.print(progress._table())
    text = shown.get()
    assert "2 to come" in text
    for state in ("1 done", "1 failed", "1 queued", "1 waiting"):
        assert state in text, state
    assert "optimizer.lr" in text


# Optuna


def trials(result: SweepResult) -> list[optuna.trial.FrozenTrial]:
    from optuna.storages.journal import JournalFileBackend

    file = Path(result.folder) / STUDY
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    return optuna.load_study(study_name="sweep", storage=storage).trials


OPTUNA = ("sweep.method=optuna", "optimizer.lr=tag(log,interval(1e-5,1))", "seed=0,1")


def test_optuna_is_told_the_validation_score_and_finds_the_better_values(
    sweep, training: FakeTraining
) -> None:
    result = sweep(*OPTUNA, "sweep.trials=25", "sweep.prune=false", "sweep.seed=3")
    found = trials(result)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 25
    for job, trial in zip(result.jobs, found, strict=True):
        assert trial.value == job.score
        assert trial.params["optimizer.lr"] == job.settings["optimizer.lr"]
        assert trial.params["seed"] == str(job.settings["seed"])
    # It knows nothing for the first ten; then it stays where the fake is best, at 0.01.
    away = [abs(math.log10(rate) + 2) for rate in rates(result)]
    assert np.mean(away[10:]) < 0.7 * np.mean(away[:10])


def test_optuna_ends_what_lags_behind(sweep, training: FakeTraining) -> None:
    result = sweep(*OPTUNA, "sweep.trials=15")
    states = {job.state for job in result.jobs}
    assert states == {"done", "pruned"}
    assert result.complete
    for job, trial in zip(result.jobs, trials(result), strict=True):
        assert (job.state == "pruned") == (trial.state.name == "PRUNED")
        assert (job.stopped == PRUNED) == (job.state == "pruned")
        steps = len(trial.intermediate_values)
        assert steps == (4 if job.state == "done" else steps)
        assert list(trial.intermediate_values) == list(range(steps))
    assert all(job.state == "done" for job in result.jobs[:5])


def test_a_study_goes_on_and_tries_again_what_failed(sweep, training: FakeTraining) -> None:
    first = sweep(*OPTUNA, "sweep.trials=3", "sweep.prune=false")
    training.fail = {rate: RuntimeError("no") for rate in rates(first)[1:2]}
    same = sweep(*OPTUNA, "sweep.trials=3", "sweep.prune=false")
    assert rates(same) == rates(first)  # a function of the seed
    assert [trial.state.name for trial in trials(same)] == ["COMPLETE", "FAIL", "COMPLETE"]
    training.fail.clear()
    more = sweep(f"resume={same.folder}", "sweep.trials=5")
    assert more.complete
    assert rates(more)[:3] == rates(first)
    found = trials(more)
    assert [trial.state.name for trial in found] == [
        "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE", "COMPLETE"
    ]  # fmt: skip
    assert found[3].params["optimizer.lr"] == rates(first)[1]
    assert len(set(rates(more))) == 5


def test_a_killed_study_goes_on_without_losing_a_trial(
    sweep, training: FakeTraining, tmp_path: Path
) -> None:
    planned = rates(sweep(*OPTUNA, "sweep.trials=4", f"runs={tmp_path / 'planned'}"))
    training.fail = {planned[2]: Killed()}
    with pytest.raises(Killed):
        sweep(*OPTUNA, "sweep.trials=4")
    training.fail.clear()
    result = sweep(f"resume={only_sweep(tmp_path)}")
    assert rates(result) == planned
    assert [trial.state.name for trial in trials(result)] == ["COMPLETE"] * 4
    # What was reported before the kill is not reported twice.
    assert [len(trial.intermediate_values) for trial in trials(result)] == [4] * 4


def test_optuna_minimises_the_loss_where_that_is_monitored() -> None:
    from truemask.sweeps.study import _direction

    assert _direction("validation_loss") == "minimize"
    assert _direction("validation_iou") == "maximize"


def test_values_that_do_not_go_together_fail_alone(
    sweep, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    from truemask.sweeps import sweep as module

    def compose(words, *, folder=None):
        config = compose_config(words, folder=folder)
        if config["seed"] == 1:
            raise UsageError("these do not go together")
        return config

    monkeypatch.setattr(module, "compose_config", compose)
    result = sweep(*OPTUNA, "sweep.trials=8")
    assert {(job.settings["seed"], job.state) for job in result.jobs} == {
        (0, "done"),
        (1, "failed"),
    }
    assert len(training.calls) == sum(job.state == "done" for job in result.jobs)
    # Going on does not try them in vain.
    training.calls.clear()
    assert not sweep(f"resume={result.folder}").complete
    assert not training.calls


def test_several_processes_cannot_be_pruned(sweep, training: FakeTraining) -> None:
    with pytest.raises(UsageError, match="sweep.prune=false"):
        sweep(*OPTUNA, "trainer.devices=2")


def test_jobs_learn_from_each_other_on_a_cluster_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from truemask.sweeps.opening import find_own_launcher

    for name in ("slurm", "ray"):
        request = read_request([*OPTUNA, f"hydra/launcher={name}"])
        assert find_own_launcher(request)[2].jobs == 4
    assert find_own_launcher(read_request(OPTUNA))[2].jobs == 1


def test_every_launcher_has_what_a_sweep_calls() -> None:
    for name in ("local", "slurm", "ray"):
        module, settings = find_launcher(name, {"jobs": 2})
        assert callable(module.launch)
        assert settings.jobs == 2


def test_a_span_of_whole_numbers_reaches_its_ends() -> None:
    span = Span("a", 1, 3, log=False, whole=True)
    assert [span.at(share) for share in (0.0, 0.32, 0.5, 0.68, 1.0)] == [
        "a=1", "a=1", "a=2", "a=3", "a=3"
    ]  # fmt: skip
