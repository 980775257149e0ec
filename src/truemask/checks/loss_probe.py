"""A loss of known form, asked for its value and its gradient at predictions that are made up."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from truemask.checks.failures import in_short, kind_of
from truemask.checks.loss_forms import Form, classes_of
from truemask.checks.untouched import modules_of, seed

Kind = Literal["logits", "probabilities", "log-probabilities"]
"""What a prediction holds. The probes are made as logits and then turned into these."""

CONFIDENCES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0)
"""Logits of the true class in perfect predictions; of the other classes with the other sign."""

MANY = 50
"""Classes above which losses, many of which loop over them, are called less often."""

HEIGHT, WIDTH = 16, 24
"""Large enough for windows and regions, small enough for hundreds of calls."""


class Refused(Exception):
    """The loss raised; the message says what."""


class LossProbe:
    """A loss and how to call it.

    Args:
        loss: anything that is called with a prediction and a target.
        form: shapes of both.
        kind: what the prediction is.
        ignore_index: id of pixels that do not count.
        dtype: of predictions.
        name: of the loss, in messages.
        square: whether images are as high as wide, for losses that take no others.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        form: Form,
        *,
        kind: Kind,
        ignore_index: int | None,
        dtype: torch.dtype,
        name: str,
        square: bool = False,
    ) -> None:
        self.loss, self.form, self.kind, self.name = loss, form, kind, name
        self.ignore_index, self.dtype, self.square = ignore_index, dtype, square
        self.classes = classes_of(form, ignore_index)
        self.device = _device_of(loss)
        # K is no multiple of B: a reshape that mixes samples with classes cannot go by unseen.
        self.batch = next(n for n in range(3, 99) if form.classes % n)
        # Every class has a place of its own; even sides, of which halves can be cut off.
        sides = (HEIGHT, HEIGHT if square else WIDTH)
        wider = max(1.0, math.sqrt(3 * len(self.classes) / math.prod(sides)))
        self.height, self.width = (2 * math.ceil(side * wider / 2) for side in sides)
        self._given: dict[Kind, LossProbe] = {kind: self}

    @property
    def many(self) -> bool:
        """Whether there are so many classes that every call is slow, and fewer must do."""
        return len(self.classes) > MANY

    def given(self, kind: Kind) -> "LossProbe":
        """The same loss, given another kind of prediction."""
        if kind not in self._given:
            self._given[kind] = self._like(kind=kind)
        return self._given[kind]

    def in_float32(self, loss: Callable[..., Any], *, ignoring: bool) -> "LossProbe":
        """The same in float32, with a copy of the loss in it; without ignored pixels if wished."""
        ignored = self.ignore_index if ignoring else None
        return self._like(loss=loss, dtype=torch.float32, ignore_index=ignored)

    def _like(self, **changes: Any) -> "LossProbe":
        kept = ("loss", "form", "kind", "ignore_index", "dtype", "name", "square")
        return LossProbe(**{name: getattr(self, name) for name in kept} | changes)

    # What the loss says.

    def value(
        self,
        logits: Float[Tensor, "B L H W"],
        ids: Int64[Tensor, "B H W"],
        *,
        blank: float | None = None,
        start: int = 0,
        added: float = 0.0,
    ) -> float:
        """The loss.

        Args:
            logits: are turned into what the prediction is.
            ids: class ids.
            blank: see `Form.truth`.
            start: of the random numbers that the loss may draw.
            added: to everything that the loss is given.

        Raises:
            Refused: it raised.
        """
        with torch.no_grad():
            return float(self._call(self.scores(logits) + added, ids, blank, start))

    def gradient(
        self,
        logits: Float[Tensor, "B L H W"],
        ids: Int64[Tensor, "B H W"],
        *,
        blank: float | None = None,
    ) -> tuple[float, Float[Tensor, "B L H W"] | None]:
        """The loss, and its gradient with respect to the prediction; None where it is cut off.

        Raises:
            Refused: it raised.
        """
        scores = self.scores(logits).requires_grad_()
        # A model's output is no leaf either: a loss may write into it.
        outcome = self._call(scores.clone(), ids, blank)
        if not outcome.requires_grad:
            return float(outcome), None
        try:
            (gradient,) = torch.autograd.grad(outcome, scores, allow_unused=True)
        except Exception as error:
            raise Refused(in_short(error)) from error
        return float(outcome.detach()), gradient

    def _call(
        self, scores: Tensor, ids: Tensor, blank: float | None, start: int = 0
    ) -> Float[Tensor, ""]:
        seed(start)
        truth = self.form.truth(ids, scores.dtype, blank=blank).clone()
        try:
            return number_of(self.loss(self.form.prediction(scores), truth))
        except Exception as error:
            raise Refused(in_short(error)) from error

    def scores(self, logits: Float[Tensor, "B L H W"]) -> Float[Tensor, "B L H W"]:
        """Logits as what the loss is given; a copy, differentiable where they are."""
        logits = logits.to(self.dtype)
        single = logits.shape[1] == 1
        match self.kind:
            case "probabilities":
                return logits.sigmoid() if single else logits.softmax(1)
            case "log-probabilities":
                return functional.logsigmoid(logits) if single else logits.log_softmax(1)
            case _:
                return logits.clone()

    def curve(
        self,
        says: Int64[Tensor, "B H W"],
        ids: Int64[Tensor, "B H W"],
        confidences: Sequence[float] = CONFIDENCES,
    ) -> list[float]:
        """Losses of a prediction of growing confidence, up to the first that is no number.

        Large logits that overflow are a fault of their own.
        """
        losses = []
        for confidence in confidences:
            loss = self.value(self.pattern(says, confidence), ids)
            if not math.isfinite(loss):
                break
            losses.append(loss)
        return losses

    def least(self, ids: Int64[Tensor, "B H W"]) -> float:
        """The loss of a perfect prediction at its best confidence; NaN where it is no number."""
        return self._least(ids, self.curve(ids, ids))

    def _least(self, ids: Int64[Tensor, "B H W"], curve: Sequence[float]) -> float:
        if not curve:
            return math.nan
        best = curve.index(min(curve))
        if best == len(curve) - 1 or curve[best] == curve[-1]:
            return curve[best]
        # Confidence is punished: the best lies between two of the steps.
        low, high = CONFIDENCES[max(best - 1, 0)], CONFIDENCES[best + 1]
        between = [low + (high - low) * part / 16 for part in range(1, 16)]
        return min(curve[best], *self.curve(ids, ids, between))

    @cached_property
    def best(self) -> float:
        """The least loss of a perfect prediction of `ids`."""
        return self._least(self.ids, self.perfect)

    @cached_property
    def nearly_sure(self) -> float:
        """The loss of a right prediction that gives every true class 95 %."""
        others = 1 if self.form.channels == 1 else self.form.channels - 1
        gap = math.log(0.95 * others / 0.05)
        confidence = gap if self.form.channels == 1 else gap / 2
        return self.value(self.pattern(self.ids, confidence), self.ids)

    @cached_property
    def perfect(self) -> list[float]:
        """Losses of perfect predictions of `ids`, of growing confidence."""
        return self.curve(self.ids, self.ids)

    @cached_property
    def perfect_other(self) -> list[float]:
        """The same of `other_ids`."""
        return self.curve(self.other_ids, self.other_ids)

    @cached_property
    def surely_wrong(self) -> list[float]:
        """Losses of predictions of growing confidence that are wrong at every pixel of `ids`."""
        return self.curve(self.wrong, self.ids)

    @cached_property
    def undecided(self) -> float:
        """The loss of an undecided prediction of `ids`."""
        return self.value(torch.zeros_like(self.random()), self.ids)

    @cached_property
    def rounding(self) -> float:
        """How much of a difference is rounding, as a share: much where it computes in float32."""
        if self.dtype == torch.float32:
            return 1e-5
        logits = self.random()
        coarse = self.value(logits.float().double(), self.ids)
        return 1e-5 if self.value(logits, self.ids) == coarse else 1e-9

    def same(self, first: float, second: float) -> bool:
        """Whether two losses are the same but for rounding."""
        if not (math.isfinite(first) and math.isfinite(second)):
            return first == second or (math.isnan(first) and math.isnan(second))
        return abs(first - second) <= self.rounding * max(abs(first), abs(second), 1e-3)

    @cached_property
    def stochastic(self) -> bool:
        """Whether the loss differs between two calls with the same arguments."""
        values = [self.value(self.random(), self.ids, start=start) for start in (0, 0, 1)]
        return any(not self.same(value, values[0]) for value in values)

    @cached_property
    def pixels_alike(self) -> bool:
        """Whether the order of pixels does not matter, the same for prediction and target."""
        cases = [(self.random(1), self.ids), (self.random(2), self.other_ids)]
        # 13 * 23 is no multiple of a usual K: a reshape that happens to keep all classes of a pixel
        # together does not there.
        width = 13 if self.square else 23
        cases += [(logits[..., :13, :width], ids[..., :13, :width]) for logits, ids in cases[:1]]
        return all(
            self.same(self.value(logits, ids), self.value(*shuffled(logits, ids)))
            for logits, ids in cases
        )

    # What it is asked about.

    @cached_property
    def ids(self) -> Int64[Tensor, "B H W"]:
        """Regions of all classes in every sample, the first class with the most of them."""
        return self.regions(favoured=self.classes[0], share=0.5)

    @cached_property
    def other_ids(self) -> Int64[Tensor, "B H W"]:
        """The same with about as much of every class."""
        return self.regions(favoured=self.classes[-1], share=0.0)

    @cached_property
    def wrong(self) -> Int64[Tensor, "B H W"]:
        """For every pixel of `ids` the class after its own."""
        return self.next_class(self.ids)

    def regions(self, *, favoured: int, share: float, scale: int = 1) -> Int64[Tensor, "B H W"]:
        """Compact regions around random places, every class in every sample.

        Args:
            favoured: the class of further regions.
            share: how many there are, for each class.
            scale: how much higher and wider than usual.
        """
        generator = torch.Generator().manual_seed(0)
        height, width = self.height * scale, self.width * scale
        owners = torch.tensor(
            [*self.classes, *[favoured] * math.ceil(share * max(len(self.classes), 6))]
        )
        grid = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
        # Drawn without repetition: no class is without a pixel, that of its own place.
        places = [torch.randperm(len(grid), generator=generator) for _ in range(self.batch)]
        nearest = [torch.cdist(grid, grid[place[: len(owners)]]).argmin(1) for place in places]
        return owners[torch.stack(nearest)].view(self.batch, height, width).to(self.device)

    def constant(self, number: int) -> Int64[Tensor, "B H W"]:
        """One class everywhere."""
        return torch.full_like(self.ids, number)

    def random(self, start: int = 0, *, like: Tensor | None = None) -> Float[Tensor, "B L H W"]:
        """Random logits, for the masks of `like`."""
        ids = self.ids if like is None else like
        generator = torch.Generator().manual_seed(100 + start)
        shape = (ids.shape[0], self.form.channels, *ids.shape[1:])
        logits = 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        return logits.to(self.device, self.dtype)

    def pattern(
        self, ids: Int64[Tensor, "B H W"], confidence: float | Tensor = 1.0
    ) -> Float[Tensor, "B L H W"]:
        """Logits that say these ids: `confidence` for the class, its negative for all others."""
        if self.form.channels == 1:
            hot = (ids == 1)[:, None]
        else:
            classes = torch.arange(self.form.channels, device=self.device)[None, :, None, None]
            hot = ids[:, None] == classes
        return confidence * (2.0 * hot.to(self.dtype) - 1)

    def next_class(self, ids: Int64[Tensor, "B H W"]) -> Int64[Tensor, "B H W"]:
        """For every pixel the class after its own; the first after the last."""
        after = torch.arange(self.form.classes, device=self.device)
        after[list(self.classes)] = torch.tensor(
            [*self.classes[1:], self.classes[0]], device=self.device
        )
        return after[ids]


def shuffled(
    logits: Float[Tensor, "B L H W"], ids: Int64[Tensor, "B H W"]
) -> tuple[Float[Tensor, "B L H W"], Int64[Tensor, "B H W"]]:
    """The pixels of both in another order, the same for all samples."""
    order = torch.randperm(ids[0].numel(), generator=torch.Generator().manual_seed(7))
    order = order.to(ids.device)
    return (
        logits.flatten(2)[:, :, order].reshape(logits.shape),
        ids.flatten(1)[:, order].reshape(ids.shape),
    )


def number_of(outcome: Any) -> Float[Tensor, ""]:
    """The loss in what was returned: a tensor, a number, the first of several, or by name."""
    if isinstance(outcome, Mapping):
        names = [name for name in ("loss", "total", "total_loss") if name in outcome]
        return number_of(outcome[names[0]] if names else next(iter(outcome.values())))
    if isinstance(outcome, list | tuple):
        return number_of(outcome[0])
    if isinstance(outcome, Tensor):
        # Without a reduction: whoever uses it takes the mean.
        return outcome if outcome.ndim == 0 else outcome.mean()
    if not hasattr(outcome, "__float__"):
        raise TypeError(f"it returned {kind_of(outcome)} where a loss is a tensor of one number")
    return torch.tensor(float(outcome), dtype=torch.float64)


def _device_of(loss: Any) -> torch.device:
    for module in modules_of(loss):
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")
