"""Whether the images of a loader have the values that they are said to have: TM301."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.loader_samples import Drawn, Taken
from truemask.errors import UsageError

Values = tuple[float, ...]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OUTSIDE = 0.1
"""Values may leave the range by this share of it: smooth resizing and noise do."""

_NARROW = 0.6
"""A declared range of which less is used leaves room for another explanation."""

_ENDS = 0.05
"""How near black and white of an explanation must be to the least and the largest value."""


@dataclass(frozen=True)
class Scaling:
    """What black and white become, one value a channel, or one for all.

    Attributes:
        name: in messages.
        black: of the lowest value of an image file.
        white: of the highest.
        integer: whether values are whole numbers of 8 bits.
    """

    name: str
    black: Values
    white: Values

    def shares(self, image: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Values as shares of the range, 0 for black and 1 for white."""
        black, white = (_column(values, len(image)) for values in (self.black, self.white))
        return (image - black) / (white - black)


def _column(values: Values, channels: int) -> Float[Tensor, "C 1 1"]:
    wide = values * channels if len(values) == 1 else values
    return torch.tensor(wide, dtype=torch.float64)[:, None, None]


def normalized(name: str, mean: Sequence[float], std: Sequence[float], span: float = 1) -> Scaling:
    """(value - mean) / std of images from 0 to `span`."""
    black = tuple((0 - m) / s for m, s in zip(mean, std, strict=True))
    white = tuple((span - m) / s for m, s in zip(mean, std, strict=True))
    return Scaling(name, black, white)


NAMED = {
    "imagenet": normalized("ImageNet's mean and standard deviation", *_IMAGENET),
    "0-1": Scaling("0 to 1", (0.0,), (1.0,)),
    "-1-1": Scaling("-1 to 1", (-1.0,), (1.0,)),
    "0-255": Scaling("0 to 255", (0.0,), (255.0,)),
}
"""What `normalization` may be called."""


def declared(normalization: Any) -> Scaling | None:
    """What the caller says the values are.

    Args:
        normalization: a name of `NAMED`; a mapping with "mean" and "std", and "range" of the values
            before them, (0, 1) by default; a Truemask `ImageSpec`; or None.

    Raises:
        UsageError: it is none of these.
    """
    if normalization is None or isinstance(normalization, Scaling):
        return normalization
    if isinstance(normalization, str) and normalization in NAMED:
        return NAMED[normalization]
    if isinstance(normalization, Mapping) and {"mean", "std"} <= normalization.keys():
        low, high = (float(v) for v in normalization.get("range", (0.0, 1.0)))
        mean, std = (_listed(normalization[key]) for key in ("mean", "std"))
        if len(mean) == len(std) and min(std) > 0:
            pairs = list(zip(mean, std, strict=True))
            black = tuple((low - m) / s for m, s in pairs)
            white = tuple((high - m) / s for m, s in pairs)
            return Scaling("the declared mean and standard deviation", black, white)
    if all(hasattr(normalization, name) for name in ("low", "high", "dtype")):
        low, high = float(normalization.low), float(normalization.high)
        return Scaling(f"{low:g} to {high:g}", (low,), (high,))
    raise UsageError(
        f"normalization is {normalization!r}; give one of {', '.join(NAMED)}, or "
        '{"mean": [...], "std": [...]} with one positive std a channel'
    )


def _listed(values: Any) -> list[float]:
    return [float(v) for v in values] if isinstance(values, Sequence | Tensor) else [float(values)]


@rule("TM301", "wrong-scaling", "error")
def wrong_scaling(drawn: Drawn, scaling: Scaling | None) -> Iterator[Finding]:
    """The values of the images are not those that the declared scaling gives.

    Why it matters:
        A network trains on any values, only worse; weights that were trained on others do not fit
        at all. In one of the five published projects the images were never scaled before they
        went in. Scaling twice leaves nearly black images; the mean and standard deviation of
        another data set shift every colour.

    How it decides:
        The values of some batches are turned back into shares of the declared range, from 0 for
        black to 1 for white. An error is more than 1 % of all values outside by over a tenth of it;
        images that use less than 1/200 of it though they are not even; and a range of which less
        than 60 % is used while another usual scaling fits at both ends of every channel to 5 %. The
        message names the usual scaling that fits. Images of 8 bits lie on a grid; where there is
        one, it must be that of the declared scaling, so that another standard deviation shows by
        1 %, and another mean by a tenth of a grey level. Zeros are left out of it, as padding has
        them. Without a declaration only what no scaling
        gives is an error: all values below 1/255 with more than 16 levels, or beyond
        300 without being whole numbers.

    False alarms:
        Images that are all nearly black, or of more than 8 bits: declare their range.

    How to mend:
        Scale once: `ToDtype(torch.float32, scale=True)` or `/ 255`, then `Normalize` once, with
        the mean and standard deviation that the model expects.
    """
    channels = {len(taken.image) for taken in drawn.images}
    wanted = None if scaling is None else len(scaling.black)
    if wanted is not None and wanted > 1 and channels != {wanted}:
        yield wrong_scaling.finding(
            f"The images have {', '.join(map(str, sorted(channels)))} channel(s), but the declared "
            f"normalisation has {wanted} values.",
            remedy="Read the images with as many channels as the normalisation has, such as "
            'image.convert("RGB").',
            evidence={"channels": sorted(channels), "wanted": wanted},
        )
        return
    if len(channels) > 1:
        return
    found = _undeclared(drawn) if scaling is None else _declared(drawn, scaling)
    yield from [found] if found is not None else []


def _undeclared(drawn: Drawn) -> Finding | None:
    values = _sample(drawn.images)
    low, high = float(values.min()), float(values.max())
    dark = [taken for taken in drawn.images if _scaled_twice(taken)]
    if dark:
        return _twice(dark, drawn, {"lowest": low, "highest": high})
    if max(abs(low), high) > 300 and bool((values != values.round()).any()):
        return wrong_scaling.finding(
            f"The values reach from {low:.4g} to {high:.4g} and are no whole numbers: images "
            "from 0 to 255 were normalised as if they were from 0 to 1.",
            remedy="Divide by 255 before the mean and standard deviation are applied.",
            evidence={"lowest": low, "highest": high},
        )
    return None


def _declared(drawn: Drawn, scaling: Scaling) -> Finding | None:
    values = _sample(drawn.images)
    shares = scaling.shares(values[:, :, None])[..., 0]
    low, high = float(values.min()), float(values.max())
    outside = float(((shares < -_OUTSIDE) | (shares > 1 + _OUTSIDE)).double().mean())
    used = float(shares.max() - shares.min())
    evidence = {
        "declared": scaling.name,
        "lowest": low,
        "highest": high,
        "outside": round(outside, 4),
        "used": round(used, 4),
    }
    other = _explanation(values, scaling)
    if outside > 0.01:
        return wrong_scaling.finding(
            f"The values reach from {low:.4g} to {high:.4g}, and {outside:.0%} of them lie outside "
            f"of {_range(scaling)} ({scaling.name}){f': {other}' if other else ''}.",
            remedy=_REMEDY,
            evidence=evidence | {"recognised": other},
        )
    dark = [taken for taken in drawn.images if _uses_nothing(taken, scaling)]
    if dark:
        return _twice(dark, drawn, evidence)
    if used < _NARROW and other:
        return wrong_scaling.finding(
            f"The values reach from {low:.4g} to {high:.4g}, only {used:.0%} of {_range(scaling)} "
            f"({scaling.name}): {other}.",
            remedy=_REMEDY,
            evidence=evidence | {"recognised": other},
        )
    return _off_the_grid(values, scaling, evidence)


_REMEDY = (
    "Scale the images once to the declared range, and normalise them once with the declared mean "
    "and standard deviation; or declare what is done."
)


def _range(scaling: Scaling) -> str:
    return f"{min(scaling.black):.4g} to {max(scaling.white):.4g}"


def _twice(dark: Sequence[Taken], drawn: Drawn, evidence: Mapping[str, Any]) -> Finding:
    return wrong_scaling.finding(
        f"{len(dark)} of {len(drawn.images)} images use less than 1/200 of the range, in many "
        "levels: they were divided by 255 twice, or by 65535 though they have 8 bits.",
        remedy="Divide by 255 once: ToTensor and ToDtype(scale=True) already do.",
        where=dark[0].name,
        evidence=dict(evidence) | {"images": len(dark), "of": len(drawn.images)},
    )


def _scaled_twice(taken: Taken) -> bool:
    image = taken.image.double()
    low, high = float(image.min()), float(image.max())
    return 0 <= low < high <= 1.001 / 255 and _levels(image) > 16


def _uses_nothing(taken: Taken, scaling: Scaling) -> bool:
    shares = scaling.shares(taken.image.double())
    spread = float((shares.amax((1, 2)) - shares.amin((1, 2))).max())
    return 0 < spread < 1 / 200 and _levels(taken.image) > 16


def _levels(image: Tensor) -> int:
    return int(np.unique(image.double().numpy().round(9)).size)


def _sample(images: Sequence[Taken]) -> Float[Tensor, "C N"]:
    """Values of all images, some thousands of each, by channel."""
    parts = []
    for taken in images:
        flat = taken.image.double().flatten(1)
        parts.append(flat[:, :: max(flat.shape[1] // 20000, 1)])
    return torch.cat(parts, 1)


def _explanation(values: Float[Tensor, "C N"], scaling: Scaling) -> str:
    """A usual mistake that gives just these values; "" if none is known."""
    channels = len(values)
    wide = scaling.black * channels if len(scaling.black) == 1 else scaling.black
    white = scaling.white * channels if len(scaling.white) == 1 else scaling.white
    spans = [b - a for a, b in zip(wide, white, strict=True)]
    raw = tuple(a + 255 * s for a, s in zip(wide, spans, strict=True))
    again = tuple(a + s * a for a, s in zip(wide, spans, strict=True))
    again_white = tuple(a + s * b for a, s, b in zip(wide, spans, white, strict=True))
    mistakes = {
        "they are as in an image file, from 0 to 255, and were never scaled": NAMED["0-255"],
        "images from 0 to 255 were normalised as if they were from 0 to 1": Scaling("", wide, raw),
        "they were normalised twice": Scaling("", again, again_white),
        "they are from 0 to 1 and were never normalised": NAMED["0-1"],
        "they are from -1 to 1": NAMED["-1-1"],
    }
    if channels == 3:
        name = "they were normalised with ImageNet's mean and standard deviation"
        mistakes[name] = NAMED["imagenet"]
    for text, mistake in mistakes.items():
        if _close(mistake, scaling, channels):
            continue
        shares = mistake.shares(values[:, :, None])[..., 0]
        low, high = shares.amin(1), shares.amax(1)
        if bool(((low.abs() < _ENDS) & ((high - 1).abs() < _ENDS)).all()):
            return text
    return ""


def _close(one: Scaling, other: Scaling, channels: int) -> bool:
    return all(
        torch.allclose(_column(a, channels), _column(b, channels), rtol=0.02, atol=0.02)
        for a, b in ((one.black, other.black), (one.white, other.white))
    )


def _off_the_grid(
    values: Float[Tensor, "C N"], scaling: Scaling, evidence: Mapping[str, Any]
) -> Finding | None:
    """Images of 8 bits lie on a grid; whether it is that of the declared scaling."""
    for channel, row in enumerate(values.numpy()):
        levels = np.unique(row[row != 0].round(7))
        if not 32 <= levels.size <= 256:
            return None  # Values between the levels: resized or changed as floating point.
        step = float(np.diff(levels).min())
        place = (levels - levels[0]) / step
        if np.abs(place - place.round()).max() > 0.05:
            return None
        black, white = (float(v[min(channel, len(v) - 1)]) for v in (scaling.black, scaling.white))
        expected = (white - black) / 255
        if abs(step / expected - round(step / expected)) < 0.01 * step / expected:
            first = (float(levels[0]) - black) / expected
            if abs(first - round(first)) < 0.1:
                continue
        std = expected / step
        return wrong_scaling.finding(
            f"Channel {channel} has grey levels {step:.5g} apart from {levels[0]:.5g} on, but "
            f"{scaling.name} puts them {expected:.5g} apart from {black:.5g} on: another mean or "
            f"standard deviation was applied (a standard deviation {std:.3g} times the declared).",
            remedy="Apply the mean and standard deviation that are declared, or declare those that "
            "are applied.",
            evidence=dict(evidence)
            | {"channel": channel, "step": step, "expected": expected, "first": float(levels[0])},
        )
    return None


RULES: tuple[Rule, ...] = (wrong_scaling,)
