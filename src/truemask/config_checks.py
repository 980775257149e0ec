"""Settings held against what they are for: keys, types, and the targets that they name."""

import inspect
from collections.abc import Mapping
from typing import Any

from truemask.build import check_settings, locate, nearest
from truemask.data.label_edits import LabelEdits
from truemask.errors import UsageError
from truemask.models.described import NETWORKS
from truemask.training.loss_setup import is_weighting
from truemask.training.settings import CheckSettings, DataSettings, TrainerSettings
from truemask.training.testing import DATASETS, LOSSES, SPLITS
from truemask.training.trackers import check_trackers

GROUPS = ("data", "model", "loss", "optimizer", "schedule", "trainer", "experiment")
"""Groups of the configuration, of which a word may choose an option."""

KEYS = ("name", "runs", "seed", *(group for group in GROUPS if group != "experiment"))
"""What every configuration has."""

_OPTIONAL = ("logger", "profile", "checks", "plan")

_GIVEN = {
    "model": ("in_channels", "out_channels"),
    "optimizer": ("params",),
    "data.dataset": ("assignments",),
}
"""Arguments that the training gives, so that a configuration need not."""

SCHEDULES = frozenset(
    f"truemask.training.schedules.{name}"
    for name in (
        "Constant", "OneCycle", "Polynomial", "StepDecay", "WarmupCosine", "WarmupInverseSqrt",
    )
)  # fmt: skip


def known_targets() -> frozenset[str]:
    """What a run may name without being trusted: our own, and torch's and torchvision's."""
    from torch import optim
    from torchvision.transforms import v2

    names = {f"torch.optim.{name}" for name in vars(optim) if name[0].isupper()}
    names |= {f"torchvision.transforms.v2.{name}" for name in vars(v2) if name[0].isupper()}
    names.add("truemask.data.transforms.RandomQuarterTurn")
    return frozenset(names | SCHEDULES | set(NETWORKS) | DATASETS | SPLITS | LOSSES)


def check_config(config: Mapping[str, Any], *, allow: frozenset[str] | None = None) -> None:
    """Hold every setting against what it is for, before any data is read.

    Args:
        config: the whole configuration.
        allow: targets that may be imported; `None` allows all.

    Raises:
        UsageError: the key that is wrong, with the nearest right one.
    """
    for key in config:
        known = (*KEYS, *_OPTIONAL)
        if key not in known:
            hint = nearest(key, known)
            raise UsageError(f"there is no setting {key!r}{hint} (there are {', '.join(known)})")
    check_trackers(config.get("logger"))
    if not isinstance(config.get("checks", {}), Mapping):
        raise UsageError(
            f"checks is {config['checks']!r}: give settings, such as checks.stop=false"
        )
    check_settings(CheckSettings, config.get("checks", {}), key="checks")
    if config.get("profile") not in (None, False, True, "trace"):
        raise UsageError(f"profile is {config['profile']!r}: give true, false or trace")
    for key in ("name", "runs"):
        if not isinstance(config[key], str) or not config[key]:
            raise UsageError(f"{key} is {config[key]!r}, but must be text")
    if (
        not isinstance(config["seed"], int)
        or isinstance(config["seed"], bool)
        or config["seed"] < 0
    ):
        raise UsageError(f"seed is {config['seed']!r}, but must be a whole number from 0 on")
    check_settings(TrainerSettings, config["trainer"], key="trainer")
    check_settings(DataSettings, config["data"], key="data")
    TrainerSettings(**config["trainer"])
    if config["trainer"].get("strategy") == "fsdp" and config.get("profile"):
        raise UsageError(
            "profile cannot look into weights that are divided: give trainer.strategy=ddp"
        )
    DataSettings(**config["data"])
    if config["data"].get("labels") is not None:
        check_settings(LabelEdits, config["data"]["labels"], key="data.labels")
    for group in ("model", "loss", "optimizer", "schedule", "data"):
        _check_targets(config[group], key=group, allow=allow)


def _check_targets(value: Any, *, key: str, allow: frozenset[str] | None) -> None:
    if isinstance(value, Mapping):
        if "_target_" in value:
            target = locate(str(value["_target_"]), key=key, allow=allow)
            settings = {
                # A weighting's name stands for numbers that the data will give.
                name: None if is_weighting(name, item) else item
                for name, item in value.items()
                if name != "_target_"
            }
            names = inspect.signature(target).parameters
            given = [name for name in _GIVEN.get(key, ()) if name in names and name not in settings]
            check_settings(target, settings, key=key, given=given)
        for name, item in value.items():
            _check_targets(item, key=f"{key}.{name}", allow=allow)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_targets(item, key=f"{key}[{i}]", allow=allow)
