"""Generated Gaussian textures: two kinds of smoothed noise, to be told apart.

White noise smoothed by a wide Gaussian and cut at 0 gives the region omega_1. Inside lies noise
smoothed by `sigma1`, outside noise smoothed by `sigma2`; the mixture is smoothed by a Gaussian of
sigma 1 and scaled to [0, 1]. The kernels are as large as the image; since a Gaussian is separable,
each smoothing is a product with a matrix from the left and one from the right, a thousand times
cheaper than the convolution and equal to it up to rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision import tv_tensors

from truemask.datasets.sample import Parts, Sample
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.labels import LabelMap

LABELS = LabelMap(names=("omega_2", "omega_1"), values={0: 0, 1: 1})
IMAGES = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0)

_STREAMS = {"train": 0, "validation": 1, "test": 2}


def gaussian_taps(size: int, sigma: float) -> Float[Tensor, " size"]:
    """The kernel's factor along one axis, in float64; it sums to 1.

    Raises:
        UsageError: sigma is not positive, or so small that every tap is 0 (the taps of an even
            size lie half a pixel off the centre).
    """
    if not sigma > 0:
        raise UsageError(f"sigma {sigma} must be greater than 0")
    place = torch.linspace(-size / 2, size / 2, size, dtype=torch.float64)
    taps = torch.exp(-(place**2) / (2 * sigma**2))
    total = taps.sum()
    if total == 0:
        raise UsageError(f"sigma {sigma} is too small: the Gaussian is 0 at every pixel")
    return taps / total


@lru_cache(maxsize=64)
def smoothing_matrix(size: int, sigma: float) -> Float[Tensor, "size size"]:
    """The matrix M for which M X M^T is X convolved with the Gaussian, padded with zeros.

    Padding is as that of `conv2d(..., padding="same")`, which for an even kernel puts one zero more
    at the end than at the start.

    Raises:
        UsageError: as `gaussian_taps`.
    """
    taps = gaussian_taps(size, sigma)
    before = (size - 1) // 2
    tap = torch.arange(size)[None, :] - torch.arange(size)[:, None] + before
    # Taps that float32 sums cannot feel are cut, as denormal numbers make products 20 times slower.
    taps = torch.where(taps > 1e-12 * taps.max(), taps, 0.0)
    inside = (tap >= 0) & (tap < size)
    matrix: Float[Tensor, "size size"] = torch.where(inside, taps[tap.clamp(0, size - 1)], 0.0)
    return matrix.float()


def compose(
    noise: Float[Tensor, "*B 3 H W"],
    *,
    region: Float[Tensor, "H W"],
    inside: Float[Tensor, "H W"],
    outside: Float[Tensor, "H W"],
    last: Float[Tensor, "H W"],
) -> tuple[Float[Tensor, "*B H W"], UInt8[Tensor, "*B H W"]]:
    """An image in [0, 1] and its mask, of three noises and the smoothing matrices for each step."""

    def smooth(
        matrix: Float[Tensor, "H W"], pixels: Float[Tensor, "*B H W"]
    ) -> Float[Tensor, "*B H W"]:
        return matrix @ (pixels @ matrix.T)

    omega_1 = smooth(region, noise[..., 0, :, :]) > 0
    mixture = torch.where(
        omega_1, smooth(inside, noise[..., 1, :, :]), smooth(outside, noise[..., 2, :, :])
    )
    image = smooth(last, mixture)
    image = image - image.amin((-2, -1), keepdim=True)
    image = image / image.amax((-2, -1), keepdim=True)
    return image, omega_1.to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class TextureDataset:
    """Textures by number: a sample is a function of (seed, part, index), on any batch size.

    Attributes:
        part: which stream of samples; streams share none.
        length: samples of an epoch, or of the whole part.
        size: height and width in pixels.
        sigma1: smoothing of the noise in omega_1, in pixels.
        sigma2: smoothing of the noise outside of it, in pixels.
        sigma: smoothing of the noise that makes omega_1, in pixels.
        seed: of all parts.
        endless: whether any index from 0 on is a sample, as in training.
    """

    part: Literal["train", "validation", "test"]
    length: int
    size: int
    sigma1: float
    sigma2: float
    sigma: float
    seed: int
    endless: bool = False

    @property
    def labels(self) -> LabelMap:
        """Class 1 is omega_1."""
        return LABELS

    @property
    def images(self) -> ImageSpec:
        """One float32 channel in [0, 1]."""
        return IMAGES

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the first `length` samples."""
        return tuple(self._name(index) for index in range(self.length))

    def _name(self, index: int) -> str:
        return f"{self.part}-{index:06d}"

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Sample]:
        """The first `length` samples; without it, an endless part would never end a loop."""
        return (self[index] for index in range(self.length))

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Several samples at once; PyTorch's `DataLoader` calls this for a batch."""
        places = [self._place(index) for index in indices]
        images, masks = self.generate(places)
        return [
            Sample(
                image=tv_tensors.Image(image), mask=tv_tensors.Mask(mask), name=self._name(place)
            )
            for image, mask, place in zip(images, masks, places, strict=True)
        ]

    def _place(self, index: int) -> int:
        if index >= 0 and (self.endless or index < self.length):
            return index
        if not self.endless and -self.length <= index < 0:
            return index + self.length
        raise IndexError(f"{self.part} has no sample {index}")

    def generate(
        self, indices: Sequence[int], device: torch.device | str = "cpu"
    ) -> tuple[Float[Tensor, "B 1 H W"], UInt8[Tensor, "B H W"]]:
        """A batch on a device.

        The noise is drawn on the CPU and moved, so that a GPU gives the CPU's samples up to
        rounding. On the CPU samples are made one by one, because a product's rounding may depend on
        the size of the batch, and a pixel at the border of omega_1 on its rounding.
        """
        noise = torch.from_numpy(np.stack([self._noise(index) for index in indices])).to(device)
        matrices = {
            name: smoothing_matrix(self.size, sigma).to(device)
            for name, sigma in (
                ("region", self.sigma),
                ("inside", self.sigma1),
                ("outside", self.sigma2),
                ("last", 1.0),
            )
        }
        if noise.device.type != "cpu":
            images, masks = compose(noise, **matrices)
            return images[:, None], masks
        made = [compose(one, **matrices) for one in noise]
        return torch.stack([image for image, _ in made])[:, None], torch.stack([m for _, m in made])

    def _noise(self, index: int) -> Float[np.ndarray, "3 H W"]:
        """White noise of the sample's own.

        Philox counts in 256 bits under a key of 128, so that no two samples share a stretch of
        noise; a `torch.Generator` would use 32 bits of its seed, and samples of train and test
        would meet by chance.
        """
        key = np.array([self.seed, _STREAMS[self.part]], dtype=np.uint64)
        counter = np.array([0, 0, 0, index], dtype=np.uint64)
        random = np.random.Generator(np.random.Philox(key=key, counter=counter))
        return random.standard_normal((3, self.size, self.size), dtype=np.float32)


def textures(
    *,
    size: int = 128,
    sigma1: float = 0.2,
    sigma2: float = 1.2,
    sigma: float | None = None,
    train: int = 800,
    validation: int = 64,
    test: int = 200,
    seed: int = 0,
) -> Parts:
    """Gaussian textures, generated as they are asked for.

    Args:
        size: height and width in pixels.
        sigma1: smoothing of the texture in omega_1, in pixels.
        sigma2: smoothing of the texture outside of it, in pixels.
        sigma: smoothing of the regions, in pixels; None for a fifth of `size`.
        train: samples of an epoch; every epoch has new ones.
        validation: samples of the validation part, the same in every epoch.
        test: samples of the test part.
        seed: of all noise.

    Raises:
        UsageError: a size, a sigma, a number of samples or the seed is out of range.
    """
    if size < 2:
        raise UsageError(f"size {size} is too small: textures need at least 2 pixels a side")
    if not 0 <= seed < 2**64:
        raise UsageError(f"seed {seed} must be from 0 to 2^64 - 1")
    sigma = size / 5 if sigma is None else sigma
    for name, value in (("sigma1", sigma1), ("sigma2", sigma2), ("sigma", sigma)):
        try:
            gaussian_taps(size, value)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
    lengths = {"train": train, "validation": validation, "test": test}
    for name, length in lengths.items():
        if length < 1:
            raise UsageError(f"{name} {length}: a part needs at least 1 sample")

    def part(name: Literal["train", "validation", "test"]) -> TextureDataset:
        return TextureDataset(
            part=name,
            length=lengths[name],
            size=size,
            sigma1=sigma1,
            sigma2=sigma2,
            sigma=sigma,
            seed=seed,
            endless=name == "train",
        )

    return Parts({"train": part("train"), "validation": part("validation"), "test": part("test")})
