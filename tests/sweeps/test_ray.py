"""Jobs on a Ray cluster of two machines: done, gone on with elsewhere, ended by Ctrl-C, refused."""

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ray_cluster import TwoNodes, two_nodes
from truemask.compose import compose_config
from truemask.errors import UsageError
from truemask.files import read_json
from truemask.runs import Run
from truemask.sweeps.launchers import Job, Outcome, find_launcher
from truemask.sweeps.ray import Settings, launch

# Some seconds of steps, 16 in an epoch.
TINY = [
    "experiment=textures/demo",
    "data.dataset.size=16",
    "data.dataset.train=64",
    "data.dataset.validation=4",
    "data.dataset.test=5",
    "model.channels=4",
    "trainer.max_steps=null",
    "data.batch_size=4",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    with two_nodes() as running:
        yield running


def make_job(folder: Path, number: int, *words: str) -> Job:
    config = compose_config([*TINY, f"runs={folder}", *words])
    job = Job(folder=folder / "jobs" / f"{number:03d}", config=config)
    job.write()
    return job


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.05)


def epochs(job: Job) -> int:
    """What a job has behind it."""
    run = job.run
    return 0 if run is None else len(run.history)


def machine(job: Job, cluster: TwoNodes) -> str:
    """Where a job runs: its process descends from one of that machine."""
    process = read_json(job.folder / "started.json")["process"]
    ancestors = []
    while process > 1:
        ancestors.append(process)
        status = Path(f"/proc/{process}/status").read_text()
        process = int(re.search(r"PPid:\t(\d+)", status)[1])  # type: ignore[index]
    return "second" if cluster.second_process in ancestors else "head"


def weights(outcome: Outcome) -> dict[str, torch.Tensor]:
    assert outcome.run is not None
    return load_file(Run.open(Path(outcome.run)).bundle_folder / "model.safetensors")


@pytest.mark.slow
def test_a_job_whose_machine_is_lost_goes_on_to_the_same_weights(
    cluster: TwoNodes, tmp_path: Path
) -> None:
    jobs = [make_job(tmp_path, each, "seed=0", "trainer.max_epochs=12") for each in range(2)]
    machines: dict[str, Job] = {}

    def lose() -> None:
        for job in jobs:
            wait_for(lambda job=job: job.started, "two jobs run")  # type: ignore[misc]
            machines[machine(job, cluster)] = job
        wait_for(lambda: epochs(machines["second"]) > 1, "the job is at work")
        cluster.kill_second()

    text = io.StringIO()
    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    ended = list(
        launch(
            iter(jobs),
            Settings(address=cluster.address),
            console=Console(file=text, width=500),
            stop=threading.Event(),
        )
    )
    loser.join()
    outcomes = {outcome.job: outcome for outcome in ended}
    assert sorted(outcomes) == [0, 1]
    lost = machines["second"]
    assert "Ray: 2 machines, 2 CPUs, 0 GPUs" in text.getvalue()
    assert f"job {lost.number} is started again: its machine died" in text.getvalue()
    assert "Resuming after epoch" in lost.log.read_text()
    assert "Resuming" not in machines["head"].log.read_text()
    for number in (0, 1):
        assert outcomes[number].state == "done", outcomes[number].error
        assert len(list(jobs[number].folder.rglob("config.yaml"))) == 1
    moved = weights(outcomes[1])
    for name, value in weights(outcomes[0]).items():
        assert torch.equal(value, moved[name]), name


@pytest.mark.slow
def test_ctrl_c_lets_the_jobs_save_and_another_fails_alone(
    cluster: TwoNodes, tmp_path: Path
) -> None:
    fails, trains, waits, late = jobs = [
        make_job(tmp_path, each, "trainer.max_epochs=10000") for each in range(4)
    ]
    (fails.folder / "job.json").unlink()  # as on a machine that does not see the folder
    stop = threading.Event()
    taken: list[int] = []

    def given() -> Iterator[Job]:
        for job in jobs:
            taken.append(job.number)
            yield job

    def end() -> None:
        wait_for(lambda: epochs(trains), "a job trains")
        stop.set()

    threading.Thread(target=end, daemon=True).start()
    # One of the two has no machine left, and waits for one.
    settings = Settings(address=cluster.address, jobs=2)
    found = list(launch(given(), settings, console=Console(quiet=True), stop=stop))
    outcomes = {outcome.job: outcome for outcome in found}
    assert taken == sorted(outcomes) == [0, 1, 2]
    assert [outcomes[each].state for each in taken] == ["failed", "interrupted", "interrupted"]
    assert f"does not see the {fails.folder} of the machine" in str(outcomes[0].error)
    assert str(outcomes[1].error).startswith("ended by SIGTERM")
    assert trains.run is not None
    assert trains.run.last_checkpoint.exists()
    assert not waits.started
    assert not late.started


@pytest.mark.slow
def test_a_job_that_no_machine_can_run(cluster: TwoNodes) -> None:
    for settings, message in [
        (Settings(address=cluster.address, cpus=2), "no machine of the Ray cluster has 2 CPUs"),
        (Settings(address=cluster.address, gpus=0.5), "has 1 CPU and 0.5 GPUs: lower"),
    ]:
        with pytest.raises(UsageError, match=message):
            next(launch(iter([]), settings, console=Console(quiet=True), stop=threading.Event()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpus": 0}, "hydra.launcher.cpus must be at least 1, got 0"),
        ({"gpus": 1.5}, "hydra.launcher.gpus is 1.5: give a whole number"),
        ({"retries": -1}, "hydra.launcher.retries must be at least 0"),
        ({"adress": "auto"}, "hydra.launcher has no setting 'adress'.*address"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_launcher("ray", settings)
