"""The page of an explanation: one file, which works offline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from truemask.analysis.explain_charts import charts
from truemask.analysis.explain_pictures import Album
from truemask.analysis.explanation import Explanation, Frame
from truemask.errors import counted
from truemask.labels import LabelMap
from truemask.report import pictures
from truemask.report.gallery import GalleryItem, gallery_content
from truemask.report.pages import render_page
from truemask.report.pictures import Picture, Quality
from truemask.run_pictures import Course

_STRIP = Quality(1600, 80)


@dataclass(frozen=True)
class _Still:
    """A frame of the film."""

    picture: Picture
    said: str


@dataclass(frozen=True)
class _Film:
    """The fixed images, their truth, and what was predicted of them over the training."""

    image: Picture
    truth: Picture
    frames: Sequence[_Still]


def page_of(
    explanation: Explanation,
    *,
    album: Album,
    course: Course | None,
    labels: LabelMap,
    asked: bool,
) -> str:
    """The page.

    Args:
        explanation: what it shows.
        album: the pictures.
        course: the predictions over the training.
        labels: for the colours.
        asked: whether the images of the attention maps were named.
    """
    run = Path(explanation.run)
    accuracy = explanation.scores.pixel_accuracy
    context = {
        "found": explanation,
        "labels": labels,
        "name": run.resolve().parent.name,
        "started": run.resolve().name.replace("_", " "),
        "report": (run / "report.html").exists(),
        "wrong": None if accuracy is None else 1 - accuracy,
        "charts": charts(explanation),
        "colors": {
            name: "#{:02x}{:02x}{:02x}".format(*color)
            for name, color in zip(labels.names, labels.colors, strict=True)
        },
        "examples": gallery_content(_examples(explanation, album)),
        "attended": list(album.of_attention.values()),
        "asked": asked,
        "film": _film(course, explanation.frames),
    }
    return render_page("explanation.html", context)


def _examples(explanation: Explanation, album: Album) -> Iterator[GalleryItem]:
    """The images that hold most of each confusion."""
    for place, item in enumerate(explanation.confusions):
        words = f"{item.truth} taken for {item.prediction}"
        for image in item.images:
            yield GalleryItem(
                name=image.name,
                pictures=album.of_confusion[place, image.name].pictures,
                facts={"confusion": words, "pixels": image.pixels},
                note=f"{words}: {counted(image.pixels, 'pixel')} of this image.",
            )


def _film(course: Course | None, frames: Sequence[Frame]) -> _Film | None:
    if course is None or not frames:
        return None
    return _Film(
        image=pictures.photo(course.image, _STRIP),
        truth=pictures.drawing(course.truth, _STRIP),
        frames=[
            _Still(pictures.drawing(course.steps[frame.step], _STRIP), _said(frame))
            for frame in frames
        ],
    )


def _said(frame: Frame) -> str:
    if frame.epoch is None:
        return f"after step {frame.step:,}"
    return f"epoch {frame.epoch + 1}, step {frame.step:,}"
