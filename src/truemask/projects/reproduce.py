"""Repeat a published project: train what is not trained yet, then a table and a page.

    OUT/runs/TRIAL/DATE-TIME/   the runs
    OUT/data/                   small made-up data, with `miniature`
    OUT/reproduction.json       the result
    OUT/reproduction.html       the page

Numbers and figures are read from run folders alone, so that trainings may have happened anywhere.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from truemask.analysis.matching import is_complete
from truemask.build import nearest
from truemask.errors import JobFailed, UsageError
from truemask.files import make_folder
from truemask.miniatures.writing import write_miniature
from truemask.projects.benchmarks import BENCHMARKS
from truemask.projects.cityscapes import CITYSCAPES
from truemask.projects.driving import DRIVING
from truemask.projects.edges import EDGES
from truemask.projects.page import draw_figures, write_page
from truemask.projects.project import Project, Trial
from truemask.projects.reproduction import Reproduction, save
from truemask.projects.table import doubt, make_rows, report_trial
from truemask.projects.textures import TEXTURES
from truemask.projects.trials import Carried, Workshop, explain_given, open_given

PROJECTS = {project.name: project for project in (EDGES, DRIVING, CITYSCAPES, BENCHMARKS, TEXTURES)}

_RESERVED = ("experiment", "name", "runs", "resume", "data.dataset.root", "data")


def reproduce(
    project: str,
    *,
    out: Path,
    data: Path | None = None,
    miniature: bool = False,
    finished: Sequence[Path] = (),
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    console: Console,
) -> Reproduction:
    """Repeat a project; a second call goes on where a first was interrupted.

    Args:
        project: one of `PROJECTS`.
        out: folder of the runs and of the page.
        data: folder of the project's data.
        miniature: make small data in the project's format instead, to see that everything runs.
        finished: runs, or folders of runs, that were trained elsewhere.
        only: names of the trials to train; the others are shown where they are there already.
        overrides: words such as "trainer.max_epochs=2" that change every trial.
        console: where progress is shown.

    Raises:
        UsageError: a name is unknown, the data is missing, or a setting cannot be used.
        JobFailed: a training was ended from outside.
    """
    plan = _plan(project)
    chosen = _choose(plan, only)
    _check_words(overrides)
    given = open_given(finished)
    folder = _data(plan, data, miniature=miniature, out=out, console=console)
    words = [*(plan.small if miniature else ()), *overrides]
    workshop = Workshop(
        runs=make_folder(out / "runs"),
        data=folder,
        overrides=words,
        console=console,
        given=given,
        needs_data=plan.data is not None,
        small=miniature,
    )
    for trial in plan.trials:
        workshop.configuration(trial)  # a wrong word is said before the first training
    job = _Job(plan, workshop, miniature, list(overrides), out)
    if not given:
        _require_data(plan, folder)
    try:
        for trial in chosen:
            if not job.carry_out(trial):
                break
    except (UsageError, JobFailed):
        # What is finished is worth seeing; why this failed is worth more than why that did.
        with suppress(UsageError):
            job.conclude()
        raise
    return job.conclude()


@dataclass
class _Job:
    project: Project
    workshop: Workshop
    miniature: bool
    overrides: list[str]
    out: Path

    def __post_init__(self) -> None:
        self.carried: dict[str, Carried] = {}

    def carry_out(self, trial: Trial) -> bool:
        """Bring a trial to its end; tells whether to go on."""
        found = self.workshop.find(trial)
        if found.run is None and self.workshop.needs_data and self.workshop.data is None:
            self.workshop.say(f"{trial.name}: not trained, as there is no data: give --data DIR")
            return True
        found = self.workshop.carry_out(trial)
        self.carried[trial.name] = found
        if found.run is None:
            return False
        self._measure(found)
        return True

    def _measure(self, carried: Carried) -> None:
        """Evaluations beyond those of the training, where they are not there yet."""
        run = carried.run
        assert run is not None
        for measure in carried.trial.measures:
            if (run.path / f"evaluation-{measure.name}.json").is_file():
                continue
            if measure.needs_data and carried.status == "given":
                continue
            self.workshop.say(f"{carried.trial.name}: measuring {measure.name}")
            try:
                measure.make(run, self.workshop.console)
            except UsageError as error:
                self.workshop.say(f"{carried.trial.name}: no {measure.name}: {error}")

    def conclude(self) -> Reproduction:
        """The table, the figures and the page of what is finished."""
        workshop, project = self.workshop, self.project
        carried = {
            trial.name: self.carried.get(trial.name) or workshop.find(trial)
            for trial in project.trials
        }
        runs = {name: found.run for name, found in carried.items() if found.run is not None}
        if not runs and (self.out / "reproduction.html").exists():
            raise UsageError(
                f"no finished run of {project.name} was found: {self.out / 'reproduction.html'} is "
                "left as it is"
            )
        doubts = {
            name: doubt(
                carried[name].trial, run, miniature=self.miniature, overrides=self.overrides
            )
            for name, run in runs.items()
        }
        figures, contents = draw_figures(project, runs, doubts=doubts)
        taken = [run for run in runs.values() if is_complete(run)]
        notes = explain_given(workshop, project.trials, taken)
        for note in notes:
            workshop.say(note)
        page = self.out / "reproduction.html"
        reproduction = Reproduction(
            project=project.name,
            title=project.title,
            miniature=self.miniature,
            overrides=self.overrides,
            trials=[
                report_trial(found, doubt=doubts.get(name, "")) for name, found in carried.items()
            ],
            rows=make_rows(project, carried, doubts=doubts),
            figures=figures,
            notes=notes,
            page=str(page),
        )
        save(reproduction, self.out / "reproduction.json")
        write_page(reproduction, project, contents, path=page)
        return reproduction


def _plan(name: str) -> Project:
    if name not in PROJECTS:
        known = ", ".join(PROJECTS)
        raise UsageError(f"no project is called {name!r}{nearest(name, PROJECTS)} ({known})")
    return PROJECTS[name]


def _choose(project: Project, only: Sequence[str]) -> list[Trial]:
    known = {trial.name: trial for trial in project.trials}
    for name in only:
        if name not in known:
            raise UsageError(
                f"{project.name} has no trial {name!r}{nearest(name, known)} ({', '.join(known)})"
            )
    return [trial for name, trial in known.items() if not only or name in only]


def _check_words(overrides: Sequence[str]) -> None:
    for word in overrides:
        key = word.partition("=")[0].lstrip("+~")
        if "=" not in word:
            raise UsageError(f"cannot read {word!r}: write key=value")
        if key in _RESERVED:
            raise UsageError(f"{word!r}: the project sets {key} itself; leave it out")


def _data(
    project: Project, data: Path | None, *, miniature: bool, out: Path, console: Console
) -> Path | None:
    """The folder of the data; small data is made where it is asked for."""
    if project.data is None:
        if data is not None:
            raise UsageError(f"{project.name} makes its images itself: leave --data out")
        return None
    if miniature:
        if data is not None:
            raise UsageError("give --data or --miniature, not both")
        return _make_miniatures(project, out / "data", console)
    if data is not None and not data.is_dir():
        raise UsageError(f"{data} is no folder: --data takes the folder with {project.data}")
    if data is not None and out.resolve().is_relative_to(data.resolve()):
        raise UsageError(
            f"the runs would be written to {out}, into the data: give --out DIR outside of {data}"
        )
    return data


def _make_miniatures(project: Project, folder: Path, console: Console) -> Path:
    for place, miniature in project.miniatures.items():
        target = folder / place
        if not target.exists():
            made = f"Drawing {miniature.images} images: {target}"
            console.print(made, highlight=False, markup=False)
            write_miniature(miniature.dataset, target, images=miniature.images)
    return folder


def _require_data(project: Project, folder: Path | None) -> None:
    if project.data is not None and folder is None:
        raise UsageError(
            f"{project.name} needs its data: give --data DIR with {project.data}, finished runs "
            "with --runs RUN, or --miniature for small made-up data"
        )
