"""Draws the figures of docs/weighted_loss.md into docs/images.

`python docs/figures/draw_weighted_loss.py` takes some ten seconds; each function is one figure.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from weighted_loss import (
    EDGE_WEIGHT,
    EDGES,
    RARITIES,
    at_logit,
    balanced,
    best_constant,
    clamped,
    constant_loss,
    counted_weight,
    descent,
    fitted,
    iou_at,
    mixed_padding,
    naive,
    pixels,
    slope,
    true_weight,
)

from truemask.losses import BinaryCrossEntropy, Dice, Focal

matplotlib.use("Agg")

STEPS = 600
IMAGES = Path(__file__).parents[1] / "images"

# The colours of the report (src/truemask/report/templates/style.css).
INK, SOFT, LINE = "#16202b", "#56616e", "#dfe4ea"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#b84f00", "#00855f", "#b0568c"
SHADES = ("#9ecae9", "#5aa5d4", "#0072b2", "#00508a", "#00264d")  # of RARITIES


def _panels(count: int, *, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.edgecolor": LINE,
            "axes.labelcolor": SOFT,
            "axes.titlecolor": INK,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": LINE,
            "xtick.color": SOFT,
            "ytick.color": SOFT,
            "legend.frameon": False,
            "legend.fontsize": 8,
        }
    )
    figure, axes = plt.subplots(1, count, figsize=(4.3 * count, height), layout="constrained")
    return figure, [axes] if count == 1 else list(axes)


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _grid(low: float, high: float, count: int = 121) -> list[float]:
    return [low + (high - low) * k / (count - 1) for k in range(count)]


def draw_constant() -> Figure:
    """Section 1 and 2: the loss over p, without and with the weight."""
    figure, (left, right) = _panels(2)
    ps = [1 / (1 + math.exp(-z)) for z in _grid(-9, 9, 181)]
    for n, color in zip(RARITIES, SHADES, strict=True):
        mask = pixels(1, n - 1)
        for axes, loss in ((left, BinaryCrossEntropy()), (right, balanced(n))):
            axes.plot(ps, [constant_loss(loss, mask, p) for p in ps], color=color, label=f"N = {n}")
            best = best_constant(loss, mask)
            axes.plot(best, constant_loss(loss, mask, best), "o", color=color, ms=5, zorder=3)
    limit: dict[str, Any] = {"color": ORANGE, "ls": "--", "lw": 1.2, "label": "limit"}
    left.plot(ps, [-math.log1p(-p) for p in ps], **limit)
    right.plot(ps, [-math.log(p) - math.log1p(-p) for p in ps], **limit)
    for axes, high in ((left, 2.0), (right, 6.0)):
        axes.set(xlim=(-0.02, 1), ylim=(0, high))
        axes.legend()
    _name(left, "no weight: the best p is 1/N", "constant prediction p", "loss")
    _name(right, "w = N − 1: the best p is 1/2", "constant prediction p", "loss")
    return figure


def draw_weight() -> Figure:
    """Section 2: the best constant over w, and the loss over w and p."""
    figure, (left, right) = _panels(2)
    weights = [10**k for k in _grid(-1, 4, 51)]
    for n, color in zip(RARITIES, SHADES, strict=True):
        mask = pixels(1, n - 1)
        best = [best_constant(BinaryCrossEntropy(pos_weight=w), mask) for w in weights[::2]]
        left.plot(weights[::2], best, color=color, label=f"N = {n}")
        left.plot(n - 1, 0.5, "o", color=color, ms=5, zorder=3)
    left.axhline(0.5, color=ORANGE, lw=1.2, ls="--")
    left.set(xscale="log", xlim=(0.015, 1e4), ylim=(0, 1))
    left.legend()
    _name(left, "best constant: above 1/2 it says positive", "weight w", "best p")
    mask, ps = pixels(1, EDGES - 1), _grid(0.01, 0.99, 50)
    surface = [
        [constant_loss(BinaryCrossEntropy(pos_weight=w), mask, p) for w in weights] for p in ps
    ]
    shown = right.pcolormesh(
        weights, ps, surface, norm=LogNorm(0.1, 1000), cmap="Greys", shading="gouraud"
    )
    figure.colorbar(shown, extend="both", label="loss")
    right.plot(weights, [w / (w + EDGES - 1) for w in weights], color=BLUE, lw=2)
    right.plot(EDGES - 1, 0.5, "o", color=BLUE)
    right.set(xscale="log", ylim=(0, 1))
    right.grid(visible=False)
    _name(right, f"the loss for N = {EDGES}; blue: the best p", "weight w", "constant prediction p")
    return figure


def draw_threshold() -> Figure:
    """Section 3: the weighted probability, IoU over the threshold, IoU over the training."""
    figure, (left, middle, right) = _panels(3)
    qs = _grid(0.001, 0.999)
    for w, color in ((1.0, SOFT), (5.0, GREEN), (27.0, BLUE), (99.0, PINK)):
        left.plot(qs, [w * q / (w * q + 1 - q) for q in qs], color=color, label=f"w = {w:.0f}")
        for k in (5, 50, 150, 400, 700, 900):
            best = best_constant(BinaryCrossEntropy(pos_weight=w), pixels(k, 1000 - k))
            left.plot(k / 1000, best, "o", color=color, ms=3.5)
    left.axhline(0.5, color=ORANGE, lw=1.2, ls="--")
    left.legend()
    _name(left, "the probability that the loss asks for", "true posterior q", "best p")
    ts, runs = _grid(0.004, 0.996, 249), ((1.0, SOFT), (EDGES - 1.0, BLUE))
    for w, color in runs:
        line = fitted(1.0, w)
        middle.plot(ts, [iou_at(1.0, line, t) for t in ts], color=color, label=f"w = {w:.0f}")
        course = [iou_at(1.0, line) for line in descent(1.0, w, STEPS)]
        right.plot(range(1, STEPS + 1), course, color=color, label=f"w = {w:.0f}, at 0.5")
    started = -math.log(EDGES - 1)
    for bias, color, name in ((0.0, SOFT, ""), (started, GREEN, ", bias from −log 27")):
        course = [iou_at(1.0, line, 1 / EDGES) for line in descent(1.0, 1.0, STEPS, bias)]
        right.plot(
            range(1, STEPS + 1), course, color=color, ls="--", label=f"w = 1, at 1/{EDGES}{name}"
        )
    right.set(xscale="log", xlim=(1, STEPS), ylim=(0, 0.17))
    middle.axvline(0.5, color=ORANGE, lw=1.2, ls="--")
    for axes in (middle, right):
        axes.set_ylim(bottom=-0.003)
        axes.legend()
    _name(middle, "same peak, other threshold", "threshold on the probability", "IoU")
    _name(right, "during the training", "step", "IoU")
    return figure


def draw_logits() -> Figure:
    """Section 4: loss and slope of a sure, wrong pixel."""
    figure, (left, right) = _panels(2)
    zs = [float(z) for z in range(10, 121)]
    styles = (
        (BinaryCrossEntropy(), "Truemask: from the logit", BLUE, "-", 1.8),
        (clamped, "BCELoss(sigmoid(z))", PINK, "--", 1.5),
        (naive, "−log(1 − sigmoid(z))", ORANGE, ":", 3.0),
    )
    for loss, name, color, dashes, width in styles:
        values = [at_logit(loss, z, 0) for z in zs]
        for axes, column in ((left, 0), (right, 1)):
            drawn = [v[column] if math.isfinite(v[column]) else math.nan for v in values]
            axes.plot(zs, drawn, color=color, ls=dashes, lw=width, label=name)
    left.text(36, 8, "the formula is infinite from z = 17 on", color=ORANGE, fontsize=8)
    right.text(24, 0.5, "the formula's slope is NaN from z = 17 on", color=ORANGE, fontsize=8)
    left.set_ylim(0, 128)
    left.legend(loc="lower right", bbox_to_anchor=(1, 0.12))
    right.set_ylim(-0.05, 1.1)
    _name(left, "loss of a negative pixel", "logit z", "loss")
    _name(right, "its slope: what the network learns from", "logit z", "slope")
    return figure


def draw_padding() -> Figure:
    """Section 5: the weight and the prediction where padding is counted."""
    figure, (left, right) = _panels(2)
    shares = _grid(0, 0.6, 61)
    for w, color in ((9, SHADES[1]), (19, SHADES[2]), (99, SHADES[4])):
        counted = [counted_weight(w, s) for s in shares]
        left.plot(shares, counted, color=color, label=f"true weight {w}")
        right.plot(shares, [c / (c + w) for c in counted], color=color, label=f"true weight {w}")
    padding = mixed_padding()
    true = true_weight(EDGE_WEIGHT, padding)
    left.plot(padding, EDGE_WEIGHT, "o", color=ORANGE, zorder=3)
    left.annotate(f"{true:.1f} counted as {EDGE_WEIGHT}", (padding + 0.015, EDGE_WEIGHT * 0.84),
                  color=ORANGE, fontsize=8, va="top")  # fmt: skip
    right.plot(padding, EDGE_WEIGHT / (EDGE_WEIGHT + true), "o", color=ORANGE, zorder=3)
    left.set_yscale("log")
    left.set_yticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
    left.minorticks_off()
    right.axhline(0.5, color=ORANGE, lw=1.2, ls="--")
    right.set_ylim(0.45, 0.8)
    for axes in (left, right):
        axes.legend(loc="upper left")
    _name(left, "weight that is counted", "share of padding", "weight")
    _name(right, "best constant on the real pixels", "share of padding", "best p")
    return figure


def draw_others() -> Figure:
    """Section 6: Dice and focal of a constant prediction."""
    figure, (left, right) = _panels(2)
    ps = [1 / (1 + math.exp(-z)) for z in _grid(-9, 9)]
    losses = (
        (BinaryCrossEntropy(), "binary cross-entropy", SOFT),
        (balanced(EDGES), f"the same, w = {EDGES - 1}", BLUE),
        (Focal(), "focal, γ = 2", GREEN),
        (Dice(smooth=0.0), "Dice", PINK),
    )
    mask = pixels(1, EDGES - 1)
    for loss, name, color in losses:
        values = [constant_loss(loss, mask, p) for p in ps]
        left.plot(ps, values, color=color, label=name)
        lowest = min(range(len(ps)), key=values.__getitem__)
        left.plot(ps[lowest], values[lowest], "o", color=color, ms=5)
        right.plot(ps, [slope(loss, mask, math.log(p / (1 - p))) for p in ps], color=color)
    right.axhline(0, color=ORANGE, lw=1.2, ls="--")
    left.set_ylim(0, 2.2)
    right.set_ylim(-0.5, 0.5)
    left.legend()
    _name(left, f"loss of a constant, N = {EDGES}", "constant prediction p", "loss")
    _name(right, "slope over the logit: below 0 it pushes p up", "constant prediction p", "slope")
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "constant": draw_constant,
    "weight": draw_weight,
    "threshold": draw_threshold,
    "logits": draw_logits,
    "padding": draw_padding,
    "others": draw_others,
}


def main(folder: Path = IMAGES) -> None:
    """Draw every figure."""
    for name, draw in DRAWINGS.items():
        figure = draw()
        # Without the version of matplotlib in the file, equal pictures are equal files.
        figure.savefig(folder / f"weighted_loss_{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
