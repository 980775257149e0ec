"""A small convolutional network without pooling, for telling two textures apart."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from truemask.errors import UsageError
from truemask.models.blocks import require_positive

_HIDDEN_LAYERS = 3


class TextureCNN(nn.Module):
    """Three convolutions, each followed by ReLU and batch norm, and a fourth that gives logits.

    It keeps the size of its input, and takes any. With kernels of 5x5 a pixel sees 17x17 pixels.

    Args:
        in_channels: channels of the images.
        out_channels: logit channels, one for a task of two classes, else one a class.
        channels: channels of the hidden layers.
        kernel_size: side of the convolution kernels; odd.
        shared_batch_norm: whether one batch norm serves all three layers, so that its running
            statistics mix those of three distributions. True is for repeating a published
            experiment; by default each layer has its own.

    Raises:
        UsageError: a size is not positive, or the kernel size is even.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 16,
        kernel_size: int = 5,
        shared_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels, channels=channels)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UsageError(f"kernel_size is {kernel_size}; it must be odd, such as 3 or 5")

        def convolution(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)

        self.convolutions = nn.ModuleList(
            convolution(in_channels if i == 0 else channels, channels)
            for i in range(_HIDDEN_LAYERS)
        )
        norms = 1 if shared_batch_norm else _HIDDEN_LAYERS
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(norms))
        self.head = convolution(channels, out_channels)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        """Logits of normalised images."""
        features = images
        for i, convolution in enumerate(self.convolutions):
            norm = self.norms[i % len(self.norms)]
            features = norm(functional.relu(convolution(features)))
        logits: Tensor = self.head(features)
        return logits

    @property
    def reach(self) -> int:
        """How far from a pixel what decides its logits may lie, in pixels."""
        return sum(layer.kernel_size[0] // 2 for layer in (*self.convolutions, self.head))

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The same size: every size is accepted."""
        return height, width

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The same size."""
        return height, width
