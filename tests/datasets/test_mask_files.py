"""Every encoding of masks, against arrays that are known, and every refusal."""

import numpy as np
import pytest
from image_files import blocks, photo, png_of_samples, refused, save, save_palette, tiff_of_samples
from PIL import Image

from truemask.datasets.mask_files import read_mask_raw


def test_masks_come_as_they_are_stored(tmp_path):
    ids = blocks(0, 1, 2, 255)
    for ending in ("png", "bmp", "tif", "gif"):
        assert np.array_equal(read_mask_raw(save(tmp_path / f"x.{ending}", ids)), ids)
    assert np.array_equal(read_mask_raw(save(tmp_path / "x.webp", ids, lossless=True)), ids)


def test_palette_masks_are_indices_or_colors(tmp_path):
    ids, colors = blocks(0, 1, 2), [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    for ending in ("png", "gif", "bmp", "tif"):
        path = save_palette(tmp_path / f"x.{ending}", ids, colors)
        assert np.array_equal(read_mask_raw(path), ids), ending
        assert np.array_equal(read_mask_raw(path, colors=True), np.array(colors)[ids]), ending


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_masks_of_few_bits_keep_their_numbers(tmp_path, bits):
    """Pillow spreads them over 0 to 255."""
    ids = blocks(*range(2**bits))
    (tmp_path / "x.png").write_bytes(png_of_samples(ids, bits=bits, color_type=0))
    assert np.array_equal(read_mask_raw(tmp_path / "x.png"), ids)


def test_wide_masks(tmp_path):
    ids = blocks(0, 1000, 40000, dtype=np.uint16)
    assert np.array_equal(read_mask_raw(save(tmp_path / "x.png", ids)), ids)
    (tmp_path / "b.tif").write_bytes(tiff_of_samples(ids, order=">"))
    assert np.array_equal(read_mask_raw(tmp_path / "b.tif"), ids)
    assert np.array_equal(read_mask_raw(save(tmp_path / "i.tif", ids.astype(np.int32))), ids)
    path = save(tmp_path / "n.tif", ids.astype(np.int32) - 1)
    refused(path, "values from -1 to 39999", read_mask_raw)


def test_color_masks_keep_their_colors_and_equal_channels_are_ids(tmp_path):
    colors = photo()
    assert np.array_equal(read_mask_raw(save(tmp_path / "c.png", colors)), colors)
    alpha = np.dstack([colors, np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(read_mask_raw(save(tmp_path / "a.png", alpha)), colors)
    ids = blocks(0, 3, 7)
    path = save(tmp_path / "e.png", np.stack([ids] * 3, -1))
    assert np.array_equal(read_mask_raw(path), ids)
    assert np.array_equal(read_mask_raw(path, colors=True), np.stack([ids] * 3, -1))


def test_several_masks_in_one_file_are_refused(tmp_path):
    images = [Image.fromarray(photo(seed=seed)) for seed in (0, 1)]
    for ending in ("gif", "tif", "png"):
        path = tmp_path / f"x.{ending}"
        images[0].save(path, save_all=True, append_images=images[1:])
        refused(path, "holds 2 images", read_mask_raw)
    images[0].save(tmp_path / "x.webp", save_all=True, append_images=images[1:], lossless=True)
    refused(tmp_path / "x.webp", "holds 2 images", read_mask_raw)


def test_masks_that_cannot_be_labels_are_refused(tmp_path):
    alpha = np.dstack([photo(), np.zeros((24, 32), np.uint8)])
    refused(save(tmp_path / "t.png", alpha), "transparent", read_mask_raw)
    refused(save(tmp_path / "f.tif", np.ones((3, 4), np.float32)), "no labels", read_mask_raw)
    wide = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    (tmp_path / "w.png").write_bytes(png_of_samples(wide, bits=16, color_type=2))
    refused(tmp_path / "w.png", "16 bits a channel", read_mask_raw)


def test_masks_compressed_with_loss_are_refused(tmp_path):
    ids = blocks(0, 255)
    path = save(tmp_path / "x.jpg", ids)
    refused(path, "is a JPEG file: .*labels that do not exist; export", read_mask_raw)
    path.rename(tmp_path / "y.png")
    refused(tmp_path / "y.png", r"JPEG file in spite of its ending \.png", read_mask_raw)
    refused(save(tmp_path / "x.webp", ids), "lossy WebP", read_mask_raw)
    refused(save(tmp_path / "x.tif", ids, compression="jpeg"), "as JPEG", read_mask_raw)
