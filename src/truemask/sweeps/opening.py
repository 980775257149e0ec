"""A sweep's folder: made anew, when everything has been checked, or opened again.

Every configuration is composed and checked before the folder is made. What is read again may have
been written by anybody, and is checked like it.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.compose import compose_config
from truemask.config_checks import check_config, known_targets
from truemask.errors import UsageError
from truemask.files import make_dated_folder, write_json
from truemask.sweeps.job import interrupted_run
from truemask.sweeps.launchers import Job, Launcher, find_launcher, monitor
from truemask.sweeps.request import Request, request_from_json, resumed
from truemask.sweeps.space import Space, Words, plain_value, read_space
from truemask.sweeps.study import require_optuna
from truemask.untrusted import naming, read_object, safe_name

FILE = "sweep.json"

_LOSS = "validation_loss"

_LEARNING = 4
"""Jobs at once on a cluster where each is to learn from those before."""


@dataclass(frozen=True)
class Opened:
    """A sweep on disk.

    Attributes:
        path: its folder.
        request: what was asked for.
        jobs: those that are known so far.
        data: the user's data, in place of what the experiment names.
    """

    path: Path
    request: Request
    jobs: list[Job]
    data: Path | None

    def save(self) -> None:
        """Write `sweep.json`; from then on the folder is a sweep."""
        data = None if self.data is None else str(self.data.resolve())
        write_json(self.path / FILE, {**asdict(self.request), "data": data})


def find_own_launcher(request: Request) -> tuple[str, Launcher, Any]:
    """The launcher that was asked for: its name, its module, its checked settings.

    Raises:
        UsageError: there is none, or it has not such a setting.
    """
    name, given = request.launcher or "local", request.launcher_settings
    if request.settings.method == "optuna" and name != "local":
        given = {"jobs": _LEARNING, **given}
    return name, *find_launcher(name, given)


def open_new(request: Request, *, data: Path | None, console: Console) -> Opened:
    """Make a new sweep.

    Raises:
        UsageError: a word, or a configuration it leads to, is wrong; nothing has been made then.
    """
    settings, space = request.settings, read_space(request.words)
    launcher, _, _ = find_own_launcher(request)
    if settings.method == "optuna":
        require_optuna()
    if settings.method != "grid" and not space.dimensions:
        raise UsageError(
            f"sweep.method={settings.method} needs something to vary, such as "
            "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
        )
    chosen = _chosen(request, space)
    # What Optuna will choose is not known yet: here are the ends and choices of each setting.
    configs = _composed(space, space.corners() if chosen is None else chosen, data, console)
    if chosen is None:
        _check_objective(configs, space)
        if settings.prune:
            _check_listened(configs, launcher)
    path = _make_folder(configs)
    jobs = [
        write_job(path, number, space.whole(words), config, chosen=words)
        for number, (words, config) in enumerate(zip(chosen or (), configs, strict=False))
    ]
    opened = Opened(path, request, jobs, data)
    opened.save()
    return opened


def _chosen(request: Request, space: Space) -> list[Words] | None:
    """The values of every job; `None` where each depends on those before."""
    settings = request.settings
    if settings.method == "grid":
        return space.grid()
    if settings.method == "random":
        return space.draws(settings.trials, seed=settings.seed)
    return None


def _composed(
    space: Space, chosen: Sequence[Words], data: Path | None, console: Console
) -> list[dict[str, Any]]:
    configs = []
    with console.status("Checking the configurations") as status:
        for number, words in enumerate(chosen):
            status.update(f"Checking the configurations: {number} of {len(chosen)}")
            configs.append(compose_config(space.whole(words), folder=data))
    return configs


def _check_objective(configs: Sequence[Mapping[str, Any]], space: Space) -> None:
    monitors = set(map(monitor, configs))
    if len(monitors) > 1:
        raise UsageError("trainer.monitor is what sweep.method=optuna goes by: give one value")
    varied = [d.key for d in space.dimensions if d.key.lstrip("+").startswith("loss")]
    if monitors == {_LOSS} and varied:
        raise UsageError(
            f"{varied[0]} changes what trainer.monitor={_LOSS} measures, so that sweep.method="
            "optuna cannot go by it: give trainer.monitor=validation_iou"
        )


def _check_listened(configs: Sequence[Mapping[str, Any]], launcher: str) -> None:
    """A training can be ended early by its own process, not by one that started several."""
    several = any(config["trainer"].get("devices", 1) not in (1, "auto") for config in configs)
    if several and launcher != "slurm":
        raise UsageError(
            "trainer.devices: trainings of several processes cannot be ended early with "
            f"hydra/launcher={launcher}: give sweep.prune=false as well"
        )


def write_job(
    path: Path,
    number: int,
    words: list[str],
    config: dict[str, Any],
    *,
    chosen: Words,
    trial: int | None = None,
    prune: bool = False,
) -> Job:
    """Make a job of a sweep.

    Args:
        path: the sweep's folder.
        number: of the job.
        words: all of the training.
        config: what they compose to; empty where they do not go together.
        chosen: those of the words that the sweep varies.
        trial: see `Job`.
        prune: see `Job`.
    """
    job = Job(
        folder=path / "jobs" / f"{number:03d}",
        words=words,
        settings={word.partition("=")[0].lstrip("+"): plain_value(word) for word in chosen},
        config=config,
        trial=trial,
        prune=prune,
    )
    job.write()
    return job


def is_open(job: Job) -> bool:
    """Whether there is something to train; of values that do not go together there is not."""
    return bool(job.config) and (job.outcome is None or job.outcome.state != "done")


def _make_folder(configs: Sequence[Mapping[str, Any]]) -> Path:
    """A new folder, in that of the experiment where all jobs have the same."""
    roots = {str(config["runs"]) for config in configs}
    if len(roots) > 1:
        raise UsageError("runs is the folder of the whole sweep: give one value")
    names = {str(config["name"]) for config in configs}
    parent = Path(roots.pop())
    if len(names) == 1:
        parent /= safe_name(names.pop(), what="the name of an experiment")
    return make_dated_folder(parent, prefix="sweep_")


def require_sweep(path: Path) -> None:
    """Refuse a folder that is no sweep.

    Raises:
        UsageError: it is none.
    """
    if not (path / FILE).is_file():
        raise UsageError(
            f"{path} is not a sweep (it has no {FILE}): give runs/EXPERIMENT/sweep_DATE-TIME; to "
            "go on with a single run, leave -m out"
        )


def open_again(
    path: Path, words: Sequence[str], *, allow: Collection[str], console: Console
) -> Opened:
    """A sweep that exists, and what the words change of it.

    Raises:
        UsageError: a word would make it another sweep, a file is damaged, or a configuration names
            a class that is not on the list.
    """
    require_sweep(path)
    value = read_object(path / FILE)
    with naming(path / FILE):
        request = resumed(request_from_json(value), words)
        data = None if value["data"] is None else Path(str(value["data"]))
        find_own_launcher(request)
    folders = sorted(path.glob("jobs/[0-9]*"), key=lambda folder: int(folder.name))
    jobs = [Job.read(folder) for folder in folders if (folder / "job.json").is_file()]
    if [job.number for job in jobs] != list(range(len(jobs))):
        raise UsageError(f"{path / 'jobs'} has gaps: the sweep cannot go on without all its jobs")
    known = known_targets().union(allow)
    for job in filter(is_open, jobs):
        with naming(job.folder / "job.json"):
            check_config(job.config, allow=known)
        if (run := interrupted_run(job)) is not None:
            with naming(run.path / "config.yaml"):
                check_config(run.config, allow=known)
    if request.settings.method == "random":
        jobs += _further_draws(path, request, len(jobs), data, console)
    opened = Opened(path, request, jobs, data)
    opened.save()
    return opened


def _further_draws(
    path: Path, request: Request, there: int, data: Path | None, console: Console
) -> list[Job]:
    """The jobs that more trials add; the draws before stay what they were."""
    space, settings = read_space(request.words), request.settings
    draws = space.draws(settings.trials, seed=settings.seed)[there:]
    configs = _composed(space, draws, data, console)
    return [
        write_job(path, number, space.whole(words), config, chosen=words)
        for number, words, config in zip(itertools.count(there), draws, configs, strict=False)
    ]
