"""From the command line's `key=value` words to a whole, checked configuration of plain values."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from truemask.build import nearest
from truemask.config_checks import GROUPS, KEYS, check_config, known_targets
from truemask.errors import UsageError
from truemask.experiment_file import OWN_EXPERIMENT, own_experiment, store_experiment
from truemask.training.settings import TrainerSettings

DEFAULT_EXPERIMENT = "textures/demo"


def options(group: str) -> list[str]:
    """The names that `group=NAME` takes; what begins with "_" is for other files to build on."""
    root = files("truemask.configs")
    folder = Path(str(root)) / group
    found = [
        path.relative_to(folder).with_suffix("").as_posix()
        for path in folder.rglob("*.yaml")
        if not path.name.startswith("_")
    ]
    return sorted(found) if group != "trainer" else ["default"]


def compose_config(
    overrides: Sequence[str],
    *,
    folder: Path | None = None,
    experiment: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The configuration of a training.

    Args:
        overrides: words such as "experiment=NAME", "experiment=mine.yaml", "model=unet",
            "optimizer.lr=0.01".
        folder: the user's data, in place of what the experiment names.
        experiment: what an experiment's file would hold, in place of one that is named.

    Raises:
        UsageError: an override cannot be read, or names a group, an option or a key that does not
            exist.
    """
    words, own = own_experiment(_without_plan(overrides))
    own = own if experiment is None else experiment
    if own is not None:
        # Data that a word exchanges keeps the experiment's other settings of data.
        exchanged = {_key(word) for word in words} & set(GROUPS) - {"data"}
        store_experiment(own, exchanged=exchanged)
        words.append(f"experiment={OWN_EXPERIMENT}")
    if folder is None and not any(_key(word) in ("experiment", "data") for word in words):
        words.append(f"experiment={DEFAULT_EXPERIMENT}")
    replacing, others = _replacing(words)
    config = _compose([_forced(word) for word in others])
    _require_groups(config)
    for word in replacing:
        config = override_config(config, [word])
    dataset = config["data"]["dataset"]
    if folder is not None:
        if "root" not in dataset:
            raise UsageError(f"this experiment's data has no folder: leave {folder} out")
        if any(_key(word) == "data.dataset.root" for word in words):
            raise UsageError(f"the data is given twice, as {folder} and as data.dataset.root")
        dataset["root"] = str(folder)
    root = dataset.get("root")
    if isinstance(root, str) and root != "???" and "://" not in root:
        # So that the run can be evaluated and resumed from any other folder.
        dataset["root"] = str(Path(dataset["root"]).resolve())
    for key in ("exclude", "ignore_regions"):
        if isinstance(config["data"].get(key), str):
            config["data"][key] = str(Path(config["data"][key]).resolve())
    if config["name"] is None:
        named = next((w.partition("=")[2] for w in words if _key(w) == "experiment"), None)
        config["name"] = named if named and own is None else _data_name(dataset)
    check_config(config)
    return config


def _without_plan(words: Sequence[str]) -> list[str]:
    """The other words: nothing is planned here, which `plan=false` may say."""
    for word in words:
        if _key(word) == "plan" and word.partition("=")[2].lower() not in ("false", "null"):
            raise UsageError(
                f"{word!r}: a plan is made by `truemask train FOLDER` without -m, or by `truemask "
                "plan`, whose file is given as experiment=FILE.yaml"
            )
    return [word for word in words if _key(word) != "plan"]


def _replacing(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that give a whole object (a mapping with a `_target_`), and those below them.

    Hydra would mix its settings with those of the object that stood there.
    """
    whole: list[str] = []
    for word in words:
        if "=" in word and not word.startswith("~") and _key(word) not in GROUPS:
            parsed = _parse(word)
            value = None if parsed.is_sweep_override() else parsed.value()
            if isinstance(value, Mapping) and "_target_" in value and "." in _key(word):
                whole.append(_key(word))
    above = tuple(f"{key}." for key in whole)
    chosen = [word for word in words if _key(word) in whole or _key(word).startswith(above)]
    return [word.lstrip("+") for word in chosen], [word for word in words if word not in chosen]


def _require_groups(config: Mapping[str, Any]) -> None:
    for key in KEYS:
        if key not in config:
            raise UsageError(f"the configuration has no {key}: every training needs one")
    for group in GROUPS:
        if group != "experiment" and not isinstance(config[group], Mapping):
            raise UsageError(f"{group} is {config[group]!r}, but must be a mapping of settings")
    if not isinstance(config["data"].get("dataset"), Mapping):
        raise UsageError("data.dataset must be a mapping with a _target_")


def _data_name(dataset: Mapping[str, Any]) -> str:
    root = dataset.get("root", "???")
    return (
        Path(str(root)).name if root != "???" else str(dataset.get("_target_")).rpartition(".")[2]
    )


def override_config(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run with single values changed.

    Args:
        config: of the run.
        overrides: words such as "trainer.max_epochs=200".

    Raises:
        UsageError: an override cannot be read, exchanges a whole group, or removes a setting.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    for word in overrides:
        if "=" not in word:
            raise UsageError(f"cannot read {word!r}: write key=value")
        parsed = _parse(word)
        key = parsed.key_or_group
        if key in GROUPS or parsed.is_delete():
            raise UsageError(f"{word!r}: of a run that exists only single values can be changed")
        if parsed.is_sweep_override():
            raise UsageError(f"{word!r} gives several values: give one")
        # Not by OmegaConf, which would resolve what stands in the values: anybody may have
        # written them, and `${...}` is a fine name for a folder.
        place = changed
        *parents, name = key.split(".")
        for parent in parents:
            inner = place.get(parent)
            if not isinstance(inner, dict):
                raise UsageError(f"{word!r}: the run's configuration has no {key}")
            place = inner
        with _one_line():
            place[name] = parsed.value()
    _require_groups(changed)
    return changed


RESUMABLE = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.patience",
    "trainer.devices",
    "trainer.strategy",
    "data.num_workers",
    "data.cache",
    "data.cache_folder",
    "logger",
    "checks",
)
"""Settings that may change when a run goes on, since they change no step but by rounding."""


def resume_config(
    config: Mapping[str, Any], overrides: Sequence[str], *, allow: Collection[str] = ()
) -> dict[str, Any]:
    """The configuration with which a run goes on.

    Args:
        config: of the run.
        overrides: see `RESUMABLE`.
        allow: targets it may name besides those that Truemask knows.

    Raises:
        UsageError: an override would make it another training, or the configuration, which
            somebody else may have written, names a class that is not on the list.
    """
    for word in overrides:
        if not word.startswith(RESUMABLE):
            hint = nearest(_key(word), RESUMABLE)
            raise UsageError(
                f"{word!r} would make it another training{hint}: on resuming only "
                "trainer.max_epochs, max_steps, max_time, patience, devices and strategy, "
                "data.num_workers, cache and cache_folder, logger and checks may change"
            )
    changed = override_config(config, overrides)
    check_config(changed, allow=known_targets().union(allow))
    return changed


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
    except HydraException as error:
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
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise _as_usage(error) from error


def _as_usage(error: Exception) -> UsageError:
    return UsageError(next(iter(str(error).splitlines()), type(error).__name__))


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise _as_usage(error) from error


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
    with _one_line():
        value = OmegaConf.to_container(node, resolve=True)
    assert isinstance(value, dict)
    return {str(key): item for key, item in value.items() if key != "experiment"}
