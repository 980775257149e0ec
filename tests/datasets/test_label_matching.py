"""A list of classes held against the masks: what it means, and where the two contradict."""

import numpy as np
import pytest
from image_files import blocks, photo, save, save_palette, write_folder

from truemask.datasets.folder import folder
from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX, LabelMap

COLORS = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
COLORED = [
    {"id": i, "name": n, "color": c} for i, (n, c) in enumerate(zip("abc", COLORS, strict=True))
]


def opened(tmp_path, classes, *masks, **options):
    root = write_folder(tmp_path, list(masks) * 4, classes=classes)
    parts = folder(root, **options)
    return parts["train"].labels, " ".join(parts.notes), parts


def refused(tmp_path, classes, *masks, text, **options):
    with pytest.raises(UsageError, match=text) as caught:
        opened(tmp_path, classes, *masks, **options)
    assert "\n" not in str(caught.value)


def test_ids_as_listed(tmp_path):
    labels, notes, _ = opened(tmp_path, ["a", "b", "c"], blocks(0, 1, 2))
    assert labels.values == {0: 0, 1: 1, 2: 2}
    assert labels.names == ("a", "b", "c")
    assert "class" not in notes


def test_an_id_behind_the_classes_is_ignored(tmp_path):
    """CamVid's ids are 0 to 10, and 11 for void."""
    table = {"classes": COLORED, "ignore_id": 3, "ignore_name": "void", "ignore_color": [9, 9, 9]}
    labels, _, parts = opened(tmp_path, table, blocks(0, 1, 2, 3))
    assert labels.values == {0: 0, 1: 1, 2: 2, 3: IGNORE_INDEX}
    assert labels.colors == tuple(tuple(color) for color in COLORS)
    assert (labels.ignore_name, labels.ignore_color) == ("void", (9, 9, 9))
    assert (parts["train"][0].mask == IGNORE_INDEX).sum() == 24 * 8


def test_ids_with_gaps_and_sixteen_bits(tmp_path):
    table = {"1000": "a", "7": "b"}
    labels, _, parts = opened(tmp_path, table, blocks(7, 1000, dtype=np.uint16))
    assert labels.values == {7: 0, 1000: 1}
    assert parts["train"][0].mask.unique().tolist() == [0, 1]


def test_255_that_is_not_listed_is_ignored_and_said(tmp_path):
    labels, notes, _ = opened(tmp_path, ["a", "b"], blocks(0, 1, 1, 255))
    assert labels.values == {0: 0, 1: 1, 255: IGNORE_INDEX}
    assert "255 (25.00% of the pixels) is in no class and is ignored" in notes


@pytest.mark.parametrize("classes", [["bg", "fg"], {"0": "bg", "1": "fg"}])
def test_255_is_the_foreground_where_its_id_never_occurs(tmp_path, classes):
    """Otherwise the foreground would be ignored, in every mask."""
    labels, notes, parts = opened(tmp_path, classes, blocks(0, 255))
    assert labels.values[255] == 1
    assert "255 is the class 'fg'" in notes
    assert "its id 1 never occurs" in notes
    assert parts["train"].class_pixels == (parts["train"].class_pixels[1],) * 2


def test_255_that_is_ignored_by_the_list_though_nothing_else_is_left_is_refused(tmp_path):
    table = {"classes": ["bg", "fg"], "ignore_id": 255}
    refused(tmp_path, table, blocks(0, 255), text=r"ignores 255, but the masks hold 0, 255 only")


def test_masks_of_0_1_among_masks_of_0_255_are_refused(tmp_path):
    masks = blocks(0, 1), blocks(0, 255)
    refused(tmp_path, ["bg", "fg"], *masks, text="no mask holds both: write the foreground")
    labels, _, _ = opened(tmp_path, ["bg", "fg"], *masks, void=255)
    assert labels.values[255] == IGNORE_INDEX


def test_255_can_be_a_class(tmp_path):
    labels, _, _ = opened(tmp_path, {"0": "bg", "255": "fg"}, blocks(0, 255))
    assert labels.values == {0: 0, 255: 1}


def test_black_and_white_masks_of_many_classes_are_refused(tmp_path):
    refused(tmp_path, ["a", "b", "c"], blocks(0, 255), text="lists 3 classes, but the masks hold")


def test_names_are_taken_in_order_where_ids_do_not_fit(tmp_path):
    labels, notes, _ = opened(tmp_path, ["a", "b", "c"], blocks(10, 20, 40))
    assert labels.values == {10: 0, 20: 1, 40: 2}
    assert "in order, 10 as 'a' to 40 as 'c'" in notes
    labels, notes, _ = opened(tmp_path / "void", ["a", "b", "c"], blocks(1, 2, 3, 255))
    assert labels.values == {1: 0, 2: 1, 3: 2, 255: IGNORE_INDEX}


def test_ids_that_are_given_are_not_taken_in_order(tmp_path):
    refused(
        tmp_path, {"0": "a", "1": "b"}, blocks(1, 2), text=r"holds 2 \(384 pixels\), in no class"
    )


def test_ids_outside_the_table_are_refused(tmp_path):
    refused(
        tmp_path,
        ["a", "b"],
        blocks(0, 1),
        blocks(0, 1, 7, 9),
        text=r"001.png holds 7 \(192 pixels\), 9 \(192 pixels\), in no class of .*classes.json, "
        "which knows 0, 1",
    )


def test_many_ids_outside_the_table_hint_at_jpeg(tmp_path):
    refused(tmp_path, ["a", "b"], blocks(*range(30)), text="JPEG or a smooth resize")


def test_void_overrides_the_list(tmp_path):
    table = {"classes": ["a", "b"], "ignore_id": 3}
    labels, _, _ = opened(tmp_path, table, blocks(0, 1, 2), void=2)
    assert labels.values == {0: 0, 1: 1, 2: IGNORE_INDEX}
    refused(
        tmp_path / "class", table, blocks(0, 1), void=1, text="void 1 is the id of the class 'b'"
    )
    refused(tmp_path / "none", ["a", "b"], blocks(0, 1, 255), void="none", text="holds 255")
    refused(tmp_path / "color", COLORED, np.array(COLORS, np.uint8)[blocks(0, 1, 2)],
            void="#000000", text="is the colour of the class 'a'")  # fmt: skip


def test_color_masks_by_the_colors_of_the_list(tmp_path):
    table = {"classes": COLORED, "ignore_color": [9, 8, 7]}
    colors = np.array([*COLORS, [9, 8, 7]], np.uint8)
    labels, _, parts = opened(tmp_path, table, colors[blocks(0, 2, 1, 3)], colors[blocks(0)])
    assert labels.encoding == "colors"
    assert labels.values == {0: 0, 0x800000: 1, 0x008000: 2, 0x090807: IGNORE_INDEX}
    assert parts["train"].names[0] in {f"{i:03d}" for i in range(8)}
    first = next(s for part in parts.values() for s in part if s.name == "000")
    assert np.array_equal(first.mask, blocks(0, 2, 1, 255))


def test_color_masks_need_colors(tmp_path):
    mask = np.array(COLORS, np.uint8)[blocks(0, 1, 2)]
    refused(tmp_path, ["a", "b", "c"], mask, text="no colour for 'a'.*#000000, #008000, #800000")
    twice = [{"name": "a", "color": [0, 0, 0]}, {"name": "b", "color": [0, 0, 0]}]
    refused(tmp_path / "twice", twice, mask, text="two classes one colour")
    refused(tmp_path / "new", COLORED[:2], mask, text=r"holds #008000 \(\d+ pixels\), in no class")


def test_vocs_void_color_is_known(tmp_path):
    mask = np.array([*COLORS[:2], [224, 224, 192]], np.uint8)[blocks(0, 1, 2)]
    labels, notes, _ = opened(tmp_path, COLORED[:2], mask)
    assert labels.values[0xE0E0C0] == IGNORE_INDEX
    assert "VOC's colour for void" in notes


def palette_folder(root, classes, *palettes):
    write_folder(root, [blocks(0)] * len(palettes), classes=classes)
    for index, colors in enumerate(palettes):
        ids = blocks(*range(len(colors)))
        save_palette(root / "masks" / f"{index:03d}.png", ids, [tuple(c) for c in colors])
    return root


def test_palette_masks_by_their_indices(tmp_path):
    """Even where their colours are those of other classes."""
    root = palette_folder(tmp_path, COLORED, *[COLORS[::-1]] * 3)
    labels = folder(root)["train"].labels
    assert labels.encoding == "ids"
    assert labels.values == {0: 0, 1: 1, 2: 2}


def test_shrunk_palettes_by_their_colors(tmp_path):
    root = palette_folder(tmp_path, COLORED, COLORS, COLORS[::-1], COLORS[1:])
    parts = folder(root)
    assert parts["train"].labels.encoding == "colors"
    masks = {s.name: s.mask.numpy() for part in parts.values() for s in part}
    assert np.array_equal(masks["000"], blocks(0, 1, 2))
    assert np.array_equal(masks["001"], blocks(2, 1, 0))
    assert np.array_equal(masks["002"], blocks(1, 2))


def test_meaningless_palettes_by_their_indices(tmp_path):
    random = [photo(seed=i)[0, :3].tolist() for i in range(4)]
    parts = folder(palette_folder(tmp_path, COLORED, *random))
    assert parts["train"].labels.encoding == "ids"
    assert "read as ids, though palettes disagree" in " ".join(parts.notes)


def test_palettes_that_disagree_need_colors_in_the_list(tmp_path):
    root = palette_folder(tmp_path, ["a", "b", "c"], COLORS, COLORS[::-1], COLORS)
    with pytest.raises(UsageError, match="no colour for 'a'"):
        folder(root)


def test_grey_levels_that_are_the_colors_of_the_list(tmp_path):
    table = [{"name": f"g{v}", "color": [v, v, v]} for v in (0, 128, 255)]
    labels, notes, _ = opened(tmp_path, table, blocks(0, 128, 255), blocks(0))
    assert labels.values == {0: 0, 0x808080: 1, 0xFFFFFF: 2}
    assert "read as colours" in notes


def test_a_saved_label_map_is_taken_as_it_is(tmp_path):
    labels = LabelMap(names=("a", "b"), values={5: 0, 6: 1, 7: 255}, ignore_name="void")
    found, _, _ = opened(tmp_path, labels.to_json(), blocks(5, 6, 7))
    assert found == labels
    refused(tmp_path / "new", labels.to_json(), blocks(5, 6, 255), text="holds 255")
    refused(tmp_path / "void", labels.to_json(), blocks(5, 6), void=7, text="void cannot be given")
    colored = photo() // 128 * 255
    refused(tmp_path / "rgb", labels.to_json(), colored, text="in no class of the label map")


def test_absent_classes_and_unused_keys_are_said(tmp_path):
    table = {"classes": ["a", "b", "c", "d"], "author": "me"}
    _, notes, _ = opened(tmp_path, table, blocks(0, 1))
    assert "No mask holds the classes c, d." in notes
    assert "not used are the keys author" in notes


def test_classes_as_an_option(tmp_path):
    root = write_folder(tmp_path, [blocks(0, 1)] * 4, classes=["wrong", "also wrong"])
    assert folder(root, classes=["a", "b"])["train"].labels.names == ("a", "b")
    (tmp_path / "other.json").write_text('["c", "d"]')
    assert folder(root, classes=tmp_path / "other.json")["train"].labels.names == ("c", "d")
    assert folder(root, classes={"0": "e", "1": "f"})["train"].labels.names == ("e", "f")
    with pytest.raises(UsageError, match="cannot read"):
        folder(root, classes="missing.json")


def test_save_makes_what_the_tests_assume(tmp_path):
    assert save(tmp_path / "x.png", blocks(0, 1)).exists()
