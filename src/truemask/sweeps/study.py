"""The Optuna study of a sweep: it suggests the next values, and ends trainings that lag behind.

It lies as a journal in the sweep's folder, so that a sweep goes on with all it knew, and so that
jobs on other machines can report to it. Its objective is the run's monitor on the validation part.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from truemask.data.randomness import address_seed
from truemask.errors import UsageError
from truemask.sweeps.launchers import Job, monitor
from truemask.sweeps.space import Space, Span, Words

if TYPE_CHECKING:
    import optuna

FILE = "study.journal"

_NAME = "sweep"
_FULL = 5
"""Finished trials before one is ended early, as the first know no standard to be held against."""
_WARMUP = 1
"""Validations after which a training may be ended early."""

PRUNED = "pruned: worse than half of the others at this point"


def require_optuna() -> None:
    """Say how to get Optuna.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "sweep.method=optuna needs Optuna: pip install 'truemask[optuna]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log, and its warnings of what may change in another version of it."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _open(folder: Path, *, create: Literal["maximize", "minimize"] | None = None) -> "optuna.Study":
    """The study of a sweep's folder; made where a direction is given and it is not there."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / FILE)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_FULL, n_warmup_steps=_WARMUP)
    if create is None:
        return optuna.load_study(study_name=_NAME, storage=storage, pruner=pruner)
    return optuna.create_study(
        study_name=_NAME, storage=storage, pruner=pruner, direction=create, load_if_exists=True
    )


class Study:
    """The study as the sweep sees it: it asks for values and tells what came of them.

    Args:
        folder: of the sweep.
        space: what is varied.
        seed: with the number of trials so far, it determines what is tried next.
        monitor: "validation_iou" or "validation_loss".
    """

    def __init__(self, folder: Path, space: Space, *, seed: int, monitor: str) -> None:
        require_optuna()
        self.space = space
        self.seed = seed
        with _quiet():
            direction = _direction(monitor)
            self.study = _open(folder, create=direction)

    def ask(self, words: Words | None = None) -> tuple[int, Words]:
        """A new trial: its number, and the words of its values.

        Args:
            words: values to try; `None` lets the study choose.
        """
        from optuna.samplers import TPESampler

        with _quiet():
            if words is not None:
                self.study.enqueue_trial(self._parameters(words))
            # Anew for each, so that a resumed sweep does not draw its first values again.
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = TPESampler(
                seed=address_seed(self.seed, number) % 2**32, constant_liar=True
            )
            trial = self.study.ask(self._distributions())
        return trial.number, tuple(
            dimension.word(trial.params[dimension.key])
            if isinstance(dimension, Span)
            else f"{dimension.key}={trial.params[dimension.key]}"
            for dimension in self.space.dimensions
        )

    def tell(self, number: int, *, score: float | None, pruned: bool) -> None:
        """What came of a trial: its objective, or `None` where it failed.

        What was pruned is judged by what it reported.
        """
        from optuna.trial import TrialState

        with _quiet():
            if score is None:
                self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            elif pruned:
                self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                self.study.tell(number, score, skip_if_finished=True)

    def _distributions(self) -> dict[str, Any]:
        from optuna import distributions as kinds

        found: dict[str, Any] = {}
        for dimension in self.space.dimensions:
            if not isinstance(dimension, Span):
                found[dimension.key] = kinds.CategoricalDistribution(dimension.values)
            elif dimension.whole:
                found[dimension.key] = kinds.IntDistribution(
                    round(dimension.low), round(dimension.high), log=dimension.log
                )
            else:
                found[dimension.key] = kinds.FloatDistribution(
                    dimension.low, dimension.high, log=dimension.log
                )
        return found

    def _parameters(self, words: Words) -> dict[str, Any]:
        """The study's own values for words that it gave before."""
        found: dict[str, Any] = {}
        for dimension, word in zip(self.space.dimensions, words, strict=True):
            text = word.partition("=")[2]
            if isinstance(dimension, Span):
                found[dimension.key] = int(text) if dimension.whole else float(text)
            else:
                found[dimension.key] = text
        return found


def _direction(monitor: str) -> Literal["maximize", "minimize"]:
    return "minimize" if monitor == "validation_loss" else "maximize"


class Pruning:
    """A listener of a training: it reports each validation, and ends what lags behind.

    Args:
        job: whose training it is; its folder lies in that of the sweep.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.monitor = monitor(job.config)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Take a row of the history.

        Raises:
            StopTraining: the median of the others was better at this point.
        """
        from optuna.trial import Trial

        from truemask.training.record import StopTraining

        value = row.get(self.monitor)
        if value is None:
            return
        with _quiet():
            study = _open(self.job.folder.parent.parent)
            assert self.job.trial is not None
            known = study.get_trials(deepcopy=False)[self.job.trial]
            trial = Trial(study, known._trial_id)
            # Counted, as steps and epochs between validations may be what the sweep varies.
            step = self._validations() - 1
            if step not in known.intermediate_values:  # a run that goes on repeats some
                trial.report(float(value), step=step)
            if trial.should_prune():
                raise StopTraining(PRUNED)

    def _validations(self) -> int:
        """Validations so far; of the file, as a run that goes on has had some before."""
        run = self.job.run
        assert run is not None
        return sum(1 for row in run.history if row.get(self.monitor))
