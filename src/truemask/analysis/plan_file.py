"""A plan as an experiment's file: ordinary YAML, a reason beside every choice."""

import textwrap
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

from truemask.analysis.plan_choice import Choice

_WIDTH = 100


def to_yaml(
    choices: Sequence[Choice],
    *,
    heading: str,
    data: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> str:
    """The file's text; read again it has the same values.

    Args:
        choices: of the plan, in order.
        heading: what the file is, a sentence.
        data: what is not chosen: the dataset, and which parts and classes of it.
        warnings: what is wrong with the data, a sentence each.
    """
    lines = ["# @package _global_", *_comment(heading, "")]
    for warning in warnings:
        lines += _comment(f"! {warning}", "")
    if (group := data_group(data["dataset"])) is not None:
        lines += ["defaults:", f"  - override /data: {group}", ""]
        given = {f"data.{key}": value for key, value in data.items() if value is not None}
    else:
        lines += _comment("Give the words that name the data as well.", "")
        given = {}
    tree: dict[str, Any] = {}
    for key, value in given.items():
        _put(tree, key, (value, ""))
    for choice in choices:
        _put(tree, choice.key, (choice.value, choice.reason))
    lines += _written(tree, "")
    return "\n".join(lines) + "\n"


def data_group(dataset: Mapping[str, Any]) -> str | None:
    """The option of the group `data` that makes such a dataset; `None` for one of the user's."""
    for file in sorted(files("truemask.configs").joinpath("data").iterdir(), key=lambda f: f.name):
        name = file.name.removesuffix(".yaml")
        if name == file.name or name.startswith("_"):
            continue
        stated = yaml.safe_load(file.read_text())
        if stated["dataset"]["_target_"] == dataset.get("_target_"):
            return name
    return None


def _put(tree: dict[str, Any], key: str, leaf: tuple[Any, str]) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = leaf


def _written(tree: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for key, item in tree.items():
        if isinstance(item, dict):
            lines += [f"{indent}{key}:", *_written(item, indent + "  ")]
        else:
            value, reason = item
            lines += _comment(reason, indent) if reason else []
            flow = yaml.safe_dump(
                value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True
            )
            text = flow.removesuffix("\n").removesuffix("\n...")
            lines.append(f"{indent}{key}: {text}")
    return lines


def _comment(text: str, indent: str) -> list[str]:
    # A name from the data may hold a line break, which must not end the comment.
    plain = " ".join(text.split())
    return textwrap.wrap(
        plain,
        width=_WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
    )
