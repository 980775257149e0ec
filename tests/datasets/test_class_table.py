"""The forms of `classes.json` that are understood, and those that are not."""

import json

import pytest

from truemask.datasets.class_table import ClassTable, parse_class_table, read_class_table
from truemask.errors import UsageError
from truemask.labels import LabelMap

FULL = {
    "classes": [
        {"id": 1, "name": "road", "color": [128, 64, 128]},
        {"id": 0, "name": "sky", "color": "#808080"},
    ],
    "ignore_id": 11,
    "ignore_name": "void",
    "ignore_color": [0, 0, 0],
}


def test_the_full_form():
    assert parse_class_table(FULL, source="x") == ClassTable(
        source="x",
        names=("sky", "road"),
        ids=(0, 1),
        numbered=True,
        colors=((128, 128, 128), (128, 64, 128)),
        ignore_id=11,
        ignore_name="void",
        ignore_color=(0, 0, 0),
    )


@pytest.mark.parametrize(
    "value",
    [
        ["sky", "road"],
        {"classes": ["sky", "road"]},
        {"0": "sky", "1": "road"},
        {"classes": {"1": "road", "0": "sky"}},
        [{"name": "sky"}, {"name": "road"}],
        {"classes": [{"id": "0", "name": "sky"}, {"id": "1", "name": "road"}], "ignore_id": None},
    ],
)
def test_simple_forms(value):
    table = parse_class_table(value, source="x")
    assert isinstance(table, ClassTable)
    assert table.names == ("sky", "road")
    assert table.ids == (0, 1)
    assert table.ignore_id is None


def test_ids_that_are_given_are_told_from_positions():
    assert not parse_class_table(["a", "b"], source="x").numbered
    table = parse_class_table({"10": "b", "9": "a"}, source="x")
    assert table.numbered
    assert (table.names, table.ids) == (("a", "b"), (9, 10))


def test_a_label_map_reads_what_it_wrote(tmp_path):
    labels = LabelMap(names=("a", "b"), values={0: 0, 255: 1, 7: 255}, ignore_name="void")
    (tmp_path / "labels.json").write_text(json.dumps(labels.to_json()))
    assert read_class_table(tmp_path / "labels.json") == labels


def test_keys_without_a_meaning_are_kept_for_a_note():
    value = {"classes": [{"id": 0, "name": "a", "x": 1}, {"id": 1, "name": "b"}], "licence": "?"}
    assert parse_class_table(value, source="x").unused == ("licence", "x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "list that is not empty"),
        ([], "list that is not empty"),
        ("sky", "list that is not empty"),
        (7, "list that is not empty"),
        ({"sky": 0}, "keys must be ids"),
        ({"names": ["a", "b"]}, "keys must be ids"),
        ([{"id": 0, "name": "a"}, {"name": "b"}], "some have none"),
        ([{"id": 0}], "has no name"),
        (["a", " "], "has no name"),
        (["a", 3], "has no name"),
        (["a", "a"], "two classes share the name 'a'"),
        ([{"id": 0, "name": "a"}, {"id": 0, "name": "b"}], "two classes share the id 0"),
        ([{"id": -1, "name": "a"}, {"id": 0, "name": "b"}], "-1 is no id"),
        ([{"id": True, "name": "a"}, {"id": 0, "name": "b"}], "True is no id"),
        ([{"id": 70000, "name": "a"}, {"id": 0, "name": "b"}], "70000 is no id"),
        ({"classes": ["a", "b"], "ignore_id": 1}, "ignore_id 1 is the id of the class 'b'"),
        ({"classes": ["a", "b"], "ignore_id": "void"}, "'void' is no id"),
        ([{"name": "a", "color": [0, 0]}], "is no colour"),
        ([{"name": "a", "color": [0, 0, 256]}], "is no colour"),
        ([{"name": "a", "color": "red"}], "is no colour"),
        (
            {"classes": [{"name": "a", "color": [0, 0, 0]}], "ignore_color": [0, 0, 0]},
            "is the colour of a class",
        ),
        ({"encoding": "ids", "classes": [], "ignore": {}}, "not a label map"),
    ],
)
def test_other_forms_are_refused_with_an_example(value, text):
    with pytest.raises(UsageError, match=text) as caught:
        parse_class_table(value, source="my/classes.json")
    assert str(caught.value).startswith("my/classes.json: ")
    assert '{"classes": [{"id": 0, "name": "sky"' in str(caught.value)


def test_the_example_of_the_message_is_understood():
    from truemask.datasets.class_table import EXAMPLE

    table = parse_class_table(json.loads(EXAMPLE), source="x")
    assert table.names == ("sky", "road")
    assert table.ignore_id == 255


def test_files_that_are_no_json(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_class_table(tmp_path / "classes.json")
    (tmp_path / "classes.json").write_text("sky, road")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_class_table(tmp_path / "classes.json")
