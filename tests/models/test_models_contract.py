"""What every model must hold to, whatever its options."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from truemask.images import ImageSpec
from truemask.models.pretrained import EncoderUNet
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN
from truemask.models.unet import UNet

GREY = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0, mean=(0.4,), std=(0.2,))
RGB = ImageSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))

unet = partial(UNet, in_channels=3, out_channels=4, widths=(4, 6, 8))
encoder = partial(
    EncoderUNet,
    in_channels=3,
    out_channels=4,
    encoder="mobilenet_v2",
    decoder_channels=(8, 8, 8, 4, 4),
)
NETWORKS: dict[str, tuple[ImageSpec, Callable[[], nn.Module]]] = {
    "five levels": (RGB, partial(unet, widths=(4, 4, 4, 4, 4))),
    "one level": (RGB, partial(unet, widths=(4,))),
    "one convolution": (RGB, partial(unet, convolutions=1, normalization="none")),
    "no bias": (RGB, partial(unet, bias=False)),
    "dropout": (RGB, partial(unet, dropout=0.3, init="kaiming_fan_out")),
    "bilinear": (RGB, partial(unet, upsampling="bilinear")),
    "valid": (RGB, partial(unet, padding="valid", normalization="none")),
    "valid attention": (RGB, partial(unet, padding="valid", attention=True, convolutions=1)),
    "attention": (RGB, partial(unet, attention=True)),
    "downscaled": (RGB, partial(unet, downscale=2)),
    "downscaled valid": (RGB, partial(unet, downscale=3, padding="valid", upsampling="bilinear")),
    "encoder": (RGB, partial(encoder, dropout=0.3)),
    "encoder from stride 4": (
        RGB,
        partial(encoder, encoder="tu-test_convnext", architecture="fpn", decoder_channels=None),
    ),
    "encoder, dilated": (
        RGB,
        partial(
            encoder,
            encoder="tu-test_efficientnet",
            architecture="deeplabv3plus",
            decoder_channels=None,
        ),
    ),
    "encoder, grey": (
        GREY,
        partial(encoder, encoder="tu-test_efficientnet", in_channels=1, out_channels=1),
    ),
    "textures": (GREY, TextureCNN),
    "textures, one norm": (GREY, partial(TextureCNN, shared_batch_norm=True, channels=4)),
}
every_model = pytest.mark.parametrize("name", NETWORKS)


def build(name: str) -> Segmenter:
    torch.manual_seed(0)
    spec, network = NETWORKS[name]
    return Segmenter(network=network(), images=spec)


def pictures(spec: ImageSpec, batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(batch, spec.channels, height, width, generator=generator)
    return values if spec.dtype == "float32" else (values * 255).to(torch.uint8)


@every_model
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    training=st.booleans(),
    batch=st.integers(2, 3),
)
def test_any_size_comes_back(
    name: str, height: int, width: int, training: bool, batch: int
) -> None:
    model = build(name).train(training)
    images = pictures(model.images, batch, height, width)
    untouched = images.clone()
    logits = model(images)
    channels = 4 if model.images is RGB else 1
    assert logits.shape == (batch, channels, height, width)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert torch.equal(images, untouched)


@every_model
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 20)])
def test_a_single_image(name: str, size: tuple[int, int]) -> None:
    model = build(name).eval()
    assert model(pictures(model.images, 1, *size)).shape[2:] == size


@every_model
def test_gradients_reach_every_parameter(
    name: str, settle: Callable[[nn.Module, Tensor], nn.Module]
) -> None:
    model = build(name)
    images = pictures(model.images, 2, 40, 36)
    # In evaluation mode: batch statistics would cancel the biases before them.
    settle(model, images)(images).square().mean().backward()
    idle = [key for key, value in model.named_parameters() if not value.grad.count_nonzero()]
    assert idle == []


@every_model
def test_images_of_a_batch_do_not_see_each_other(name: str) -> None:
    model = build(name).eval()
    images = pictures(model.images, 3, 21, 30)
    together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_model
def test_memory_format_changes_no_value(name: str) -> None:
    model = build(name).eval()
    images = pictures(model.images, 2, 21, 30)
    expected = model(images)
    logits = model.to(memory_format=torch.channels_last)(
        images.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert logits.is_contiguous()


@every_model
def test_autocast_puts_out_float32(name: str) -> None:
    model = build(name).eval()
    images = pictures(model.images, 1, 21, 30)
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0.1, atol=0.1)


@every_model
def test_a_saved_model_is_the_same_model(name: str) -> None:
    model = build(name)
    images = pictures(model.images, 2, 21, 30)
    model(images)  # in training mode, so that running statistics move
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(9)
    spec, network = NETWORKS[name]
    other = Segmenter(network=network(), images=ImageSpec.from_json(spec.to_json()))
    other.load_state_dict(state)
    assert torch.equal(other.eval()(images), model.eval()(images))
