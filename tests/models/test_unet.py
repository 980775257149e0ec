from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from truemask.errors import UsageError
from truemask.models.blocks import AttentionGate, ConvBlock
from truemask.models.unet import UNet

PUBLISHED: list[tuple[str, int, dict[str, Any]]] = [
    ("edges", 15_324_737, {"out_channels": 1, "convolutions": 1, "normalization": "none"}),
    ("driving, three levels", 7_703_237, {"out_channels": 5, "widths": (64, 128, 256, 512)}),
    ("driving, base 32", 7_766_117, {"out_channels": 5, "widths": (32, 64, 128, 256, 512)}),
    ("driving, base 64", 31_043_781, {"out_channels": 5}),
    ("driving, base 128", 124_133_765, {"out_channels": 5, "widths": [128, 256, 512, 1024, 2048]}),
    ("driving, attention", 31_569_393, {"out_channels": 5, "attention": True}),
]


Settle = Callable[[nn.Module, Tensor], nn.Module]


def small(**options: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"in_channels": 3, "out_channels": 2, "widths": (4, 6, 8)} | options).eval()


@pytest.mark.parametrize(("name", "parameters", "options"), PUBLISHED)
def test_parameter_counts_of_the_published_networks(
    name: str, parameters: int, options: dict[str, Any]
) -> None:
    with torch.device("meta"):
        network = UNet(in_channels=3, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_original_maps_572_pixels_to_388() -> None:
    with torch.device("meta"):
        network = UNet(in_channels=1, out_channels=2, normalization="none", padding="valid")
        logits = network(torch.empty(1, 1, 572, 572))
    assert logits.shape == (1, 2, 388, 388)
    assert network.input_size(388, 388) == (572, 572)
    assert network.output_size(572, 572) == (388, 388)


def walk(length: int, levels: int, margin: int) -> int | None:
    """The output length of a U-Net, one step at a time; None where a step is impossible."""
    for _ in range(levels - 1):
        length -= margin
        if length <= 0 or length % 2:
            return None
        length //= 2
    length -= margin
    for _ in range(levels - 1):
        length = 2 * length - margin
    return length if length > 0 else None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    levels=st.integers(1, 4),
    convolutions=st.integers(1, 2),
    valid=st.booleans(),
    downscale=st.integers(1, 3),
    length=st.integers(1, 90),
)
def test_sizes_follow_the_layers(
    levels: int, convolutions: int, valid: bool, downscale: int, length: int
) -> None:
    with torch.device("meta"):
        network = UNet(
            in_channels=1,
            out_channels=1,
            widths=(1,) * levels,
            convolutions=convolutions,
            padding="valid" if valid else "same",
            downscale=downscale,
        )
    margin = 2 * convolutions if valid else 0
    accepted = [
        (inner * downscale, output * downscale)
        for inner in range(1, 400)
        if (output := walk(inner, levels, margin)) is not None
    ]
    expected = next(pair for pair in accepted if pair[1] >= length)
    size, _ = network.input_size(length, 1)
    assert (size, network.output_size(size, size)[1]) == expected
    logits = network.train()(torch.empty(2, 1, size, size, device="meta"))
    assert logits.shape[2:] == (expected[1], expected[1])


@pytest.mark.parametrize("options", [{"upsampling": "bilinear"}, {"attention": True}, {}])
@pytest.mark.parametrize("convolutions", [1, 2])
def test_a_valid_network_crops_its_skips_around_the_centre(
    options: dict[str, Any], convolutions: int
) -> None:
    # With mirror-symmetric kernels a network turns a mirrored image into mirrored logits, unless
    # a crop or the output lies off the centre.
    network = small(padding="valid", convolutions=convolutions, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.copy_((parameter + parameter.flip(2, 3)) / 2)
    images = torch.randn(1, 3, *network.input_size(20, 33))
    torch.testing.assert_close(network(images.flip(2, 3)), network(images).flip(2, 3))


def test_an_output_of_a_valid_network_sees_no_border() -> None:
    network = small(padding="valid")
    height, width = network.input_size(24, 24)
    images = torch.randn(1, 3, height + 8, width + 16)
    shifted = network(images[..., 4:-4, 8:-8])
    torch.testing.assert_close(shifted, network(images)[..., 4:-4, 8:-8])


def test_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no images of 30x32 pixels; the next size is \(32, 32\)"):
        small()(torch.zeros(1, 3, 30, 32))
    with pytest.raises(UsageError, match="no images of 62x64"):
        small(padding="valid")(torch.zeros(1, 3, 62, 64))


def test_downscale_wraps_a_network_of_more_channels() -> None:
    network = small(downscale=2)
    inner = small(in_channels=12, out_channels=8)
    inner.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 16, 24)
    folded = functional.pixel_shuffle(inner(functional.pixel_unshuffle(images, 2)), 2)
    assert torch.equal(network(images), folded)


def test_bilinear_upsampling_is_interpolation_then_1x1_convolution() -> None:
    up = small(upsampling="bilinear").decoder[0]
    deep = torch.randn(1, 8, 5, 7)
    large = functional.interpolate(deep, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(up.enlarge(deep), up.enlarge.conv(large))


def test_dropout_of_channels_follows_each_relu_and_renames_nothing() -> None:
    with_dropout, without = small(dropout=0.5), small()
    assert with_dropout.state_dict().keys() == without.state_dict().keys()
    blocks = [module for module in with_dropout.modules() if isinstance(module, ConvBlock)]
    units = [list(unit.children()) for block in blocks for unit in block]
    assert len(units) == 10
    for unit in units:
        assert [type(layer) for layer in unit[-2:]] == [nn.ReLU, nn.Dropout2d]
    dropped = with_dropout.encoder[0].train()(torch.randn(8, 3, 6, 6)).flatten(2)
    empty = (dropped == 0).all(2)
    assert 0.3 < empty.float().mean() < 0.7


def test_kaiming_fan_out() -> None:
    network = small(widths=(64, 128), init="kaiming_fan_out", attention=True)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert not module.bias.any()
    weight = network.encoder[1][0].conv.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert small(init="default").head.bias.any()


def gate_by_the_book(gate: AttentionGate, skip: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
    """Oktay et al. 2018 with the gating signal enlarged first."""
    large = functional.interpolate(deep, scale_factor=2, mode="bilinear")
    asked = gate.project_gate.norm(gate.project_gate.conv(large))
    seen = gate.project_skip.norm(gate.project_skip.conv(skip))
    psi = gate.coefficients.norm(gate.coefficients.conv((asked + seen).relu()))
    return skip * psi.sigmoid(), psi.sigmoid()


def test_attention_gates_weigh_the_skips_and_show_their_maps(settle: Settle) -> None:
    network = settle(small(attention=True), torch.randn(2, 3, 24, 20))
    gates = [module for module in network.modules() if isinstance(module, AttentionGate)]
    seen: list[tuple[Tensor, ...]] = []
    maps: list[Tensor] = []
    for gate in gates:
        gate.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
        gate.coefficients.register_forward_hook(lambda _, __, output: maps.append(output))
    network(torch.randn(2, 3, 24, 20))
    assert [tuple(each.shape) for each in maps] == [(2, 1, 12, 10), (2, 1, 24, 20)]
    for gate, (skip, deep, output), attention in zip(gates, seen, maps, strict=True):
        expected, expected_map = gate_by_the_book(gate, skip, deep)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(attention, expected_map)
        assert 0 < attention.min() < attention.max() < 1


@pytest.mark.parametrize(
    "options",
    [
        {"attention": True, "upsampling": "bilinear", "downscale": 2},
        pytest.param({"padding": "valid"}, marks=pytest.mark.slow),
    ],
)
def test_exports_with_free_batch_and_sizes(options: dict[str, Any]) -> None:
    network = small(**options)
    stride = 4 * network.downscale
    offset = network.input_size(1, 1)[0] % stride
    height, width = Dim("h", min=15, max=60), Dim("w", min=15, max=60)
    sizes = {0: Dim("b", max=8), 2: stride * height + offset, 3: stride * width + offset}
    example = torch.randn(2, 3, 16 * stride + offset, 17 * stride + offset)
    program = torch.export.export(network, (example,), dynamic_shapes=(sizes,))
    images = torch.randn(1, 3, 18 * stride + offset, 15 * stride + offset)
    torch.testing.assert_close(program.module()(images), network(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0; it must be a whole number from 1"),
        ({"out_channels": -1}, "out_channels is -1"),
        ({"widths": []}, "widths is empty"),
        ({"widths": (4, 0)}, r"widths\[1\] is 0"),
        ({"widths": (4, 7.5)}, r"widths\[1\] is 7.5"),
        ({"convolutions": 0}, "convolutions is 0"),
        ({"downscale": 0}, "downscale is 0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be from 0 to below 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"normalization": "group"}, "normalization is 'group'; allowed are batch, none"),
        ({"upsampling": "nearest"}, "upsampling is 'nearest'; allowed are transposed, bilinear"),
        ({"padding": "full"}, "padding is 'full'; allowed are same, valid"),
        ({"init": "zeros"}, "init is 'zeros'; allowed are default, kaiming_fan_out"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(**options)
