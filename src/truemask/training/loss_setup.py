"""The loss of a training: named weightings become numbers of the training part, once."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from truemask.build import build, locate
from truemask.class_weights import CLASS_WEIGHTS, class_weights, pos_weight
from truemask.data.statistics import Statistics
from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX, LabelMap


def is_weighting(name: str, value: Any) -> bool:
    """Whether a setting of a loss names a weighting, which the counts turn into numbers."""
    return (name == "weight" and isinstance(value, str) and value in CLASS_WEIGHTS) or (
        name == "pos_weight" and value == "balanced"
    )


def settle_loss(
    loss: Mapping[str, Any], statistics: Statistics, *, labels: LabelMap, notes: list[str]
) -> dict[str, Any]:
    """The loss's configuration with numbers for named weightings, and the data's ignored id."""
    counts = [int(count) for count in statistics.class_counts]

    def settle(value: Any, name: str) -> Any:
        if name == "weight" and isinstance(value, str):
            if not is_weighting(name, value):
                raise UsageError(f"loss weight {value!r} is none of {', '.join(CLASS_WEIGHTS)}")
            weights = class_weights(counts, method=value)
            notes.append(
                f"Class weights ({value}): " + ", ".join(f"{w:.3g}" for w in weights) + "."
            )
            return [round(weight, 6) for weight in weights]
        if is_weighting(name, value):
            weight = round(pos_weight(counts), 6)
            notes.append(f"The foreground weighs {weight:.4g} times the background.")
            return weight
        if isinstance(value, Mapping):
            settled = {key: settle(item, key) for key, item in value.items()}
            if "_target_" in value and labels.ignore_index != IGNORE_INDEX:
                target = locate(str(value["_target_"]), key="loss")
                if "ignore_index" in inspect.signature(target).parameters:
                    settled.setdefault("ignore_index", labels.ignore_index)
            return settled
        if isinstance(value, list):
            return [settle(item, "") for item in value]
        return value

    settled = settle(dict(loss), "")
    assert isinstance(settled, dict)
    return settled


def make_loss(config: Mapping[str, Any], *, allow: frozenset[str] | None = None) -> nn.Module:
    """The loss of a settled configuration."""
    loss = build(config, key="loss", allow=allow)
    if not isinstance(loss, nn.Module):
        raise UsageError(f"loss._target_ must make a torch.nn.Module, not {type(loss).__name__}")
    return loss
