"""Label maps worked out of masks alone: each encoding that users have, and each refusal."""

import numpy as np
import pytest
from image_files import blocks, photo, save, save_palette, write_folder
from PIL import Image

from truemask.datasets.folder import folder
from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX

VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(0, 0, 0)] * 252, (224, 224, 192)]


def opened(root, **options):
    parts = folder(root, **options)
    return parts["train"].labels, " ".join(parts.notes)


def refused(root, text, **options):
    with pytest.raises(UsageError, match=text) as caught:
        folder(root, **options)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def of(tmp_path, *masks, times=4):
    return write_folder(tmp_path, list(masks) * times)


@pytest.mark.parametrize("high", [1, 255, 128, 38])
def test_two_values_are_background_and_foreground(tmp_path, high):
    labels, notes = opened(of(tmp_path, blocks(0, 0, 0, high)))
    assert labels.names == ("background", "foreground")
    assert labels.values == {0: 0, high: 1}
    assert f"{high} is the foreground" in notes
    assert "25.00%" in notes


def test_one_bit_masks(tmp_path):
    labels, _ = opened(of(tmp_path, blocks(0, 1) == 1))
    assert labels.values == {0: 0, 1: 1}


def test_ids_with_and_without_gaps_become_classes_in_order(tmp_path):
    labels, notes = opened(of(tmp_path / "dense", blocks(0, 1, 2, 3)))
    assert labels.names == ("class_0", "class_1", "class_2", "class_3")
    assert labels.values == {0: 0, 1: 1, 2: 2, 3: 3}
    assert "4 ids (0 to 3)" in notes
    labels, notes = opened(of(tmp_path / "sparse", blocks(7, 11, 33)))
    assert labels.names == ("class_7", "class_11", "class_33")
    assert labels.values == {7: 0, 11: 1, 33: 2}
    assert "(7, 11, 33)" in notes


def test_sixteen_bit_ids(tmp_path):
    labels, _ = opened(of(tmp_path, blocks(0, 1000, 2000, dtype=np.uint16)))
    assert labels.values == {0: 0, 1000: 1, 2000: 2}
    assert labels.encoding == "ids"


@pytest.mark.parametrize("others", [(0, 1), (0, 1, 2), (1, 2), (0, 15), (0, 20), (0, 181, 7, 8)])
def test_255_beside_small_ids_is_void(tmp_path, others):
    labels, notes = opened(of(tmp_path, blocks(*others, 255)))
    assert labels.values[255] == IGNORE_INDEX
    assert labels.num_classes == len(others)
    assert "255 (" in notes
    assert "void and ignored" in notes


@pytest.mark.parametrize("levels", [(0, 128, 255), (0, 85, 170, 255)])
def test_255_at_the_end_of_grey_levels_is_a_class(tmp_path, levels):
    labels, notes = opened(of(tmp_path, blocks(*levels)))
    assert labels.num_classes == len(levels)
    assert "255 is a class" in notes


def test_black_is_not_void(tmp_path):
    labels, _ = opened(of(tmp_path, blocks(0, 1, 2)))
    assert IGNORE_INDEX not in labels.values.values()
    colors = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
    labels, _ = opened(of(tmp_path / "rgb", colors[blocks(0, 1, 2)]))
    assert IGNORE_INDEX not in labels.values.values()


def test_void_can_be_said(tmp_path):
    root = of(tmp_path, blocks(0, 1, 2, 255))
    assert opened(root, void="none")[0].values == {0: 0, 1: 1, 2: 2, 255: 3}
    assert opened(root, void=0)[0].values == {0: 255, 1: 0, 2: 1, 255: 2}
    assert opened(root, void="1")[0].values[1] == IGNORE_INDEX
    labels, notes = opened(root, void=9)
    assert labels.num_classes == 4
    assert "void value 9 occurs in no mask" in notes
    refuse = [("#ffffff", "is a colour, but"), (-1, "is no value"), ("void", "must be an id")]
    for void, text in refuse:
        with pytest.raises(UsageError, match=text):
            folder(root, void=void)


def test_void_color_can_be_said(tmp_path):
    colors = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
    root = of(tmp_path, colors[blocks(0, 1, 2)])
    for void in ("#000000", [0, 0, 0]):
        labels, _ = opened(root, void=void)
        assert labels.values == {0: IGNORE_INDEX, 0x800000: 1, 0x008000: 0}
    with pytest.raises(UsageError, match="hold colors such as #000000"):
        folder(root, void=3)


def test_palette_masks_take_their_colors_and_vocs_void(tmp_path):
    for index in range(4):
        save(tmp_path / "images" / f"{index}.jpg", photo())
        (tmp_path / "masks").mkdir(exist_ok=True)
        save_palette(tmp_path / "masks" / f"{index}.png", blocks(0, 1, 2, 255), VOC)
    labels, notes = opened(tmp_path)
    assert labels.names == ("class_0", "class_1", "class_2")
    assert labels.colors == tuple(VOC[:3])
    assert labels.values == {0: 0, 1: 1, 2: 2, 255: 255}
    assert "VOC's colour for void" in notes
    assert "palette indices" in notes
    sample = folder(tmp_path)["train"][0]
    assert np.array_equal(sample.mask, blocks(0, 1, 2, 255))


def test_palettes_that_disagree_are_read_as_colors(tmp_path):
    """A lossless optimiser turns colour masks into palettes of their own order."""
    black, red, blue = (0, 0, 0), (200, 0, 0), (0, 0, 200)
    ids = blocks(0, 1, 2)
    for index, colors in enumerate([[black, red, blue], [red, black, blue], [blue, red, black]]):
        save(tmp_path / "images" / f"{index}.png", photo())
        (tmp_path / "masks").mkdir(exist_ok=True)
        save_palette(tmp_path / "masks" / f"{index}.png", ids, colors)
    parts = folder(tmp_path)
    labels = parts["train"].labels
    assert labels.encoding == "colors"
    assert labels.values == {0: 0, 0x0000C8: 1, 0xC80000: 2}
    assert "palettes disagree on index 0" in " ".join(parts.notes)
    masks = {s.name: s.mask.numpy()[0] for part in parts.values() for s in part}
    assert masks["0"][[0, -1]].tolist() == [0, 1]
    assert masks["1"][[0, -1]].tolist() == [2, 1]


def test_gif_masks_of_grey_are_grey_levels(tmp_path):
    """Index 0 is white in the GIF of a mask that is all foreground."""
    for index, mask in enumerate([blocks(0, 255), blocks(255), blocks(0)]):
        save(tmp_path / "images" / f"{index}.png", photo())
        save(tmp_path / "masks" / f"{index}_mask.gif", mask)
    parts = folder(tmp_path)
    assert parts["train"].labels.values == {0: 0, 255: 1}
    masks = {s.name: s.mask.numpy() for part in parts.values() for s in part}
    assert (masks["1"] == 1).all()
    assert (masks["2"] == 0).all()


def test_color_masks_are_sorted_by_color(tmp_path):
    colors = np.array([(255, 0, 0), (0, 0, 255), (0, 0, 0)], np.uint8)
    masks = [colors[blocks(0, 1, 2)], np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32), np.uint8)]
    labels, notes = opened(of(tmp_path, *masks))
    assert labels.encoding == "colors"
    assert labels.names == ("color_000000", "color_0000ff", "color_ff0000")
    assert labels.colors == ((0, 0, 0), (0, 0, 255), (255, 0, 0))
    assert "000.png is coloured" in notes
    assert "3 colours" in notes


def test_voc_masks_saved_as_rgb(tmp_path):
    colors = np.array([(0, 0, 0), (128, 0, 0), (224, 224, 192)], np.uint8)
    labels, _ = opened(of(tmp_path, colors[blocks(0, 1, 2)]))
    assert labels.names == ("background", "foreground")
    assert labels.values == {0: 0, 0x800000: 1, 0xE0E0C0: IGNORE_INDEX}


def test_sixteen_bits_among_colors_are_refused(tmp_path):
    root = of(tmp_path, photo() // 128 * 255)
    save(root / "masks" / "001.png", blocks(0, 1000, dtype=np.uint16))
    with pytest.raises(UsageError, match=r"001.png is a 16-bit mask among masks of colours"):
        folder(root)


def test_a_single_value_is_nothing_to_learn(tmp_path):
    refused(of(tmp_path, blocks(0)), "hold the value 0 only")
    with pytest.raises(UsageError, match="hold the value 3 only"):
        folder(of(tmp_path / "v", blocks(0, 3)), void=0)


def test_two_scales_are_refused(tmp_path):
    """In half of these masks the foreground would be void."""
    root = of(tmp_path, blocks(0, 1), blocks(0, 255))
    refused(root, r"001.png holds 255 and no 1, .*000.png holds 1 and no 255")
    assert opened(root, void=255)[0].values == {0: 0, 1: 1, 255: 255}


def smooth(mask, size):
    return np.array(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR))


def shape(seed):
    noise = np.random.default_rng(seed).random((12, 12))
    return (noise > 0.5).astype(np.uint8) * 255


@pytest.mark.parametrize("size", [(48, 48), (60, 60), (9, 9)])
def test_smoothly_resized_masks_are_refused(tmp_path, size):
    masks = [smooth(np.kron(shape(i), np.ones((4, 4), np.uint8)), size) for i in range(6)]
    masks = [smooth(mask, (96, 96)) for mask in masks]
    refused(write_folder(tmp_path, masks), "JPEG or a smooth resize|as a smooth resize leaves them")


def test_a_resize_that_leaves_few_values_is_seen_by_where_they_lie(tmp_path):
    masks = [smooth(np.kron(shape(i), np.ones((9, 9), np.uint8)), (54, 54)) for i in range(6)]
    assert len(np.unique(masks)) < 20
    refused(write_folder(tmp_path, masks), "occur only between lower and higher")
    for mask in masks:
        mask[mask == np.unique(masks)[1]] = 255
    colored = [np.dstack([mask, mask // 2, mask * 0]) for mask in masks]
    refused(write_folder(tmp_path / "rgb", colored), "occur only between lower and higher")


def test_resizing_by_nearest_neighbour_is_fine(tmp_path):
    masks = [np.kron(shape(i), np.ones((4, 4), np.uint8)) for i in range(6)]
    masks = [np.array(Image.fromarray(m).resize((31, 31), Image.Resampling.NEAREST)) for m in masks]
    assert opened(write_folder(tmp_path, masks))[0].values == {0: 0, 255: 1}


def test_a_thin_class_between_two_others_is_no_smooth_resize(tmp_path):
    mask = blocks(0, 0, 0, 2, 2, 2)
    mask[:, 16] = 1
    assert opened(of(tmp_path, mask))[0].num_classes == 3


def test_masks_that_went_through_jpeg_are_refused(tmp_path):
    rough = np.random.default_rng(0).integers(0, 2, (12, 12), dtype=np.uint8) * 255
    save(tmp_path / "x.jpg", np.kron(rough, np.ones((5, 5), np.uint8)), quality=80)
    damaged = np.array(Image.open(tmp_path / "x.jpg"))
    refused(of(tmp_path / "data", damaged), "went through JPEG or a smooth resize")


def test_instance_masks_are_refused(tmp_path):
    masks = [blocks(*range(1, 4 + i)) for i in range(9)]
    refused(write_folder(tmp_path / "few", masks), "numbered without a gap, up to 3 in one and 11")
    masks = [blocks(*range(i * 30, i * 30 + 30), dtype=np.uint16) for i in range(12)]
    refused(write_folder(tmp_path / "many", masks), "360 different values, too many for classes")


def test_classes_of_any_order_are_no_instances(tmp_path):
    random = np.random.default_rng(0)
    masks = [blocks(*random.choice(19, 5, replace=False)) for _ in range(20)]
    assert opened(write_folder(tmp_path, masks))[0].num_classes == 19
