"""Images on which two groups of runs differ most, and what every run predicts on them.

A prediction is made again by the run's own weights on the run's own data, and is shown only where
it gives the counts that the comparison rests on. Where weights or data are gone, the small pictures
stand in that a run keeps of its best and worst images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image
from rich.console import Console

from truemask.analysis.compare_images import JudgedImages
from truemask.analysis.comparison import Chosen, Metric, Part
from truemask.analysis.run_settings import flat
from truemask.data.views import View
from truemask.errors import UsageError
from truemask.evaluation import Seen
from truemask.images import to_rgb
from truemask.labels import LabelMap
from truemask.metrics.confusion import margins
from truemask.runs import Run
from truemask.training.testing import open_run

_SAME = 0.01
"""Share of an image's pixels in which a prediction that is made again may differ: a GPU rounds
otherwise than a CPU."""

Ids = UInt8[np.ndarray, "H W"]


@dataclass(kw_only=True, eq=False)
class ShownImage:
    """An image, its truth, and what each group predicts; `None` where that is not known."""

    image: UInt8[np.ndarray, "H W 3"]
    truth: Ids
    predictions: dict[int, Ids] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class Pictures:
    """The pictures of the chosen images.

    Attributes:
        shown: name -> what is to be seen.
        labels: for the colours.
        notes: why some are missing.
    """

    shown: dict[str, ShownImage] = field(default_factory=dict)
    labels: LabelMap | None = None
    notes: list[str] = field(default_factory=list)


def choose(
    names: Sequence[str], scores: Float64[np.ndarray, "G n"], metric: Metric, *, most: int
) -> list[Chosen]:
    """The images on which the first group gains and loses most against the second, in turn.

    In turn, so that a reader who sees the first few sees both: what it gains and what that costs.

    Args:
        names: of n images.
        scores: of the first groups.
        metric: what the scores are.
        most: how many of each kind.
    """
    if len(scores) < 2:
        return []
    gains = (scores[0] - scores[1]) * (-1.0 if metric == "loss" else 1.0)
    order = np.argsort(-gains, kind="stable")
    picked: list[tuple[Literal["gained", "lost"], int]] = []
    for best, worst in zip(order[:most], order[::-1][:most], strict=True):
        if gains[best] > 0:
            picked.append(("gained", int(best)))
        if gains[worst] < 0:
            picked.append(("lost", int(worst)))
    return [
        Chosen(name=names[i], kind=kind, scores=[float(score) for score in scores[:, i]])
        for kind, i in picked
    ]


def predict_chosen(
    chosen: Sequence[Chosen],
    runs: Sequence[tuple[int, Run]],
    judged: JudgedImages,
    part: Part,
    *,
    console: Console,
) -> tuple[list[Chosen], Pictures]:
    """What the first run of each group predicts on the chosen images.

    Args:
        chosen: the images.
        runs: of each group its place among all runs, and the run.
        judged: the counts that the comparison rests on.
        part: where the images are from.
        console: where progress is shown.
    """
    pictures = Pictures()
    names = [item.name for item in chosen]
    made: set[tuple[str, int]] = set()
    for number, (place, run) in enumerate(runs):
        if not names:
            break
        try:
            made |= _predict(run, number, place, names, judged, part, pictures, console)
        except UsageError as error:
            line = " ".join(str(error).split())
            pictures.notes.append(f"{run.path} cannot predict again, so pictures lack: {line}")
        _recall(run, number, names, part, pictures)
    sources: list[Any] = [
        None
        if name not in pictures.shown or not pictures.shown[name].predictions
        else "weights" if all((name, n) in made for n in pictures.shown[name].predictions)
        else "pictures"
        for name in names
    ]  # fmt: skip
    return [
        replace(item, source=source) for item, source in zip(chosen, sources, strict=True)
    ], pictures


def _predict(
    run: Run,
    number: int,
    place: int,
    names: Sequence[str],
    judged: JudgedImages,
    part: Part,
    pictures: Pictures,
    console: Console,
) -> set[tuple[str, int]]:
    config = run.config
    settings = dict(flat(config))
    if "://" in str(settings.get("data.dataset.root")):
        raise UsageError(
            f"its data is at {settings['data.dataset.root']}, which is not fetched for pictures"
        )
    opened = open_run(run, config=config, allow={}, console=console)
    dataset = opened.parts[opened.part(part)]
    where = {name: i for i, name in enumerate(dataset.names)}
    members = [where[name] for name in names if name in where]
    if not members:
        return set()
    pictures.labels = pictures.labels or opened.bundle.labels
    seen: dict[str, tuple[np.ndarray[Any, Any], Ids, Ids]] = {}

    def keep(one: Seen) -> None:
        truth, ids = (np.asarray(x.cpu(), dtype=np.uint8) for x in (one.truth, one.ids))
        seen[one.sample.name] = to_rgb(one.sample.image, dataset.images), truth, ids

    again = opened.evaluate(
        part, console=console, dataset=View.of([dataset]).take(members), observe=keep,
        title="Predicting",
    )  # fmt: skip
    own = judged.runs[place]
    rows = {judged.names[i]: row for row, i in enumerate(own.places)}
    done = set()
    for name, matrix in zip(again.names, again.matrices, strict=True):
        counts = margins(matrix)
        row = rows[name]
        off = sum(int(np.abs(a - b[row]).sum()) for a, b in zip(counts, own.counts, strict=True))
        if off > _SAME * matrix.sum():
            note = f"{run.path} predicts otherwise than when it was tested: its data or weights"
            pictures.notes.append(f"{note} were changed, so that its pictures are left out.")
            break
        image, truth, ids = seen[name]
        shown = pictures.shown.setdefault(name, ShownImage(image=image, truth=truth))
        shown.predictions[number] = _fitted(ids, shown)
        done.add((name, number))
    return done


def _recall(run: Run, number: int, names: Sequence[str], part: Part, pictures: Pictures) -> None:
    """The pictures that a run keeps, where a prediction could not be made again."""
    for sample in run.samples:
        if sample.part != part or sample.name not in names or sample.prediction is None:
            continue
        shown = pictures.shown.setdefault(
            sample.name, ShownImage(image=sample.image, truth=sample.truth)
        )
        if number not in shown.predictions:
            shown.predictions[number] = _fitted(sample.prediction, shown)
            pictures.labels = pictures.labels or run.labels


def _fitted(ids: Ids, shown: ShownImage) -> Ids:
    """Ids at the size of the image that is shown: runs may keep or judge it at different sizes."""
    height, width = shown.truth.shape
    if ids.shape == (height, width):
        return ids
    return np.asarray(Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST))
