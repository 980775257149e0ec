"""Whether each pixel of the output speaks of the same pixel of the input: TM502."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_gradients import hidden_tensors
from truemask.checks.model_probe import ModelProbe

WINDOW = 16
"""Side in pixels of the windows of the input that are followed; the grids of most strides are seen
in all their phases within it."""

SHARP = 1.5
"""Blur in pixels below which a displacement by one counts: a decoder that ends at half of the
resolution, whose grid lies half a pixel beside the image's, has 2.4."""

CONTRAST = 2.5
"""How much more the best window of the output answers than the mean, or nothing is said."""

SIZES = ((96, 128), (192, 256))
"""Sizes of images to try, where a model takes others than those of its batch."""

Place = tuple[float, float]


@dataclass(frozen=True)
class Trace:
    """Where windows of the input show in the output.

    Attributes:
        places: centres of the windows in the input, in pixels of the output: where they should
            show.
        density: for each window, how much the windows of the output answer, by their upper left
            corner; the mean over channels.
        totals: how much each channel answers to each window.
        window: side of the windows in pixels of the output.
        size: height and width of the output.
        step: pixels of the input to one of the output.
    """

    places: tuple[Place, ...]
    density: Float[Tensor, "N h w"]
    totals: Float[Tensor, "N L"]
    window: int
    size: tuple[int, int]
    step: float

    @property
    def contrast(self) -> float:
        """How far the best window stands out, in the least clear case."""
        best, mean = self.density.amax((1, 2)), self.density.mean((1, 2))
        return float((best / mean.clamp_min(1e-30)).min())

    @property
    def blur(self) -> float:
        """Pixels of the input by which the answer is wider than it must be, half on each side.

        Even where each pixel answers for itself alone, windows that overlap answer too: a square of
        0.8 of a window's side at more than half of the best answer.
        """
        area = (self.density >= self.density.amax((1, 2), keepdim=True) / 2).double().sum((1, 2))
        return max(0.0, float(area.max().sqrt()) - 0.8 * self.window) * self.step / 2

    @property
    def best(self) -> list[Place]:
        """Centres of the windows of the output that answer most."""
        half, columns = (self.window - 1) / 2, self.density.shape[2]
        flat = [int(place) for place in self.density.flatten(1).argmax(1)]
        return [(place // columns + half, place % columns + half) for place in flat]

    @property
    def out_of_order(self) -> bool:
        """Whether many channels answer to one window and not to another, as rows in disorder do."""
        largest = self.totals.amax(0, keepdim=True)
        silent = (self.totals < 0.05 * largest)[:, largest[0] > 0]
        return silent.numel() > 0 and float(silent.double().mean()) >= 0.2

    def share(self, places: Sequence[Place]) -> float:
        """How much windows at these centres answer beside the best ones, from 0 to 1; the mean."""
        half, (rows, columns) = (self.window - 1) / 2, self.density.shape[1:]
        shares = []
        for density, (row, column) in zip(self.density, places, strict=True):
            top, left = round(row - half), round(column - half)
            inside = 0 <= top < rows and 0 <= left < columns
            shares.append(float(density[top, left] / density.max()) if inside else 0.0)
        return sum(shares) / len(shares)


@rule("TM502", "shifted-output", "error")
def shifted_output(probe: ModelProbe) -> Iterator[Finding]:
    """The output lies beside its input: shifted by some pixels, mirrored, or turned.

    Why it matters:
        A convolution with an even kernel, padding on one side only, skips that are cropped from the
        corner instead of the centre: each moves the prediction away from the image, and a network
        learns to undo it but for the borders and all thin structures. Scores are a little low,
        and nothing fails.

    How it decides:
        A copy of the network is made into one that only averages: every weight becomes positive
        and the weights of a kernel sum to one, batch norms become the identity. In it no two paths
        cancel each other, so that the answer of the output to a change of the input is how many
        paths lead there, whatever the weights were. Four windows of 16 x 16 pixels of an image are
        darkened, one at a time. The window of the output that answers most must lie where that of
        the input lies (for convolutions without padding: in the centre; for a ratio: scaled). An
        error is a displacement by more than one pixel, where the answer is blurred by as much more
        (half a stride in a network whose output is enlarged from a coarse grid), and by twice its
        deviation among the four windows; one by a single pixel where the answer is blurred by less
        than 1.5 and all windows are displaced alike; or channels that answer to one
        window and not to another. Where no window stands out 2.5 times over the mean, as in
        networks that see everything at once, nothing is said.

    False alarms:
        A network that means to move its input, such as one for registration.

    How to mend:
        Odd kernels with padding (k - 1) / 2; `crop` from the centre, `(big - small) // 2`, on
        both sides; pad both sides alike. What transforms the output must undo what was done to the
        input.
    """
    if probe.geometry.kind == "other" or probe.main is None:
        return
    trace = follow(probe)
    if trace is None:
        return
    if trace.out_of_order:
        yield _scattered(trace)
        return
    if not trace.contrast >= CONTRAST or trace.share(trace.places) >= 0.98:
        return
    for name, turned in _turned(trace).items():
        if trace.share(turned) > max(0.7, 1.2 * trace.share(trace.places)):
            yield _mirrored(trace, name)
            return
    yield from _displaced(trace)


def _mirrored(trace: Trace, name: str) -> Finding:
    (row, column), (there, beside) = trace.places[1], trace.best[1]
    return shifted_output.finding(
        f"The output is {name}: what the image shows at row {row:.0f}, column {column:.0f} comes "
        f"out at row {there:.0f}, column {beside:.0f}.",
        remedy="Undo the flip or the transposition before forward returns.",
        evidence={
            "turned": name,
            "input": [list(place) for place in trace.places],
            "output": [list(place) for place in trace.best],
            "contrast": round(trace.contrast, 1),
        },
    )


def _scattered(trace: Trace) -> Finding:
    (row, column), (there, beside) = trace.places[1], trace.best[1]
    return shifted_output.finding(
        f"The output is out of order: what the image shows at row {row:.0f}, column {column:.0f} "
        f"comes out around row {there:.0f}, column {beside:.0f} in some channels only, and what "
        "it shows elsewhere in others.",
        remedy="Look for a reshape or view that should be a permute or a transpose.",
        evidence={
            "input": [list(place) for place in trace.places],
            "output": [list(place) for place in trace.best],
            "share": round(trace.share(trace.places), 3),
            "contrast": round(trace.contrast, 1),
        },
    )


def _displaced(trace: Trace) -> Iterator[Finding]:
    moves = [
        ((there[0] - here[0]) * trace.step, (there[1] - here[1]) * trace.step)
        for here, there in zip(trace.places, trace.best, strict=True)
    ]
    down, spread_down = _median_and_deviation([move[0] for move in moves])
    right, spread_right = _median_and_deviation([move[1] for move in moves])
    alike = spread_down == spread_right == 0
    allowed = 0.5 if trace.blur < SHARP and alike else 1 + max(0.0, trace.blur - 2)
    if abs(down) <= allowed + 2 * spread_down and abs(right) <= allowed + 2 * spread_right:
        return
    told = [
        f"{abs(move):g} pixel{'s' * (abs(move) != 1)} {direction[move > 0]}"
        for move, direction in ((down, ("up", "down")), (right, ("to the left", "to the right")))
        if abs(move) > 0.5
    ]
    yield shifted_output.finding(
        f"The output is shifted {' and '.join(told)} against the image.",
        remedy="Look for even kernels, padding on one side, and crops from a corner instead of "
        "the centre, and make them symmetrical.",
        evidence={
            "shift": [down, right],
            "shifts": [list(move) for move in moves],
            "share": round(trace.share(trace.places), 3),
            "contrast": round(trace.contrast, 1),
        },
    )


def _turned(trace: Trace) -> Mapping[str, list[Place]]:
    height, width = trace.size
    return {
        "mirrored from left to right": [(y, width - 1 - x) for y, x in trace.places],
        "mirrored from top to bottom": [(height - 1 - y, x) for y, x in trace.places],
        "turned by 180 degrees": [(height - 1 - y, width - 1 - x) for y, x in trace.places],
        "transposed": [(x, y) for y, x in trace.places],
    }


def _median_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    mean = sum(values) / len(values)
    return median, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def follow(probe: ModelProbe) -> Trace | None:
    """Darken four windows of an image and see where the output answers; None if it cannot be."""
    model = averaging(probe)
    own = probe.small.shape[-2:] == probe.images.shape[-2:]
    image, logits = bright_image(probe, model, sizes=() if own else SIZES)
    step, margin = 1 / probe.geometry.ratio, probe.geometry.margin
    height, width = logits.shape[-2:]
    window = max(1, round(WINDOW / step))
    changed, places = image.repeat(4, 1, 1, 1), []
    for number, (down, right) in enumerate(((1, 1), (1, 3), (3, 1), (3, 3))):
        # Multiples of the step, so that windows begin at pixels of the output.
        top = round((height * down // 4 - window // 2) * step)
        left = round((width * right // 4 - window // 2) * step)
        rows = slice(margin[0] + top, margin[0] + top + round(window * step))
        columns = slice(margin[1] + left, margin[1] + left + round(window * step))
        darken(probe, changed[number, :, rows, columns])
        places.append((top / step + (window - 1) / 2, left / step + (window - 1) / 2))
    difference = (_answer(probe, changed, model) - logits).abs()
    if not bool(difference.isfinite().all()) or bool((difference.amax((1, 2, 3)) == 0).any()):
        return None
    density = functional.avg_pool2d(difference.mean(1, keepdim=True), window, 1)[:, 0]
    totals = difference.sum((2, 3))
    return Trace(tuple(places), density, totals, window, (height, width), step)


def darken(probe: ModelProbe, pixels: Shaped[Tensor, "C *shape"]) -> None:
    """Take a part of the range off some pixels, in place."""
    pixels.copy_((pixels.double() - 0.3 * (probe.high - probe.low)).to(pixels.dtype))


def _answer(
    probe: ModelProbe, images: Shaped[Tensor, "N C H W"], model: nn.Module
) -> Float[Tensor, "N L H W"]:
    with torch.no_grad():
        return probe.predict(images, model=model).double()


def bright_image(
    probe: ModelProbe, model: nn.Module, *, sizes: Sequence[tuple[int, int]]
) -> tuple[Shaped[Tensor, "1 C H W"], Float[Tensor, "1 L H W"]]:
    """Noise in the upper part of the range, so that no activation is closed; and its output.

    Args:
        probe: gives the range.
        model: that is to take it.
        sizes: to try; if the model takes none of them, it has the size of the batch.
    """
    for size in (*sizes, probe.size):
        like = probe.images[:1, :, :1, :1].expand(1, -1, *size)
        noise = probe.random_like(like).double()
        image = (probe.high - 0.4 * (probe.high - noise)).to(like.dtype)
        try:
            # Two, as there are normalisations that refuse a batch of one.
            return image, _answer(probe, image.repeat(2, 1, 1, 1), model)[:1]
        except Exception:  # Networks of many authors refuse in many ways.
            continue
    raise LookupError("the model takes no image of any size")


def averaging(probe: ModelProbe) -> nn.Module:
    """A copy of the model of which every layer averages: how many paths lead where.

    Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks"
    (2016, https://arxiv.org/abs/1701.04128), study networks with such weights.
    """
    model = probe.independent().eval()
    with torch.no_grad():
        for module in model.modules():
            mean = getattr(module, "running_mean", None)
            variance = getattr(module, "running_var", None)
            running = isinstance(mean, Tensor) and isinstance(variance, Tensor)
            if isinstance(mean, Tensor) and isinstance(variance, Tensor):
                mean.zero_()
                variance.fill_(1)
            own = dict(module.named_parameters(recurse=False))
            kernels = any(parameter.ndim > 1 for parameter in own.values())
            for name, parameter in own.items():
                if parameter.ndim > 1:
                    _average(parameter)
                elif name.endswith("bias"):
                    # A norm that takes the mean off needs a bias, or activations close.
                    parameter.fill_(0.0 if running or kernels else 1.0)
                else:
                    parameter.fill_(1.0 if running else 0.5)
        for tensor in hidden_tensors(model).values():
            if tensor.ndim > 1 and tensor.is_floating_point():
                _average(tensor)
    return model


def _average(weight: Tensor) -> None:
    weight.abs_()
    if not bool(weight.any()):
        weight.fill_(1.0)
    total = weight.flatten(1).sum(1).clamp_min(1e-12)
    weight.div_(total.view(-1, *[1] * (weight.ndim - 1)))


RULES: tuple[Rule, ...] = (shifted_output,)
