"""Views in memory order: the optimiser changes the very weights, to the last bit."""

import copy

import pytest
import torch
from torch import nn

from truemask.training.memory_order import MemoryOrder


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 5, 2), nn.ReLU(),
        nn.Conv2d(5, 4, 1),
    )  # fmt: skip
    return made.to(memory_format=torch.channels_last)


def backward(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(2, 3, 9, 7, generator=generator)
    model(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_weights_are_those_of_the_plain_optimizer(kind, fused: bool) -> None:
    ours = network()
    plain = copy.deepcopy(ours)
    options = {"lr": 0.1, "weight_decay": 0.01, "fused": fused}
    order = MemoryOrder([{"params": list(ours.parameters())}])
    optimizer, reference = kind(order.groups, **options), kind(plain.parameters(), **options)
    for step in range(4):
        backward(ours, step)
        backward(plain, step)
        order.lend_gradients()
        optimizer.step()
        reference.step()
        optimizer.zero_grad()
        order.zero_grad()
        reference.zero_grad()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.stride() == theirs.stride()
        assert mine.grad is None


def test_all_that_the_optimizer_gets_is_contiguous_and_shares_memory() -> None:
    model = network()
    groups = [{"params": list(model.parameters()), "weight_decay": 0.5}]
    order = MemoryOrder(groups)
    backward(model, 0)
    order.lend_gradients()
    assert order.groups[0]["weight_decay"] == 0.5
    views = order.groups[0]["params"]
    for parameter, view in zip(model.parameters(), views, strict=True):
        assert view.is_contiguous()
        assert view.grad.is_contiguous()
        assert view.data_ptr() == parameter.data_ptr()
        assert view.grad.data_ptr() == parameter.grad.data_ptr()
    assert sum(view is not p for view, p in zip(views, model.parameters(), strict=True)) == 2


def test_a_weight_without_gradient_stays_so() -> None:
    model = network()
    order = MemoryOrder([{"params": list(model.parameters())}])
    order.lend_gradients()
    assert all(view.grad is None for view in order.groups[0]["params"])
