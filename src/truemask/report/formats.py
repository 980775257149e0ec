"""How a page writes numbers, times and names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_DASH = "–"
_MODELS = {"UNet": "U-Net", "TextureCNN": "Texture CNN"}


def number(value: Any, digits: int = 3) -> str:
    """A score: `0.587`; a dash for a missing one."""
    return f"{value:.{digits}f}" if is_number(value) else _other(value)


def digits(interval: Sequence[float] | None, value: float) -> int:
    """Decimal places with which a value and its interval say what they know: 3 to 6."""
    width = abs(value) if interval is None else (interval[1] - interval[0]) / 2
    if not math.isfinite(width) or width <= 0:
        width = abs(value)
    return 3 if width <= 0 else min(6, max(3, 1 - math.floor(math.log10(width))))


def signed(value: Any, places: int = 3) -> str:
    """A difference: `+0.024`; a dash for a missing one, and no sign before nothing."""
    if not is_number(value):
        return _other(value)
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text


def compact(value: Any) -> str:
    """A setting or a rate in four significant digits: `0.003`, `1.2e-05`, `27.03`."""
    return f"{value:.4g}" if is_number(value) else _other(value)


def percent(value: Any, digits: int = 1) -> str:
    """A share from 0 to 1: `31.4 %`; a positive one never reads as nothing."""
    if not is_number(value):
        return _other(value)
    least = 10.0 ** -(digits + 2)
    if 0 < value < least / 2:
        return f"< {least * 100:.{digits}f} %"
    return f"{value * 100:.{digits}f} %"


def count(value: Any) -> str:
    """A whole number with separators: `12,345`."""
    return f"{value:,.0f}" if is_number(value) else _other(value)


def quantity(value: Any) -> str:
    """A big number in short: `7.8 M`, `640 k`, `93`."""
    if not is_number(value):
        return _other(value)
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """A time: `45 s`, `20 min`, `1 h 5 min`."""
    if not is_number(seconds):
        return _other(seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def device(name: Any) -> str:
    """A device as people say it: `CPU`, `GPU`, or its product name as it stands."""
    word = str(name).split(":")[0].lower()
    return {"cpu": "CPU", "cuda": "GPU", "gpu": "GPU", "mps": "GPU"}.get(word, str(name))


def model(target: str) -> str:
    """The name of a model from the path of its class."""
    name = target.rsplit(".", 1)[-1]
    return _MODELS.get(name, name)


def construction(value: Any, *, longest: int = 0) -> str:
    """A setting as the call that builds it: `CrossEntropy(weight=[11 values])`.

    Args:
        value: the setting.
        longest: lists of up to as many numbers are written out.
    """
    if isinstance(value, Mapping):
        settings = {key: item for key, item in value.items() if key != "_target_"}
        written = {key: construction(item, longest=longest) for key, item in settings.items()}
        words = ", ".join(f"{key}={item}" for key, item in written.items())
        return f"{model(str(value.get('_target_', '')))}({words})"
    if isinstance(value, list):
        if len(value) > longest and all(is_number(item) for item in value):
            return f"[{len(value)} values]"
        return f"[{', '.join(construction(item, longest=longest) for item in value)}]"
    return compact(value) if is_number(value) else str(value)


def part(name: str) -> str:
    """What the parts of a dataset are called in text."""
    return {"train": "Training", "validation": "Validation", "test": "Test"}.get(name, name)


def is_number(value: Any) -> bool:
    """Whether a value that was read is a number to write as such."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _other(value: Any) -> str:
    return _DASH if value is None or isinstance(value, float) else str(value)
