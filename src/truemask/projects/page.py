"""The page of a repeated project: one file, which works offline."""

from collections.abc import Mapping
from pathlib import Path

from truemask.analysis.quantities import describe
from truemask.errors import UsageError
from truemask.files import write_text
from truemask.projects.project import Content, Project, Runs
from truemask.projects.reproduction import FigureReport, Reproduction
from truemask.report import formats
from truemask.report.pages import render_page

STATUS = {
    "trained": "trained now",
    "resumed": "gone on with now",
    "kept": "finished before",
    "given": "given",
    "stopped": "stopped; the same command goes on",
    "missing": "not trained",
}


def draw_figures(
    project: Project, runs: Runs, *, doubts: Mapping[str, str]
) -> tuple[list[FigureReport], dict[str, Content]]:
    """All figures that can be drawn of the runs, and why the others cannot.

    Args:
        project: whose figures.
        runs: trial -> run.
        doubts: trial -> why its numbers cannot be held against published ones; empty where they
            can.
    """
    sound = {name: run for name, run in runs.items() if not doubts.get(name)}
    reports, contents = [], {}
    for figure in project.figures:
        missing = ""
        try:
            content = figure.draw(sound if figure.compares else runs)
            if content is None:
                missing = "its runs are not there, or do not hold what it shows"
                if figure.compares and len(sound) < len(runs):
                    missing = "these runs cannot be held against the published values that it shows"
            else:
                contents[figure.name] = content
        except UsageError as error:
            missing = str(error)
        reports.append(FigureReport(name=figure.name, title=figure.title, missing=missing))
    return reports, contents


def write_page(
    reproduction: Reproduction, project: Project, contents: Mapping[str, Content], *, path: Path
) -> None:
    """Write the page, atomically.

    Raises:
        UsageError: it cannot be written.
    """
    context = {
        "reproduction": reproduction,
        "project": project,
        "figures": [
            (figure, contents[figure.name]) for figure in project.figures if figure.name in contents
        ],
        "absent": [figure for figure in reproduction.figures if figure.missing],
        "missing": [trial for trial in reproduction.trials if trial.run is None],
        "describe": describe,
        "duration": formats.duration,
        "device": formats.device,
        "status": STATUS,
        "digits": digits,
    }
    write_text(path, render_page("reproduction.html", context))


def digits(value: float) -> str:
    """A number in four figures, as most were published."""
    return f"{value:.4g}"
