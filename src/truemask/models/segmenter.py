"""The model that owns its input: it scales, normalises and pads images, and refuses others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from truemask.errors import UsageError
from truemask.geometry import Padding
from truemask.images import ImageSpec, resize_image


class Network(Protocol):
    """What a Segmenter asks of the network inside, besides being an `nn.Module`."""

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size it accepts whose output covers height x width."""

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The size of its output, which lies in the centre of an input of an accepted size."""


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module inside gets back the mode that it had."""
    modes = [(inner, inner.training) for module in modules for inner in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for inner, training in modes:
            inner.training = training


class Segmenter(nn.Module):
    """A network and what its input means, so that nobody can forget or double the scaling.

    The statistics are buffers: they move and are saved with the weights.

    Args:
        network: maps normalised images to logits, and follows the protocol `Network`.
        images: channels, dtype, range and statistics of the images that this model takes.
        size: height and width to which the model brings every image, as it was trained on images
            of that size; its logits are brought back. `None` takes images as they are.

    Attributes:
        channels_last: whether the network is given images with the channels last in memory.

    Raises:
        UsageError: the network cannot say which sizes it takes.
    """

    mean: Float[Tensor, " C"]
    std: Float[Tensor, " C"]
    channels_last = True

    def __init__(
        self, *, network: nn.Module, images: ImageSpec, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        for method in ("input_size", "output_size"):
            if not callable(getattr(network, method, None)):
                raise UsageError(
                    f"{type(network).__name__} has no method {method}(height, width), "
                    "with which a network tells the image sizes it takes"
                )
        self.network = network
        self.images = images
        self.size = size
        self.register_buffer("mean", torch.tensor(images.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(images.std, dtype=torch.float32))

    def forward(self, images: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        """Logits of images as the dataset gives them.

        Args:
            images: of the dtype, channels and range of the `ImageSpec`; any height and width.

        Returns:
            float32 logits of the images' height and width, also under autocast.

        Raises:
            UsageError: another dtype, number of channels or range. On a CUDA device and in a
                compiled model, a wrong range is a RuntimeError instead, raised without waiting
                for the device.
        """
        self._require_valid(images)
        wanted = (images.shape[-2], images.shape[-1])
        if self.size is None or self.size == wanted:
            return self._logits(images)
        # In float32, as 8-bit resizing rounds otherwise on other machines and in exported files.
        logits = self._logits(resize_image(images.float(), self.size))
        return functional.interpolate(logits, wanted, mode="bilinear")

    def _logits(self, images: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        height, width = images.shape[-2:]
        padded = self._padding(height, width).add_mirrored(self._normalize(images))
        # A bundle's weights come in NCHW, with which an input in NCHW takes up to twice as long on
        # the CPU (docs/log.md); an input in channels last makes the convolutions use that order.
        if self.channels_last:
            padded = padded.contiguous(memory_format=torch.channels_last)
        logits = self.network(padded)[..., :height, :width]
        # Contiguous, since softmax and the losses are slower on channels_last than this copy is.
        contiguous: Tensor = logits.to(torch.float32, memory_format=torch.contiguous_format)
        return contiguous

    def _normalize(self, images: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        span = self.images.high - self.images.low
        scale = 1 / (span * self.std)
        shift = -(self.images.low / span + self.mean) / self.std
        return images * scale[:, None, None] + shift[:, None, None]

    def _padding(self, height: int, width: int) -> Padding:
        """Padding to an accepted size, such that the output begins with the image's first pixel."""
        network = cast(Network, self.network)
        input_height, input_width = network.input_size(height, width)
        output_height, output_width = network.output_size(input_height, input_width)
        top, left = (input_height - output_height) // 2, (input_width - output_width) // 2
        return Padding(
            top=top,
            bottom=input_height - height - top,
            left=left,
            right=input_width - width - left,
        )

    def _require_valid(self, images: Shaped[Tensor, "B C H W"]) -> None:
        spec = self.images
        if images.ndim != 4 or images.shape[1] != spec.channels:
            raise UsageError(
                f"the model takes images of the shape (B, {spec.channels}, H, W), "
                f"got {tuple(images.shape)}"
            )
        if images.dtype != spec.torch_dtype:
            raise UsageError(
                f"the model takes images of dtype {spec.dtype} from {spec.low:g} to {spec.high:g}, "
                f"got {str(images.dtype).removeprefix('torch.')}; it scales them itself"
            )
        if images.dtype == torch.uint8:
            return
        low, high = images.aminmax()
        inside = (low >= spec.low) & (high <= spec.high)
        if images.is_cuda or torch.compiler.is_compiling():
            # Asking for the answer would make the CPU wait for the device, in every step.
            torch._assert_async(inside, f"image values are outside {spec.low:g} to {spec.high:g}")
        elif not inside:
            raise UsageError(
                f"image values reach from {low:g} to {high:g}, but the model takes "
                f"{spec.low:g} to {spec.high:g} and scales them itself"
            )
