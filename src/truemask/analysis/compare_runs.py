"""The finished runs of some paths, what tells them apart, and their names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.analysis.run_settings import MOST_NAMED, REPEATS, differing, flat, short
from truemask.errors import UsageError
from truemask.results import PartResult
from truemask.runs import Run, list_runs
from truemask.untrusted import read_object


@dataclass(frozen=True)
class Entry:
    """A finished run, and the sweep that it is of.

    Attributes:
        run: where it is.
        results: part -> its scores.
        sweep: the folder of its sweep; `None` where it is of none.
        varied: what that varied.
    """

    run: Run
    results: Mapping[str, PartResult]
    sweep: Path | None
    varied: Mapping[str, Any]


def finished(paths: Sequence[Path]) -> tuple[list[Entry], list[Path]]:
    """The finished runs of all paths, and the others.

    Each counts once, but for a run that is given twice and is all that is given: that is held
    against itself.

    Raises:
        UsageError: there is no finished run.
    """
    entries: dict[Path, Entry] = {}
    unfinished: list[Path] = []
    times = 0
    for path in paths:
        found = list(_found(path))
        if not found:
            raise UsageError(f"there is no run in {path}: give runs, or a sweep")
        for run, sweep, varied in found:
            if run.finished:
                entry = Entry(run, run.results, sweep, varied)
                if "validation" not in entry.results:
                    raise UsageError(f"{run.path} has no validation results to be chosen by")
                entries[run.path.resolve()] = entry
                times += 1
            elif len(found) == 1:
                run.results  # noqa: B018 - it says how to finish it
            else:
                unfinished.append(run.path)
    if not entries:
        raise UsageError(f"no run in {', '.join(map(str, paths))} has results yet")
    return list(entries.values()) * (2 if len(entries) == 1 and times > 1 else 1), unfinished


def _found(path: Path) -> Iterator[tuple[Run, Path | None, Mapping[str, Any]]]:
    """The runs of a path; of a sweep's job the newest, with the settings that it varied."""
    if not (path / "sweep.json").is_file():
        runs = list_runs(path)
        yield from ((run, None, {}) for run in (runs[::-1] if runs else [Run.open(path)]))
        return
    folders = [folder for folder in path.glob("jobs/*") if folder.name.isdigit()]
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        newest = next(iter(list_runs(folder)), None)
        if newest is not None:
            varied = read_object(folder / "job.json").get("settings")
            yield newest, path, varied if isinstance(varied, Mapping) else {}


def settings_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What differs: of a sweep's runs what it varied, not what each training settled by itself."""
    sweeps = {entry.sweep for entry in entries}
    if len(sweeps) == 1 and None not in sweeps:
        return differing([entry.varied for entry in entries])
    first: dict[Path | None, dict[str, Any]] = {}
    found = []
    for entry in entries:
        own = dict(flat(entry.run.config))
        if entry.sweep is not None:
            # What a sweep did not vary is as in its first run: a class weight that was worked out
            # of each split, for one, makes no group of its own.
            varied = (*entry.varied, *REPEATS)
            base = first.setdefault(entry.sweep, own)
            own = {k: v for k, v in own.items() if _is_below(k, varied)} | {
                k: v for k, v in base.items() if not _is_below(k, varied)
            }
        found.append(own)
    return differing(found)


def _is_below(key: str, keys: Sequence[str]) -> bool:
    return any(key == above or key.startswith(f"{above}.") for above in keys)


def names_of(entries: Sequence[Entry], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells each run from the others: its settings, else its experiment, else its folder."""
    if 0 < len({key for own in settings for key in own}) <= MOST_NAMED:
        names = [short(own) for own in settings]
        if len(set(names)) == len(names):
            return names
    names = [str(entry.run.config.get("name") or "") for entry in entries]
    if len(set(names)) == len(names) and all(names):
        return names
    names = ["/".join(entry.run.path.resolve().parts[-2:]) for entry in entries]
    return [
        name if name not in names[:i] else f"{name} ({names[:i].count(name) + 1})"
        for i, name in enumerate(names)
    ]
