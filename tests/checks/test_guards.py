"""Guards in loops of anybody's: with a fault, without one, and what they cost."""

import math

import pytest
import torch
from torch import nn, optim

from truemask.checks.guards import Guard


def batch(step: int, *, share: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(4, 3, 32, 32, generator=generator)
    masks = (images.mean(1) > torch.quantile(images.mean(1), 1 - share)).long()
    masks[:, :2] = 255
    return images, masks


def network(channels: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, channels, 1))


def run(guard: Guard, model: nn.Module, *, steps: int, lr: float = 0.01, loss=None) -> list[str]:
    """A plain loop; gives the codes of all findings."""
    loss = loss or nn.CrossEntropyLoss(ignore_index=255)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    codes = []
    for step in range(steps):
        images, masks = batch(step)
        logits = model(images)
        value = loss(logits, masks)
        optimizer.zero_grad()
        if value.requires_grad:
            value.backward()
            optimizer.step()
        codes += [finding.code for finding in guard.step(value, logits, masks)]
    assert len(guard.finish()) >= len(codes)
    return [finding.code for finding in guard.findings]


def test_a_loop_that_learns_has_no_finding() -> None:
    assert run(Guard(num_classes=2, every=10), network(), steps=150, lr=0.05) == []


def test_a_collapse_that_the_model_recovers_from_is_a_note_in_the_end() -> None:
    model = network()
    with torch.no_grad():
        model[-1].bias += torch.tensor([2.0, -2.0])
    guard = Guard(num_classes=2, every=2)
    assert run(guard, model, steps=150, lr=0.05) == ["TM601"]
    assert guard.findings[0].level == "note"
    assert "recovered" in guard.findings[0].message


def test_the_loss_is_not_changed() -> None:
    guard = Guard(every=2)
    loss = (torch.ones(3, requires_grad=True) ** 2).sum()
    guard.step(loss)
    loss.backward()
    assert loss.item() == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_stay_no_numbers_are_an_error(value: float) -> None:
    guard = Guard(every=10)
    for step in range(20):
        guard.step(torch.tensor(1.0 / (step + 1) if step < 13 else value))
    (finding,) = guard.finish()
    assert (finding.code, finding.level) == ("TM602", "error")
    assert finding.evidence["first_step"] == 14


def test_one_loss_that_is_no_number_is_a_warning() -> None:
    guard = Guard(every=10)
    for step in range(40):
        guard.step(1.0 / (step + 1) if step != 13 else math.nan)
    assert [f.level for f in guard.finish()] == ["warning"]


def test_a_loss_that_is_always_the_same_is_found_at_once() -> None:
    guard = Guard(every=10)
    found = [(step, f.code) for step in range(30) for f in guard.step(torch.tensor(0.0))]
    assert found == [(19, "TM603")]


def test_a_learning_rate_of_nothing_is_found() -> None:
    assert "TM603" in run(Guard(num_classes=2, every=5), network(), steps=120, lr=1e-9)


def test_a_model_that_says_one_class_is_found() -> None:
    model = network()
    with torch.no_grad():
        model[-1].bias += torch.tensor([30.0, -30.0])
    guard = Guard(num_classes=2, every=5)
    codes = run(guard, model, steps=60, lr=1e-3)
    assert codes == ["TM601"]
    assert guard.findings[0].evidence["predicted_pixels_of_others"] == 0


def test_one_logit_channel_is_two_classes() -> None:
    def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        valid = masks != 255
        return nn.functional.binary_cross_entropy_with_logits(
            logits[:, 0][valid], masks[valid].float()
        )

    assert run(Guard(num_classes=2, every=10), network(1), steps=150, lr=0.05, loss=loss) == []
    model = network(1)
    with torch.no_grad():
        model[-1].bias -= 30
    assert run(Guard(num_classes=2, every=5), model, steps=60, lr=1e-3, loss=loss) == ["TM601"]


def test_images_of_one_class_are_no_collapse() -> None:
    guard = Guard(num_classes=2, every=2)
    logits = torch.tensor([5.0, -5.0]).view(1, 2, 1, 1).expand(2, 2, 16, 16)
    for step in range(60):
        guard.step(torch.tensor(1.0 / (step + 1)), logits, torch.zeros(2, 16, 16))
    assert guard.finish() == []


def test_masks_that_it_cannot_read_are_left_alone() -> None:
    guard = Guard(num_classes=3, every=2)
    logits = torch.zeros(2, 3, 16, 16)
    for step in range(60):
        guard.step(torch.tensor(1.0 / (step + 1)), logits, torch.ones(2, 3, 16, 16))
    assert guard.finish() == []


def test_five_validations_with_one_class() -> None:
    guard = Guard()
    for _ in range(4):
        assert guard.validated([[900, 0], [100, 0]]) == []
    (finding,) = guard.validated(torch.tensor([[900, 0], [100, 0]]))
    assert finding.code == "TM601"
    assert guard.validated([[900, 0], [100, 0]]) == []  # it was said
    recovered = Guard()
    for i in range(20):
        matrix = [[900, 0], [50, 50]] if i % 5 == 4 else [[900, 0], [100, 0]]
        assert recovered.validated(matrix) == []


def test_an_optimiser_with_state_is_said_in_the_first_step() -> None:
    model = network()
    optimizer = optim.Adam(model.parameters())
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    guard = Guard(optimizer=optimizer)
    assert [f.code for f in guard.step(1.0)] == ["TM606"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_nothing_waits_for_the_gpu() -> None:
    guard = Guard(num_classes=2, every=5)
    images, masks = (tensor.cuda() for tensor in batch(0))
    logits = network().cuda()(images)
    loss = logits.mean()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(100):
            guard.step(loss, logits, masks)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert "TM603" in [finding.code for finding in guard.finish()]
