"""The project `edges`: rare positives, with and without a weight in the loss."""

from truemask.projects.histories import LOSSES, SCORES, curves
from truemask.projects.panels import present, side_by_side
from truemask.projects.project import Content, Figure, Miniature, Project, Runs, Trial

_IMAGES = 2039

_TITLES = {
    "weighted": "Weighted",
    "unweighted": "Unweighted",
}
_CORRECTED = {
    "weighted_corrected": "Weighted, corrected",
    "unweighted_corrected": "Unweighted, corrected",
}

TRIALS = (
    Trial(
        name="weighted",
        title="Weighted binary cross-entropy",
        experiment="edges/weighted",
        published={"test.iou": 0.1931, "validation.iou": 0.2108},
        note="Padding counted as no edge there, and is ignored here.",
        images=_IMAGES,
    ),
    Trial(
        name="unweighted",
        title="Binary cross-entropy without a weight",
        experiment="edges/unweighted",
        published={"test.iou": 0.0042, "train_loss": 0.1203, "validation_loss": 0.1400},
        note="By the published code this run goes on from the weighted one's weights; ours starts "
        "anew.",
        images=_IMAGES,
    ),
    Trial(
        name="weighted_corrected",
        title="Weighted, shuffled parts",
        experiment="edges/weighted_corrected",
        column="corrected",
        of="weighted",
        images=_IMAGES,
    ),
    Trial(
        name="unweighted_corrected",
        title="Unweighted, shuffled parts",
        experiment="edges/unweighted_corrected",
        column="corrected",
        of="unweighted",
        images=_IMAGES,
    ),
    Trial(
        name="classes_and_void",
        title="All classes and void, void taken for the edge",
        experiment="edges/classes_and_void",
        column="corrected",
        also=("test.iou_per_class.edge", "test.mean_iou"),
        note="Asked for by the closing remarks of the project, which did not try it.",
        images=_IMAGES,
    ),
)


def _four(runs: Runs) -> Content | None:
    return side_by_side(present(runs, _TITLES), most=4)


def _four_corrected(runs: Runs) -> Content | None:
    return side_by_side(present(runs, _CORRECTED), most=4)


def _course(runs: Runs) -> Content | None:
    return curves(
        present(runs, _TITLES | _CORRECTED),
        {"IoU of the edge": SCORES, "loss": LOSSES},
        said="IoU and losses by epoch",
    )


FIGURES = (
    Figure(
        name="predictions",
        title="The same images, with and without the weight",
        caption="Image, true edges, and what either training predicts.",
        draw=_four,
    ),
    Figure(
        name="course",
        title="How the trainings went",
        caption="Without a weight the published run predicted no edge at all for seven epochs: a "
        "constant answer is a good one where 96 of 100 pixels are no edge. Losses with and "
        "without a weight are not of one scale.",
        draw=_course,
    ),
    Figure(
        name="predictions-corrected",
        title="The same, with shuffled parts",
        caption="Image, true edges, and what either training predicts.",
        draw=_four_corrected,
    ),
)

EDGES = Project(
    name="edges",
    title="Semantic edges of PASCAL VOC, with and without a weight",
    text=(
        "The void label of 2913 PASCAL VOC masks is the edge class, about 3.6 % of the pixels. A "
        "U-Net without normalisation learns it once with positives weighted 27.03 times and once "
        "without a weight.",
        "Model and optimiser were shared by both trainings, so that the second went on from the "
        "first; padded pixels counted as no edge in the weight, the loss and the score; and a "
        "split by position put other years into the test part than into the training part.",
    ),
    trials=TRIALS,
    figures=FIGURES,
    data="PASCAL VOC 2012 (VOCdevkit)",
    miniatures={".": Miniature(dataset="voc2012", images=60)},
    small=("trainer.max_epochs=2", "model.widths=[8,16,32,64,128]"),
)
