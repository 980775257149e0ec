"""Whether a run is the very training that a configuration asks for.

A run keeps its configuration with everything settled: the crop that "auto" became, the weights that
a name became. So the two are held against each other setting by setting, and only what a training
settles by itself may differ, besides what changes no step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from truemask.errors import UsageError
from truemask.runs import Run
from truemask.training.loss_setup import is_weighting
from truemask.training.settings import DataSettings, TrainerSettings

_GROUPS = ("seed", "data", "model", "loss", "optimizer", "schedule", "trainer")

_FREE = (
    "data.num_workers",
    "data.cache",
    "data.cache_folder",
    "trainer.accelerator",
    "trainer.pictures",
    "trainer.save_interval",
)
"""Settings that change no step."""

_ROOT = "data.dataset.root"

_SETTLED = {"data.crop": "auto", "trainer.eval_interval": None}
"""Settings that the training chooses where they have this value."""

STOPPED = "you stopped it"
"""What a run says that was ended by Ctrl-C."""


def is_complete(run: Run) -> bool:
    """Whether a training came to its own end; one that was stopped has results too."""
    return run.finished and training_facts(run).get("stopped") != STOPPED


def training_facts(run: Run) -> Mapping[str, Any]:
    """What a run's `environment.json` says of its training; empty where it says nothing."""
    try:
        facts = run.environment.get("training")
    except UsageError:
        return {}
    return facts if isinstance(facts, Mapping) else {}


def training_images(run: Run) -> int | None:
    """How many images a run was trained on."""
    parts = training_facts(run).get("parts")
    part = parts.get("train") if isinstance(parts, Mapping) else None
    images = part.get("images") if isinstance(part, Mapping) else None
    return images if isinstance(images, int) else None


def difference(asked: Mapping[str, Any], run: Run, *, any_folder: bool = False) -> str | None:
    """The first setting in which a run is another training than the one asked for.

    Args:
        asked: a whole configuration.
        run: any run.
        any_folder: whether the data may lie in another folder, as on another machine.

    Returns:
        A few words such as "optimizer.lr is 0.1, not 0.01"; `None` where it is the same training.
    """
    wanted, found = _settings(asked), _settings(run.config)
    free = {*_FREE, _ROOT} if any_folder else {*_FREE}
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        if key in free or _agrees(key, wanted, found, run):
            continue
        return f"{key} is {_said(found, key)}, not {_said(wanted, key)}"
    return None


def _agrees(key: str, wanted: Mapping[str, Any], found: Mapping[str, Any], run: Run) -> bool:
    if key not in wanted:
        # Losses are told the data's ignored id; an optimiser takes its fused kernel by itself.
        return key.rpartition(".")[2] == "ignore_index" or key == "optimizer.fused"
    if key not in found:
        return False
    want, have = wanted[key], found[key]
    if want == have or (key in _SETTLED and want == _SETTLED[key]):
        return True
    if key == "data.batch_size":
        # A batch is no larger than the training part.
        return bool(have == training_images(run) and have < want)
    if key == "data.labels.keep" and isinstance(want, int):
        return isinstance(have, list) and len(have) == want
    if is_weighting(key.rpartition(".")[2], want):
        return not isinstance(have, str)
    return False


def _said(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not given"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value, with the defaults of the groups that have them."""
    whole: dict[str, Any] = {group: config.get(group) for group in _GROUPS}
    for group, kind in (("data", DataSettings), ("trainer", TrainerSettings)):
        given = whole[group]
        whole[group] = {**_defaults(kind), **(given if isinstance(given, Mapping) else {})}
    labels = whole["data"]["labels"]
    if isinstance(labels, Mapping):
        whole["data"]["labels"] = {key: item for key, item in labels.items() if item is not None}
    return dict(_flat(whole, ""))


def _defaults(kind: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        items = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = [(str(place), item) for place, item in enumerate(value)]
    else:
        yield key, list(value) if isinstance(value, tuple) else value
        return
    for name, item in items:
        yield from _flat(item, f"{key}.{name}" if key else name)
