"""Textures against the published computation, a convolution with kernels as large as the image."""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from truemask.datasets.textures import gaussian_taps, smoothing_matrix, textures
from truemask.errors import UsageError


def direct(pixels, sigma):
    """conv2d with the full kernel and zeros around; an even kernel has one more zero at the end."""
    size = pixels.shape[-1]
    place = torch.linspace(-size / 2, size / 2, size, dtype=torch.float64)
    kernel = torch.exp(-(place[None] ** 2 + place[:, None] ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    padded = functional.pad(pixels.double(), (before, after, before, after))
    return functional.conv2d(padded[:, None], kernel)[:, 0]


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("size", [2, 8, 9, 16])
def test_the_reference_pads_as_torch_does(size):
    """Else the other tests would hold the generator against a shifted one."""
    pixels = torch.randn(2, size, size, dtype=torch.float64)
    place = torch.linspace(-size / 2, size / 2, size, dtype=torch.float64)
    kernel = torch.exp(-(place[None] ** 2 + place[:, None] ** 2) / 2)
    kernel = (kernel / kernel.sum())[None, None]
    same = functional.conv2d(pixels[:, None], kernel, padding="same")[:, 0]
    torch.testing.assert_close(direct(pixels, 1.0), same)


@pytest.mark.parametrize("size", [2, 7, 16, 33, 48])
@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 1.2, 5.0, 10.0, 25.6])
def test_smoothing_is_the_direct_convolution(size, sigma):
    pixels = torch.randn(2, size, size, generator=torch.Generator().manual_seed(size))
    matrix = smoothing_matrix(size, sigma)
    torch.testing.assert_close(
        matrix @ (pixels @ matrix.T), direct(pixels, sigma).float(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(("sigma1", "sigma2"), [(0.2, 1.2), (1.0, 1.2), (5.0, 6.0), (10.0, 10.2)])
@pytest.mark.parametrize("size", [16, 31, 40])
def test_images_and_masks_are_the_published_ones(size, sigma1, sigma2):
    part = textures(size=size, sigma1=sigma1, sigma2=sigma2, seed=5)["train"]
    images, masks = part.generate(range(6))
    noise = torch.from_numpy(np.stack([part._noise(index) for index in range(6)]))
    region = direct(noise[:, 0], size / 5)
    mixture = torch.where(region > 0, direct(noise[:, 1], sigma1), direct(noise[:, 2], sigma2))
    wanted = direct(mixture, 1.0)
    wanted = wanted - wanted.amin((1, 2), keepdim=True)
    wanted = wanted / wanted.amax((1, 2), keepdim=True)
    assert torch.equal(masks, (region > 0).to(torch.uint8))
    torch.testing.assert_close(images[:, 0], wanted.float(), atol=1e-5, rtol=1e-4)


def test_kernels_sum_to_one_and_have_no_denormal_numbers():
    for sigma in (0.2, 1.2, 25.6):
        assert abs(gaussian_taps(128, sigma).sum().item() - 1) < 1e-12
        matrix = smoothing_matrix(128, sigma)
        tiny = torch.finfo(torch.float32).tiny
        assert not ((matrix != 0) & (matrix.abs() < tiny)).any()


def test_a_sample_does_not_depend_on_its_batch():
    part = textures(size=32)["train"]
    images, masks = part.generate(range(12))
    for index in (0, 5, 11):
        image, mask = part.generate([index])
        assert torch.equal(image[0], images[index])
        assert torch.equal(mask[0], masks[index])
        sample = part[index]
        assert torch.equal(sample.image, images[index])
        assert torch.equal(sample.mask, masks[index])


def test_no_two_samples_share_noise():
    parts = [textures(size=8, seed=seed) for seed in (0, 1, 2**32)]
    seen = {
        part._noise(index).tobytes()
        for some in parts
        for part in some.values()
        for index in (0, 1, 2, 7, 1000, 2**32, 2**40)
    }
    assert len(seen) == 3 * 3 * 7


def test_shapes_ranges_and_classes():
    parts = textures(size=20, validation=3, test=4)
    assert [len(part) for part in parts.values()] == [800, 3, 4]
    for name, part in parts.items():
        sample = part[1]
        assert sample.name == part.names[1] == f"{name}-000001"
        assert sample.image.shape == (1, 20, 20)
        assert sample.image.dtype == torch.float32 == part.images.torch_dtype
        assert sample.image.min() == part.images.low == 0
        assert sample.image.max() == part.images.high == 1
        assert sample.mask.shape == (20, 20)
        assert sample.mask.dtype == torch.uint8
        assert part.labels.names == ("omega_2", "omega_1")
        assert part.labels.num_logits == 1
        assert type(sample.image).__name__ == "Image"
        assert type(sample.mask).__name__ == "Mask"


def test_both_classes_are_equally_common():
    masks = textures(size=32, seed=1)["train"].generate(range(200))[1]
    assert abs(masks.float().mean() - 0.5) < 0.05


def test_the_smoother_texture_lies_outside_of_omega_1():
    """Neighbours differ less where sigma2 has smoothed."""
    images, masks = textures(size=64, sigma2=3.0)["train"].generate(range(20))
    steps = (images[:, 0, :, 1:] - images[:, 0, :, :-1]).abs()
    assert steps[masks[:, :, 1:] == 1].mean() > 2 * steps[masks[:, :, 1:] == 0].mean()


def test_training_is_endless_and_the_other_parts_are_not():
    parts = textures(size=8, train=4, validation=4, test=4)
    assert parts["train"].endless
    assert parts["train"][10_000_000_000].name == "train-10000000000"
    assert len(list(parts["train"])) == 4
    for name in ("validation", "test"):
        assert not parts[name].endless
        assert torch.equal(parts[name][-1].image, parts[name][3].image)
        with pytest.raises(IndexError):
            parts[name][4]
    with pytest.raises(IndexError):
        parts["train"][-1]


def test_a_loader_fetches_batches():
    part = textures(size=8, train=6)["train"]
    assert torch.equal(pickle.loads(pickle.dumps(part))[2].image, part[2].image)
    batches = list(DataLoader(part, batch_size=4, collate_fn=list, num_workers=1))
    assert [sample.name for batch in batches for sample in batch] == list(part.names)
    assert torch.equal(batches[1][0].image, part[4].image)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 1}, "size 1 is too small"),
        ({"sigma1": 0.0}, "sigma1: sigma 0.0 must be greater than 0"),
        ({"sigma2": float("nan")}, "sigma2: sigma nan must be"),
        ({"sigma": -1.0}, "sigma: sigma -1.0 must be"),
        ({"sigma1": 0.001}, "sigma1: sigma 0.001 is too small"),
        ({"test": 0}, "test 0: a part needs"),
        ({"seed": -1}, "seed -1 must be"),
    ],
)
def test_settings_out_of_range(options, text):
    with pytest.raises(UsageError, match=text):
        textures(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is present")
def test_a_gpu_gives_the_same_textures():
    part = textures(size=64)["train"]
    images, masks = part.generate(range(8))
    on_gpu, masks_on_gpu = part.generate(range(8), "cuda")
    torch.testing.assert_close(on_gpu.cpu(), images, atol=1e-4, rtol=1e-3)
    assert (masks_on_gpu.cpu() != masks).float().mean() < 1e-4
