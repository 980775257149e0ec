"""What keeps a model from learning its batch, told without training it: parts of TM511."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from truemask.checks.finding import Level
from truemask.checks.model_layers import first_tensor, watching
from truemask.checks.model_probe import ModelProbe
from truemask.checks.untouched import seed

DRAWS = 8
"""Calls with other random numbers, of which the share of noise is told."""

NOISE = 0.85
"""Share of noise in the square of a random layer's output; a dropout's is what it drops."""

PERIODS = (2, 4, 8, 16)
"""Pixels after which the patterns repeat that a model must see."""

UNSEEN = 0.05
"""Share of the answer to smooth noise below which a pattern of the same size is not seen."""

LOST = 0.05
"""Share of the labelled pixels that blocks of pixels may get wrong."""


@dataclass(frozen=True)
class Obstacle:
    """What keeps a model from learning.

    Attributes:
        message: what is wrong, a sentence.
        remedy: what to do.
        evidence: numbers that show it.
        level: how bad it is.
    """

    message: str
    remedy: str
    evidence: dict[str, Any] = field(default_factory=dict)
    level: Level = "error"


def obstacles(probe: ModelProbe) -> Iterator[Obstacle]:
    """All that can be told of the outputs for a few images, without training."""
    if probe.main is None or not probe.main.tensor.is_floating_point():
        return
    first, second = _shaken_outputs(probe, training=False)
    scale = float(first.abs().max())
    if not math.isfinite(scale):
        return
    if same(first, second, scale):
        yield from _blind_in_training(probe, "", change=float((first - second).abs().max()))
        return
    both = torch.cat([first, second]).double()
    if same_everywhere(both):
        yield Obstacle(
            "The output is the same at all pixels of an image: it is a verdict on the image, not a "
            "mask.",
            remedy="Keep the height and width of the features: no global pooling before the head.",
            evidence={"largest": scale},
        )
        return
    yield from _tied(both)
    try:
        blind = list(_blind_in_training(probe, "In training mode, "))
        yield from blind or _drowned(probe)
    except ValueError:  # A batch norm over one value, which is a finding of its own.
        pass
    yield from _coarse(probe)
    yield from _scattered_labels(probe)


def same(first: Tensor, second: Tensor, scale: float) -> bool:
    """Whether two outputs are the same but for rounding."""
    return float((first - second).abs().max()) <= 1e-6 * scale


def same_everywhere(output: Float[Tensor, "B L H W"]) -> bool:
    """Whether all pixels of an image get the same, but for rounding."""
    if output.shape[2] * output.shape[3] == 1:
        return False
    spread = (output - output.mean((2, 3), keepdim=True)).abs().max()
    return float(spread) <= 1e-6 * float(output.abs().max())


def _shaken_outputs(
    probe: ModelProbe, *, training: bool, draw: int = 0
) -> tuple[Float[Tensor, "B L H W"], Float[Tensor, "B L H W"]]:
    """Outputs for the crop and for noise."""
    model = probe.independent(probe.shaken)
    if training:
        for module, mode in zip(model.modules(), probe.modes.values(), strict=True):
            module.training = mode
    with torch.no_grad():
        first = probe.predict(probe.small, model=model, start=draw)
        noise = probe.random_like(probe.small, start=9)
        second = probe.predict(noise, model=model, start=draw)
    return first, second


def _blind_in_training(probe: ModelProbe, when: str, **evidence: Any) -> Iterator[Obstacle]:
    for draw in range(DRAWS):  # By chance a dropout may leave nothing once.
        first, second = _shaken_outputs(probe, training=True, draw=draw)
        if not same(first, second, float(first.abs().max())):
            break
    else:
        start = f"{when}the" if when else "The"
        yield Obstacle(
            f"{start} output does not depend on the image: another image gives the same output.",
            remedy="Look in forward for a variable that is not used, is overwritten or is "
            "multiplied by zero, and for a dropout of everything.",
            evidence={"largest": float(first.abs().max()), **evidence},
        )


def _tied(outputs: Float[Tensor, "B L H W"]) -> Iterator[Obstacle]:
    """Pairs of channels whose difference is the same everywhere."""
    channels = outputs.transpose(0, 1).flatten(1)
    channels = channels[:, :: max(channels.shape[1] // 2000, 1)]
    centred = channels - channels.mean(1, keepdim=True)
    scale = float(centred.abs().max())
    distances = torch.cdist(centred, centred, p=math.inf)
    tied = (distances <= 1e-6 * scale).triu(1).nonzero().tolist()
    if not tied or scale == 0:
        return
    pairs = ", ".join(f"{a} and {b}" for a, b in tied[:5])
    yield Obstacle(
        f"The outputs of the channels {pairs} differ by the same amount at every pixel: the model "
        "cannot tell these classes apart.",
        remedy="Give each class weights of its own in the last layer.",
        evidence={"channels": tied[:50]},
    )


def _drowned(probe: ModelProbe) -> Iterator[Obstacle]:
    """Random layers that leave next to nothing of what they are given."""
    given: dict[str, Tensor] = {}

    def note(name: str, layer: nn.Module, arguments: tuple[Any, ...], _: Any) -> None:
        values = first_tensor(arguments)
        if values is not None and not any(True for _ in layer.parameters()) and layer.training:
            given.setdefault(name, values.detach().clone())

    model = probe.independent()
    with torch.no_grad(), watching(model, note):
        first, other = (probe.predict(probe.small, model=model, start=start) for start in (0, 1))
        if torch.equal(first, other):
            return  # No layer draws anything.
    for name, values in given.items():
        share = _share_of_noise(model.get_submodule(name), values)
        if share > NOISE:
            yield Obstacle(
                f"In training mode {share:.0%} of what {name} puts out is noise: it drops nearly "
                "all that it is given.",
                remedy="Drop less, mostly 10 to 50 %: PyTorch is told the share that is dropped, "
                "not the one that is kept.",
                evidence={"layer": name, "share_of_noise": round(share, 4)},
                level="warning",
            )


def _share_of_noise(layer: nn.Module, values: Tensor) -> float:
    """How much of the square of a layer's output differs from call to call; 0 to 1."""
    outputs: list[Tensor] = []
    with torch.no_grad():
        for draw in range(DRAWS):
            seed(draw)
            try:
                outputs.append(layer(values.clone()).double())
            except Exception:  # A layer that is not called with a tensor alone.
                return 0.0
            if draw == 1 and torch.equal(outputs[0], outputs[1]):
                return 0.0
    drawn = torch.stack(outputs)
    noise = float(drawn.var(0).mean())
    # The mean of the draws still holds a part of the noise.
    signal = max(float(drawn.mean(0).square().mean()) - noise / DRAWS, 0.0)
    return noise / (noise + signal) if noise > 0 else 0.0


def _coarse(probe: ModelProbe) -> Iterator[Obstacle]:
    """Images that lose their detail in front of the first layer that could see it."""
    if probe.ids is None:
        return
    side = 1
    for period in PERIODS:
        if _answer_to_pattern(probe, period) >= UNSEEN:
            break
        side = period
    if side < 4:  # A network that works at half the resolution is nothing unusual.
        return
    lost = lost_by_blocks(probe.ids, side, probe.num_classes)
    if lost > LOST:
        yield Obstacle(
            f"Patterns of {side} and fewer pixels do not change the output: images are shrunk or "
            f"blurred before any layer sees their detail. {lost:.0%} of the labelled pixels are of "
            f"another class than most of their block of {side}x{side}.",
            remedy="Feed the network with images of full resolution, or shrink them by "
            "convolutions with a stride.",
            evidence={"unseen_period": side, "pixels_lost": round(lost, 4)},
            level="warning",
        )


def _answer_to_pattern(probe: ModelProbe, period: int) -> float:
    """What changes by a chequered pattern, as a share of what changes by smooth noise."""
    images, model = probe.small, probe.settled
    height, width = images.shape[-2:]
    generator = torch.Generator().manual_seed(6)
    coarse = torch.randn(*images.shape[:2], 4, 4, generator=generator)
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear").clamp(-1, 1)
    rows = 1.0 - 2 * ((torch.arange(height) // (period // 2)) % 2)
    columns = 1.0 - 2 * ((torch.arange(width) // (period // 2)) % 2)
    step = 0.1 * (probe.high - probe.low)
    middle = torch.full(images.shape, (probe.low + probe.high) / 2)

    def given(change: Tensor | float) -> Shaped[Tensor, "B C H W"]:
        return (middle + step * change).to(images)

    with torch.no_grad():
        before, other, patterned = (
            probe.predict(given(change), model=model)
            for change in (0.0, smooth, rows[:, None] * columns)
        )
    answer = float((other - before).square().mean().sqrt())
    seen = float((patterned - before).square().mean().sqrt())
    return seen / answer if answer > 0 else 1.0


def lost_by_blocks(ids: Int64[Tensor, "B H W"], side: int, num_classes: int) -> float:
    """Share of the labelled pixels that are of another class than most of their block."""
    height, width = (length // side * side for length in ids.shape[1:])
    blocks = ids[:, :height, :width].unfold(1, side, side).unfold(2, side, side).flatten(3)
    counts = torch.stack([(blocks == number).sum(-1) for number in range(num_classes)])
    total = int(counts.sum())
    return 1 - int(counts.amax(0).sum()) / total if total else 0.0


def _scattered_labels(probe: ModelProbe) -> Iterator[Obstacle]:
    """Masks in which neighbours agree no more than by chance."""
    ids = probe.ids
    if ids is None:
        return
    counts = torch.stack([(ids == number).sum() for number in range(probe.num_classes)]).double()
    shares = counts / counts.sum().clamp_min(1)
    chance = float(shares.square().sum())
    labelled = (ids >= 0) & (ids < probe.num_classes)
    pairs = labelled[..., 1:] & labelled[..., :-1]
    if not bool(pairs.any()):
        return
    agree = float((ids[..., 1:] == ids[..., :-1])[pairs].double().mean())
    # Single pixels, as centres of cells, are rare: their neighbours agree nearly always.
    if agree < 0.9 and agree - chance < 0.1 * (1 - chance):
        yield Obstacle(
            f"The masks are scattered: {agree:.1%} of the neighbouring pixels have the same class, "
            f"and {chance:.1%} would by chance.",
            remedy="Look at a mask: a reshape in another order, a wrong dtype or stride scatters "
            "its pixels.",
            evidence={"agree": round(agree, 4), "chance": round(chance, 4)},
            level="warning",
        )
