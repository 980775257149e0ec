"""Jobs on a real Slurm cluster: done, failed, preempted and gone on with, cancelled, refused."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from slurm_cluster import NODES, SlurmCluster, skip_without_slurm, slurm_cluster, wait_for

from truemask.cli import main
from truemask.compose import compose_config
from truemask.errors import UsageError
from truemask.files import read_json, write_json
from truemask.runs import Run, list_runs
from truemask.sweeps import slurm
from truemask.sweeps.launchers import Job, Outcome
from truemask.sweeps.requeue import requeue_interrupted
from truemask.sweeps.slurm import Settings, launch
from truemask.sweeps.slurm_script import submit

# A second or two of steps, 16 in an epoch.
TINY = [
    "experiment=textures/demo",
    "data.dataset.size=16",
    "data.dataset.validation=4",
    "data.dataset.test=5",
    "model.channels=4",
    "trainer.max_steps=null",
    "trainer.max_epochs=10",
    "data.batch_size=4",
    "schedule=constant",
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    skip_without_slurm()
    with (
        slurm_cluster(tmp_path_factory.mktemp("slurm")) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", str(running.conf))
        yield running


def make_job(folder: Path, number: int, *words: str) -> Job:
    config = compose_config([*TINY, "data.dataset.train=64", f"runs={folder}", *words])
    job = Job(folder=folder / "jobs" / f"{number:03d}", config=config)
    job.write()
    return job


class Launching:
    """`launch` in the background, so that a test can do things to its jobs."""

    def __init__(self, given: list[Job], **settings: object) -> None:
        self.text = io.StringIO()
        self.stop = threading.Event()
        self.pool = ThreadPoolExecutor(1)
        chosen = Settings(**settings)
        console = Console(file=self.text, width=500)
        self.future = self.pool.submit(
            lambda: list(launch(iter(given), chosen, console=console, stop=self.stop))
        )

    def __enter__(self) -> "Launching":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.pool.shutdown()

    def outcomes(self) -> list[Outcome]:
        """By the jobs' numbers, once all have ended."""
        found = sorted(self.future.result(timeout=300), key=lambda outcome: outcome.job)
        assert len({outcome.job for outcome in found}) == len(found)
        return found


def number_of(job: Job) -> int:
    """Slurm's number of a job, once it has one."""
    wait_for((job.folder / "slurm.json").exists, f"job {job.number} is submitted")
    return int(read_json(job.folder / "slurm.json")["job"])


def trains(job: Job) -> bool:
    """Whether a job has an epoch behind it."""
    return job.run is not None and (job.run.path / "history.csv").exists()


def pause(job: Job) -> int:
    """Stop a training, so that it is not over before a test can do something to it.

    Returns:
        Its process.
    """
    process = int(read_json(job.folder / "started.json")["process"])
    os.kill(process, signal.SIGSTOP)
    return process


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.bundle_folder / "model.safetensors")


REQUEUED, PREEMPTED = range(2)


@dataclass
class Swept:
    """What came of the command line's two jobs, and of two that were interrupted.

    Attributes:
        code: of the command.
        told: its JSON.
        jobs: the interrupted ones.
        numbers: theirs with Slurm.
        outcomes: theirs.
    """

    code: int
    told: dict[str, Any]
    jobs: list[Job]
    numbers: list[int]
    outcomes: list[Outcome]

    @property
    def undisturbed(self) -> Run:
        """That of the command line's first job."""
        return Run.open(Path(self.told["jobs"][0]["run"]))


@pytest.fixture(scope="module")
def swept(cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("a sweep")
    command = [
        *(sys.executable, "-m", "truemask", "train", "-m", "--json", *TINY),
        *("data.dataset.train=64,0", f"runs={folder}", "hydra/launcher=slurm"),
        f"hydra.launcher.additional_parameters={{nodelist: {NODES[0]}}}",
    ]
    jobs = [make_job(folder, number) for number in range(2)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        Launching(jobs[:1], additional_parameters={"nodelist": NODES[0]}) as one,
        Launching(jobs[1:], additional_parameters={"nodelist": NODES[1]}) as other,
    ):
        numbers = [number_of(job) for job in jobs]
        wait_for(lambda: trains(jobs[REQUEUED]), "a job trains")
        pause(jobs[REQUEUED])  # Slurm sends SIGCONT with its SIGTERM
        cluster.ask("scontrol", "requeue", str(numbers[REQUEUED]))
        wait_for(lambda: trains(jobs[PREEMPTED]), "another job trains")
        pause(jobs[PREEMPTED])
        urgent = ["--partition=urgent", "--exclusive", f"--nodelist={NODES[1]}"]
        cluster.ask("sbatch", *urgent, "--output=/dev/null", "--wrap=true")
        cluster.start_again(numbers[REQUEUED])
        cluster.start_again(numbers[PREEMPTED])
        outcomes = [*one.outcomes(), *other.outcomes()]
        told, _ = process.communicate(timeout=300)
    return Swept(process.returncode, json.loads(told), jobs, numbers, outcomes)


def test_the_command_line_sends_a_sweep_and_waits_for_its_results(swept: Swept) -> None:
    assert swept.told["launcher"] == "slurm"
    done, failed = swept.told["jobs"]
    assert (done["state"], done["stopped"]) == ("done", "all steps are done")
    assert swept.undisturbed.results["test"].images == 5
    # The command says that not all went well.
    assert (failed["state"], swept.code) == ("failed", 1)


def test_a_job_that_fails_says_why_on_one_line(swept: Swept) -> None:
    error = swept.told["jobs"][1]["error"]
    assert "train 0: a part needs at least 1 sample" in error
    assert "\n" not in error


def test_a_job_prints_into_its_folder(swept: Swept) -> None:
    log = Path(swept.told["folder"]) / "jobs" / "000" / "log.txt"
    assert "epoch  10  step   160" in log.read_text()


@pytest.mark.parametrize("place", [REQUEUED, PREEMPTED])
def test_an_interrupted_job_goes_on_to_the_same_weights(
    cluster: SlurmCluster, swept: Swept, place: int
) -> None:
    outcome = swept.outcomes[place]
    assert outcome.state == "done", outcome.error
    assert cluster.show(swept.numbers[place], "Restarts") == "1"
    # Not from the beginning.
    assert "Resuming after epoch" in swept.jobs[place].log.read_text()
    undisturbed, reached = weights(swept.undisturbed), weights(Run.open(Path(str(outcome.run))))
    for name, value in undisturbed.items():
        assert torch.equal(value, reached[name]), name


def test_processes_on_two_machines_train_together_and_go_on_together(
    cluster: SlurmCluster, swept: Swept, tmp_path: Path
) -> None:
    job = make_job(tmp_path, 0, "trainer.max_epochs=2")
    with Launching([job], nodes=2) as launching:
        wait_for(lambda: trains(job), "it trains")
        process = pause(job)
        # As Slurm does by itself, shortly before the job's time is over.
        cluster.ask("scancel", "--signal=USR1", str(number_of(job)))
        os.kill(process, signal.SIGCONT)
        cluster.start_again(number_of(job))
        (outcome,) = launching.outcomes()
    assert outcome.state == "done", outcome.error
    assert cluster.show(number_of(job), "Restarts") == "1"
    assert job.log.read_text().count("Resuming after epoch") == 1  # the second process is quiet
    assert len(list_runs(job.folder)) == 1
    # A step is one of all samples of its batch, whoever has them.
    runs = (Run.open(Path(str(outcome.run))), swept.undisturbed)
    together, alone = (float(run.history[0]["train_loss"]) for run in runs)
    assert together == pytest.approx(alone, rel=1e-3)


def test_what_was_submitted_is_found_again_and_ends_with_the_sweep(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four jobs that wait for ever one is cancelled by its user, the others by the sweep."""
    monkeypatch.setattr(slurm, "_SETTLE", 0.1)
    jobs = [make_job(tmp_path, number) for number in range(4)]
    held = Settings(additional_parameters={"hold": True})
    numbers = [submit(job, held) for job in jobs[:2]]
    for job, number in zip(jobs, numbers, strict=False):  # all that an earlier sweep has left
        write_json(job.folder / "slurm.json", {"job": number})
    with Launching(jobs, jobs=3, additional_parameters={"hold": True}) as launching:
        numbers.append(number_of(jobs[2]))
        wait_for(lambda: "JobHeldUser" in launching.text.getvalue(), "it says why they wait")
        assert [job for job in cluster.jobs() if job >= numbers[0]] == numbers
        cluster.ask("scancel", str(numbers[0]))
        numbers.append(number_of(jobs[3]))  # it has the place of the first
        launching.stop.set()
        cancelled, *others = launching.outcomes()
    assert (cancelled.state, cancelled.run) == ("failed", None)
    assert f"Slurm's job {numbers[0]} is over: it was cancelled" in str(cancelled.error)
    assert [outcome.state for outcome in others] == ["interrupted"] * 3
    assert max(cluster.jobs(), default=0) < numbers[0]


def test_what_is_asked_of_slurm(cluster: SlurmCluster, tmp_path: Path) -> None:
    settings = Settings(
        partition="main",
        timeout_min=90,
        nodes=2,
        tasks_per_node=2,
        cpus_per_task=1,
        mem_gb=0.001,
        setup=["module load cuda"],
        additional_parameters={"hold": True, "comment": "two words"},
    )
    job = make_job(tmp_path, 3)
    number = submit(job, settings)
    assert submit(make_job(tmp_path, 4), Settings(additional_parameters={"hold": True})) > number
    expected = {
        "JobName": "textures/demo-3",
        "Partition": "main",
        "TimeLimit": "01:30:00",
        "NumNodes": "2-2",
        "NumTasks": "4",
        "CPUs/Task": "1",
        "MinMemoryNode": "1M",
        "Requeue": "1",
        "StdOut": str(job.log),
        "StdErr": str(job.log),
    }
    assert {key: cluster.show(number, key) for key in expected} == expected
    assert cluster.show(number + 1, "TimeLimit") == "UNLIMITED"
    script = (job.folder / "slurm" / f"{number}_submission.sh").read_text()
    assert "--signal=USR1@120\n" in script
    assert script.index("module load cuda") < script.index("srun")
    cluster.ask("scancel", str(number), str(number + 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "mian"}, r"no 'mian'; did you mean 'main'\? \(it has main, urgent\)"),
        ({"gpus_per_node": 1}, "Slurm refuses the job: Invalid generic resource"),
        ({"mem_gb": 1e6}, "Slurm refuses the job: Memory specification can not be satisfied"),
        ({"additional_parameters": {"no-such": 1}}, "Slurm refuses the job: .*no-such"),
    ],
)
def test_what_the_cluster_does_not_have_is_said_on_one_line(
    cluster: SlurmCluster, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with Launching([make_job(tmp_path, 0)], **settings) as launching:
        with pytest.raises(UsageError, match=message) as error:
            launching.outcomes()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "jobs" / "000" / "slurm.json").exists()


def test_the_command_line_ends_with_2_where_the_settings_are_wrong(
    cluster: SlurmCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["hydra/launcher=slurm", "hydra.launcher.partition=mian"]
    assert main(["train", "-m", *TINY, f"runs={tmp_path}", "seed=0,1", *where]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "truemask:" in line]
    assert lines == [
        "truemask: hydra.launcher.partition: the cluster has no 'mian'; did you mean 'main'? "
        "(it has main, urgent)"
    ]


def test_without_slurm_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no sbatch here"):
        next(launch(iter([]), Settings(), console=Console(quiet=True), stop=threading.Event()))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="hydra.launcher.nodes must be more than 0, got 0"):
        Settings(nodes=0)


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`squeue` gives the state in a file, and `scontrol` writes what it is told into another."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in {"squeue": "cat state", "scontrol": "echo $* >> told"}.items():
        (programs / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    (tmp_path / "state").write_text("RUNNING\n")
    return tmp_path


INTERRUPTED, WRONG = 1, 2
USR1, TERM, KILL = (128 + number for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL))


@pytest.mark.parametrize(
    ("state", "said", "code", "requeued"),
    [
        ("RUNNING", "interrupted", INTERRUPTED, True),
        ("RUNNING", "interrupted", TERM, True),  # a second signal, after the end
        # Cancelled, or requeued by Slurm itself.
        ("COMPLETING", "interrupted", INTERRUPTED, False),
        ("", "interrupted", INTERRUPTED, False),
        ("RUNNING", "failed", WRONG, False),
        ("RUNNING", "failed", TERM, False),
        ("RUNNING", None, INTERRUPTED, False),
        ("RUNNING", None, USR1, True),
        ("RUNNING", None, TERM, True),
        # As where there is no memory left.
        ("RUNNING", None, KILL, False),
    ],
)
def test_only_what_was_interrupted_and_nobody_acts_on_is_requeued(
    fake_slurm: Path, state: str, said: str | None, code: int, requeued: bool
) -> None:
    job = make_job(fake_slurm, 0)
    if said is not None:
        Outcome(job=0, state=said, error="why").write(job.folder)  # type: ignore[arg-type]
    (fake_slurm / "state").write_text(f"{state}\n")
    assert requeue_interrupted(job.folder, code) == requeued
    told = fake_slurm / "told"
    assert (told.read_text() if told.exists() else "") == ("requeue 7\n" if requeued else "")
    assert (None if job.outcome is None else job.outcome.state) == said


@pytest.mark.parametrize("code", [WRONG, KILL])
def test_where_one_process_fails_and_srun_ends_the_others_the_job_has_failed(
    fake_slurm: Path, code: int
) -> None:
    job = make_job(fake_slurm, 0)
    Outcome(job=0, state="interrupted", error="ended by SIGTERM").write(job.folder)
    assert not requeue_interrupted(job.folder, code)
    assert job.outcome is not None
    assert job.outcome.state == "failed"
    assert f"a process of the training ended with the exit code {code}" in str(job.outcome.error)


def test_a_job_that_is_never_given_the_time_to_save_is_not_requeued_for_ever(
    fake_slurm: Path,
) -> None:
    job = make_job(fake_slurm, 0)
    assert [requeue_interrupted(job.folder, USR1) for _ in range(3)] == [True] * 3
    assert not requeue_interrupted(job.folder, USR1)
    assert job.outcome is not None
    assert job.outcome.state == "failed"
    assert "raise hydra.launcher.timeout_min" in str(job.outcome.error)


def test_a_job_that_saves_something_each_time_goes_on(fake_slurm: Path) -> None:
    job = make_job(fake_slurm, 0)
    run = Run.create(job.folder, experiment="x")
    run.checkpoints_folder.mkdir()
    for _ in range(5):
        write_json(job.folder / "started.json", {})
        run.last_checkpoint.write_text("saved")
        assert requeue_interrupted(job.folder, USR1)
        (job.folder / "started.json").unlink()  # as the script does
        assert requeue_interrupted(job.folder, USR1)


def test_the_decision_is_taken_at_once() -> None:
    """A machine that is taken away in some seconds leaves no time to import torch."""
    code = "import sys, truemask.sweeps.requeue; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_cluster_that_does_not_requeue_leaves_the_job_interrupted(fake_slurm: Path) -> None:
    (fake_slurm / "programs" / "scontrol").write_text("#!/bin/sh\necho disabled >&2; exit 1\n")
    job = make_job(fake_slurm, 0)
    Outcome(job=0, state="interrupted", error="why").write(job.folder)
    assert not requeue_interrupted(job.folder, INTERRUPTED)
    assert job.outcome is not None
    assert job.outcome.state == "interrupted"
