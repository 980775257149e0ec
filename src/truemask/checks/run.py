"""After training: a run folder, or the table that anybody's training wrote."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from truemask.checks.ending import not_finished, overfitted
from truemask.checks.finding import Finding, worst_first
from truemask.checks.histories import Column, History, Table
from truemask.checks.learning import collapsed, never_moved, non_finite
from truemask.checks.naming import check_name
from truemask.checks.tested import other_weights_tested
from truemask.checks.trivial import collapsed_counts, trivial_score
from truemask.errors import UsageError
from truemask.per_image import Evaluation, load_parts
from truemask.runs import Run


def check_run(run_folder: Path | str) -> list[Finding]:
    """Look for silent bugs in what a training left behind.

    Args:
        run_folder: a run of Truemask, finished or not; nothing in it is executed.

    Raises:
        UsageError: the folder is no run, or a file of it is damaged.
    """
    run = Run.open(Path(run_folder))
    config = run.config
    monitor = _setting(config, "trainer", "monitor")
    found: list[Finding] = []
    history = History.of(run.history, source=str(run.path / "history.csv"))
    if history.columns:
        column = history.columns.get(str(monitor)) if monitor else history.monitored(None)
        found += other_weights_tested(run, history, column)
        kept = not any(finding.code == "TM605" for finding in found)
        found += _of_history(history, column, best_is_kept=kept)
    found += _of_counts(run, by_history=any(finding.code == "TM601" for finding in found))
    found += _of_name(run, config)
    return worst_first(found)


def check_history(
    history: Table, *, monitor: str | None = None, best_is_kept: bool = False
) -> list[Finding]:
    """Look for silent bugs in the table that a training wrote, whatever wrote it.

    Columns are understood by their names: those with "loss" are losses, those with "iou", "dice",
    "acc" and the like are scores, and "val", "valid", "eval" or "test" mark what is of images that
    were not trained on.

    Args:
        history: a CSV file, a list of rows, or a mapping of columns to lists.
        monitor: the column that chose the weights to keep; by default a held-out score or loss.
        best_is_kept: whether those weights are known to have been kept and tested.

    Raises:
        UsageError: the file cannot be read, or has no column `monitor`.
    """
    table = History.of(history)
    found = _of_history(table, table.monitored(monitor), best_is_kept=best_is_kept)
    return worst_first(found)


def _of_history(
    history: History, column: Column | None, *, best_is_kept: bool
) -> Iterator[Finding]:
    yield from non_finite(history)
    yield from never_moved(history)
    yield from collapsed(history)
    if column is not None:
        yield from not_finished(history, column)
        yield from overfitted(history, column, best_is_kept=best_is_kept)


def _of_counts(run: Run, *, by_history: bool) -> Iterator[Finding]:
    """TM601 and TM604 on the part that the report shows."""
    if not run.per_image_path.exists():
        return
    parts = load_parts(run.per_image_path)
    part = next((name for name in ("test", "validation", *parts) if name in parts), None)
    if part is None:
        return
    evaluation = parts[part]
    names, where = evaluation.labels.names, f"{run.path}: {part}"
    if not by_history:
        yield from collapsed_counts(evaluation.matrices, names=names, where=where)
    maps = load_parts(run.trivial_path) if run.trivial_path.exists() else {}
    yield from trivial_score(
        evaluation.matrices,
        names=names,
        largest=_largest(run, names),
        maps={"map": maps[part].matrices} if _same_images(maps.get(part), evaluation) else {},
        where=where,
    )


def _same_images(one: Evaluation | None, other: Evaluation) -> bool:
    return one is not None and one.names == other.names and one.labels.names == other.labels.names


def _largest(run: Run, names: tuple[str, ...]) -> int | None:
    """The class with the most training pixels, which is what a trivial model would say."""
    try:
        counts = run.environment["training"]["class_counts"]
        return max(range(len(names)), key=lambda k: int(counts[names[k]]))
    except (UsageError, KeyError, TypeError, ValueError):
        return None


def _of_name(run: Run, config: Mapping[str, Any]) -> list[Finding]:
    name = config.get("name")
    root = _setting(config, "data", "dataset", "root")
    # A run without a name of its own is called as its data, which tells nothing of settings.
    if not isinstance(name, str) or (isinstance(root, str) and Path(root).name == name):
        return []
    return check_name(name, config)


def _setting(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
