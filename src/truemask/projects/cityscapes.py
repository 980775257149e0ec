"""The project `cityscapes`: 24 classes, a warm-up, accumulated gradients."""

from truemask.analysis.charts import Bar, bars_chart
from truemask.analysis.quantities import part_result
from truemask.projects.histories import LOSSES, SCORES, curves
from truemask.projects.panels import beside_truth, first_of, over_time, present
from truemask.projects.project import Content, Figure, Miniature, Project, Runs, Trial

_TITLES = {"published": "Their settings", "improved": "Improved"}
_IMAGES = 2975

TRIALS = (
    Trial(
        name="published",
        title="Cross-entropy + Dice, quadratic warm-up",
        experiment="cityscapes/published",
        published={"validation.iou": 0.61, "train_loss": 1.12, "validation_loss": 1.21},
        also=("validation.pixel_accuracy",),
        note="The published images were never scaled before they went in, which held its losses "
        "up; Truemask cannot repeat that. Its 0.61 is a rough mean near the end.",
        images=_IMAGES,
    ),
    Trial(
        name="improved",
        title="Improved: the car's own bonnet is ignored",
        experiment="cityscapes/improved",
        column="corrected",
        of="published",
        images=_IMAGES,
    ),
)


def _losses(runs: Runs) -> Content | None:
    return curves(
        present(runs, _TITLES),
        {"loss": LOSSES, "validation IoU": SCORES},
        said="Losses and IoU by step",
        by="step",
    )


def _rates(runs: Runs) -> Content | None:
    return curves(
        present(runs, _TITLES),
        {"learning rate": {"learning_rate": "learning rate"}},
        said="Learning rate by step",
        by="step",
    )


def _pictures(runs: Runs) -> Content | None:
    run = first_of(runs, ("published", "improved"))
    return None if run is None else over_time(run)


def _classes(runs: Runs) -> Content | None:
    results = {
        title: part_result(run, "validation") for title, run in present(runs, _TITLES).items()
    }
    known = {title: result for title, result in results.items() if result is not None}
    if not known:
        return None
    first, *_ = known.values()
    names = sorted(first.iou_per_class, key=lambda name: -(first.iou_per_class[name] or 0.0))
    bars = [
        Bar(
            name=name,
            values=[result.iou_per_class.get(name) for result in known.values()],
            intervals=[r.intervals.get(f"iou_per_class.{name}") for r in known.values()],
        )
        for name in names
    ]
    return bars_chart(
        bars, series=list(known), x="validation IoU", said="Validation IoU of each class"
    )


def _samples(runs: Runs) -> Content | None:
    return beside_truth(present(runs, _TITLES), most=3)


FIGURES = (
    Figure(
        name="losses",
        title="How the trainings went",
        caption="Cross-entropy plus Dice, and the mean IoU of all classes.",
        draw=_losses,
    ),
    Figure(
        name="rates",
        title="The learning rate",
        caption="A quadratic warm-up, then a decay by the inverse square root.",
        draw=_rates,
    ),
    Figure(
        name="pictures",
        title="Predictions over time",
        caption="The same few validation images at each evaluation.",
        draw=_pictures,
    ),
    Figure(
        name="classes",
        title="The classes",
        caption="A plain mean of classes hides that a few rare ones pull it down.",
        draw=_classes,
    ),
    Figure(
        name="samples",
        title="Predictions beside the truth",
        caption="Best and worst images.",
        draw=_samples,
    ),
)

CITYSCAPES = Project(
    name="cityscapes",
    title="24 classes of Cityscapes",
    text=(
        "About 3500 street scenes at 512 × 256 pixels, 24 of the 30 classes; a U-Net with batch "
        "norm and dropout, accumulated gradients, a quadratic warm-up and an inverse-square-root "
        "decay, for about ten epochs.",
        "The images were never scaled before they went in; the car's own bonnet, labelled at the "
        "same place in every image, was learnt by its place; and the plain mean of the classes "
        "hid that a few rare ones pull it down.",
    ),
    trials=TRIALS,
    figures=FIGURES,
    data="Cityscapes (leftImg8bit, gtFine)",
    miniatures={".": Miniature(dataset="cityscapes", images=60)},
    small=("trainer.max_steps=8", "trainer.eval_interval=2", "model.widths=[4,8,16,32]"),
)
