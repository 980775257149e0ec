"""Only the settings decide about the weights: no interruption, no way to cut a batch."""

import random
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from truemask.compose import compose_config, resume_config
from truemask.data.collate import Batch
from truemask.errors import JobFailed
from truemask.losses import BinaryCrossEntropy, CrossEntropy, Dice, Focal, MeanSquaredError, Sum
from truemask.runs import Run
from truemask.training.fit import train
from truemask.training.loop import Loop
from truemask.training.step import OptimizerStep
from truemask.whole_batch import Whole, mass_of, share_of

WORDS = [
    "experiment=textures/demo",
    "data.dataset.size=32",
    "data.dataset.train=22",
    "data.dataset.validation=3",
    "data.dataset.test=2",
    "data.batch_size=4",
    "data.augmentation={flip: {_target_: torchvision.transforms.v2.RandomHorizontalFlip}}",
    "model=unet",
    "model.widths=[4,8]",
    "model.dropout=0.2",
    "optimizer.lr=0.01",
    "trainer.interval_unit=steps",
    "trainer.max_steps=12",
    "trainer.eval_interval=5",
    "trainer.save_interval=null",
    "trainer.accumulate=2",
    "trainer.average=0.99",
    "trainer.precision=bf16",
]


def run_training(runs: Path, *words: str) -> Run:
    config = compose_config([*WORDS, f"runs={runs}", *words])
    return Run.open(Path(train(config, console=Console(quiet=True)).run))


def the_run(runs: Path) -> Run:
    (found,) = [Run(path.parent) for path in runs.rglob("config.yaml")]
    return found


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.bundle_folder / "model.safetensors")


def figures(run: Run) -> list[dict[str, str]]:
    clock = ("seconds", "images_per_second")
    return [{key: row[key] for key in row if key not in clock} for row in run.history]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_training(tmp_path_factory.mktemp("undisturbed"))


def ending_at(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """A signal arrives during these steps."""
    take = Loop._step

    def step(self, batches):
        take(self, batches)
        if self.state.step in steps:
            steps.remove(self.state.step)
            self.interruption.ending = "SIGTERM"

    monkeypatch.setattr(Loop, "_step", step)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(20))
def test_a_training_that_is_ended_at_any_steps_has_the_same_weights_in_the_end(
    undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: int
) -> None:
    chance = random.Random(trial)
    steps = set(chance.sample(range(1, 12), chance.randint(1, 3)))
    ends = len(steps)
    ending_at(monkeypatch, steps)
    workers = f"data.num_workers={2 if trial % 5 == 0 else 0}"
    with pytest.raises(JobFailed, match="ended by SIGTERM; go on with `truemask train resume="):
        run_training(tmp_path, workers)
    run = the_run(tmp_path)
    for left in range(ends - 1, -1, -1):
        config = resume_config(run.config, [])
        if left == 0:
            train(config, console=Console(quiet=True), resume=run)
        else:
            with pytest.raises(JobFailed):
                train(config, console=Console(quiet=True), resume=run)
    assert figures(run) == figures(undisturbed)
    mine, theirs = weights(run), weights(undisturbed)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    checkpoints = [torch.load(x.last_checkpoint, weights_only=True) for x in (run, undisturbed)]
    mine, theirs = (checkpoint["step"]["model"] for checkpoint in checkpoints)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_signal_during_validation_ends_it_and_the_validation_is_done_on_resuming(
    undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Loop._end_validation

    def ending(self):
        self.interruption.ending = "SIGUSR1"
        check(self)

    monkeypatch.setattr(Loop, "_end_validation", ending)
    with pytest.raises(JobFailed, match="ended by SIGUSR1"):
        run_training(tmp_path)
    monkeypatch.undo()
    run = the_run(tmp_path)
    assert not run.history
    train(run.config, console=Console(quiet=True), resume=run)
    assert figures(run) == figures(undisturbed)


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = OptimizerStep._gradients
    states = []

    def broken(self, batches):
        value = gradients(self, batches)
        if len(states) in (3, 4):
            next(self.model.parameters()).grad[0] = torch.nan
        states.append([p.detach().clone() for p in self.model.parameters()])
        return value

    monkeypatch.setattr(OptimizerStep, "_gradients", broken)
    run = run_training(tmp_path, "trainer.eval_interval=4")
    assert [row["skipped_steps"] for row in run.history] == ["1", "1", "0"]
    equal = [
        all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        for one, two in zip(states, states[1:], strict=False)
    ]
    # The weights that step n begins with are those that step n + 1 begins with.
    assert [n for n, same in enumerate(equal) if same] == [3, 4]
    assert all(float(row["train_loss"]) > 0 for row in run.history)


def test_too_many_such_steps_in_a_row_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = OptimizerStep._gradients

    def broken(self, batches):
        value = gradients(self, batches)
        next(self.model.parameters()).grad[0] = torch.inf
        return value

    monkeypatch.setattr(OptimizerStep, "_gradients", broken)
    run = run_training(tmp_path, "trainer.max_skipped=3", "trainer.eval_interval=100")
    assert "no longer a finite number" in run.environment["training"]["stopped"]
    assert [row["step"] for row in run.history] == ["3"]


LOSSES = {
    "cross-entropy": lambda: CrossEntropy(weight=[0.3, 2.0, 1.1]),
    "smoothed": lambda: CrossEntropy(label_smoothing=0.2),
    "focal": lambda: Focal(weight=[0.3, 2.0, 1.1]),
    "squares": MeanSquaredError,
    "sum": lambda: Sum(losses=[CrossEntropy(weight=[1.0, 5.0, 2.0]), Focal()], weights=[1.0, 0.5]),
}


def parts_of_a_batch(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(6, classes, 9, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(0, max(2, classes), (6, 9, 7), generator=generator)
    # Very different numbers of ignored pixels, one image without any valid one.
    for image, share in enumerate((0.0, 0.9, 0.5, 1.0, 0.99, 0.2)):
        target[image][torch.rand(9, 7, generator=generator) < share] = 255
    return logits, target


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("cuts", [[3, 3], [1, 1, 1, 1, 1, 1], [5, 1]])
def test_the_shares_of_a_batch_s_parts_are_the_loss_of_the_whole(name: str, cuts) -> None:
    loss = LOSSES[name]()
    logits, target = parts_of_a_batch(3)
    whole = logits.clone().requires_grad_()
    expected = loss(whole, target)
    expected.backward()
    cut = logits.clone().requires_grad_()
    targets = target.split(cuts)
    mass = torch.stack([mass_of(loss, part) for part in targets]).sum(0)
    batch = Whole(mass, lambda sums: sums)
    shares = [
        share_of(loss, part, ids, whole=batch)
        for part, ids in zip(cut.split(cuts), targets, strict=True)
    ]
    torch.stack(shares).sum().backward()
    torch.testing.assert_close(torch.stack(shares).sum(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(cut.grad, whole.grad, rtol=1e-5, atol=1e-9)
    # A mean of the parts' own losses is something else: that is why there are shares.
    means = torch.stack([loss(p, t) for p, t in zip(logits.split(cuts), targets, strict=True)])
    assert abs(float((means.mean() - expected).detach())) > 1e-3


def test_binary_shares_too_and_a_user_s_own_loss() -> None:
    class Own(nn.Module):
        def forward(self, logits, target):
            valid = target != 255
            chosen = logits[:, 0][valid]
            return (chosen - target[valid]).square().mean() if valid.any() else chosen.sum()

    logits, target = parts_of_a_batch(1)
    for loss in (BinaryCrossEntropy(pos_weight=3.0), Own()):
        mass = torch.stack([mass_of(loss, part) for part in target.split(2)]).sum(0)
        batch = Whole(mass, lambda sums: sums)
        shares = [
            share_of(loss, part, ids, whole=batch)
            for part, ids in zip(logits.split(2), target.split(2), strict=True)
        ]
        torch.testing.assert_close(
            torch.stack(shares).sum(), loss(logits, target), rtol=1e-5, atol=0
        )


def test_dice_of_micro_batches_is_the_mean_of_theirs() -> None:
    loss = Dice()
    logits, target = parts_of_a_batch(3)
    mass = torch.stack([mass_of(loss, part) for part in target.split(3)]).sum(0)
    batch = Whole(mass, lambda sums: sums)
    parts = list(zip(logits.split(3), target.split(3), strict=True))
    shares = torch.stack([share_of(loss, *part, whole=batch) for part in parts]).sum()
    means = torch.stack([loss(*part) for part in parts]).mean()
    torch.testing.assert_close(shares, means)


def test_a_batch_goes_to_a_device_as_it_is() -> None:
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2), ["a"], [{}])
    assert batch.to(torch.device("meta")).images.device.type == "meta"
