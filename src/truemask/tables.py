"""What the terminal shows of results: tables."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from truemask.errors import counted

# The command line starts fast: what imports PyTorch stands inside the functions.
if TYPE_CHECKING:
    from truemask.analysis.audit_result import AuditResult
    from truemask.analysis.comparison import Comparison, Difference
    from truemask.metrics.boundary import BoundaryResult
    from truemask.metrics.edges import EdgeResult
    from truemask.projects.reproduction import Cell, Reproduction
    from truemask.results import PartResult
    from truemask.sweeps.results import SweepResult


def print_scores(part: "PartResult", *, title: str) -> None:
    """A table of scores with their 95 % intervals."""
    from truemask.metrics.bootstrap import FEWEST

    def show(value: float | None, metric: str | None = None) -> str:
        return _shown(value, part.intervals.get(metric) if metric else None)

    table = Table(title=escape(title), title_justify="left")
    table.add_column("")
    iou = "IoU  [95 % interval]" if part.intervals else "IoU"
    for name in (iou, "Dice", "precision", "recall"):
        table.add_column(name, justify="right")
    for name, value in part.iou_per_class.items():
        table.add_row(
            escape(name),
            show(value, f"iou_per_class.{name}"),
            show(part.dice_per_class[name]),
            show(part.precision_per_class[name]),
            show(part.recall_per_class[name]),
        )
    if len(part.iou_per_class) > 2:
        table.add_section()
        table.add_row("mean", show(part.iou, "iou"), show(part.dice), "", "", style="bold")
    console = _console()
    console.print(table)
    accuracy = show(part.pixel_accuracy, "pixel_accuracy")
    console.print(f"{counted(part.images, 'image')}, pixel accuracy {accuracy}", highlight=False)
    for attribute, groups in part.subgroups.items():
        console.print(_subgroups(attribute, groups))
    if not part.intervals:
        console.print(f"No intervals: they need at least {FEWEST} images.")


def print_boundaries(result: "BoundaryResult") -> None:
    """A table of boundary scores with their 95 % intervals."""

    def show(values: dict[str, float | None], metric: str, name: str) -> str:
        return _shown(values[name], result.intervals.get(f"{metric}.{name}"))

    table = Table(
        title=f"boundaries within {result.tolerance:g} of the diagonal", title_justify="left"
    )
    table.add_column("")
    for name in ("F", "precision", "recall"):
        table.add_column(name, justify="right")
    for name in result.f1_per_class:
        table.add_row(
            escape(name),
            show(result.f1_per_class, "f1_per_class", name),
            show(result.precision_per_class, "precision_per_class", name),
            show(result.recall_per_class, "recall_per_class", name),
        )
    if len(result.f1_per_class) > 2:
        table.add_section()
        mean = _shown(result.f1, result.intervals.get("f1"))
        table.add_row("mean", mean, "", "", style="bold")
    _console().print(table)


def print_edges(result: "EdgeResult") -> None:
    """ODS, OIS and AP with their 95 % intervals."""
    table = Table(
        title=f"edges within {result.tolerance:g} of the diagonal, one to one", title_justify="left"
    )
    for name in ("", "F or area", "precision", "recall", "threshold"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(
        "ODS",
        _shown(result.ods, result.intervals.get("ods")),
        _shown(result.ods_precision, None),
        _shown(result.ods_recall, None),
        f"{result.ods_threshold:.2f}",
    )
    table.add_row(
        "OIS",
        _shown(result.ois, result.intervals.get("ois")),
        _shown(result.ois_precision, None),
        _shown(result.ois_recall, None),
        "each its own",
    )
    table.add_row("AP", _shown(result.ap, result.intervals.get("ap")), "", "", "")
    _console().print(table)


def _shown(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" + (f"  [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def print_sweep(sweep: "SweepResult") -> None:
    """What became of each job, the best first, and where the comparison is."""
    table = Table(title=escape(sweep.folder), title_justify="left")
    for name in ("job", "settings", "state", "validation", "why"):
        table.add_column(name, justify="right" if name == "validation" else "left")
    best_first = sweep.ranked
    for job in best_first:
        score = "-" if job.score is None else f"{job.score:.4f}"
        why = job.error or ("" if job.state == "done" else job.stopped or "")
        table.add_row(str(job.number), escape(job.name), job.state, score, escape(why))
    console = _console()
    console.print(table)
    if sweep.headline is not None:
        print(sweep.headline)
    if sweep.page is not None:
        print(f"Comparison: {sweep.page}")
    if not sweep.complete:
        print(f"Go on with what is missing: truemask train -m resume={sweep.folder}")


def print_comparison(comparison: "Comparison") -> None:
    """Groups of runs, the best first, and the sentence that says how sure that is."""
    print(comparison.headline)
    parts = list(dict.fromkeys((comparison.chosen_by, comparison.judged)))
    table = Table("runs", *parts, f"difference to the best, {comparison.judged}", "")
    for group in comparison.groups:
        means = [group.means.get(part) for part in parts]
        shown = ["-" if mean is None else f"{mean:.4f}" for mean in means]
        table.add_row(
            escape(group.name), *shown, _difference(group.difference), _verdict(group.difference)
        )
    console = _console()
    console.print(table)
    if len(comparison.detailed) > 1:
        console.print(_class_differences(comparison))
    if comparison.judged == comparison.chosen_by and len(comparison.groups) > 1:
        print(
            "- Without a test part in all runs, the images that chose judge: it flatters the best."
        )
    for note in comparison.notes:
        print(f"- {note}")
    print(f"Page: {comparison.page}")


def _class_differences(comparison: "Comparison") -> Table:
    """The classes of the best and the second."""
    best, second = comparison.detailed[:2]
    assert best.details is not None
    assert second.details is not None
    table = Table(title=escape(f"{second.name} against {best.name}"), title_justify="left")
    for name in ("class", "images", "best", "second", "difference  [95 % interval]", ""):
        table.add_column(name, justify="left" if name in ("class", "") else "right")
    for name, score in second.details.classes.items():
        values = [best.details.classes[name].value, score.value]
        shown = ["-" if value is None else f"{value:.4f}" for value in values]
        gap = score.difference
        table.add_row(escape(name), str(score.images), *shown, _difference(gap), _verdict(gap))
    return table


def print_audit(result: "AuditResult") -> None:
    """The images that come first, and how many are flagged."""
    from truemask.analysis.audit_result import KINDS
    from truemask.runs import UNFINISHED

    table = Table(title=escape(f"labels of {result.run}"), title_justify="left")
    for name in ("rank", "image", "part", "score", "suspicion"):
        table.add_column(name, justify="right" if name in ("rank", "score") else "left")
    first = result.images[:10]
    for image in first:
        score = f"{image.score:.1f}{'' if image.flagged else ' (not flagged)'}"
        words = KINDS[image.kind]
        table.add_row(str(image.rank), escape(image.name), image.part, score, words)
    console = _console()
    console.print(table)
    console.print(
        f"{len(result.flagged)} of {counted(len(result.images), 'label')} flagged, at scores from "
        f"{result.threshold:g} on.",
        highlight=False,
    )
    for note in result.notes:
        if not note.startswith(UNFINISHED):
            console.print(f"- {note}", highlight=False, markup=False)


def _difference(difference: "Difference | None") -> str:
    from truemask.report import formats

    if difference is None:
        return ""
    if difference.identical:
        return "none"
    places = formats.digits(difference.interval, difference.value)
    said = formats.signed(difference.value, places)
    if difference.interval is None:
        return said
    low, high = (formats.signed(end, places) for end in difference.interval)
    return f"{said}  [{low}, {high}]"


def _verdict(difference: "Difference | None") -> str:
    if difference is None or difference.identical:
        return ""
    if not difference.certain:
        return "cannot tell"
    return "better" if difference.value > 0 else "worse"


def _subgroups(attribute: str, groups: "Mapping[str, PartResult]") -> Table:
    """The scores of the images that share a value of an attribute."""
    table = Table(title=escape(f"by {attribute}"), title_justify="left")
    table.add_column("")
    for name in ("images", "IoU  [95 % interval]", "pixel accuracy"):
        table.add_column(name, justify="right")
    for value, group in groups.items():
        iou = "-" if group.iou is None else f"{group.iou:.4f}"
        if "iou" in group.intervals:
            iou += "  [{:.4f}, {:.4f}]".format(*group.intervals["iou"])
        accuracy = "-" if group.pixel_accuracy is None else f"{group.pixel_accuracy:.4f}"
        table.add_row(escape(value), str(group.images), iou, accuracy)
    return table


def print_reproduction(reproduction: "Reproduction") -> None:
    """A table of published figures beside ours, with 95 % intervals where there are some."""
    from truemask.analysis.quantities import describe
    from truemask.projects.page import digits

    def show(cell: "Cell | None") -> str:
        if cell is None:
            return "-"
        ends = "" if cell.interval is None else "  [{}, {}]".format(*map(digits, cell.interval))
        return digits(cell.value) + ends + (f"  ({cell.doubt})" if cell.doubt else "")

    table = Table(title=escape(reproduction.title), title_justify="left")
    table.add_column("")
    for name in ("published", "ours  [95 % interval]", "ours, corrected"):
        table.add_column(name, justify="right")
    before = ""
    for row in reproduction.rows:
        if row.title != before:
            table.add_row(escape(row.title), style="bold")
            before = row.title
        published = "-" if row.published is None else digits(row.published)
        cells = (f"  {describe(row.quantity)}", published, show(row.same), show(row.corrected))
        table.add_row(*map(escape, cells))
    console = _console()
    console.print(table)
    missing = [trial for trial in reproduction.trials if trial.run is None]
    if missing:
        total = counted(len(reproduction.trials), "trial")
        console.print(f"{len(missing)} of {total} not finished.", highlight=False)
    for trial in missing:
        if trial.status == "stopped":
            console.print(f"{trial.name} was stopped: the same command goes on.", highlight=False)


def _console() -> Console:
    """Standard output, whose width matters on a terminal only."""
    return Console(width=None if sys.stdout.isatty() else 100)
