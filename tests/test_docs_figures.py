"""docs/weighted_loss.md says what Truemask's losses compute."""

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from truemask.data.statistics import Statistics
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.losses import BinaryCrossEntropy, CrossEntropy, Dice, Focal
from truemask.training.loss_setup import settle_loss

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "weighted_loss.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def load(name: str) -> ModuleType:
    """A script of docs/figures, which is no package: the second imports the first by its name."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "figures" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


numbers = load("weighted_loss")
drawing = load("draw_weighted_loss")
MASK = numbers.pixels(1, 27)
MIXED = numbers.mixed_padding()
TRUE = numbers.true_weight(27.03, MIXED)


def tables() -> list[list[list[str]]]:
    """The cells of every table of the page, without heads."""
    blocks = re.findall(r"(?:^\|.*\n)+", PAGE, flags=re.MULTILINE)
    rows = [block.strip().splitlines()[2:] for block in blocks]
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in t] for t in rows]


def agrees(said: str, value: float) -> bool:
    """Whether a printed number is the value, up to a rounding that may fall either way."""
    if not math.isfinite(value):
        return said == str(value)
    decimals = len(said.partition(".")[2])
    return abs(float(said) - value) <= 0.6 * 10**-decimals


@pytest.mark.parametrize(
    ("place", "compute"),
    list(enumerate((numbers.constant_table, numbers.scene_table, numbers.logit_table))),
)
def test_a_table_holds_what_is_computed(place: int, compute: Any) -> None:
    said, computed = tables()[place], compute()
    assert [len(row) for row in said] == [len(row) for row in computed]
    wrong = [
        (row, values)
        for row, values in zip(said, computed, strict=True)
        if not all(agrees(cell, value) for cell, value in zip(row, values, strict=True))
    ]
    assert not wrong


def test_every_table_is_held() -> None:
    assert len(tables()) == 3


def at_zero(loss: torch.nn.Module) -> float:
    return numbers.constant_loss(loss, MASK, 0.5)


def course(step: int) -> float:
    return numbers.iou_at(1.0, numbers.descent(1.0, 1.0, 600)[step - 1])


def fit_difference(at: int) -> float:
    plain, weighted = (numbers.fitted(1.0, w) for w in (1.0, 27.0))
    return weighted[at] - plain[at]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("a loss of {0.154}", lambda: numbers.constant_table()[2][2]),
        (r"2\log 2 = {1.386}", lambda: numbers.constant_loss(numbers.balanced(10**6),
            numbers.pixels(1, 10**6 - 1), 0.5)),
        ("(IoU $1/N$, which is {0.036}", lambda: numbers.iou_at(1.0, (0.0, 1.0))),
        ("differ by {0.000} in $a$", lambda: fit_difference(0)),
        ("and by {3.296} in $b$", lambda: fit_difference(1)),
        (r"$\log 27 = {3.296}$", lambda: math.log(27)),
        ("gives {3.6} % of all gradients", lambda: 100 * numbers.gradient_share(28, 1.0)),
        ("and {50.0} % with", lambda: 100 * numbers.gradient_share(28, 27.0)),
        ("is {0.464} without a weight", lambda: numbers.slope(BinaryCrossEntropy(), MASK, 0.0)),
        ("and {0.000} with it", lambda: numbers.slope(numbers.balanced(28), MASK, 0.0)),
        ("IoU at 0.5 is {0.000} after 10 steps", lambda: course(10)),
        ("are {28.5} % padding", lambda: 100 * MIXED),
        ("{4.6} % if", lambda: 100 * numbers.padding_share([(375, 500)] * 8)),
        ("true one was {19.0}", lambda: TRUE),
        ("best constant {0.587}", lambda: 27.03 / (27.03 + TRUE)),
        ("best constant is {0.227}", lambda: numbers.best_constant(Focal(), MASK)),
        ("least value, {0.044}", lambda: numbers.constant_loss(Focal(), MASK,
            numbers.best_constant(Focal(), MASK))),
        ("it is at {0.500}", lambda: numbers.best_constant(Focal(weight=[1, 27]), MASK)),
        (r"$\alpha = 0.25$ at {0.163}", lambda: numbers.best_constant(Focal(alpha=0.25), MASK)),
        ("positive, at {0.931}", lambda: numbers.constant_loss(Dice(smooth=0), MASK, 1 - 1e-6)),
        ("logit is {-0.0022}", lambda: numbers.slope(Dice(smooth=0), MASK, 0.0)),
        ("cross-entropy has {0.464}", lambda: numbers.slope(BinaryCrossEntropy(), MASK, 0.0)),
        ("it is {0.693} without", lambda: at_zero(BinaryCrossEntropy())),
        ("and {1.337} with", lambda: at_zero(numbers.balanced(28))),
        ("logits of 0 is {0.693}", lambda: at_zero(CrossEntropy(weight=[1, 27]))),
    ],
)  # fmt: skip
def test_a_number_in_the_text_is_what_is_computed(words: str, value: Any) -> None:
    said = re.search(r"\{([-\d.]+)\}", words)
    assert said is not None
    assert TEXT.count(words.replace(said[0], said[1])) == 1
    assert agrees(said[1], value())


def test_steps_until_the_threshold_model_settles() -> None:
    """Up to a twentieth, as rounding may move them a little on another machine."""
    for words, computed in (
        ("settles after {} steps", numbers.steps_needed(1.0, 1 / 28)),
        ("the weighted one at 0.5 after {}.", numbers.steps_needed(27.0, 0.5)),
        ("({} steps)", numbers.steps_needed(1.0, 1 / 28, -math.log(27))),
    ):
        said = re.search(re.escape(words).replace(r"\{\}", r"(\d+)"), TEXT)
        assert said is not None
        assert int(said[1]) == pytest.approx(computed, rel=0.05, abs=1)


@pytest.mark.parametrize("w", [0.2, 1.0, 5.0, 27.0])
@pytest.mark.parametrize("positives", [1, 36, 500, 990])
def test_closed_forms(w: float, positives: int) -> None:
    mask, loss = numbers.pixels(positives, 1000 - positives), BinaryCrossEntropy(pos_weight=w)
    q = positives / 1000
    best = w * q / (w * q + 1 - q)
    assert numbers.best_constant(loss, mask) == pytest.approx(best, rel=1e-4)
    assert best / (best + w * (1 - best)) == pytest.approx(q)
    expected = -w * q * math.log(0.3) - (1 - q) * math.log(0.7)
    assert numbers.constant_loss(loss, mask, 0.3) == pytest.approx(expected, rel=1e-5)
    assert at_zero(loss) == pytest.approx(math.log(2) * (w + 27) / 28, rel=1e-5)


@pytest.mark.parametrize("padding", [0.0, 0.285, 0.6])
def test_padding_raises_the_weight_that_is_counted(padding: float) -> None:
    counted = numbers.counted_weight(19.0, padding)
    assert counted == pytest.approx((19.0 + padding) / (1 - padding))
    assert numbers.true_weight(counted, padding) == pytest.approx(19.0)


def test_both_weights_reach_the_same_iou() -> None:
    thresholds = [k / 500 for k in range(1, 500)]
    best = [
        max(numbers.iou_at(1.0, numbers.fitted(1.0, w), t) for t in thresholds) for w in (1.0, 27.0)
    ]
    assert best[0] == pytest.approx(best[1], abs=0.001)


def test_pytorch_s_loss_does_not_print_its_weight() -> None:
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([27.0]))
    assert str(loss) == "BCEWithLogitsLoss()"


def test_the_run_says_the_weight_as_the_page_quotes() -> None:
    statistics = Statistics.empty(num_classes=2, spec=ImageSpec())
    statistics.class_counts = np.array([591, 17])
    notes: list[str] = []
    settled = settle_loss(
        {"_target_": "truemask.losses.BinaryCrossEntropy", "pos_weight": "balanced"},
        statistics,
        labels=LabelMap(names=("background", "line"), values={0: 0, 1: 1}),
        notes=notes,
    )
    assert f"- {notes[0]}\n" in PAGE
    assert f"  pos_weight: {settled['pos_weight']}\n" in PAGE


def test_every_figure_is_drawn_shown_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "STEPS", 10)
    shown = re.findall(r"!\[[^]]+\]\((images/[^)]+)\)", PAGE)
    assert sorted(shown) == sorted(f"images/weighted_loss_{name}.png" for name in drawing.DRAWINGS)
    for name, draw in drawing.DRAWINGS.items():
        with plt.rc_context():
            figure = draw()
        assert all(axes.has_data() for axes in figure.axes)
        plt.close(figure)
        assert (DOCS / f"images/weighted_loss_{name}.png").stat().st_size < 150_000


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", PAGE)
    assert links
    assert not [link for link in links if not (DOCS / link).is_file()]
