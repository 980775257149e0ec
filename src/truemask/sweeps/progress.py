"""How a sweep shows where it is: a live table on a terminal, else a line a job."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from truemask.errors import UsageError
from truemask.report.formats import duration
from truemask.sweeps.launchers import Job, Outcome, monitor
from truemask.sweeps.results import JobResult, JobState, show
from truemask.sweeps.study import PRUNED

_MOST = 20
"""Rows of the table."""
_ORDER: tuple[JobState, ...] = (
    "running", "queued", "failed", "interrupted", "done", "pruned", "waiting",
)  # fmt: skip
"""Which are shown first where not all can be."""
_STYLES = {"running": "bold", "done": "green", "failed": "red", "interrupted": "yellow"}


def job_result(job: Job, *, taken: bool) -> JobResult:
    """What can be said of a job now, from its files.

    Args:
        job: the job.
        taken: whether a launcher has it.
    """
    outcome = job.outcome
    run = job.run
    return JobResult(
        number=job.number,
        settings=job.settings,
        state=_state(job, outcome, taken=taken),
        run=None if run is None else str(run.path),
        monitor=monitor(job.config),
        score=score_so_far(job),
        stopped=None if outcome is None else outcome.stopped,
        error=None if outcome is None else outcome.error,
        seconds=_since(job) if outcome is None else outcome.seconds,
    )


def _state(job: Job, outcome: Outcome | None, *, taken: bool) -> JobState:
    if outcome is not None:
        return "pruned" if outcome.stopped == PRUNED else outcome.state
    if not taken:
        return "waiting"
    return "running" if job.started else "queued"


def score_so_far(job: Job) -> float | None:
    """The best validation score of the job's run, by what it monitors; of the tested weights."""
    run, name = job.run, monitor(job.config)
    if run is None:
        return None
    try:
        if run.finished:
            part = run.results["validation"]
            return part.loss if name == "validation_loss" else part.iou
        values = [float(row[name]) for row in run.history if row.get(name)]
    except (UsageError, KeyError, ValueError):  # whatever is wrong with it, it is only shown
        return None
    best = min if name == "validation_loss" else max
    return best(values, default=None)


def _since(job: Job) -> float | None:
    try:
        return max(0.0, time.time() - (job.folder / "started.json").stat().st_mtime)
    except OSError:
        return None


class Progress:
    """Shows a sweep while it runs.

    Args:
        console: where.
        jobs: those of the sweep; it may grow.
        total: jobs there will be.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], *, total: int) -> None:
        self.console = console
        self.jobs = jobs
        self.total = total
        self.taken: set[int] = set()
        self._known: dict[int, JobResult] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within this, the table is there, where there is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        live = Live(
            get_renderable=self._table, console=self.console, refresh_per_second=1, transient=True
        )
        with live:
            yield

    def take(self, job: Job) -> None:
        """A launcher has it now."""
        self.taken.add(job.number)
        self._known.pop(job.number, None)

    def ended(self, job: Job) -> None:
        """A job has ended."""
        result = self._known[job.number] = job_result(job, taken=True)
        if not self.console.is_terminal:
            self.console.print(line(result), highlight=False, markup=False, soft_wrap=True)

    def _result(self, job: Job) -> JobResult:
        """Read anew only while the job runs."""
        taken = job.number in self.taken
        known = self._known.get(job.number)
        if known is None:
            known = job_result(job, taken=taken)
            if not taken:
                self._known[job.number] = known
        return known

    def _table(self) -> Table:
        results = [self._result(job) for job in list(self.jobs)]
        table = jobs_table(sorted(_most_telling(results), key=lambda result: result.number))
        counts = Counter(result.state for result in results)
        later = self.total - len(results)
        words = [f"{counts[state]} {state}" for state in reversed(_ORDER) if counts[state]]
        table.caption = ", ".join([*words, *([f"{later} to come"] if later > 0 else [])])
        return table


def _most_telling(results: Sequence[JobResult]) -> list[JobResult]:
    def rank(result: JobResult) -> tuple[int, float]:
        return _ORDER.index(result.state), result.rank

    return sorted(results, key=rank)[:_MOST]


def jobs_table(results: Sequence[JobResult]) -> Table:
    """A row a job: its settings, its state, its score and its time."""
    keys = list(dict.fromkeys(key for result in results for key in result.settings))
    table = Table(caption_justify="left")
    table.add_column("job", justify="right")
    for key in keys:
        table.add_column(escape(key), justify="right")
    table.add_column("state")
    table.add_column("validation", justify="right")
    table.add_column("time", justify="right")
    for result in results:
        table.add_row(
            str(result.number),
            *(escape(show(result.settings[key])) if key in result.settings else "" for key in keys),
            result.state,
            "-" if result.score is None else f"{result.score:.4f}",
            "-" if result.seconds is None else duration(result.seconds),
            style=_STYLES.get(result.state),
        )
    return table


def line(result: JobResult) -> str:
    """A job that has ended, on one line."""
    said = f"job {result.number} ({result.name}): {result.state}"
    if result.error is not None:
        return f"{said}: {result.error}"
    score = "no score" if result.score is None else f"validation {result.score:.4f}"
    return f"{said}, {score}, {duration(result.seconds)}"
