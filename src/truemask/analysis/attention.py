"""Where the gates of an attention U-Net look."""

from typing import cast

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional

from truemask.models.blocks import AttentionGate
from truemask.models.segmenter import Network, Segmenter, evaluating


@torch.inference_mode()
def attention_maps(
    model: Segmenter, image: Shaped[Tensor, "C H W"]
) -> list[Float[np.ndarray, "H W"]]:
    """The map of each attention gate over an image, in the order in which they work.

    Args:
        model: any; one without gates has no maps.
        image: as the model takes it.

    Returns:
        Shares from 0 to 1 at the image's size; the first are of the deepest, coarsest gate.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output.detach())

    gates = [module for module in model.modules() if isinstance(module, AttentionGate)]
    hooks = [gate.coefficients.register_forward_hook(keep) for gate in gates]
    try:
        with evaluating(model):
            model(image[None].to(model.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    height, width = image.shape[-2:]
    return [_at_size(model, found, height, width) for found in seen]


def _at_size(
    model: Segmenter, found: Float[Tensor, "1 1 h w"], height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """Without the padding that the model puts around an image, and as large as the image."""
    inner = model.size or (height, width)
    network = cast(Network, model.network)
    padded = network.input_size(*inner)
    put_out = network.output_size(*padded)
    top, left = (padded[0] - put_out[0]) // 2, (padded[1] - put_out[1]) // 2
    large = functional.interpolate(found.float(), padded, mode="bilinear")
    cut = large[..., top : top + inner[0], left : left + inner[1]]
    sized = functional.interpolate(cut, (height, width), mode="bilinear")
    values: Float[np.ndarray, "H W"] = sized[0, 0].cpu().numpy()
    return values


def overlay(
    image: UInt8[np.ndarray, "H W 3"], attention: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A map in colours over the grey image: dark is 0, bright the map's own highest value."""
    share = attention / max(float(attention.max()), 1e-6)
    colors = mpl.colormaps["inferno"](share)[..., :3] * 255
    grey = image.mean(2, keepdims=True)
    drawn: UInt8[np.ndarray, "H W 3"] = (0.65 * colors + 0.35 * grey).astype(np.uint8)
    return drawn
