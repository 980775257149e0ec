"""Looking into a run: how sure it is, where it errs, what that costs, where its gates look.

    RUN/explanation.json   the result
    RUN/explanation.html   the page

Of other data than the run's own they are called `explanation-on-NAME-DIGITS`, by its folder.

One pass over a part counts everything, by the very function that gives the scores of the run; the
few images that are shown go through the model a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from truemask.analysis import explain_summary as summary
from truemask.analysis import explain_words as words
from truemask.analysis.explain_images import SEED, chosen, telling
from truemask.analysis.explain_page import page_of
from truemask.analysis.explain_pictures import Album, has_gates
from truemask.analysis.explain_tally import Sampled, Tally
from truemask.analysis.explanation import Explanation, Frame, TakenBack, TemperatureFit
from truemask.analysis.quantities import column
from truemask.bundle import save_temperature
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import UsageError
from truemask.files import write_json, write_text
from truemask.metrics.calibration import fit_temperature
from truemask.per_image import Evaluation
from truemask.report.pages import render_report
from truemask.run_pictures import Course
from truemask.runs import Run, on_other_data
from truemask.training.testing import OpenedRun, open_run

MOST_FRAMES = 16
MOST_SHOWN = 12


def explain(
    run: Run,
    *,
    config: Mapping[str, Any],
    other_data: bool = False,
    split: str | None = None,
    images: int | None = None,
    show: Sequence[str] = (),
    calibrate: bool | None = None,
    allow: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Explanation | TakenBack:
    """Look into the best weights of a run, and write the result and its page into its folder.

    Taking a temperature back needs no data: where it cannot be opened, that is all that is done.

    Args:
        run: any run, also somebody else's.
        config: its configuration, with changes.
        other_data: whether these name other data than the run's.
        split: "train", "validation" or "test"; `None` for test, or validation where there is none.
        images: how many to look at, chosen by a fixed seed; `None` for all.
        show: images whose attention maps are drawn; by default the best, the middle and the worst.
        calibrate: whether to fit a temperature on the validation part and keep it in the bundle;
            `False` takes it back, `None` leaves it as it is.
        allow: by dotted name, what the run may be built of besides the package's own.
        console: where progress is shown.

    Raises:
        UsageError: the run has no weights, its data cannot be used, or an argument is wrong.
    """
    console = console or Console(stderr=True)
    if calibrate and other_data:
        raise UsageError("--calibrate fits on the run's own validation part: leave data.* out")
    if calibrate is False and run.bundle_folder.exists():
        # First of all, so that it can be taken back where the data is no longer there.
        save_temperature(run.bundle_folder, 1.0)
    try:
        opened = open_run(
            run, config=config, other_data=other_data, allow=allow or {}, console=console
        )
    except UsageError as error:
        if calibrate is not False or not run.bundle_folder.exists():
            raise
        return _taken_back(run, error)
    part = opened.part(split)
    dataset, seed = chosen(opened.parts[part], images)
    _check_shown(show, dataset, gates=has_gates(opened.bundle))
    fit = _fit(opened, console) if calibrate else None
    temperature = opened.bundle.temperature if fit is None else fit.temperature
    tally = Tally(
        labels=opened.bundle.labels,
        temperatures=(1.0,) if temperature == 1.0 else (1.0, temperature),
    )
    evaluation = opened.evaluate(
        part, dataset=dataset, observe=tally, console=console, title="Looking into"
    )
    notes = _notes(opened, part, seed=seed, images=len(dataset), fit=fit, other_data=other_data)
    path = run.explanation_path
    if other_data:
        path = path.with_name(f"{path.stem}{on_other_data(config)}.html")
        root = config["data"]["dataset"].get("root", "other data")
        notes.insert(0, f"These are images of {root}, not of the run's own data.")
    if seed is None and not other_data:
        notes += _difference(run, part, evaluation)
    explanation = replace(
        _explanation(run, part, evaluation, tally, fit=fit, notes=notes),
        of=len(opened.parts[part]),
        page=str(path),
        seed=seed,
    )
    album = _album(opened, part, dataset, evaluation, explanation, show, console)
    course = run.course(most=MOST_FRAMES)
    explanation = _with_pictures(explanation, run, album, course)
    page = page_of(
        explanation, album=album, course=course, labels=evaluation.labels, asked=bool(show)
    )
    _write(run, explanation, page, path)
    return explanation


def _taken_back(run: Run, error: UsageError) -> TakenBack:
    kept = f" {run.explanation_path} is of before." if run.explanation_path.exists() else ""
    return TakenBack(
        run=str(run.path),
        temperature=1.0,
        said=f"The bundle's temperature is 1 again.{kept} The run was not looked into: {error}",
    )


def _with_pictures(
    explanation: Explanation, run: Run, album: Album, course: Course | None
) -> Explanation:
    """What the pictures tell."""
    gates = album.gates()
    return replace(
        explanation,
        notes=[*explanation.notes, *_too_large(album)],
        attention=gates,
        shown=list(album.of_attention),
        frames=_frames(run, course),
        said=explanation.said | {"attention": words.attention_words(gates)},
    )


def _write(run: Run, explanation: Explanation, page: str, path: Path) -> None:
    """Keep the temperature, where one was fitted, and what was found."""
    if explanation.fit is not None:
        save_temperature(run.bundle_folder, explanation.fit.temperature)
    write_json(path.with_suffix(".json"), explanation.to_json())
    write_text(path, page)
    if run.report_path.exists():
        render_report(run)  # which then has a link to the page


def _check_shown(show: Sequence[str], dataset: SegmentationDataset, *, gates: bool) -> None:
    if show and not gates:
        raise UsageError("--show draws attention maps, but this model has no gates: leave it out")
    if len(show) > MOST_SHOWN:
        raise UsageError(f"--show names {len(show)} images: give {MOST_SHOWN} at most")
    known = set(dataset.names)
    for name in show:
        if name not in known:
            raise UsageError(
                f"--show {name}: there is no such image among the {len(known)} that are looked at "
                f"(one is {dataset.names[0]})"
            )


def _fit(opened: OpenedRun, console: Console) -> TemperatureFit:
    """The temperature at which the validation part is most likely; the test part is not asked."""
    if "validation" not in opened.parts:
        raise UsageError("--calibrate fits on the validation part, which this data does not have")
    dataset = opened.parts["validation"]
    drawn = Sampled.of(opened.bundle, images=len(dataset), seed=SEED)
    opened.evaluate("validation", observe=drawn, console=console, title="Calibrating")
    if drawn.pixels == 0:
        raise UsageError("--calibrate: no pixel of the validation part counts")
    found = fit_temperature(
        np.concatenate(drawn.logits), np.concatenate(drawn.truth), np.concatenate(drawn.weights)
    )
    return TemperatureFit(
        part="validation",
        images=len(dataset),
        pixels=drawn.pixels,
        temperature=found.value,
        before=found.before,
        after=found.after,
        bounded=found.bounded,
    )


def _notes(
    opened: OpenedRun,
    part: str,
    *,
    seed: int | None,
    images: int,
    fit: TemperatureFit | None,
    other_data: bool,
) -> list[str]:
    whole = len(opened.parts[part])
    notes = []
    if opened.unfinished is not None:
        notes.append(opened.unfinished)
    if seed is not None:
        notes.append(
            f"{images} of {whole} images of the {part} part, chosen by the seed {seed}: other "
            "images would give somewhat other figures, as the intervals say."
        )
    if part == "validation" and not other_data:
        notes.append(
            "The validation part chose the weights: on new images expect somewhat more errors."
        )
    if part == "train" and not other_data:
        notes.append("The training part was learned from: on new images expect far more errors.")
    if fit is not None and part == "validation":
        notes.append(
            "The temperature was fitted on these very images, so that the error after it is too "
            "low: a test part would tell."
        )
    if fit is not None and fit.bounded:
        notes.append(
            f"A temperature beyond {fit.temperature:g} would fit still better: the model's "
            "confidence says little. Train longer before you calibrate."
        )
    return notes


def _difference(run: Run, part: str, evaluation: Evaluation) -> list[str]:
    """Whether these are the counts of the run's own results, which another machine may miss."""
    results = run.results if run.finished else {}
    if part not in results:
        return []
    before, now = np.array(results[part].confusion), evaluation.matrices.sum(0)
    if before.shape == now.shape and (before == now).all():
        return []
    pixels = int(np.abs(before - now).sum()) // 2 if before.shape == now.shape else 0
    return [
        f"These counts are not those of the run's results.json (some {pixels:,} pixels fell "
        "otherwise): another device, version or data. The figures here are of now."
    ]


def _explanation(
    run: Run,
    part: str,
    evaluation: Evaluation,
    tally: Tally,
    *,
    fit: TemperatureFit | None,
    notes: Sequence[str],
) -> Explanation:
    """All that follows from the counts."""
    scores = evaluation.result()
    plain = summary.calibration(tally, 0)
    warm = summary.calibration(tally, 1) if len(tally.temperatures) > 1 else None
    borders, sizes = summary.borders(tally), summary.sizes(tally)
    positions, confusions = summary.positions(tally), summary.confusions(evaluation)
    return Explanation(
        run=str(run.path),
        part=part,
        images=scores.images,
        of=scores.images,
        seed=None,
        classes=list(evaluation.labels.names),
        said={
            "calibration": words.calibration_words(plain, warm),
            "confusions": words.confusion_words(confusions, scores),
            "borders": words.border_words(borders),
            "sizes": words.size_words(sizes),
            "positions": words.position_words(positions),
            "attributes": words.attribute_words(scores),
        },
        notes=list(notes),
        scores=scores,
        calibration=plain,
        calibrated=warm,
        fit=fit,
        borders=borders,
        sizes=sizes,
        sizes_per_class=summary.sizes_per_class(tally),
        positions=positions,
        confusions=confusions,
        attention=[],
        shown=[],
        frames=[],
        page="",
    )


def _album(
    opened: OpenedRun,
    part: str,
    dataset: SegmentationDataset,
    evaluation: Evaluation,
    explanation: Explanation,
    show: Sequence[str],
    console: Console,
) -> Album:
    """The pictures, of images that go through the model once more."""
    ids = {name: place for place, name in enumerate(explanation.classes)}
    confused: dict[str, list[int]] = {}
    for place, confusion in enumerate(explanation.confusions):
        for image in confusion.images:
            confused.setdefault(image.name, []).append(place)
    album = Album(
        bundle=opened.bundle,
        confusions=[(ids[c.truth], ids[c.prediction]) for c in explanation.confusions],
        confused=confused,
        attended=list(show) or telling(evaluation),
    )
    if album.names:
        place_of = {name: place for place, name in enumerate(dataset.names)}
        again = View.some(dataset, [place_of[name] for name in album.names])
        opened.evaluate(part, dataset=again, observe=album, console=console, title="Drawing")
    return album


def _too_large(album: Album) -> list[str]:
    """The images whose attention cannot be drawn in one piece."""
    left = [name for name in album.attended if name not in album.of_attention]
    if not has_gates(album.bundle) or not left:
        return []
    return [f"Too large for attention maps, which need an image in one piece: {', '.join(left)}."]


def _frames(run: Run, course: Course | None) -> list[Frame]:
    if course is None:
        return []
    epochs = {step: round(epoch) for step, epoch in column(run, "epoch")}
    return [Frame(step=step, epoch=epochs.get(step)) for step in course.steps]
