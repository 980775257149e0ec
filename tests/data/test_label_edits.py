"""Edited label maps read files as the table of ids says, and mistakes are named by their key."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from in_memory import InMemory

from truemask.build import check_settings
from truemask.data.label_edits import (
    LabelEdits,
    Relabelled,
    count_classes,
    edit_labels,
    settle_keep,
)
from truemask.data.views import read_mask, resized
from truemask.datasets.paired import PairedDataset
from truemask.datasets.textures import textures
from truemask.errors import UsageError
from truemask.labels import LabelMap

NAMES = ("road", "car", "bus", "sky", "tree")
COLORS = tuple((10 * i, 1, 2) for i in range(5))
# Raw values as in Cityscapes: neither ids nor in their order, two of them ignored.
LABELS = LabelMap(
    names=NAMES,
    values={7: 0, 26: 1, 28: 2, 23: 3, 21: 4, 0: 255, 4: 255},
    colors=COLORS,
    ignore_name="void",
    ignore_color=(224, 224, 192),
)


def edit(*, counts=None, labels=LABELS, **edits):
    return edit_labels(labels, LabelEdits(**edits), counts=counts)


def classes(labels):
    """Class -> raw values, the ignored by their name."""
    found = {name: set() for name in (*labels.names, labels.ignore_name)}
    for raw, index in labels.values.items():
        name = labels.ignore_name if index == labels.ignore_index else labels.names[index]
        found[name].add(raw)
    return found


def test_no_edit_changes_nothing():
    assert edit() == LABELS


def test_void_becomes_the_last_class_and_ignored_is_another():
    after = edit(void="void")
    assert after.names == (*NAMES, "void")
    assert classes(after)["void"] == {0, 4}
    assert 255 not in after.values.values()
    assert after.colors == (*COLORS, (224, 224, 192))
    assert after.ignore_name == "ignored"
    assert after.ignore_color not in after.colors
    assert edit(void="ignored").ignore_name == "padding"


def test_semantic_edges_are_the_void_against_all_else():
    voc = LabelMap(
        names=("background", "cat", "dog"),
        values={0: 0, 1: 1, 2: 2, 255: 255},
        colors=((0, 0, 0), (64, 0, 0), (64, 0, 128)),
        ignore_color=(224, 224, 192),
    )
    after = edit(labels=voc, void="edge", keep=["edge"], rest="other")
    assert after.names == ("other", "edge")
    assert after.values == {0: 0, 1: 0, 2: 0, 255: 1}
    assert after.num_logits == 1
    assert after.colors == ((20, 20, 20), (224, 224, 192))
    assert after.legend() == "0 = other, 1 = edge (value 255 in its masks)"


def test_merging_into_a_new_class():
    after = edit(merge={"vehicle": ["bus", "car"], "nature": ["tree"]})
    assert after.names == ("road", "vehicle", "sky", "nature")
    assert classes(after) == {
        "road": {7}, "vehicle": {26, 28}, "sky": {23}, "nature": {21}, "void": {0, 4}
    }  # fmt: skip
    assert after.colors == (COLORS[0], COLORS[2], COLORS[3], COLORS[4])


@pytest.mark.parametrize("members", [["road", "bus"], ["road", "bus", "car"]])
def test_merging_into_a_class_that_exists_keeps_its_place_and_colour(members):
    after = edit(merge={"car": members})
    assert after.names == ("car", "sky", "tree")
    assert after.colors == (COLORS[1], COLORS[3], COLORS[4])
    assert classes(after)["car"] == {7, 26, 28}


def test_void_can_be_merged_into_a_class():
    after = edit(void="nothing", merge={"sky": ["nothing"]})
    assert after.names == NAMES
    assert classes(after)["sky"] == {23, 0, 4}


def test_ignoring_classes():
    after = edit(ignore=["car", "sky"])
    assert after.names == ("road", "bus", "tree")
    assert classes(after)["void"] == {0, 4, 26, 23}
    # After void, only what is ignored by name is.
    assert classes(edit(void="edge", ignore=["car"]))["ignored"] == {26}


def test_keeping_takes_the_order_of_the_list():
    after = edit(keep=["sky", "road"])
    assert after.names == ("sky", "road")
    assert after.colors == (COLORS[3], COLORS[0])
    assert classes(after) == {"sky": {23}, "road": {7}, "void": {0, 4, 26, 28, 21}}


def test_the_rest_is_class_0_and_what_was_ignored_stays_so():
    after = edit(keep=["sky", "car"], rest="other")
    assert after.names == ("other", "sky", "car")
    assert classes(after)["other"] == {7, 28, 21}
    assert classes(after)["void"] == {0, 4}


def test_the_rest_may_be_a_class_that_exists():
    after = edit(keep=["sky"], rest="road")
    assert after.names == ("road", "sky")
    assert after.colors == (COLORS[0], COLORS[3])
    assert classes(after)["road"] == {7, 26, 28, 21}
    after = edit(keep=["sky", "road"], rest="road")
    assert after.names == ("sky", "road")
    assert classes(after)["road"] == {7, 26, 28, 21}


def test_keeping_the_largest_in_the_order_of_ids():
    counts = [5, 1, 30, 5, 5, 1000]
    assert edit(keep=2, counts=counts).names == ("road", "bus")
    assert edit(keep=3, counts=counts).names == ("road", "bus", "sky")
    assert edit(keep=5, counts=counts) == LABELS
    # Void and merged classes are counted as what they became.
    assert edit(void="edge", keep=2, counts=counts).names == ("bus", "edge")
    assert edit(merge={"x": ["car", "tree"]}, keep=2, counts=counts).names == ("x", "bus")
    assert edit(keep=1, rest="other", counts=counts).names == ("other", "bus")


def test_settled_edits_do_the_same_and_name_what_they_keep():
    edits = LabelEdits(void="edge", merge={"x": ["car", "tree"]}, keep=2)
    counts = [5, 1, 30, 5, 5, 20]
    settled = settle_keep(LABELS, edits, counts)
    assert settled == LabelEdits(void="edge", merge={"x": ["car", "tree"]}, keep=["bus", "edge"])
    assert edit_labels(LABELS, settled) == edit_labels(LABELS, edits, counts=counts)
    assert settle_keep(LABELS, settled, counts) is settled
    assert check_settings(LabelEdits, {"keep": settled.keep}, key="data.labels") is None


@pytest.mark.parametrize(
    ("edits", "text"),
    [
        ({"void": "car"}, r"data\.labels\.void=car is a class already"),
        (
            {"merge": {"x": ["cra"]}},
            r"data\.labels\.merge\.x names 'cra'.* mean 'car'\? \(the clas",
        ),
        ({"merge": {"x": []}}, r"data\.labels\.merge\.x must be a list of classes, got \[\]"),
        ({"merge": {"x": "car"}}, r"data\.labels\.merge\.x must be a list of classes, got 'car'"),
        ({"merge": {"x": ["car", "car"]}}, r"data\.labels\.merge\.x names 'car' twice"),
        (
            {"merge": {"x": ["car"], "y": ["car"]}},
            r"data\.labels\.merge names 'car' for 'x' and for 'y'",
        ),
        ({"merge": {"car": ["bus"], "x": ["car"]}}, r"data\.labels\.merge names 'car' for 'car'"),
        ({"merge": {"x": ["car"]}, "ignore": ["car"]}, r"data\.labels\.ignore names 'car', which"),
        ({"ignore": ["car", "car"]}, r"data\.labels\.ignore names 'car' twice"),
        ({"keep": ["car", "bsu"]}, r"data\.labels\.keep names 'bsu', .* mean 'bus'"),
        ({"keep": ["car", "car"]}, r"data\.labels\.keep names 'car' twice"),
        ({"keep": []}, r"data\.labels\.keep is empty"),
        ({"keep": 0}, r"data\.labels\.keep must be at least 1, got 0"),
        ({"keep": 6}, r"data\.labels\.keep=6, but there are 5 classes \(road, car"),
        ({"ignore": ["car"], "keep": 5}, r"data\.labels\.keep=5, but there are 4 classes"),
        ({"rest": "other"}, r"data\.labels\.rest=other needs data\.labels\.keep"),
        ({"keep": list(NAMES), "rest": "other"}, r"data\.labels\.rest=other, but every class is"),
        ({"keep": ["car"]}, r"data\.labels leaves one class \(car\), and a task needs two"),
        ({"keep": 1}, r"data\.labels leaves one class \(road\)"),
        ({"ignore": list(NAMES)}, r"data\.labels leaves no class"),
    ],
)
def test_edits_that_do_not_fit(edits, text):
    with pytest.raises(UsageError, match=text) as caught:
        edit(counts=[1] * 6, **edits)
    assert "\n" not in str(caught.value)


def test_void_of_data_without_ignored_pixels():
    labels = LabelMap(names=("a", "b"), values={0: 0, 1: 1})
    with pytest.raises(UsageError, match=r"data\.labels\.void=edge .* this dataset has none"):
        edit(labels=labels, void="edge")


def test_a_number_to_keep_needs_counts():
    with pytest.raises(UsageError, match=r"keep=2 needs the pixels"):
        edit(keep=2)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kep": 3}, "no setting 'kep'; did you mean 'keep'"),
        ({"keep": "car"}, "data.labels.keep is 'car', but must be a whole number or a list"),
        ({"void": True}, "data.labels.void is True, but must be text"),
    ],
)
def test_the_annotations_are_the_schema(settings, text):
    with pytest.raises(UsageError, match=text):
        check_settings(LabelEdits, settings, key="data.labels")


def raw_mask(seed=0, height=5, width=7):
    return np.random.default_rng(seed).choice(list(LABELS.values), (height, width)).astype(np.uint8)


@st.composite
def any_edits(draw):
    void = draw(st.sampled_from([None, "edge"]))
    names = [*NAMES, *([void] if void else [])]
    merged = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
    target = draw(st.sampled_from(["new", *merged])) if merged else None
    merge = {target: merged} if merged else None
    left = [name for name in names if name not in merged] + ([target] if target else [])
    ignore = draw(st.lists(st.sampled_from(left), unique=True, max_size=1)) or None
    left = [name for name in left if name not in (ignore or [])]
    keep = draw(st.none() | st.lists(st.sampled_from(left), unique=True, min_size=1))
    rest = draw(st.sampled_from([None, "rest"])) if keep is not None else None
    return LabelEdits(void=void, merge=merge, ignore=ignore, keep=keep, rest=rest)


@given(any_edits(), st.integers(0, 3))
def test_reading_by_the_new_map_equals_relabelling_what_the_old_one_read(edits, seed):
    try:
        after = edit_labels(LABELS, edits)
    except UsageError:
        return
    raw = raw_mask(seed)
    data = InMemory(["x"], [LABELS.encode(raw)], labels=LABELS)
    assert np.array_equal(Relabelled(dataset=data, labels=after)[0].mask.numpy(), after.encode(raw))
    assert set(after.values) == set(LABELS.values)
    # Every class is made of something, and each raw value goes where its name says.
    assert set(range(after.num_classes)) <= set(after.values.values())
    merged = {name: new for new, old in (edits.merge or {}).items() for name in old}
    for raw_value, old in LABELS.values.items():
        name = edits.void if old == 255 else merged.get(NAMES[old], NAMES[old])
        name = merged.get(name, name)
        if name in (edits.ignore or []) or name is None:
            name = None
        elif edits.keep is not None and name not in edits.keep:
            name = edits.rest
        wanted = 255 if name is None else after.names.index(name)
        assert after.values[raw_value] == wanted


def test_a_map_of_colours_is_edited_alike():
    labels = LabelMap(
        names=("a", "b", "c"),
        values={0x800000: 0, 0x008000: 1, 0x000080: 2, 0: 255},
        encoding="colors",
    )
    after = edit(labels=labels, merge={"bc": ["b", "c"]})
    picture = np.array([[[128, 0, 0], [0, 128, 0], [0, 0, 128], [0, 0, 0]]], np.uint8)
    assert after.encode(picture).tolist() == [[0, 1, 1, 255]]


def test_relabelled_data_is_else_the_same():
    data = InMemory(["x"], [LABELS.encode(raw_mask())], labels=LABELS, attributes=[{"city": "y"}])
    after = Relabelled(dataset=data, labels=edit(keep=["sky", "car"]))
    sample = after[0]
    assert torch.equal(sample.image, data[0].image)
    assert type(sample.mask) is type(data[0].mask)
    assert (sample.name, dict(sample.attributes)) == ("x", {"city": "y"})
    assert torch.equal(read_mask(after, 0), sample.mask)
    assert list(after.attributes) == [{"city": "y"}]
    assert (after.names, len(after), after.images) == (data.names, 1, data.images)
    assert not hasattr(after, "sizes")
    assert not after.endless
    small = resized(after, (3, 2))
    assert isinstance(small, Relabelled)
    assert small.sizes == ((3, 2),)
    wanted = Relabelled(dataset=resized(data, (3, 2)), labels=after.labels)[0].mask
    assert torch.equal(small[0].mask, wanted)


def test_relabelled_masks_can_be_written_to():
    data = InMemory(["x"], [LABELS.encode(raw_mask())], labels=LABELS)
    mask = Relabelled(dataset=data, labels=edit(ignore=["sky"]))[0].mask
    mask.fill_(1)
    assert (mask == 1).all()


def test_ignored_pixels_that_no_file_holds_stay_ignored():
    labels = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})
    data = InMemory(["x"], [np.array([[0, 1, 2, 255]])], labels=labels)
    after = edit(labels=labels, merge={"ab": ["a", "b"]})
    assert Relabelled(dataset=data, labels=after)[0].mask.tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize("names", [5, 255])
def test_an_id_that_is_no_class_is_refused_or_becomes_ignored_where_no_id_is_left(names):
    before = LabelMap(names=tuple(map(str, range(names))), values={i: i for i in range(names)})
    after = edit(labels=before, merge={"new": ["0", "1"]} if names < 255 else {"new": ["0"]})
    data = InMemory(["x"], [np.array([[0, 7]])], labels=before)
    made = Relabelled(dataset=data, labels=after)
    if names == 5:
        with pytest.raises(UsageError, match="mask of x holds the ids 7, which are no classes"):
            made[0]
    else:
        assert made[0].mask.tolist() == [[0, 7]]


def test_generated_data_is_relabelled():
    train = textures(size=8, train=2)["train"]
    after = edit_labels(train.labels, LabelEdits(keep=["omega_1", "omega_2"]))
    made = Relabelled(dataset=train, labels=after)
    assert made.endless
    assert torch.equal(made[50].mask, 1 - train[50].mask)


def test_counting_classes_reads_the_masks():
    given_masks = [LABELS.encode(raw_mask(seed)) for seed in range(4)]
    data = InMemory([f"{i}" for i in range(4)], given_masks, labels=LABELS)
    every = np.bincount(np.stack(given_masks).ravel(), minlength=256)
    assert count_classes(data) == [*every[:5].tolist(), int(every[255])]
    # The order of what is counted is that of `edit_labels`.
    largest = NAMES[int(every[:5].argmax())]
    settled = settle_keep(LABELS, LabelEdits(keep=1, rest="other"), count_classes(data))
    assert settled.keep == [largest]


def test_counting_classes_that_are_known_reads_nothing():
    data = PairedDataset(pairs=(), labels=LABELS, class_pixels=(1, 2, 3, 4, 5), ignored_pixels=6)
    assert count_classes(data) == [1, 2, 3, 4, 5, 6]
