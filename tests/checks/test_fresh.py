"""Factories that keep something of an earlier training, and factories that do not."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn, optim

from truemask.checks.fresh import check_fresh, started_with_state


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def adam(model: nn.Module) -> optim.Optimizer:
    return optim.Adam(model.parameters(), lr=0.01)


def train(model: nn.Module, optimizer: optim.Optimizer) -> None:
    model(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()


def seeded() -> nn.Module:
    torch.manual_seed(0)
    return network()


TEMPLATE = network()


@pytest.mark.parametrize("make", [network, seeded, lambda: copy.deepcopy(TEMPLATE)])
@pytest.mark.parametrize("optimizer", [None, adam, lambda m: optim.SGD(m.parameters(), 0.1, 0.9)])
def test_new_ones_at_every_call_are_sound(make, optimizer) -> None:
    assert check_fresh(make, optimizer) == []


def shared_encoder() -> Callable[[], nn.Module]:
    encoder = nn.Conv2d(3, 4, 3)
    return lambda: nn.Sequential(encoder, nn.Conv2d(4, 2, 1))


def same_object() -> Callable[[], nn.Module]:
    model = network()
    return lambda: model


def loaded_from_the_last() -> Callable[[], nn.Module]:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        model = network()
        if made:
            model.load_state_dict(made[-1].state_dict())
        made.append(model)
        return model

    return make


@pytest.mark.parametrize("fault", [same_object, shared_encoder, loaded_from_the_last])
def test_a_model_that_carries_weights(fault) -> None:
    (finding,) = check_fresh(fault(), adam)
    assert (finding.code, finding.level, finding.where) == ("TM606", "error", "make_model")


def test_the_probe_puts_everything_back() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    check_fresh(lambda: model, adam)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_an_optimiser_of_another_model() -> None:
    first = network()
    (finding,) = check_fresh(network, lambda model: adam(first))
    assert finding.where == "make_optimizer"
    assert finding.evidence["foreign_parameters"] == 6


def test_the_same_optimiser_twice() -> None:
    optimizer = adam(network())
    assert [f.code for f in check_fresh(network, lambda model: optimizer)] == ["TM606"]


def test_an_optimiser_with_the_moments_of_another() -> None:
    def make(model: nn.Module) -> optim.Optimizer:
        optimizer = adam(model)
        train(model, optimizer)
        return optimizer

    (finding,) = check_fresh(network, make)
    assert finding.evidence["state"] == 6


def test_weights_of_an_earlier_training(tmp_path: Path) -> None:
    last = network()
    torch.save({"model": last.state_dict()}, tmp_path / "last.pt")

    def make() -> nn.Module:
        model = network()
        model.load_state_dict(last.state_dict())
        return model

    assert check_fresh(make) == []  # trained weights may be wanted
    assert [f.code for f in check_fresh(make, earlier=tmp_path / "last.pt")] == ["TM606"]
    assert check_fresh(network, earlier=tmp_path / "last.pt") == []


def test_an_optimiser_before_its_first_step() -> None:
    model = network()
    optimizer = adam(model)
    assert started_with_state(optimizer) == []
    train(model, optimizer)
    assert [f.code for f in started_with_state(optimizer)] == ["TM606"]
