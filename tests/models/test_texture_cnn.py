import pytest
import torch
from torch.nn import functional

from truemask.errors import UsageError
from truemask.models.texture_cnn import TextureCNN


@pytest.mark.parametrize(("shared", "parameters"), [(True, 13_681), (False, 13_745)])
def test_parameter_counts(shared: bool, parameters: int) -> None:
    network = TextureCNN(shared_batch_norm=shared)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("shared", [True, False])
def test_convolution_then_relu_then_batch_norm(shared: bool) -> None:
    torch.manual_seed(0)
    network = TextureCNN(shared_batch_norm=shared).train()
    features = images = torch.randn(2, 1, 20, 24)
    for i, convolution in enumerate(network.convolutions):
        norm = network.norms[0 if shared else i]
        assert not norm.weight.grad
        convolved = functional.conv2d(features, convolution.weight, convolution.bias, padding=2)
        features = functional.batch_norm(
            convolved.clamp_min(0), None, None, norm.weight, norm.bias, training=True
        )
    expected = functional.conv2d(features, network.head.weight, network.head.bias, padding=2)
    torch.testing.assert_close(network(images), expected)
    assert network(images).min() < 0  # logits, no probabilities


def test_a_shared_batch_norm_mixes_the_statistics_of_three_layers() -> None:
    shared, own = TextureCNN(shared_batch_norm=True), TextureCNN()
    for network in (shared, own):
        network(torch.rand(2, 1, 16, 16))
    assert [int(norm.num_batches_tracked) for norm in shared.norms] == [3]
    assert [int(norm.num_batches_tracked) for norm in own.norms] == [1, 1, 1]


def test_a_pixel_sees_17_by_17_pixels() -> None:
    image = torch.rand(1, 1, 41, 41, requires_grad=True)
    TextureCNN().eval()(image)[0, 0, 20, 20].backward()
    rows, columns = image.grad[0, 0].nonzero().unbind(1)
    assert (int(rows.min()), int(rows.max())) == (12, 28)
    assert (int(columns.min()), int(columns.max())) == (12, 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size is 4; it must be odd"),
        ({"kernel_size": -1}, "kernel_size is -1"),
        ({"channels": 0}, "channels is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"out_channels": 0}, "out_channels is 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TextureCNN(**options)
