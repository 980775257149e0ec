"""What tells runs apart: the settings that differ, and names made of them."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from truemask.report import formats

MOST_NAMED = 4
"""Settings that a name can be made of, and that have room in a table."""

REPEATS = ("seed", "data.split.seed", "data.split.fold")
"""Settings whose values are repetitions of one experiment."""

_IDLE = (
    "runs", "name", "logger", "profile", "data.num_workers", "data.cache", "data.cache_folder",
    "trainer.pictures", "trainer.save_interval",
)  # fmt: skip
"""Settings that change no figure."""


def differing(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each run the settings that are not the same in all of them, by their whole keys."""
    keys = dict.fromkeys(itertools.chain(*given))
    texts = {key: {_text(own, key) for own in given} for key in keys}
    found = [key for key in keys if len(texts[key]) > 1 and not _is_idle(key)]
    return [{key: own[key] for key in found if key in own} for own in given]


def _text(settings: Mapping[str, Any], key: str) -> str:
    """A value as text, since 1 and true are equal; nothing where there is none."""
    return json.dumps(settings[key], sort_keys=True, default=str) if key in settings else ""


def _is_idle(key: str) -> bool:
    return key in _IDLE or key.startswith(tuple(f"{idle}." for idle in _IDLE))


def flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every single setting by its whole key."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def last_names(keys: Sequence[str]) -> dict[str, str]:
    """Key -> its last part, where that tells it from the others, else the whole."""
    last = [key.removesuffix("._target_").rpartition(".")[2] for key in keys]
    pairs = zip(keys, last, strict=True)
    return {key: name if last.count(name) == 1 else key for key, name in pairs}


def shown(key: str, item: Any) -> str:
    """A setting's value, in short; of a class its own name."""
    return formats.model(str(item)) if key.endswith("_target_") else _value(item)


def short(settings: Mapping[str, Any]) -> str:
    """Settings as a name: "lr=0.01, seed=2"."""
    named = last_names(list(settings))
    return ", ".join(f"{named[key]}={shown(key, item)}" for key, item in settings.items())


def _value(item: Any) -> str:
    """A setting's value, in short."""
    if item is None:
        return "null"
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return f"[{', '.join(map(_value, item))}]"
    if isinstance(item, Mapping):
        return formats.construction(item)
    return formats.compact(item)
