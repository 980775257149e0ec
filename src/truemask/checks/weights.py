"""Weights wherever they are kept: a model, a state dict, a bundle, anybody's checkpoint."""

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from truemask.errors import UsageError

Weights = nn.Module | Mapping[str, Any] | str | Path
"""A model, a state dict or a mapping that holds one, a file of either, or a bundle's folder."""

State = dict[str, Tensor]


def states(weights: Weights) -> list[State]:
    """All state dicts that something holds: a checkpoint may have the weights and their average.

    Raises:
        UsageError: the file cannot be read, or holds more than tensors and plain values.
    """
    if isinstance(weights, nn.Module):
        return [dict(weights.state_dict())]
    if isinstance(weights, str | Path):
        weights = _read(Path(weights))
    return list(_inside(weights))


def _read(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give a file of weights")
    try:
        if path.suffix == ".safetensors":
            tensors: Mapping[str, Any] = load_file(path)
            return tensors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        raise UsageError(
            f"{path} cannot be read safely: it is damaged, or holds more than tensors"
        ) from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds no mapping of names to tensors")
    return content


def _inside(value: Mapping[str, Any], depth: int = 0) -> Iterator[State]:
    tensors = {str(k): v for k, v in value.items() if isinstance(v, Tensor)}
    if tensors:
        yield tensors
    for inner in value.values():
        if isinstance(inner, Mapping) and depth < 3:
            yield from _inside(inner, depth + 1)


def largest_difference(state: State, other: State) -> float | None:
    """The largest difference of two weights of one name; `None` where the names do not fit.

    What wrappers put before a name ("module.", "model.network.") is left out.
    """
    ours = _aligned(state, other)
    if ours is None:
        return None
    largest = 0.0
    for tensor, match in ours:
        if tensor.shape != match.shape:
            return None
        if tensor.is_floating_point() and tensor.numel():
            # Moving both to one type: checkpoints may hold half precision.
            gap = (tensor.detach().float().cpu() - match.detach().float().cpu()).abs().max()
            largest = max(largest, float(gap) if math.isfinite(float(gap)) else math.inf)
    return largest


def _aligned(state: State, other: State) -> list[tuple[Tensor, Tensor]] | None:
    """Pairs of one name, once what stands before all names of one side is taken away."""
    for inner, outer, swapped in ((state, other, False), (other, state, True)):
        probe = next(iter(inner))
        for candidate in [name for name in outer if name.endswith(probe)]:
            prefix = candidate[: len(candidate) - len(probe)]
            if all(prefix + name in outer for name in inner):
                pairs = [(inner[name], outer[prefix + name]) for name in inner]
                return [(b, a) for a, b in pairs] if swapped else pairs
    return None


def same(weights: Weights, other: Weights) -> tuple[bool | None, float]:
    """Whether two hold the same weights, and by how much they differ at most.

    Returns:
        `None` and 0 where no state dict of the one fits one of the other. Where several fit (the
        weights and their moving average), the nearest counts.
    """
    gaps = [
        gap
        for one in states(weights)
        for two in states(other)
        if (gap := largest_difference(one, two)) is not None
    ]
    if not gaps:
        return None, 0.0
    return min(gaps) == 0.0, min(gaps)
