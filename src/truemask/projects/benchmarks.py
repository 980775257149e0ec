"""The project `benchmarks`: pixel accuracies on four datasets, and what they hide."""

from rich.console import Console

from truemask.analysis.matching import training_facts
from truemask.analysis.quantities import Quantity, part_result, read_quantity, share_of_commonest
from truemask.projects.histories import LOSSES, curves
from truemask.projects.panels import beside_truth, present
from truemask.projects.project import (
    Content,
    Figure,
    Listing,
    Measure,
    Miniature,
    Project,
    Runs,
    Trial,
)
from truemask.report import formats
from truemask.runs import Run
from truemask.training.testing import evaluate_run

_PARTS = ("train", "validation", "test")
_VOC = 2039

_TITLES = {
    "carvana": "Carvana, mixed precision",
    "carvana_full_precision": "Carvana, full precision",
    "gta5": "GTA5",
    "voc2007": "VOC 2007",
    "voc2012": "VOC 2012",
    "voc2012_void_class": "VOC 2012, void a class of its own",
    "voc2012_focal": "VOC 2012, focal loss",
    "voc2012_improved": "VOC 2012, improved",
}


def training_part(run: Run, console: Console) -> None:
    """Evaluate the best weights on the images that they were trained on.

    It writes `evaluation-train.json`.

    Raises:
        UsageError: the run's data is not there.
    """
    _, result, evaluation = evaluate_run(
        run, split="train", config=run.config, other_data=False, allow={}, console=console
    )
    run.write_evaluation("train", result, save=evaluation.save)


_TRAIN = Measure(name="train", make=training_part)


def _published(
    name: str, *accuracies: float, images: int, data: tuple[str, ...], note: str = ""
) -> Trial:
    """A trial with its pixel accuracies in per cent, training, validation and test."""
    shares = [round(accuracy / 100, 6) for accuracy in accuracies]
    return Trial(
        name=name,
        title=_TITLES[name],
        experiment=f"benchmarks/{name}",
        published={
            f"{part}.pixel_accuracy": share for part, share in zip(_PARTS, shares, strict=False)
        },
        also=("test.iou",) if accuracies else ("test.pixel_accuracy", "test.iou"),
        note=note,
        images=images,
        data=data,
        measures=(_TRAIN,) if accuracies else (),
        small=("model.widths=[4,8,16,32,64]",),
    )


_BACKGROUND = "Always answering “background” gets about 73 % on VOC: see the table below."

TRIALS = (
    _published("carvana", 90.51, 90.46, 90.61, images=3561, data=("carvana",)),
    _published("carvana_full_precision", 90.55, 90.63, 90.66, images=3561, data=("carvana",)),
    _published("gta5", 68.1, 68.7, 67.88, images=17476, data=("gta5",)),
    _published(
        "voc2007", 72.97, 73.61, 74.27, images=295, data=("voc2007", "voc"), note=_BACKGROUND
    ),
    _published(
        "voc2012", 64.70, 64.27, 64.69, images=_VOC, data=("voc2012", "voc"), note=_BACKGROUND
    ),
    _published("voc2012_void_class", images=_VOC, data=("voc2012", "voc")),
    _published("voc2012_focal", images=_VOC, data=("voc2012", "voc")),
    Trial(
        name="voc2012_improved",
        title=_TITLES["voc2012_improved"],
        experiment="benchmarks/voc2012_improved",
        column="corrected",
        of="voc2012",
        note="Improved: an encoder trained on ImageNet, augmentation, rare classes weigh more.",
        images=_VOC,
        data=("voc2012", "voc"),
        measures=(_TRAIN,),
        small=("model.weights=null", "model.encoder=resnet18", "data.crop=[64,64]"),
    ),
)


def _against_commonest(runs: Runs) -> Content | None:
    """Pixel accuracy, what a constant answer gets, and the mean IoU, which no constant raises."""
    rows = []
    for title, run in present(runs, _TITLES).items():
        result = part_result(run, "test")
        if result is None:
            continue
        constant = share_of_commonest(result)
        accuracy, more = result.pixel_accuracy, ""
        if accuracy is not None and constant is not None:
            more = f"{(accuracy - constant) * 100:+.1f} points"
        rows.append(
            (
                title,
                _percent(read_quantity(run, "test.pixel_accuracy")),
                formats.percent(constant),
                more,
                _share(read_quantity(run, "test.mean_iou")),
            )
        )
    head = ("Run", "Pixel accuracy", "Always the commonest class", "More than that", "Mean IoU")
    return Listing(head, tuple(rows)) if rows else None


def _percent(quantity: Quantity | None) -> str:
    if quantity is None:
        return "–"
    if quantity.interval is None:
        return formats.percent(quantity.value)
    low, high = (formats.percent(end) for end in quantity.interval)
    return f"{formats.percent(quantity.value)} ({low} to {high})"


def _share(quantity: Quantity | None) -> str:
    if quantity is None:
        return "–"
    if quantity.interval is None:
        return f"{quantity.value:.3f}"
    return f"{quantity.value:.3f} ({quantity.interval[0]:.3f} to {quantity.interval[1]:.3f})"


def _precisions(runs: Runs) -> Content | None:
    rows = []
    for title, run in present(runs, dict(list(_TITLES.items())[:2])).items():
        facts = training_facts(run)
        rows.append(
            (
                title,
                str(facts.get("precision", "–")),
                _percent(read_quantity(run, "test.pixel_accuracy")),
                _share(read_quantity(run, "test.iou")),
                formats.compact(facts.get("images_per_second")),
                formats.duration(facts.get("seconds")),
            )
        )
    head = ("Run", "Precision", "Test pixel accuracy", "Test IoU", "Images/s", "Time")
    return Listing(head, tuple(rows)) if rows else None


def _course(runs: Runs) -> Content | None:
    return curves(
        present(runs, _TITLES),
        {"training loss": {"train_loss": LOSSES["train_loss"]},
         "validation IoU": {"validation_iou": "validation IoU"}},
        said="Training loss and validation IoU by epoch",
    )  # fmt: skip


def _samples(runs: Runs) -> Content | None:
    """Beside each other only where the classes are the same, or colours would change meaning."""
    found = present(runs, {name: title for name, title in _TITLES.items() if "voc2012" in name})
    same = {
        title: run
        for title, run in found.items()
        if run.labels == next(iter(found.values())).labels
    }
    return beside_truth(same, most=2)


FIGURES = (
    Figure(
        name="commonest",
        title="Pixel accuracy, and what it hides",
        caption="Test part. On VOC most pixels are background, so that a model which answers "
        "nothing else gets a proud accuracy; its mean IoU shows it.",
        draw=_against_commonest,
    ),
    Figure(
        name="precision",
        title="Mixed against full precision",
        caption="The same training, once with products in half precision.",
        draw=_precisions,
    ),
    Figure(
        name="course",
        title="How the trainings went",
        caption="Training loss and validation IoU by epoch.",
        draw=_course,
    ),
    Figure(
        name="samples",
        title="VOC 2012: predictions beside the truth",
        caption="Best and worst test images of each run with the same classes.",
        draw=_samples,
    ),
)

BENCHMARKS = Project(
    name="benchmarks",
    title="The original U-Net on Carvana, GTA5 and PASCAL VOC",
    text=(
        "The original U-Net, convolutions without padding, in 70 / 15 / 15 % parts of four "
        "datasets, judged by pixel accuracy, in mixed and in full precision.",
        "Pixel accuracy of 73 % is what always answering “background” gets on VOC; masks went "
        "through JPEG and smooth resizing; and a focal loss was not zero on a perfect prediction, "
        "because it was handed probabilities where it expected logits.",
    ),
    trials=TRIALS,
    figures=FIGURES,
    data="a folder each: carvana, gta5, voc2007, voc2012",
    miniatures={
        name: Miniature(dataset=name, images=40)
        for name in ("carvana", "gta5", "voc2007", "voc2012")
    },
    small=("trainer.max_epochs=2",),
)
