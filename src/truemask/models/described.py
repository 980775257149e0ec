"""Networks that a description in JSON stands for: plain values, and only classes of a fixed list.

A description that somebody else wrote is data: no other class is called, and none outgrows every
use before it takes memory or hours.
"""

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from truemask.build import check_settings
from truemask.errors import UsageError
from truemask.models.pretrained import EncoderUNet
from truemask.models.texture_cnn import TextureCNN
from truemask.models.unet import UNet
from truemask.untrusted import one_line

NETWORKS: Mapping[str, type[nn.Module]] = {
    "truemask.models.pretrained.EncoderUNet": EncoderUNet,
    "truemask.models.texture_cnn.TextureCNN": TextureCNN,
    "truemask.models.unet.UNet": UNet,
}
"""The classes that a bundle may name; no other is built, whatever its content says."""

MAX_PARAMETERS = 1_000_000_000
"""The most numbers that a network of a bundle may hold: ten times the largest U-Net in use."""

MAX_TENSORS = 10_000
"""The most tensors that it may have: networks in use have hundreds."""


def build_network(
    network: Mapping[str, Any], *, allow: Mapping[str, type[nn.Module]] | None = None
) -> nn.Module:
    """Build a network of an allowed class from plain values.

    Args:
        network: `_target_` and the keyword arguments of that class.
        allow: classes by their dotted name, besides `NETWORKS`.

    Raises:
        UsageError: the class is not on the list, or does not take these values.
    """
    settings = plain_network(network)
    target = settings.pop("_target_")
    classes = {**NETWORKS, **(allow or {})}
    if target not in classes:
        raise UsageError(
            f"the network {target!r} is none of those that a bundle may name "
            f"({', '.join(NETWORKS)}); if you trust it, add --allow {target}, or give "
            f"load_bundle(..., allow={{{target!r}: THE_CLASS}})"
        )
    check_settings(classes[target], settings, key="network")
    try:
        return classes[target](**settings)
    except UsageError:
        raise
    except Exception as error:  # PyTorch refuses absurd values in many ways
        raise UsageError(f"the network cannot be built: {one_line(error)[:200]}") from error


def plain_network(network: Any) -> dict[str, Any]:
    """A deep copy of the network's description.

    Raises:
        UsageError: it does not name a class, or its values are not plain: numbers, words, and
            lists and mappings of them.
    """
    if not isinstance(network, Mapping) or not isinstance(network.get("_target_"), str):
        raise UsageError("network must be a mapping whose _target_ is the dotted name of a class")
    for name, value in network.items():
        if name != "_target_":
            if not isinstance(name, str) or name.startswith("_"):
                raise UsageError(f"network.{name} is no argument of a class")
            _check_plain(value, key=f"network.{name}")
    plain: dict[str, Any] = json.loads(json.dumps(dict(network)))
    return plain


def self_contained(network: Mapping[str, Any], kind: type[nn.Module] | None) -> dict[str, Any]:
    """The network's description without what only a training needs, as the class tells it.

    A bundle holds all its weights: nothing is downloaded to build it, whoever wrote it.
    """
    plain = plain_network(network)
    needed = getattr(kind, "saved_settings", None)
    return plain if needed is None else plain_network(needed(plain))


def _check_plain(value: Any, *, key: str) -> None:
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise UsageError(f"{key} has a _target_ of its own: a network takes plain values only")
        for name, item in value.items():
            _check_plain(item, key=f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_plain(item, key=f"{key}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{key} is {value}, which is no number")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise UsageError(
            f"{key} is of the type {type(value).__name__}: a network takes plain values only, "
            "so that it can be built again from JSON"
        )


@contextmanager
def without_initialization(network: Mapping[str, Any]) -> Iterator[None]:
    """Build on the meta device, whose tensors have a shape and no memory.

    So nothing is initialised in vain, and a network of absurd size costs nothing before it is
    refused. A user's own class may do what that device cannot, so it is built as ever. Random
    numbers that are drawn all the same are given back.
    """
    device = "meta" if network["_target_"] in NETWORKS else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        yield


@contextmanager
def bounded_construction() -> Iterator[None]:
    """Stop the building of a network that outgrows every use, before it takes memory or hours."""
    thread, numbers, tensors = threading.get_ident(), 0, 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers, tensors
        if tensor is None or threading.get_ident() != thread:
            return
        numbers, tensors = numbers + tensor.numel(), tensors + 1
        if numbers > MAX_PARAMETERS or tensors > MAX_TENSORS:
            raise UsageError(
                f"the network has more than {MAX_PARAMETERS} parameters or {MAX_TENSORS} tensors: "
                "it is not built"
            )

    hooks = (
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
