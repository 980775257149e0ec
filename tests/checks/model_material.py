"""Images with masks, and networks with one fault each."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from truemask.models.unet import UNet

CLASSES = 4


def example(size: tuple[int, int] = (64, 96), *, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Noisy images of regions around random places, and their class ids."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    places = torch.rand(batch, 10, 2, generator=generator) * torch.tensor(size)
    owners = torch.arange(10) % CLASSES
    grid = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    ids = owners[torch.cdist(grid[None], places).argmin(2)].view(batch, height, width)
    noise = torch.randn(batch, 3, height, width, generator=generator)
    colours = torch.tensor([1.0, 0.5, -0.7])[:, None, None] * (ids[:, None] - 1.5)
    return colours + 0.3 * noise, ids


def unet(**options: object) -> UNet:
    """A small one."""
    settings = {"in_channels": 3, "out_channels": CLASSES, "widths": (4, 8, 16), "bias": False}
    return UNet(**(settings | options))


class Around(nn.Module):
    """A network with something done before it and after it."""

    def __init__(
        self,
        *,
        before: Callable[[Tensor], Tensor] = lambda images: images,
        after: Callable[[Tensor], object] = lambda logits: logits,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network or unet()
        self.before, self.after = before, after

    def forward(self, images: Tensor) -> object:
        return self.after(self.network(self.before(images)))


class Pooled(nn.Module):
    """A global pooling branch, normalised by a layer of one's choice."""

    def __init__(self, normalization: nn.Module) -> None:
        super().__init__()
        self.local = nn.Conv2d(3, 8, 3, padding=1)
        self.reduce = nn.Conv2d(8, 8, 1, bias=False)
        self.normalization = normalization
        self.head = nn.Conv2d(16, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        local = functional.relu(self.local(images))
        pooled = self.normalization(self.reduce(local.mean((2, 3), keepdim=True)))
        return self.head(torch.cat([local, pooled.expand_as(local)], 1))


class Untracked(nn.Module):
    """A batch norm without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)
        self.head = nn.Conv2d(8, CLASSES, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(functional.relu(self.norm(self.first(images))))


class Detached(nn.Module):
    """Its head alone gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.body = unet(out_channels=8)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).detach())


class Listed(nn.Module):
    """Layers in a plain list, which are no parameters of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.body = unet(out_channels=8)
        self.layers = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(2)]
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        for layer in self.layers:
            features = functional.relu(layer(features))
        return self.head(features)


class Kept:
    """A callable, no module, that holds a layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = {"last": layer}

    def __call__(self, features: Tensor) -> Tensor:
        return self.layer["last"](features)


class Forgotten(nn.Module):
    """A layer that forward does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.body = unet()
        self.bottleneck = nn.Conv2d(16, 16, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class ZeroBranch(nn.Module):
    """Sound: a residual branch that begins with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Parameter(torch.zeros(1))
        self.head = nn.Conv2d(8, CLASSES, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.stem(images))
        return self.head(features + self.gate * functional.relu(self.inner(features)))


class CornerCrop(nn.Module):
    """Convolutions without padding, with the skip cut from the corner instead of the centre."""

    def __init__(self, *, centre: bool) -> None:
        super().__init__()
        self.centre = centre
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.last = nn.Sequential(nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))

    def forward(self, images: Tensor) -> Tensor:
        skip = self.first(images)
        up = self.up(self.deep(functional.max_pool2d(skip, 2)))
        height, width = up.shape[-2:]
        top = (skip.shape[-2] - height) // 2 if self.centre else 0
        left = (skip.shape[-1] - width) // 2 if self.centre else 0
        return self.last(torch.cat([skip[..., top : top + height, left : left + width], up], 1))


class EvenKernels(nn.Module):
    """Kernels of four, each padded by one pixel before and two after."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            layer
            for number in range(4)
            for layer in (nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(8 if number else 3, 8, 4))
        ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8, CLASSES, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Global(nn.Module):
    """One verdict on the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        pooled = functional.relu(self.first(images)).mean((2, 3), keepdim=True)
        return self.head(pooled).expand(-1, -1, *images.shape[-2:])
