"""A model card: what a run's model is, how good, on what, and what not to do with it, as Markdown.

It is written from the files of the run alone. Names, messages and settings are anybody's text:
what Markdown or HTML would read as its own is escaped, and no path of this machine is told.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from truemask.bundle import Bundle
from truemask.labels import LabelMap
from truemask.report import formats
from truemask.report.content import Content, Finding, read_content
from truemask.results import PartResult
from truemask.runs import Run

_TEMPLATES = Path(__file__).parent / "templates"

METRICS = (
    ("iou", "IoU", "mean_iou"),
    ("dice", "Dice", "dice"),
    ("pixel_accuracy", "Pixel accuracy", "accuracy"),
    ("mean_accuracy", "Mean accuracy of the classes", "mean_accuracy"),
    ("frequency_weighted_iou", "IoU, weighted by frequency", "frequency_weighted_iou"),
)
"""Key of a result, what it is called, and as which metric the Hub knows it."""

_MOST_TEXT = 400
_LONGEST = 20
"""Numbers of a list that are written out, as the widths of a network."""

_PATH = re.compile(r"""(?:(?<=[\s='"(\[])|^)(?:~?/|[A-Za-z]:[/\\])[^\s,:;)'"\]]+""")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A figure of the tested part.

    Attributes:
        name: for people.
        metric: for the Hub.
        value: from 0 to 1.
        interval: of 95 %, where there is one.
    """

    name: str
    metric: str
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model card.

    Attributes:
        repo: "user/name" on the Hub.
        title: of the card.
        license: under which the weights are given away, as the Hub writes it.
        part: the part whose scores it tells, "test" or else "validation"; `None` where none is.
        scores: of that part.
        dataset: what the data is called.
        errors: findings of the level "error".
        text: the Markdown below the metadata.
    """

    repo: str
    title: str
    license: str
    part: str | None
    scores: Sequence[Score]
    dataset: str
    errors: int
    text: str

    def render(self) -> str:
        """The whole file: metadata as the Hub wants it, then the text."""
        from huggingface_hub import EvalResult, ModelCardData

        results = [
            EvalResult(
                task_type="image-segmentation",
                task_name="Semantic segmentation",
                dataset_type=re.sub(r"[^\w.-]+", "-", self.dataset.lower()).strip("-") or "images",
                dataset_name=self.dataset,
                dataset_split=self.part,
                metric_type=score.metric,
                metric_name=score.name,
                metric_value=round(score.value, 6),
            )
            for score in self.scores
        ]
        data = ModelCardData(
            license=self.license,
            library_name="truemask",
            pipeline_tag="image-segmentation",
            tags=["semantic-segmentation", "truemask"],
            metrics=[score.metric for score in self.scores] or None,
            model_name=self.title if results else None,
            eval_results=results or None,
        )
        return f"---\n{data.to_yaml()}\n---\n\n{self.text}"


def make_card(
    run: Run, bundle: Bundle, *, repo: str, license: str, data: str | None, onnx: str | None
) -> Card:
    """The card of a run's model.

    Args:
        run: the run, finished or not.
        bundle: its best weights.
        repo: "user/name" on the Hub.
        license: of the weights.
        data: what the images are, in the words of who knows; and under which terms.
        onnx: what is known of the `model.onnx` beside it; `None` where there is none.

    Raises:
        UsageError: a file of the run is damaged.
    """
    content = read_content(run)
    config = run.config
    result = content.results.get(content.headline or "")
    scores = [] if result is None else _scores(result, bundle.labels)
    title = repo.rsplit("/", 1)[-1]
    findings = None if run.findings is None else content.findings
    errors = sum(finding.level == "error" for finding in content.findings)
    spec = bundle.model.images
    shown: dict[str, Any] = {
        "title": escaped(title),
        "summary": escaped(content.summary),
        "repo": repo,
        "unfinished": result is None,
        "errors": errors,
        "part": content.headline,
        "chosen": "; the best weights were chosen by it, so that its figures flatter a little"
        if content.headline == "validation"
        else "",
        "images": "" if result is None else formats.count(result.images),
        "scores": [
            {
                "name": score.name,
                "value": formats.number(score.value),
                "interval": _interval(score.interval),
            }
            for score in scores
        ],
        "classes": [] if result is None else _classes(result, content),
        "data": escaped(data)
        if data
        else f"{_dataset(config)}. Under which terms these images are used, nobody has said here.",
        "parts": [
            {"name": escaped(part.name), "images": formats.count(part.images)}
            for part in content.parts
        ],
        "input": _input(bundle),
        "findings": None if findings is None else list(map(_finding, findings)),
        "onnx": None if onnx is None else escaped(onnx),
        "mode": "L" if spec.channels == 1 else "RGB",
        "axis": "[..., None]" if spec.channels == 1 else "",
        "num_classes": bundle.labels.num_classes,
        "names": ", ".join(map(escaped, bundle.labels.names)),
        "warns": bundle.inputs is not None,
        "unsure": "" if result is None else _unsure(result),
        "settings": _settings(config, content),
    }
    text = _environment().get_template("card.md").render(**shown)
    return Card(
        repo=repo,
        title=title,
        license=license,
        part=content.headline,
        scores=scores,
        dataset=_dataset(config),
        errors=errors,
        text=re.sub(r"\n{3,}", "\n\n", text).strip() + "\n",
    )


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", line)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # It is Markdown: `escaped` does it.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _scores(result: PartResult, labels: LabelMap) -> list[Score]:
    words = " of the foreground" if labels.num_logits == 1 else " (mean over classes)"
    scores = []
    for key, name, metric in METRICS:
        value = getattr(result, key)
        if value is not None:
            named = name + words if key in ("iou", "dice") else name
            interval = result.intervals.get(key)
            scores.append(Score(name=named, metric=metric, value=value, interval=interval))
    return scores


def _interval(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _classes(result: PartResult, content: Content) -> list[dict[str, str]]:
    shares = {row.name: row.share for row in content.class_rows}
    return [
        {
            "name": escaped(name),
            "iou": formats.number(result.iou_per_class[name]),
            "interval": _interval(result.intervals.get(f"iou_per_class.{name}")),
            "dice": formats.number(result.dice_per_class[name]),
            "precision": formats.number(result.precision_per_class[name]),
            "recall": formats.number(result.recall_per_class[name]),
            "share": formats.percent(shares.get(name)),
        }
        for name in result.iou_per_class
    ]


def _unsure(result: PartResult) -> str:
    """The classes that occur and have no interval."""
    names = [
        escaped(name)
        for name, value in result.iou_per_class.items()
        if value is not None and f"iou_per_class.{name}" not in result.intervals
    ]
    return ", ".join(names) if result.intervals else ""


def _dataset(config: Mapping[str, Any]) -> str:
    data = config.get("data")
    dataset = data.get("dataset") if isinstance(data, Mapping) else None
    target = str(dataset.get("_target_", "")) if isinstance(dataset, Mapping) else ""
    name = target.rsplit(".", 1)[-1]
    return str(config.get("name") or "images") if name in ("", "folder", "shards") else name


def _input(bundle: Bundle) -> str:
    spec, size = bundle.model.images, bundle.model.size
    kind = {1: "grey", 3: "RGB"}.get(spec.channels, f"{spec.channels}-channel")
    at = (
        "of any size."
        if size is None
        else f"of any size, and brings them to {size[1]} x {size[0]}."
    )
    return f"{kind} images, `{spec.dtype}` from {spec.low:g} to {spec.high:g}, {at}"


def _finding(finding: Finding) -> dict[str, str]:
    message = _without_places(finding.message)[:_MOST_TEXT]
    return {"level": finding.level, "code": escaped(finding.code), "message": escaped(message)}


def _without_places(text: str) -> str:
    """Of absolute paths only the last name: where somebody keeps files is nobody's business."""
    return _PATH.sub(lambda path: "…/" + re.split(r"[/\\]", path[0].rstrip("/\\"))[-1], text)


def _settings(config: Mapping[str, Any], content: Content) -> dict[str, str]:
    """What the training did, without where on the disk."""

    def group(name: str) -> Mapping[str, Any]:
        value = config.get(name)
        return value if isinstance(value, Mapping) else {}

    data, trainer, training = group("data"), group("trainer"), content.training
    augmentation = data.get("augmentation")
    parts = augmentation.values() if isinstance(augmentation, Mapping) else ()
    found: dict[str, Any] = {
        "network": formats.construction(group("model"), longest=_LONGEST),
        "loss": formats.construction(group("loss"), longest=_LONGEST),
        "optimiser": formats.construction(group("optimizer")),
        "schedule": formats.construction(group("schedule")),
        "batch": data.get("batch_size"),
        "crop": data.get("crop"),
        "images brought to": data.get("resize"),
        "augmentation": ", ".join(formats.construction(part) for part in parts if part),
        "epochs": training.get("epochs"),
        "steps": training.get("steps"),
        "best epoch": _following(training.get("best_epoch")),
        "moving average": trainer.get("average"),
        "precision": training.get("precision"),
        "time": formats.duration(training.get("seconds")),
        **{key: content.facts.get(key) for key in ("device", "seed", "truemask", "torch")},
    }
    return {
        key: escaped(
            _without_places(value if isinstance(value, str) else json.dumps(value, default=str))
        )
        for key, value in found.items()
        if value not in (None, "", "–")
    }


def _following(epoch: Any) -> int | None:
    """Epochs are counted from 0 in files, and from 1 for people."""
    return epoch + 1 if isinstance(epoch, int) else None
