from collections import Counter
from typing import Literal

import pytest

from truemask.build import build, check_settings, locate
from truemask.errors import UsageError


class Thing:
    def __init__(
        self,
        *,
        size: int,
        ratio: float = 1.0,
        kind: Literal["a", "b"] = "a",
        parts: list[float] | None = None,
        other: object = None,
        flag: bool = False,
    ) -> None:
        if size < 0:
            raise UsageError("size is negative")
        self.size, self.ratio, self.other = size, ratio, other


HERE = f"{__name__}.Thing"


def test_builds_inner_mappings_first() -> None:
    thing = build({"_target_": HERE, "size": 1, "other": {"_target_": HERE, "size": 2}}, key="x")
    assert (thing.size, thing.other.size) == (1, 2)


def test_given_arguments_fill_what_the_configuration_leaves_out() -> None:
    assert build({"_target_": HERE}, key="x", size=3).size == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sise": 1}, ["x has no setting 'sise'", "did you mean 'size'?"]),
        ({}, ["x.size is missing"]),
        ({"size": "???"}, ["x.size is missing"]),
        ({"size": 1.5}, ["x.size is 1.5", "a whole number"]),
        ({"size": True}, ["x.size is True", "a whole number"]),
        ({"size": 1, "ratio": "much"}, ["x.ratio is 'much'", "a number"]),
        ({"size": 1, "kind": "c"}, ["x.kind is 'c'", "one of 'a', 'b'"]),
        ({"size": 1, "parts": ["z"]}, ["x.parts is ['z']", "a list"]),
        ({"size": 1, "flag": 1}, ["x.flag is 1", "true or false"]),
        ({"size": -1}, ["x: size is negative"]),
    ],
)
def test_a_wrong_setting_is_named(settings: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        build({"_target_": HERE, **settings}, key="x")
    for word in words:
        assert word in str(raised.value)


def test_inner_settings_are_named_by_their_whole_key() -> None:
    with pytest.raises(UsageError, match=r"x\.other has no setting 'a'"):
        build(
            {"_target_": HERE, "size": 1, "other": {"_target_": HERE, "size": 1, "a": 1}}, key="x"
        )


@pytest.mark.parametrize(
    "target", ["os.system", "builtins.eval", "subprocess.Popen", "nowhere.at.all"]
)
def test_only_the_list_is_built_when_there_is_one(target: str) -> None:
    with pytest.raises(UsageError, match="not on the list"):
        build({"_target_": target, "command": "touch /tmp/hacked"}, key="x", allow={HERE})


def test_the_list_holds_for_inner_mappings_too() -> None:
    with pytest.raises(UsageError, match="not on the list"):
        build(
            {"_target_": HERE, "size": 1, "other": {"_target_": "os.system"}}, key="x", allow={HERE}
        )


@pytest.mark.parametrize("target", ["nowhere.Thing", "collections.Nothing", "Thing", "math.pi"])
def test_what_cannot_be_imported_is_named(target: str) -> None:
    with pytest.raises(UsageError, match=r"x\._target_ is"):
        locate(target, key="x")


def test_without_signature_hints_everything_fits() -> None:
    check_settings(Counter, {"anything": "goes"}, key="x")
