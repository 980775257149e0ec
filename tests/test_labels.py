import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX, LabelMap, default_colors, pack_rgb

THREE = LabelMap(names=("sky", "road", "tree"), values={0: 0, 7: 1, 300: 2, 65535: 255})
COLORED = LabelMap(
    names=("sky", "road"),
    values={0x000000: 0, 0x804080: 1, 0xFFFFFF: 255},
    encoding="colors",
    colors=((0, 0, 0), (128, 64, 128)),
)


seen = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


@st.composite
def label_maps(draw):
    classes = draw(st.integers(2, 8))
    encoding = draw(st.sampled_from(["ids", "colors"]))
    limit = 1 << 16 if encoding == "ids" else 1 << 24
    ignore_index = draw(st.integers(classes, 255))
    targets = st.sampled_from([*range(classes), ignore_index])
    channel = st.integers(0, 255)
    color = st.tuples(channel, channel, channel)
    return LabelMap(
        names=tuple(draw(st.lists(seen, min_size=classes, max_size=classes, unique=True))),
        values=draw(st.dictionaries(st.integers(0, limit - 1), targets, max_size=20)),
        colors=tuple(draw(st.lists(color, min_size=classes, max_size=classes))),
        encoding=encoding,
        ignore_index=ignore_index,
        ignore_name=draw(seen),
        ignore_color=draw(color),
    )


def unpack_rgb(packed):
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)


# Raw values to ids


@given(label_maps(), st.data())
def test_encoding_is_looking_up_each_pixel(labels, data):
    if not labels.values:
        return
    raws = st.sampled_from(sorted(labels.values))
    packed = np.array([[data.draw(raws) for _ in range(3)] for _ in range(2)])
    raw = packed if labels.encoding == "ids" else unpack_rgb(packed)
    encoded = labels.encode(raw)
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[labels.values[value] for value in row] for row in packed.tolist()]


@given(label_maps(), st.integers(0, (1 << 24) - 1))
def test_a_value_that_is_not_listed_is_never_encoded(labels, value):
    if labels.encoding == "ids":
        raw = np.array([[value]])
    else:
        raw = unpack_rgb(np.array([[value]]))
    if value in labels.values:
        assert labels.encode(raw).tolist() == [[labels.values[value]]]
    else:
        with pytest.raises(UsageError, match=r"\(1 pixel\) stands in no class"):
            labels.encode(raw)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_ids_of_every_integer_dtype_are_encoded(dtype):
    assert THREE.encode(np.array([[0, 7], [7, 0]], dtype=dtype)).tolist() == [[0, 1], [1, 0]]


def test_masks_of_one_bit_are_encoded():
    binary = LabelMap(names=("no", "yes"), values={0: 0, 1: 1})
    assert binary.encode(np.array([[True, False]])).tolist() == [[1, 0]]


@pytest.mark.parametrize("value", [-1, 65536, 65536 + 7, -65536, 2**40])
def test_values_beyond_16_bits_do_not_wrap_around(value):
    with pytest.raises(UsageError, match=f"value {value} \\(1 pixel\\) stands in no class"):
        THREE.encode(np.array([[0, value]]))


def test_the_message_names_values_pixels_and_what_is_known():
    raw = np.array([[1, 1, 2, 0]], dtype=np.uint8)
    with pytest.raises(UsageError) as caught:
        THREE.encode(raw)
    message = str(caught.value)
    assert "value 1 (2 pixels), value 2 (1 pixel) stand in no class" in message
    assert "value 0, value 7, value 300, value 65535" in message
    with pytest.raises(UsageError, match=r"colour #0a0b0c \(1 pixel\).*colour #804080"):
        COLORED.encode(np.array([[[10, 11, 12], [0, 0, 0]]], dtype=np.uint8))


def test_a_message_about_many_values_stays_short():
    raw = np.arange(1000).reshape(10, 100) + 1000
    with pytest.raises(UsageError, match="value 1004 \\(1 pixel\\) and others") as caught:
        replace(THREE, values={i: 0 for i in range(1000)}).encode(raw)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("labels", [THREE, COLORED])
@pytest.mark.parametrize(
    "raw",
    [
        np.zeros(4, dtype=np.uint8),
        np.zeros((1, 2, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4), dtype=np.float32),
        np.full((4, 4), np.nan),
        np.full((4, 4), "0"),
        np.zeros((4, 4, 3), dtype=np.uint16),
        np.zeros((4, 4, 1), dtype=np.uint8),
    ],
)
def test_what_is_no_mask_of_the_dataset_is_refused(labels, raw):
    with pytest.raises(UsageError, match=r"masks of this dataset hold \(H, W"):
        labels.encode(raw)


def test_ids_and_colours_are_not_taken_for_each_other():
    with pytest.raises(UsageError, match="integer ids"):
        THREE.encode(np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(UsageError, match="uint8 colours"):
        COLORED.encode(np.zeros((4, 4), dtype=np.uint8))


@pytest.mark.parametrize("encoding", ["ids", "colors"])
def test_a_map_without_values_knows_none(encoding):
    empty = LabelMap(names=("a", "b"), values={}, encoding=encoding)
    raw = np.zeros((1, 1) if encoding == "ids" else (1, 1, 3), dtype=np.uint8)
    with pytest.raises(UsageError, match="stands in no class"):
        empty.encode(raw)


def test_colours_are_packed_as_they_are_written_in_hexadecimal():
    assert pack_rgb(np.array([[0x12, 0x34, 0x56]], dtype=np.uint8)).tolist() == [0x123456]
    with_white = np.array([[[255, 255, 255], [128, 64, 128]]], dtype=np.uint8)
    assert COLORED.encode(with_white).tolist() == [[IGNORE_INDEX, 1]]


# Logits to ids


def test_two_classes_have_one_logit_and_more_have_one_each():
    assert (COLORED.num_classes, COLORED.num_logits) == (2, 1)
    assert (THREE.num_classes, THREE.num_logits) == (3, 3)


@pytest.mark.parametrize("labels", [COLORED, THREE])
def test_decoding_picks_the_most_probable_class(labels):
    logits = 3 * torch.randn(2, labels.num_logits, 5, 6, generator=torch.Generator().manual_seed(0))
    probabilities = labels.probabilities(logits)
    assert probabilities.shape == (2, labels.num_classes, 5, 6)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 5, 6))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    ids = labels.decode(logits)
    assert ids.dtype == torch.uint8
    assert torch.equal(ids.long(), probabilities.argmax(1))


def test_one_logit_is_a_softmax_over_zero_and_itself():
    logit = torch.linspace(-20, 20, 41).view(1, 1, 1, -1)
    both = torch.cat((torch.zeros_like(logit), logit), 1)
    torch.testing.assert_close(COLORED.probabilities(logit), both.softmax(1))
    assert torch.equal(COLORED.decode(logit).long(), both.argmax(1))


def test_a_tie_is_the_lower_id():
    assert COLORED.decode(torch.zeros(1, 1, 1, 1)).item() == 0
    assert THREE.decode(torch.tensor([1.0, 2.0, 2.0]).view(1, 3, 1, 1)).item() == 1


def test_ids_above_127_survive_decoding():
    labels = LabelMap(names=tuple(map(str, range(255))), values={})
    logits = torch.zeros(1, 255, 1, 1)
    logits[0, 254] = 1
    assert labels.decode(logits).item() == 254


# Colours


@pytest.mark.parametrize("count", [2, 9, 30, 255])
def test_default_colours_are_all_different(count):
    colors = default_colors([f"class {i}" for i in range(count - 1)] + ["Background"])
    assert len(set(colors)) == count
    assert max(colors[-1]) < 30, "the background is near black"
    assert LabelMap(names=("a", "b"), values={}).ignore_color not in colors
    assert all(0 <= part <= 255 for color in colors for part in color)


def test_two_backgrounds_have_colours_of_their_own():
    assert len(set(default_colors(["background", "bg", "Background"]))) == 3


def test_classes_keep_their_colour_when_others_follow():
    assert default_colors(["a", "b", "c"])[:2] == default_colors(["a", "b"])


def test_a_mask_is_drawn_in_the_colours_of_its_ids():
    ids = np.array([[0, 1, 255]], dtype=np.uint8)
    drawn = COLORED.colorize(ids)
    assert drawn.dtype == np.uint8
    assert drawn.tolist() == [[[0, 0, 0], [128, 64, 128], list(COLORED.ignore_color)]]
    # Colours that are all different bring back the ids.
    raws = pack_rgb(COLORED.palette)[[0, 1, 255]].tolist()
    again = replace(COLORED, values={raws[0]: 0, raws[1]: 1, raws[2]: 255})
    np.testing.assert_array_equal(again.encode(drawn), ids)


# JSON and rules


@given(label_maps())
def test_json_and_back_is_the_same(labels):
    text = json.dumps(labels.to_json(), allow_nan=False)
    assert LabelMap.from_json(json.loads(text)) == labels


def test_the_json_says_what_each_class_is():
    assert COLORED.to_json() == {
        "encoding": "colors",
        "classes": [
            {"id": 0, "name": "sky", "color": [0, 0, 0], "values": [0]},
            {"id": 1, "name": "road", "color": [128, 64, 128], "values": [0x804080]},
        ],
        "ignore": {"id": 255, "name": "ignored", "color": [224, 224, 224], "values": [0xFFFFFF]},
    }


def test_a_map_keeps_its_own_copy_and_lists_become_tuples():
    values, names = {0: 0, 1: 1}, ["a", "b"]
    labels = LabelMap(names=names, values=values, colors=[[0, 0, 0], [9, 9, 9]])
    values[2] = 1
    names[0] = "changed"
    assert labels == LabelMap(names=("a", "b"), values={0: 0, 1: 1}, colors=((0, 0, 0), (9, 9, 9)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("one",)}, "2 to 255 classes, got 1"),
        ({"names": tuple(map(str, range(256)))}, "2 to 255 classes, got 256"),
        ({"names": ("a", "b", "a")}, "two classes are called 'a'"),
        ({"colors": ((0, 0, 0),)}, "3 classes but 1 colours"),
        ({"colors": ((0, 0, 256), (0, 0, 0), (0, 0, 0))}, r"\[0, 0, 256\] must be three integers"),
        ({"colors": ((0, 0), (0, 0), (0, 0))}, "must be three integers"),
        ({"ignore_color": (-1, 0, 0)}, "must be three integers"),
        ({"ignore_index": 2}, "ignore_index 2 must be an id from 3 to 255"),
        ({"ignore_index": -100}, "ignore_index -100"),
        ({"ignore_index": 256}, "ignore_index 256"),
        ({"values": {0: 3}}, "raw value 0 maps to 3, which is no class id"),
        ({"values": {0: -1}}, "maps to -1"),
        ({"values": {1 << 16: 0}}, "raw value 65536 is outside 0 to 65535"),
        ({"values": {-1: 0}}, "raw value -1 is outside"),
        ({"values": {1 << 24: 0}, "encoding": "colors"}, "outside 0 to 16777215"),
        ({"encoding": "colours"}, "encoding is 'colours'; allowed are ids and colors"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(change, message):
    contents = {"names": ("sky", "road", "tree"), "values": {0: 0}}
    with pytest.raises(UsageError, match=message):
        LabelMap(**contents | change)


def changed(**changes):
    """JSON of a good map with one class or the ignored id changed."""
    value = COLORED.to_json()
    value["classes"][1] |= changes.pop("road", {})
    value["ignore"] |= changes.pop("ignored", {})
    return value | changes


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "not a label map"),
        ([], "not a label map"),
        ("text", "not a label map"),
        ({}, "not a label map: KeyError"),
        (changed(classes="ab"), "not a label map"),
        (changed(classes=[1, 2]), "not a label map"),
        (changed(encoding=None), "encoding is None"),
        (changed(encoding=["ids"]), "encoding is"),
        (changed(road={"values": ["1"]}), "not a label map"),
        (changed(road={"values": [1.5]}), "not a label map"),
        (changed(road={"values": 5}), "not a label map"),
        (changed(road={"values": [-5]}), "raw value -5 is outside"),
        (changed(road={"values": [0]}), "raw value 0 stands in two classes"),
        (changed(road={"values": [0xFFFFFF]}), "stands in two classes"),
        (changed(road={"id": 0}), "'road' has the id 0 in place 1: list the classes in the order"),
        (changed(road={"id": "1"}), "'road' has the id 1 in place 1"),
        (changed(road={"name": "sky"}), "two classes are called 'sky'"),
        (changed(road={"color": "red"}), "not a label map"),
        (changed(road={"color": [1.5, 0, 0]}), "not a label map"),
        (changed(road={"color": [1, 2]}), "must be three integers"),
        (changed(ignored={"id": 1}), "ignore_index 1 must be"),
        (changed(ignored={"id": None}), "not a label map"),
    ],
)
def test_json_that_is_no_label_map_is_refused(value, message):
    with pytest.raises(UsageError, match=message):
        LabelMap.from_json(value)


@pytest.mark.parametrize("name", ["", "  ", "ev\x1b[2Jil", "two\nlines", "bell\x07"])
def test_a_name_that_cannot_be_seen_or_commands_a_terminal_is_refused(name):
    with pytest.raises(UsageError, match="no name for a class"):
        LabelMap(names=("sky", name), values={0: 0, 1: 1})
