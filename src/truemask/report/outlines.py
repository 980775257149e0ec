"""How well a run's outlines lie, as `evaluate --boundaries` and `--edges` left it in its folder."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from truemask.errors import UsageError
from truemask.metrics.boundary import BoundaryResult
from truemask.metrics.edges import EdgeResult
from truemask.report.formats import is_number
from truemask.runs import Run
from truemask.untrusted import naming, read_object

T = TypeVar("T", BoundaryResult, EdgeResult)

_MOST = 20
"""Evaluations of one kind that a report shows."""


@dataclass(frozen=True)
class Outlines(Generic[T]):
    """The scores of one evaluation.

    Attributes:
        of: which part of which data.
        result: the scores.
    """

    of: str
    result: T


def read_boundaries(run: Run) -> tuple[list[Outlines[BoundaryResult]], list[str]]:
    """What `evaluate --boundaries` left, of the run's own data first; and what is damaged."""
    return _read(run, "boundaries", _boundaries)


def read_edges(run: Run) -> tuple[list[Outlines[EdgeResult]], list[str]]:
    """What `evaluate --edges` left, of the run's own data first; and what is damaged."""
    return _read(run, "edges", _edges)


def _read(
    run: Run, kind: str, build: Callable[[Mapping[str, Any]], T]
) -> tuple[list[Outlines[T]], list[str]]:
    found, wrong = [], []
    for name in _names(run, kind):
        file = run.path / f"evaluation-{kind}-{name}.json"
        try:
            with naming(file):
                result = build(read_object(file))
        except UsageError as error:
            wrong.append(str(error))
        else:
            part, _, other = name.partition("-on-")
            found.append(Outlines(f"{part} of {other}" if other else part, result))
    return found, wrong


def _names(run: Run, kind: str) -> Iterator[str]:
    start = f"evaluation-{kind}-"
    names = [file.stem.removeprefix(start) for file in run.path.glob(f"{start}*.json")]
    yield from sorted(names, key=lambda name: ("-on-" in name, name != "test", name))[:_MOST]


def _boundaries(value: Mapping[str, Any]) -> BoundaryResult:
    known = _known(value, BoundaryResult)
    tables = {name: item for name, item in known.items() if name.endswith("_per_class")}
    for name, table in tables.items():
        if table.keys() != known["f1_per_class"].keys():
            raise TypeError(f"{name} must name the classes of f1_per_class")
        _require_numbers(name, [x for x in table.values() if x is not None])
    _require_numbers("tolerance, images", [known["tolerance"], known["images"]])
    _require_numbers("f1", [] if known["f1"] is None else [known["f1"]])
    return BoundaryResult(**known)


def _edges(value: Mapping[str, Any]) -> EdgeResult:
    known = _known(value, EdgeResult)
    lists = ("thresholds", "precision", "recall")
    for name in lists:
        _require_numbers(name, list(known[name]))
    plain = [item for name, item in known.items() if name not in (*lists, "intervals")]
    _require_numbers("a score", plain)
    return EdgeResult(**known)


def _known(value: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The fields of a result, with its intervals as pairs of numbers."""
    known = {field.name: value[field.name] for field in fields(kind)}
    known["intervals"] = {
        str(name): (float(low), float(high)) for name, (low, high) in known["intervals"].items()
    }
    return known


def _require_numbers(name: str, values: list[Any]) -> None:
    # A score of nothing is written as null or NaN, which a page shows as a dash.
    if not all(is_number(item) or isinstance(item, float) for item in values):
        raise TypeError(f"{name} must hold numbers")
