"""Whether a run's name contradicts its settings: TM607."""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from truemask.checks.finding import Finding, Rule, rule
from truemask.models.described import NETWORKS

_OPTIMIZERS = {
    name.lower() for name in vars(torch.optim) if name[0].isupper() and name != "Optimizer"
} | {"lion", "lamb", "lars"}

_LOSSES: Mapping[str, tuple[str, ...]] = {
    "focal": ("focal",),
    "dice": ("dice",),
    "tversky": ("tversky",),
    "lovasz": ("lovasz",),
    "bce": ("bce", "binarycross"),
    "mse": ("mse", "squared"),
    "crossentropy": ("crossentropy", "bce"),
}
"""A word of a name -> what the name of such a loss's class has in it."""

_NOT = {"no", "non", "not", "without", "wo", "un"}
_WORD = re.compile(r"\d+(?:\.\d+)?e[+-]?\d+|\d*\.\d+|\d+|[a-z]+")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a training does, as far as it is known; `None` is not known.

    Attributes:
        losses: the names of the loss's classes, in small letters.
        weighted: whether the loss weighs classes.
        dropout: the largest share.
    """

    optimizer: str | None = None
    momentum: float | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    losses: tuple[str, ...] | None = None
    weighted: bool | None = None
    gamma: float | None = None
    dropout: float | None = None
    attention: bool | None = None
    frozen: bool | None = None
    augmented: bool | None = None
    pretrained: bool | None = None
    batch_size: float | None = None
    seed: float | None = None
    average: bool | None = None


def check_name(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    optimizer: Optimizer | None = None,
    loss: nn.Module | None = None,
    model: nn.Module | None = None,
) -> list[Finding]:
    """Hold a run's name against what the run does.

    Args:
        name: such as "sgd_lr0.01_weighted".
        settings: its configuration, as deep as it is: keys such as "optimizer", "lr", "momentum",
            "loss", "dropout"; a mapping with `_target_` is an object to be built.
        optimizer: the optimiser itself, which knows better than the settings.
        loss: the loss itself.
        model: the model itself.
    """
    facts = {**_of_settings(settings or {}), **_of_objects(optimizer, loss, model)}
    return contradicting_name(name, Facts(**facts))


@rule("TM607", "contradicting-name", "warning")
def contradicting_name(name: str, facts: Facts) -> Iterator[Finding]:
    """The name of a run says something else than its settings do.

    Why it matters:
        The textures project compared SGD with Adam; the run called "SGD" had a momentum of 0.9. In
        the edges project the run called "weighted" printed the loss of an unweighted one.

    How it decides:
        The name is cut into words and numbers. Words for optimisers ("sgd", "adam", "adamw", and
        "momentum"), for losses ("focal", "dice", "bce", "mse", "ce"), "weighted", "balanced",
        "frozen", "augmented", "attention", "dropout", "pretrained", "scratch" and "ema" are held
        against the settings, or against the optimiser, loss and model themselves; so are numbers
        behind "lr", "wd", "weight decay", "momentum", "dropout", "batch", "bs" and "seed" (a
        dropout above 1 is in per cent). "no", "without" and "un" before a word turn it round. "sgd"
        means no momentum unless the name says so. What the settings do not tell is not judged.

    False alarms:
        A word that means something else, such as a data set called "dice". A run that is called as
        its data folder is not looked at.

    How to mend:
        Rename the run, or set what its name says.
    """
    words = _WORD.findall(name.lower())
    for claim, said, has in _contradictions(words, facts):
        yield contradicting_name.finding(
            f"The name {name!r} says {said!r}, but {has}.",
            where="name",
            evidence={"name": name, "word": said, claim: getattr(facts, claim)},
            remedy="Rename the run, or set what its name says.",
        )


def _contradictions(words: Sequence[str], facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Setting, word of the name, and what is the case instead."""
    for place, word in enumerate(words):
        negated = place > 0 and words[place - 1] in _NOT
        number = _number(words[place + 1]) if place + 1 < len(words) else None
        if word.startswith("un") and word[2:] in _SWITCHES:
            word, negated = word[2:], True
        if word in _OPTIMIZERS and not negated:
            yield from _optimizer(word, words, facts)
        elif word in _SWITCHES:
            yield from _switch(word, negated, number, facts)
        key = _NUMBERS.get(word)
        if word == "decay" and place > 0 and words[place - 1] == "weight":
            key = "weight_decay"
        if key is not None and number is not None:
            yield from _given_number(key, f"{word} {words[place + 1]}", number, facts)
        loss = _loss_word(word, words, place)
        if loss is not None and facts.losses is not None:
            found = any(part in name for part in _LOSSES[loss] for name in facts.losses)
            if found == negated:
                yield "losses", loss, f"the loss is {', '.join(facts.losses)}"
            elif loss == "focal" and facts.gamma == 0:
                yield "gamma", loss, "gamma is 0, which makes it the cross-entropy"


def _optimizer(word: str, words: Sequence[str], facts: Facts) -> Iterator[tuple[str, str, str]]:
    if facts.optimizer is not None and facts.optimizer != word:
        yield "optimizer", word, f"the optimiser is {facts.optimizer}"
    elif word == "sgd" and facts.momentum and not {"momentum", "mom", "nesterov"} & {*words}:
        yield "momentum", word, f"its momentum is {facts.momentum:g}"


_SWITCHES: Mapping[str, str] = {
    "weighted": "weighted",
    "balanced": "weighted",
    "frozen": "frozen",
    "freeze": "frozen",
    "augmented": "augmented",
    "augmentation": "augmented",
    "augment": "augmented",
    "aug": "augmented",
    "attention": "attention",
    "dropout": "dropout",
    "pretrained": "pretrained",
    "ema": "average",
    "momentum": "momentum",
}
_WORDS_FOR = {
    "weighted": ("no class weighs more than another", "the loss weighs classes"),
    "frozen": ("every parameter is trained", "some parameters are frozen"),
    "augmented": ("no augmentation is set", "the images are augmented"),
    "attention": ("the model has no attention", "the model has attention"),
    "dropout": ("no dropout is set", "there is dropout"),
    "pretrained": ("the weights start at random", "trained weights are loaded"),
    "average": ("the weights are not averaged", "the weights are averaged"),
    "momentum": ("the momentum is 0", "there is momentum"),
}
_NUMBERS = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "momentum": "momentum",
    "dropout": "dropout",
    "batch": "batch_size",
    "bs": "batch_size",
    "seed": "seed",
}


def _switch(
    word: str, negated: bool, number: float | None, facts: Facts
) -> Iterator[tuple[str, str, str]]:
    key = _SWITCHES[word]
    value = getattr(facts, key)
    if value is None or (number is not None and word in _NUMBERS):
        return
    if bool(value) == negated:
        yield key, f"{'no ' * negated}{word}", _WORDS_FOR[key][int(negated)]


def _given_number(
    key: str, said: str, number: float, facts: Facts
) -> Iterator[tuple[str, str, str]]:
    value = getattr(facts, key)
    if key == "dropout" and number > 1:
        number /= 100
    if value is not None and not math.isclose(number, float(value), rel_tol=1e-3, abs_tol=1e-12):
        yield key, said, f"{key.replace('_', ' ')} is {float(value):g}"


def _loss_word(word: str, words: Sequence[str], place: int) -> str | None:
    if word in ("ce", "xent", "crossentropy"):
        return "crossentropy"
    if word == "cross" and words[place + 1 : place + 2] == ["entropy"]:
        return "crossentropy"
    return word if word in _LOSSES else None


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _of_objects(
    optimizer: Optimizer | None, loss: nn.Module | None, model: nn.Module | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if optimizer is not None:
        group = optimizer.param_groups[0]
        facts |= {
            "optimizer": type(optimizer).__name__.lower(),
            "momentum": float(group.get("momentum") or 0),
            "learning_rate": float(group.get("initial_lr", group["lr"])),
            "weight_decay": float(max(g.get("weight_decay") or 0 for g in optimizer.param_groups)),
        }
    if loss is not None:
        names = tuple(type(module).__name__.lower() for module in loss.modules())
        weights = [
            getattr(m, key, None) for m in loss.modules() for key in ("weight", "pos_weight")
        ]
        facts |= {"losses": names, "weighted": any(map(_weighs, weights))}
    if model is not None:
        shares = [m.p for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        facts |= {
            "dropout": float(max(shares, default=0.0)),
            "frozen": any(not p.requires_grad for p in model.parameters()),
        }
    return facts


def _of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says, whatever its shape: groups of Truemask, or flat keys."""
    facts: dict[str, Any] = {}
    optimizer = _group(settings, "optimizer")
    target = _target(optimizer)
    if target:
        facts["optimizer"] = target.rpartition(".")[2].lower()
    for key, names in (("momentum", ("momentum",)), ("learning_rate", ("lr", "learning_rate")),
                       ("weight_decay", ("weight_decay", "wd"))):  # fmt: skip
        value = _first(names, optimizer, settings)
        facts[key] = _float(_default(target, names[0]) if value is None else value)
    if _group(settings, "loss"):
        facts |= _of_loss(_group(settings, "loss"))
    model, data = _group(settings, "model"), _group(settings, "data")
    network = _target(model)
    for key in ("dropout", "attention"):
        value = _first((key,), model, settings)
        facts[key] = _default(network, key) if value is None else value
    facts["dropout"] = _float(facts["dropout"])
    if facts["attention"] is not None:
        facts["attention"] = bool(facts["attention"])
    if "weights" in model:
        facts["pretrained"] = model["weights"] is not None
    pretrained = next((g["pretrained"] for g in (model, settings) if "pretrained" in g), None)
    if isinstance(pretrained, bool):
        facts["pretrained"] = pretrained
    frozen = [value for key, value in {**settings, **model}.items() if re.match("fr(eez|oze)", key)]
    facts["frozen"] = any(map(bool, frozen)) if frozen else None
    facts["augmented"] = _augmented(settings, data)
    facts["batch_size"] = _float(_first(("batch_size", "bs"), data, settings))
    facts["seed"] = _float(settings.get("seed"))
    trainer = _group(settings, "trainer")
    if "average" in trainer:
        facts["average"] = trainer["average"] is not None
    return facts


def _of_loss(loss: Mapping[str, Any]) -> dict[str, Any]:
    targets = [target.rpartition(".")[2].lower() for target in _targets(loss)]
    pairs = list(_pairs(loss))
    gamma = next((_float(value) for key, value in pairs if key == "gamma"), None)
    weights = [v for key, v in pairs if key in ("weight", "pos_weight", "class_weights", "alpha")]
    return {
        "losses": tuple(targets) or None,
        "weighted": any(map(_weighs, weights)) if targets or weights else None,
        "gamma": gamma,
    }


def _weighs(value: Any) -> bool:
    """Whether weights change anything: neither absent nor the same for all."""
    if value is None or value is False:
        return False
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return len(value) == 1 and float(value[0]) != 1 or len(set(value)) > 1
    return not isinstance(value, int | float) or value != 1


def _augmented(settings: Mapping[str, Any], data: Mapping[str, Any]) -> bool | None:
    found = [
        value
        for key, value in {**settings, **data}.items()
        if re.match("augment|transforms?$", key) and not isinstance(value, str)
    ]
    if not found:
        return None
    some = any(
        any(value.values()) if isinstance(value, Mapping) else bool(value) for value in found
    )
    return some or data.get("scale") is not None


def _group(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = settings.get(key)
    if isinstance(value, str):
        return {"_target_": value}
    return value if isinstance(value, Mapping) else {}


def _target(group: Mapping[str, Any]) -> str:
    value = group.get("_target_", group.get("name", group.get("type", "")))
    return value if isinstance(value, str) else ""


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if _target(value):
            yield _target(value)
        for item in value.values():
            yield from _targets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _targets(item)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _pairs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _pairs(item)


def _first(names: Sequence[str], *groups: Mapping[str, Any]) -> Any:
    return next((g[n] for g in groups for n in names if g.get(n) is not None), None)


def _default(target: str, name: str) -> Any:
    """What a class of torch.optim, or one of our networks, takes where nothing is given."""
    kind: Callable[..., Any] | None = NETWORKS.get(target)
    if target.startswith("torch.optim."):
        kind = getattr(torch.optim, target.rpartition(".")[2], None)
    if kind is None:
        return None
    parameter = inspect.signature(kind).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _float(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else _number(value) if isinstance(value, str) else None


RULES: tuple[Rule, ...] = (contradicting_name,)
