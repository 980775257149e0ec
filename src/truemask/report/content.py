"""What a report says of a run: its folder, read and put into words; no score is computed.

Every file may be missing or damaged, because a training can be killed at any moment: the report
then shows the rest.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import yaml
from jaxtyping import UInt8

from truemask.errors import UsageError
from truemask.labels import LabelMap
from truemask.metrics.boundary import BoundaryResult
from truemask.metrics.edges import EdgeResult
from truemask.report import formats
from truemask.report.confusion import (
    Confusion,
    ConfusionRow,
    confusion_rows,
    largest_confusions,
)
from truemask.report.curves import Chart, draw_curves, last_epoch
from truemask.report.outlines import Outlines, read_boundaries, read_edges
from truemask.results import PartResult
from truemask.run_findings import read_picture
from truemask.runs import Run, RunSample

T = TypeVar("T")

_MOST_TEXT = 100_000
_MOST_FINDINGS = 100
_MOST_PICTURES = 4  # of one finding
_MOST_ILLUSTRATED = 20  # findings whose pictures are shown, from the first


@dataclass(frozen=True)
class Part:
    """A part of the data, with as much as is known of it."""

    name: str
    images: int | None
    iou: float | None


@dataclass(frozen=True)
class ClassRow:
    """A class with its share of the training pixels and its weight in the loss."""

    name: str
    color: str
    share: float | None
    weight: float | None


@dataclass(frozen=True)
class Finding:
    """What a check said, as text, and what shows it: pictures, each with its caption."""

    level: str
    code: str
    message: str
    where: str
    remedy: str
    evidence: str
    pictures: tuple[tuple[str, UInt8[np.ndarray, "H W 3"]], ...]


@dataclass(frozen=True)
class Content:
    """All that the template `report.html` shows.

    Attributes:
        missing: what the run lacks and why, one sentence each.
        headline: the part whose scores the page shows: the test part, or else validation.
        boundaries: what `truemask evaluate --boundaries` found; empty where it was not asked.
        edges: likewise of `--edges`.
        explanation: the page of `truemask explain` beside this one; `None` where there is none.
    """

    experiment: str
    started: str
    summary: str
    missing: list[str]
    labels: LabelMap | None
    results: dict[str, PartResult]
    headline: str | None
    parts: list[Part]
    training: Mapping[str, Any]
    loss: str | None
    class_rows: list[ClassRow]
    charts: list[Chart]
    confusion: list[ConfusionRow]
    confused: list[Confusion]
    findings: list[Finding]
    config: str
    facts: dict[str, str]
    command: str | None
    samples: list[RunSample]
    boundaries: list[Outlines[BoundaryResult]]
    edges: list[Outlines[EdgeResult]]
    explanation: str | None

    @property
    def colors(self) -> dict[str, str]:
        """Class -> CSS colour."""
        return {row.name: row.color for row in self.class_rows}


def read_content(run: Run) -> Content:
    """Read a run folder, as far as it can be read."""
    missing: list[str] = []

    def read(of: Callable[[], T], otherwise: T) -> T:
        try:
            return of()
        except UsageError as error:
            missing.append(str(error))
            return otherwise

    config: dict[str, Any] = read(lambda: run.config, {})
    environment: dict[str, Any] = read(lambda: run.environment, {})
    labels: LabelMap | None = read(lambda: run.labels, None)
    results: dict[str, PartResult] = read(lambda: run.results, {})
    training = _mapping(environment.get("training"))
    loss = config.get("loss")
    history: list[dict[str, str]] = read(lambda: run.history, [])
    headline = next((name for name in ("test", "validation", *results) if name in results), None)
    parts = _parts(read(lambda: run.splits, {}), training, results)
    confusion = _confusion(results[headline]) if headline is not None else []
    boundaries, damaged = read_boundaries(run)
    edges, damaged_edges = read_edges(run)
    missing += [*damaged, *damaged_edges]
    path = run.path.absolute()
    return Content(
        experiment=str(config.get("name") or path.parent.name),
        started=path.name.replace("_", " "),
        summary=_summary(config, environment, labels, parts, epochs=last_epoch(history)),
        labels=labels,
        results=results,
        headline=headline,
        parts=parts,
        training=training,
        loss=formats.construction(loss) if loss is not None else None,
        class_rows=_class_rows(loss, training, labels),
        charts=read(lambda: draw_curves(history, best_step=training.get("best_step")), []),
        confusion=confusion,
        confused=largest_confusions(confusion, most=8),
        findings=[
            _finding(item, _evidence(run, item, missing) if place < _MOST_ILLUSTRATED else [])
            for place, item in enumerate((read(lambda: run.findings, None) or [])[:_MOST_FINDINGS])
        ],
        config=_clip(yaml.safe_dump(config, sort_keys=False, allow_unicode=True)),
        facts=_facts(environment, training),
        command=_command(environment.get("command_line")),
        samples=read(lambda: run.samples, []),
        boundaries=boundaries,
        edges=edges,
        explanation=run.explanation_path.name if run.explanation_path.is_file() else None,
        missing=missing,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _parts(
    splits: Mapping[str, Sequence[str]],
    training: Mapping[str, Any],
    results: Mapping[str, PartResult],
) -> list[Part]:
    """The parts, in the order in which a training uses them."""
    known = {str(name): _mapping(part) for name, part in _mapping(training.get("parts")).items()}
    names = known.keys() | splits.keys() | results.keys()
    order = {"train": 0, "validation": 1, "test": 2}
    parts = []
    for name in sorted(names, key=lambda name: (order.get(name, 3), name)):
        facts, result = known.get(name, {}), results.get(name)
        images = facts.get("images")
        if images is None:
            images = len(splits[name]) if name in splits else result.images if result else None
        parts.append(Part(name, images, result.iou if result else None))
    return parts


def _summary(
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    labels: LabelMap | None,
    parts: Sequence[Part],
    epochs: int,
) -> str:
    """The run in a few sentences, of what is known."""
    training = _mapping(environment.get("training"))
    target = _mapping(config.get("model")).get("_target_")
    words = [formats.model(target) if isinstance(target, str) else "A model"]
    if (parameters := training.get("parameters")) is not None:
        words.append(f"{formats.quantity(parameters)} parameters")
    part = next((part for part in parts if part.name == "train"), None)
    if part is not None and part.images is not None:
        size = training.get("median_size")  # height, width
        of = (
            f" of {size[1]} × {size[0]} pixels" if isinstance(size, list) and len(size) == 2 else ""
        )
        words.append(f"trained on {formats.count(part.images)} images{of}")
    if labels is not None:
        words.append(f"{labels.num_classes} classes")
    if (seconds := training.get("seconds")) is not None:
        words.append(f"{formats.duration(seconds)} on {formats.device(environment.get('device'))}")
    text = ", ".join(words) + "."
    best = training.get("best_epoch")
    if isinstance(best, int) and epochs > 0:
        text += f" Best epoch: {best + 1} of {epochs}."
    if (stopped := training.get("stopped")) is not None:
        text += f" Training ended: {str(stopped).removesuffix('.')}."
    return text


def _class_rows(loss: Any, training: Mapping[str, Any], labels: LabelMap | None) -> list[ClassRow]:
    if labels is None:
        return []
    shares = _mapping(training.get("class_shares"))
    weights = next(_class_weights(loss, labels.num_classes), [None] * labels.num_classes)
    return [
        ClassRow(
            name,
            color="#{:02x}{:02x}{:02x}".format(*color),
            share=shares[name] if formats.is_number(shares.get(name)) else None,
            weight=weight,
        )
        for name, color, weight in zip(labels.names, labels.colors, weights, strict=True)
    ]


def _class_weights(loss: Any, num_classes: int) -> Iterator[list[Any]]:
    """The lists of one weight for each class in the settings of a loss, however deep they stand."""
    if isinstance(loss, list):
        for item in loss:
            yield from _class_weights(item, num_classes)
    for key, value in _mapping(loss).items():
        if key == "weight" and isinstance(value, list) and len(value) == num_classes:
            yield value
        yield from _class_weights(value, num_classes)


def _confusion(result: PartResult) -> list[ConfusionRow]:
    return confusion_rows(result.confusion, list(result.iou_per_class))


def _evidence(
    run: Run, item: Mapping[str, Any], missing: list[str]
) -> list[tuple[str, UInt8[np.ndarray, "H W 3"]]]:
    """The first pictures of a finding, each with its caption; of one that is damaged, why."""
    listed = item.get("pictures")
    found = []
    for picture in listed[:_MOST_PICTURES] if isinstance(listed, list) else []:
        known = _mapping(picture)
        try:
            pixels = read_picture(run.path, known.get("file"))
        except UsageError as error:
            missing.append(str(error))
        else:
            found.append((_plain(known.get("caption")), pixels))
    return found


def _finding(
    item: Mapping[str, Any], pictures: Sequence[tuple[str, UInt8[np.ndarray, "H W 3"]]]
) -> Finding:
    level = str(item.get("level"))
    return Finding(
        level=level if level in ("error", "warning") else "note",
        evidence=_clip(_plain(item["evidence"])) if item.get("evidence") else "",
        pictures=tuple(pictures),
        **{key: _plain(item.get(key, "")) for key in ("code", "message", "where", "remedy")},
    )


def _facts(environment: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, str]:
    """What the run ran with, as name -> text."""
    apart = ("versions", "training", "command_line")
    facts = {key: value for key, value in environment.items() if key not in apart}
    facts |= {key: training.get(key) for key in ("precision", "steps", "images_per_second")}
    facts |= {str(name): value for name, value in _mapping(environment.get("versions")).items()}
    return {
        key.replace("_", " "): formats.compact(value) if isinstance(value, float) else _plain(value)
        for key, value in facts.items()
        if value is not None
    }


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return (
        value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    )


def _command(value: Any) -> str | None:
    """The command line as a shell takes it."""
    if isinstance(value, list):
        return shlex.join(str(word) for word in value)
    return str(value) if value is not None else None


def _clip(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}\n... (shortened)"
