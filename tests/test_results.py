import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truemask.errors import UsageError
from truemask.results import PartResult, TrainResult

shares = st.none() | st.floats(0, 1)
words = st.text(max_size=6)


@st.composite
def plain_parts(draw):
    """A part whose tables name the same classes, as all parts do."""
    names = draw(st.lists(words, max_size=3, unique=True))
    table = st.fixed_dictionaries(dict.fromkeys(names, shares))
    row = st.lists(st.integers(0, 2**60), min_size=len(names), max_size=len(names))
    return PartResult(
        images=draw(st.integers(1, 1000)),
        iou=draw(shares),
        dice=draw(shares),
        pixel_accuracy=draw(shares),
        mean_accuracy=draw(shares),
        frequency_weighted_iou=draw(shares),
        iou_per_class=draw(table),
        dice_per_class=draw(table),
        precision_per_class=draw(table),
        recall_per_class=draw(table),
        f1_per_class=draw(table),
        confusion=draw(st.lists(row, min_size=len(names), max_size=len(names))),
        loss=draw(st.none() | st.floats(0, 1e6)),
        intervals=draw(
            st.dictionaries(words, st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3)
        ),
    )


parts = st.builds(
    replace,
    plain_parts(),
    subgroups=st.dictionaries(words, st.dictionaries(words, plain_parts(), max_size=2), max_size=2),
)


def part(**changes):
    scores = {"sky": 0.5, "road": None}
    return PartResult(
        **{
            "images": 2,
            "iou": 0.5,
            "dice": 0.6,
            "pixel_accuracy": 0.7,
            "mean_accuracy": 0.8,
            "frequency_weighted_iou": 0.9,
            "iou_per_class": scores,
            "dice_per_class": scores,
            "precision_per_class": scores,
            "recall_per_class": scores,
            "f1_per_class": scores,
            "confusion": [[1, 2], [3, 4]],
            "intervals": {"iou": (0.4, 0.6)},
        }
        | changes
    )


@given(parts)
def test_json_and_back_is_the_same(result):
    text = json.dumps(result.to_json(), allow_nan=False)
    assert PartResult.from_json(json.loads(text)) == result


def test_the_keys_are_those_that_were_promised():
    promised = {
        *("iou", "dice", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "loss"),
        *("iou_per_class", "dice_per_class", "precision_per_class", "recall_per_class"),
        *("f1_per_class", "images", "intervals", "subgroups", "confusion"),
    }
    assert set(part().to_json()) == promised


def test_what_is_not_a_number_becomes_null():
    scores = {"sky": math.nan, "road": math.inf}
    result = part(iou=math.nan, iou_per_class=scores, subgroups={"s": {"x": part(dice=math.nan)}})
    value = result.to_json()
    assert value["iou"] is None
    assert value["iou_per_class"] == {"sky": None, "road": None}
    assert value["subgroups"]["s"]["x"]["dice"] is None
    json.dumps(value, allow_nan=False)
    assert PartResult.from_json(value) == part(
        iou=None,
        iou_per_class={"sky": None, "road": None},
        subgroups={"s": {"x": part(dice=None)}},
    )


def test_the_json_is_a_copy():
    result = part()
    result.to_json()["confusion"][0][0] = 99
    assert result.confusion == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "name", [field.name for field in fields(PartResult) if field.name != "loss"]
)
def test_a_missing_key_is_refused(name):
    value = part().to_json()
    del value[name]
    with pytest.raises(UsageError, match=f"not the result of a part: .*{name}"):
        PartResult.from_json(value)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"intervals": {"iou": [0.1]}},
        {"intervals": {"iou": [0.1, 0.2, 0.3]}},
        {"intervals": {"iou": [0.1, "high"]}},
        {"intervals": {"iou": [0.1, None]}},
        {"intervals": {"iou": 0.5}},
        {"intervals": []},
        {"subgroups": []},
        {"subgroups": {"scene": []}},
        {"subgroups": {"scene": {"city": 5}}},
        {"subgroups": {"scene": {"city": {}}}},
    ],
)
def test_json_that_is_no_result_is_refused(change):
    with pytest.raises(UsageError, match="^not the result of a part: "):
        PartResult.from_json(part().to_json() | change)


@pytest.mark.parametrize("value", [None, [], "text", 5, [[1, 2]]])
def test_another_kind_of_json_is_refused(value):
    with pytest.raises(UsageError, match="not the result of a part"):
        PartResult.from_json(value)


def test_the_result_of_a_training_holds_its_parts():
    result = TrainResult(
        run="runs/a/1", parts={"test": part()}, best_epoch=0, seconds=1.5, stopped="done"
    )
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) == {
        "run": "runs/a/1",
        "best_epoch": 0,
        "seconds": 1.5,
        "stopped": "done",
        "parts": {"test": part().to_json()},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"images": "two"},
        {"images": -1},
        {"iou": "high"},
        {"iou": True},
        {"confusion": 0},
        {"confusion": [[1, 2], ["x", 4]]},
        {"confusion": [[1, 2, 3], [4, 5]]},
        {"confusion": [[1, 2]]},
        {"confusion": [[1, 2], [3, 4.5]]},
        {"iou_per_class": "text"},
        {"dice_per_class": -0.5},
        {"dice_per_class": {"sky": 0.5}},
        {"f1_per_class": {"sky": "high", "road": None}},
    ],
)
def test_values_of_another_type_are_refused(change):
    value = part(confusion=[[1, 2], [3, 4]]).to_json()
    PartResult.from_json(value)
    with pytest.raises(UsageError, match="not the result of a part"):
        PartResult.from_json(value | change)
