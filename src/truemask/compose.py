"""From the command line's `key=value` words to a whole, checked configuration of plain values."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from truemask.build import check_settings, locate, nearest
from truemask.errors import UsageError
from truemask.training.settings import DataSettings, TrainerSettings
from truemask.training.setup import is_weighting

GROUPS = ("data", "model", "loss", "optimizer", "schedule", "trainer", "experiment")
DEFAULT_EXPERIMENT = "textures/demo"

# Arguments that the training gives, so that a configuration need not.
_GIVEN = {
    "model": ("in_channels", "out_channels"),
    "optimizer": ("params",),
    "data.dataset": ("assignments",),
}


def options(group: str) -> list[str]:
    """The names that `group=NAME` takes."""
    root = files("truemask.configs")
    folder = Path(str(root)) / group
    found = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted(found) if group != "trainer" else ["default"]


def compose_config(overrides: Sequence[str], *, folder: Path | None = None) -> dict[str, Any]:
    """The configuration of a training.

    Args:
        overrides: words such as "experiment=NAME", "model=unet", "optimizer.lr=0.01".
        folder: the user's data, in place of what the experiment names.

    Raises:
        UsageError: an override cannot be read, or names a group, an option or a key that does not
            exist.
    """
    words = list(overrides)
    if folder is None and not any(_key(word) in ("experiment", "data") for word in words):
        words.append(f"experiment={DEFAULT_EXPERIMENT}")
    config = _compose([_forced(word) for word in words])
    if folder is not None:
        root = config["data"]["dataset"]
        if root["_target_"] != "truemask.datasets.folder.folder" and "root" not in root:
            raise UsageError(f"this experiment's data has no folder: leave {folder} out")
        root["root"] = str(folder)
    if config["name"] is None:
        experiment = next((w.partition("=")[2] for w in words if _key(w) == "experiment"), None)
        config["name"] = (
            experiment or Path(str(config["data"]["dataset"].get("root"))).resolve().name
        )
    check_config(config)
    return config


def override_config(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run with single values changed; groups cannot be exchanged."""
    node = OmegaConf.create(dict(config))
    for word in overrides:
        parsed = _parse(word)
        key = parsed.key_or_group
        if key in GROUPS:
            raise UsageError(
                f"{word!r} exchanges a whole group, which a run that exists does not allow"
            )
        OmegaConf.update(node, key, parsed.value(), force_add=True)
    changed = _plain(node)
    check_config(changed)
    return changed


def sweep(overrides: Sequence[str]) -> list[list[str]]:
    """One list of overrides for each combination of values such as `optimizer.lr=0.1,0.01`."""
    combinations: list[list[str]] = [[]]
    for word in overrides:
        parsed = _parse(word)
        values = list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else None
        words = [word] if values is None else [f"{parsed.get_key_element()}={v}" for v in values]
        combinations = [[*before, each] for before in combinations for each in words]
    return combinations


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _forced(word: str) -> str:
    """Settings may be named though no file states them: signatures say which exist."""
    key = _key(word)
    if key in GROUPS or word.startswith(("+", "~")) or key.startswith("hydra"):
        return word
    return f"++{word}"


def _parse(word: str) -> Any:
    try:
        return OverridesParser.create().parse_override(word)
    except OverrideParseException as error:
        raise UsageError(
            f"cannot read {word!r}: write key=value, and quote special characters"
        ) from error


def _compose(words: list[str]) -> dict[str, Any]:
    ConfigStore.instance().store(group="trainer", name="default", node=_defaults(TrainerSettings))
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(f"cannot read {word.lstrip('+')!r}: write key=value")
        _parse(word)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("truemask.configs", version_base="1.3"):
            return _plain(compose("train", overrides=words))
    except MissingConfigException as error:
        raise UsageError(_missing(words, error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(str(error).splitlines()[0]) from error


def _missing(words: list[str], error: MissingConfigException) -> str:
    for word in words:
        group, _, name = word.partition("=")
        if group in GROUPS and name not in options(group):
            known = options(group)
            hint = nearest(name, known)
            return f"no {group} is called {name!r}{hint} (there are {', '.join(known)})"
    return str(error).splitlines()[0]


def _defaults(kind: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


def _plain(node: Any) -> dict[str, Any]:
    try:
        value = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(str(error).splitlines()[0]) from error
    assert isinstance(value, dict)
    return {str(key): item for key, item in value.items() if key != "experiment"}


def check_config(config: Mapping[str, Any]) -> None:
    """Hold every setting against what it is for, before any data is read.

    Raises:
        UsageError: the key that is wrong, with the nearest right one.
    """
    known = ("name", "runs", "seed", *(group for group in GROUPS if group != "experiment"))
    for key in config:
        if key not in known:
            raise UsageError(
                f"there is no setting {key!r}{nearest(key, known)} (there are {', '.join(known)})"
            )
    if (
        not isinstance(config["seed"], int)
        or isinstance(config["seed"], bool)
        or config["seed"] < 0
    ):
        raise UsageError(f"seed is {config['seed']!r}, but must be a whole number from 0 on")
    check_settings(TrainerSettings, config["trainer"], key="trainer")
    check_settings(DataSettings, config["data"], key="data")
    TrainerSettings(**config["trainer"])
    DataSettings(**config["data"])
    for group in ("model", "loss", "optimizer", "schedule", "data"):
        _check_targets(config[group], key=group)


def _check_targets(value: Any, *, key: str) -> None:
    if isinstance(value, Mapping):
        if "_target_" in value:
            target = locate(str(value["_target_"]), key=key)
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
            _check_targets(item, key=f"{key}.{name}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_targets(item, key=f"{key}[{i}]")
