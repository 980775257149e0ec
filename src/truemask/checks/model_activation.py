"""Whether the model ends with an activation that its loss applies too: TM503."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_probe import ModelProbe

_RANGES = {
    "softmax": "lie within [0, 1] and sum to one over the classes, as after a softmax",
    "sigmoid": "lie within [0, 1], as after a sigmoid",
    "tanh": "lie within [-1, 1], as after a tanh",
    "relu": "are never below 0, as after a ReLU",
}
_CONFIDENCES = (2.0, 4.0, 8.0, 12.0)


@dataclass(frozen=True)
class Answer:
    """What a loss says to some predictions.

    Attributes:
        uniform: to logits of zero.
        one_hot: to a perfect prediction of zeros and ones, as probabilities are.
        confident: the least it says to perfect logits, from 2 and -2 to 12 and -12; NaN where it
            refuses them all.
    """

    uniform: float
    one_hot: float
    confident: float

    @property
    def expects_logits(self) -> bool:
        """Whether perfect logits cost clearly less than perfect probabilities."""
        if not all(map(math.isfinite, (self.uniform, self.one_hot, self.confident))):
            return False
        scale = abs(self.uniform)
        below = self.confident < 0.9 * self.one_hot and self.one_hot > 0.005 * scale
        # A loss that falls without end is none of either kind.
        return below and self.confident > -0.01 * scale


@rule("TM503", "double-activation", "error")
def double_activation(probe: ModelProbe) -> Iterator[Finding]:
    """The model ends with an activation, and the loss applies one to it again.

    Why it matters:
        Of two softmaxes or sigmoids in a row the outer one gets numbers between 0 and 1: a perfect
        prediction of two classes still costs 0.31 instead of 0, gradients are a fraction of what
        they were, and training goes on, slowly and to a worse end. One of the five
        published projects passed probabilities to a focal loss that expected logits, and saw a
        loss that was not zero on a perfect prediction.

    How it decides:
        The weights of the last layer are multiplied by 30 and by -30 in a copy. Outputs that stay
        within [0, 1] (and sum to one over the classes), within [-1, 1], or above 0 all the same are
        held there by an activation. The loss is asked what it expects: if a perfect prediction of
        zeros and ones costs it over a tenth more than one of logits such as 4 and -4, then it takes
        logits. An error is both together; a ReLU before several logits is a warning, as a
        softmax can live with it. Without a loss, a final softmax or sigmoid is a note.

    False alarms:
        None known. A log-softmax before a cross-entropy changes nothing, and is not reported.

    How to mend:
        Return the logits, and apply the softmax or sigmoid where probabilities are needed, outside
        of the loss; or take the loss that expects probabilities.
    """
    if probe.main is None or not probe.main.tensor.is_floating_point():
        return
    kind = bounds_of(probe)
    if kind is None:
        return
    evidence = {"output": kind, "range": [round(value, 6) for value in _range(probe)]}
    if probe.loss is None:
        if kind in ("softmax", "sigmoid"):
            yield double_activation.finding(
                f"The outputs {_RANGES[kind]}: they are probabilities, not logits.",
                remedy="Give this model a loss that expects probabilities.",
                where=probe.main.place,
                level="note",
                evidence=evidence,
            )
        return
    answer = ask_loss(probe)
    if answer is None or not answer.expects_logits:
        return
    costs = f"a perfect prediction within that range costs {_best_within(answer, kind):.3g}"
    several = probe.main.logits.shape[1] > 1
    yield double_activation.finding(
        f"The outputs {_RANGES[kind]}, but the loss expects logits of any size and sign"
        + (f": {costs} instead of {max(answer.confident, 0):.2g}." if kind != "relu" else "."),
        remedy="Remove the final activation from the model, or take a loss without its own.",
        where=probe.main.place,
        level="warning" if kind == "relu" and several else "error",
        evidence=evidence
        | {
            "loss_of_one_hot": answer.one_hot,
            "loss_of_confident_logits": answer.confident,
            "loss_of_uniform": answer.uniform,
        },
    )


def _best_within(answer: Answer, kind: str) -> float:
    return answer.one_hot if kind != "tanh" else answer.one_hot / 2


def _range(probe: ModelProbe) -> tuple[float, float]:
    low, high = (probe.main.tensor if probe.main else torch.zeros(1)).aminmax()
    return float(low), float(high)


def bounds_of(probe: ModelProbe) -> str | None:
    """Which activation holds the outputs where they are: a key of `_RANGES`; None if nothing."""
    outputs = [probe.small_output]
    if _kind(outputs) is None:
        return None  # Most models: their outputs have both signs, or any size.
    outputs += _with_large_head(probe)
    return _kind(outputs) if len(outputs) > 1 else None


def _kind(outputs: Sequence[Float[Tensor, "B L H W"]]) -> str | None:
    values = [output.double() for output in outputs]
    low = min(float(value.min()) for value in values)
    high = max(float(value.max()) for value in values)
    if not math.isfinite(low + high):
        return None
    if low >= -1e-6 and high <= 1 + 1e-6:
        sums = max(float((value.sum(1) - 1).abs().max()) for value in values)
        return "softmax" if sums < 1e-3 and values[0].shape[1] > 1 else "sigmoid"
    if low >= -1 - 1e-6 and high <= 1 + 1e-6:
        return "tanh"
    return "relu" if low >= 0 else None


def _with_large_head(probe: ModelProbe) -> list[Float[Tensor, "B L H W"]]:
    """Outputs with the weights of the last layer 30 and -30 times as large."""
    outputs: list[Float[Tensor, "B L H W"]] = []
    for name in reversed(probe.calls.parametric):
        for factor in (30.0, -30.0):
            model = probe.independent().eval()
            _enlarge(model.get_submodule(name), factor)
            with torch.no_grad():
                outputs.append(probe.predict(probe.small, model=model))
        if not torch.equal(outputs[0], outputs[1]):
            return outputs
        outputs.clear()  # A layer beside the main output, such as an auxiliary head.
    return outputs


def _enlarge(layer: nn.Module, factor: float) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            # Some noise, as there are layers that begin with zeros.
            fan_in = max(parameter.numel() // parameter.shape[0], 1) if parameter.ndim else 1
            parameter.copy_(factor * (parameter + 0.3 * noise / math.sqrt(fan_in)))


def ask_loss(probe: ModelProbe) -> Answer | None:
    """What the loss says to predictions of each kind; None where it cannot be called."""
    call = probe.loss_call
    if call is None or probe.main is None:
        return None
    channels = probe.main.logits.shape[1]
    ids = probe.ids
    if ids is None or bool((ids == ids.flatten()[0]).all()):
        generator = torch.Generator().manual_seed(5)
        shape = (len(probe.images), *probe.size)
        ids = torch.randint(max(channels, 2), shape, generator=generator).to(probe.images.device)
    classes = torch.arange(channels, device=ids.device)[None, :, None, None]
    hot = (ids[:, None] == (classes if channels > 1 else 1)).float()

    def value(prediction: Float[Tensor, "B L H W"]) -> float:
        try:
            with torch.no_grad():
                return float(call(prediction, ids))
        except Exception:  # Losses of many authors refuse in many ways.
            return math.nan

    costs = [value(confidence * (2 * hot - 1)) for confidence in _CONFIDENCES]
    finite = [cost for cost in costs if math.isfinite(cost)]
    return Answer(
        uniform=value(torch.zeros_like(hot)),
        one_hot=value(hot),
        confident=min(finite) if finite else math.nan,
    )


RULES: tuple[Rule, ...] = (double_activation,)
