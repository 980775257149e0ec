"""Jobs as processes of this machine: what ends one takes no other with it."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from sweep_material import BASE, QUIET, FakeTraining, training

from forked import program
from truemask.compose import compose_config
from truemask.errors import JobFailed, UsageError
from truemask.runs import Run
from truemask.sweeps.job import run_job
from truemask.sweeps.launchers import Job, Outcome
from truemask.sweeps.local import Settings, launch
from truemask.sweeps.sweep import run_sweep

__all__ = ["training"]

# What a job's process does, in place of a training.
SAYS = """
import json, os, sys, time, signal
folder, action = sys.argv[1], json.load(open(sys.argv[1] + "/job.json"))["words"][0]
def outcome(**found):
    found = {"job": int(os.path.basename(folder)), "state": "done", **found}
    open(folder + "/outcome.json.part", "w").write(json.dumps(found))
    os.rename(folder + "/outcome.json.part", folder + "/outcome.json")
def end(*_):
    outcome(state="interrupted", error="ended by SIGTERM")
    os._exit(1)
open(folder + "/process", "w").write(str(os.getpid()))
"""
ACTIONS = {
    "done": "outcome()",
    "slow": "time.sleep(0.4); outcome()",
    "failed": "outcome(state='failed', error='no such data'); sys.exit(1)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "crashed": "os.kill(os.getpid(), signal.SIGSEGV)",
    "silent": "print('cannot import it', file=sys.stderr); sys.exit(3)",
    "saving": "signal.signal(signal.SIGTERM, end); open(folder + '/up', 'w'); time.sleep(60)",
    "stubborn": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(folder + '/up', 'w'); time.sleep(60)"
    ),
    "parent": (
        "import subprocess; child = subprocess.Popen(['sleep', '60']);"
        "open(folder + '/child', 'w').write(str(child.pid)); os._exit(4)"
    ),
    "variables": (
        "outcome(stopped=json.dumps([os.environ.get(k) for k in"
        " ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')]))"
    ),
}


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Job]]:
    """A function that makes jobs which do what is said."""

    def command(job: Job) -> list[str]:
        code = SAYS + ACTIONS[job.words[0]]
        return [sys.executable, "-S", "-c", code, str(job.folder)]

    monkeypatch.setattr(Job, "command", property(command))

    def make(*actions: str, devices: int = 1) -> list[Job]:
        made = []
        for number, action in enumerate(actions):
            folder = tmp_path / "jobs" / f"{number:03d}"
            made.append(
                Job(folder=folder, words=[action], config={"trainer": {"devices": devices}})
            )
            made[-1].write()
        return made

    return make


def run(
    made: Sequence[Job], *, stop: threading.Event | None = None, **settings
) -> dict[int, Outcome]:
    outcomes = launch(
        iter(made), Settings(**settings), console=QUIET, stop=stop or threading.Event()
    )
    return {outcome.job: outcome for outcome in outcomes}


def is_alive(file: Path) -> bool:
    try:
        os.kill(int(file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_whatever_ends_a_job_the_others_are_done(jobs) -> None:
    made = jobs("done", "killed", "crashed", "failed", "silent", "done")
    outcomes = run(made)
    assert [outcomes[i].state for i in range(6)] == [
        "done", "failed", "failed", "failed", "failed", "done"
    ]  # fmt: skip
    said = [str(outcomes[i].error) for i in range(6)]
    assert said[1].startswith("killed by SIGKILL, as a machine does that has run out of memory")
    assert said[2].startswith("ended by SIGSEGV; see ")
    assert said[3] == "no such data"
    assert said[4].startswith("ended with the exit code 3, saying 'cannot import it'; see ")
    assert made[4].log.read_text() == "cannot import it\n"
    # What is said is kept, so that a sweep that is opened again knows it.
    assert [job.outcome for job in made] == [outcomes[i] for i in range(6)]


@pytest.mark.parametrize("places", [1, 2, 3])
def test_no_more_run_at_once_than_asked_for(jobs, places: int) -> None:
    made = jobs(*["slow"] * 5)
    taken: list[int] = []

    def given() -> Iterator[Job]:
        for job in made:
            # Never asked for before there is a place.
            over = sum(before.outcome is not None for before in made[: job.number])
            taken.append(job.number - over)
            yield job

    outcomes = {
        outcome.job: outcome
        for outcome in launch(given(), Settings(jobs=places), console=QUIET, stop=threading.Event())
    }
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert len(outcomes) == 5
    assert max(taken) == places - 1


def test_several_jobs_share_the_machine(jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(12), raising=False)

    def seen(places: int, **options) -> list[list[str | None]]:
        made = jobs(*["variables"] * places, **options)
        outcomes = run(made, jobs=places)
        return [json.loads(str(outcomes[i].stopped)) for i in range(places)]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen(1) == [[None, None]]
    assert seen(3) == [["4", "0"], ["4", "1"], ["4", "2"]]
    assert seen(2, devices=2) == [["6", None], ["6", None]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert seen(3) == [["4", "5"], ["4", "7"], ["4", "5"]]


def test_on_a_stop_running_jobs_save_and_no_other_begins(jobs) -> None:
    made = jobs("saving", "saving", "done")
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: (
            wait_for(lambda: all((j.folder / "up").exists() for j in made[:2])),
            stop.set(),
        )
    )
    thread.start()
    outcomes = run(made, stop=stop, jobs=2)
    thread.join()
    assert {i: outcome.state for i, outcome in outcomes.items()} == {
        0: "interrupted", 1: "interrupted"
    }  # fmt: skip
    assert made[2].outcome is None


def test_a_job_that_does_not_end_is_ended(jobs) -> None:
    made = jobs("stubborn")
    stop = threading.Event()
    thread = threading.Thread(target=lambda: (wait_for((made[0].folder / "up").exists), stop.set()))
    thread.start()
    outcomes = run(made, stop=stop, grace=0.2)
    thread.join()
    assert outcomes[0].state == "interrupted"
    assert str(outcomes[0].error).startswith("ended by SIGKILL")


def test_closing_the_launcher_ends_what_it_started(jobs) -> None:
    made = jobs("done", "saving")
    outcomes = launch(iter(made), Settings(jobs=2), console=QUIET, stop=threading.Event())
    next(outcomes)
    wait_for((made[1].folder / "up").exists)
    outcomes.close()
    assert not is_alive(made[1].folder / "process")


def test_a_job_leaves_no_process_behind(jobs) -> None:
    made = jobs("parent")
    assert run(made)[0].state == "failed"
    wait_for(lambda: not is_alive(made[0].folder / "child"))


# A job by itself


def written(tmp_path: Path) -> Job:
    job = Job(folder=tmp_path / "007", config=compose_config([*BASE, "optimizer.lr=0.1"]))
    job.write()
    return Job.read(job.folder)


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (UsageError("data.root\nis missing"), "failed", "data.root is missing"),
        (JobFailed("the loss is not finite"), "failed", "the loss is not finite"),
        (JobFailed("ended by SIGTERM; go on"), "interrupted", "ended by SIGTERM"),
        (KeyboardInterrupt(), "interrupted", "ended by Ctrl-C"),
        (ZeroDivisionError("a\nbug"), "failed", "ZeroDivisionError: a bug; see "),
    ],
)
def test_a_job_says_in_one_line_how_it_ended(
    training: FakeTraining, tmp_path: Path, error: BaseException, state: str, said: str
) -> None:
    training.fail = {0.1: error}
    job = written(tmp_path)
    outcome = run_job(job, console=QUIET)
    assert (outcome.job, outcome.state) == (7, state)
    assert str(outcome.error).startswith(said)
    assert "\n" not in str(outcome.error)
    assert job.outcome == outcome
    assert job.started


def test_a_job_goes_on_with_its_run_and_keeps_it_in_its_folder(
    training: FakeTraining, tmp_path: Path
) -> None:
    training.fail = {0.1: RuntimeError("half way")}
    job = written(tmp_path)
    first = run_job(job, console=QUIET)
    second = run_job(job, console=QUIET)
    assert training.calls == [(0.1, False), (0.1, True)]
    assert (second.state, second.stopped) == ("done", "all steps are done")
    assert second.run == first.run
    assert Path(str(second.run)).is_relative_to(job.folder)
    assert Run.open(Path(str(second.run))).config["runs"] == str(job.folder)


def test_only_the_first_of_several_processes_writes(
    training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    job = written(tmp_path)
    run_job(job, console=QUIET)
    assert job.outcome is None
    assert not job.started


# Real trainings in real processes

SMALL = (
    "checks.enabled=false",  # little is trained on, in processes of their own
    "experiment=textures/demo", "data.dataset.size=16", "data.dataset.train=16",
    "data.dataset.validation=5", "data.dataset.test=6", "data.batch_size=4", "model.channels=2",
    "trainer.max_steps=null", "trainer.max_epochs=3",
)  # fmt: skip


@pytest.mark.slow
def test_a_killed_training_goes_on_and_the_page_shows_all(tmp_path: Path) -> None:
    """One is killed once it has a checkpoint, one has no data; resumed, the first is done."""
    words = [*SMALL, f"runs={tmp_path}", "trainer.max_epochs=400", "trainer.patience=400"]
    words += ["seed=1", "optimizer.lr=0.1,-1"]
    sweep = program("train", "-m", *words, output=tmp_path / "said")
    wait_for(lambda: any(tmp_path.rglob("last.ckpt")))
    (started,) = tmp_path.rglob("started.json")
    os.kill(json.loads(started.read_text())["process"], signal.SIGKILL)
    assert sweep.wait(120) == 1, sweep.errors
    (folder,) = tmp_path.glob("textures/demo/sweep_*")
    jobs = [Job.read(folder / "jobs" / name) for name in ("000", "001")]
    first, second = (job.outcome for job in jobs)
    assert first is not None
    assert second is not None
    assert first.state == second.state == "failed"
    assert "SIGKILL" in str(first.error)
    assert "Invalid learning rate" in str(second.error)
    run = jobs[0].run
    assert run is not None
    before = run.history
    shorter = run.config
    shorter["trainer"]["max_epochs"] = int(before[-1]["epoch"]) + 3
    run.write_config(shorter)
    result = run_sweep([f"resume={folder}"], console=QUIET)
    assert [job.state for job in result.jobs] == ["done", "failed"]
    assert Path(str(result.jobs[0].run)).resolve() == run.path.resolve()
    assert [row["step"] for row in run.history[: len(before) - 1]] == [
        row["step"] for row in before[:-1]
    ]
    assert result.page is not None
    assert "Invalid learning rate" in Path(result.page).read_text()


@pytest.mark.slow
def test_a_training_ends_with_the_sweep_that_started_it(tmp_path: Path) -> None:
    words = [*SMALL, f"runs={tmp_path}", "trainer.max_epochs=4000", "trainer.patience=4000"]
    sweep = program("train", "-m", *words, output=tmp_path / "said")
    wait_for(lambda: any(tmp_path.rglob("last.ckpt")))
    (started,) = tmp_path.rglob("started.json")
    process = json.loads(started.read_text())["process"]
    sweep.send(signal.SIGKILL)
    sweep.wait(60)
    wait_for(lambda: any(tmp_path.rglob("outcome.json")))
    (file,) = tmp_path.rglob("outcome.json")
    assert json.loads(file.read_text())["state"] == "interrupted"
    (tmp_path / "process").write_text(str(process))
    wait_for(lambda: not is_alive(tmp_path / "process"))
