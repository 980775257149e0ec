"""From a mapping with `_target_` to the object: any class, or only those of a fixed list.

Settings are checked against the signature of what they are for before anything is called, so that a
mistyped key or a word where a number belongs is named by its key.
"""

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from truemask.errors import UsageError


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint at the choice most like the word, or nothing where none is like it."""
    match = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def locate(target: str, *, key: str, allow: Collection[str] | None = None) -> Callable[..., Any]:
    """Import what a dotted name stands for.

    Args:
        target: such as "truemask.models.unet.UNet".
        key: the setting that named it, for messages.
        allow: names that may be imported; `None` allows all. Give a list for settings that somebody
            else wrote.

    Raises:
        UsageError: it is not allowed, cannot be imported, or cannot be called.
    """
    if allow is not None and target not in allow:
        raise UsageError(
            f"{key}._target_ is {target!r}, which is not on the list of what a run may build; if "
            f"you trust it, add --allow {target}"
        )
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(
            f"{key}._target_ is {target!r}, which cannot be imported: {error}"
        ) from error
    if not callable(found):
        raise UsageError(f"{key}._target_ is {target!r}, which is neither a class nor a function")
    return typing.cast(Callable[..., Any], found)


def build(
    config: Mapping[str, Any], *, key: str, allow: Collection[str] | None = None, **given: Any
) -> Any:
    """Call the `_target_` of a mapping with its other entries, inner targets first.

    Args:
        config: plain values.
        key: where the mapping stands in the configuration, for messages.
        allow: see `locate`.
        **given: further arguments, which the configuration does not state.

    Raises:
        UsageError: a target is not allowed, a key is unknown, a value is of the wrong type or out
            of range.
    """
    if "_target_" not in config:
        raise UsageError(f"{key} has no _target_: it must name a class or a function")
    target = locate(str(config["_target_"]), key=key, allow=allow)
    settings = {name: value for name, value in config.items() if name != "_target_"}
    check_settings(target, settings, key=key, given=given)
    arguments = {name: _inner(value, f"{key}.{name}", allow) for name, value in settings.items()}
    try:
        return target(**arguments, **given)
    except (UsageError, ValueError, TypeError, IndexError) as error:  # how libraries refuse a value
        raise UsageError(f"{key}: {error}") from error


def _inner(value: Any, key: str, allow: Collection[str] | None) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return build(value, key=key, allow=allow)
    if isinstance(value, list):
        return [_inner(item, f"{key}[{i}]", allow) for i, item in enumerate(value)]
    return value


def check_settings(
    target: Callable[..., Any],
    settings: Mapping[str, Any],
    *,
    key: str,
    given: Collection[str] = (),
) -> None:
    """Hold settings against a signature.

    Raises:
        UsageError: a key that the target does not take (with the nearest that it does), one that is
            missing, or a value that its annotation excludes.
    """
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [
        name
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in given
    ]
    for name in settings:
        if name not in names and not open_ended:
            raise UsageError(
                f"{key} has no setting {name!r}{nearest(name, names)} "
                f"(it has {', '.join(names) or 'none'})"
            )
    for name in names:
        if (
            parameters[name].default is inspect.Parameter.empty
            and settings.get(name, "???") == "???"
        ):
            raise UsageError(f"{key}.{name} is missing: give it as {key}.{name}=VALUE")
    hints = _hints(target)
    for name, value in settings.items():
        if name in hints and not _fits(value, hints[name]):
            raise UsageError(f"{key}.{name} is {value!r}, but must be {_describe(hints[name])}")


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that cannot be evaluated bind nobody
        return {}


_PLAIN = (int, float, bool, str, type(None))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value can be what the annotation says; in doubt, yes."""
    if isinstance(value, Mapping) and "_target_" in value and hint not in _PLAIN:
        return typing.get_origin(hint) is not typing.Literal and not (
            typing.get_args(hint) and all(choice in _PLAIN for choice in typing.get_args(hint))
        )
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if inspect.isclass(origin) and issubclass(origin, Iterable):
        items = [item for item in typing.get_args(hint) if item is not Ellipsis]
        if not isinstance(value, list | tuple):
            return False
        return len(items) != 1 or all(_fits(item, items[0]) for item in value)
    if inspect.isclass(hint) and origin is None:
        try:
            return isinstance(value, hint)
        except TypeError:  # a protocol, which cannot be asked
            return True
    return True


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(hint))
    if origin is typing.Union or origin is types.UnionType:
        return " or ".join(_describe(choice) for choice in typing.get_args(hint))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if hint is type(None):
        return "null"
    if hint in words:
        return words[hint]
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if inspect.isclass(origin) and issubclass(origin, Iterable):
        items = {int: " of whole numbers", float: " of numbers", str: " of texts"}
        kinds = [item for item in typing.get_args(hint) if item is not Ellipsis]
        return "a list" + (items.get(kinds[0], "") if len(set(kinds)) == 1 else "")
    return str(getattr(hint, "__name__", hint))
