"""Somebody's own code that fails is told from a bug of Truemask's: one line, and what to mend."""

import pytest
import torch
from torch import nn

from truemask import checks
from truemask.checks.own_code import OwnCode, check_own_code
from truemask.errors import UsageError

MODULE = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise OSError("disk gone")


class Images(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.rand(3, 16, 16)


def broken():
    return DataLoader(Broken(), batch_size=2)


def broken_processes():
    return DataLoader(Broken(), batch_size=2, num_workers=1)


def images():
    return DataLoader(Images(), batch_size=2)


def raises(prediction, target):
    raise ValueError("my own problem")


def returns_nothing(prediction, target):
    prediction.sum()


def ends(size=3):
    sys.exit(0)


def with_default(classes=3):
    return nn.Conv2d(3, classes, 3, padding=1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch, request):
    """Names what is to be checked in a module of the working folder."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_ends.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def named(**things):
        named = {key: f"{name}{value}" for key, value in things.items()}
        return check_own_code(OwnCode(**named, num_classes=3))

    return named


@pytest.mark.parametrize(
    ("things", "said"),
    [
        ({"dataset": ":broken"}, r"the loader cannot be read: OSError: disk gone \(own_\d+.py, l"),
        ({"dataset": ":broken_processes"}, "the loader cannot be read: OSError: disk gone"),
        ({"loss": ":raises"}, r"ValueError: my own problem \(own_\d+.py, line 37\)"),
        ({"metric": ":raises"}, r"ValueError: my own problem \(own_\d+.py, line 37\)"),
        ({"loss": ":returns_nothing"}, r"it returned nothing \(None\)"),
        ({"metric": ":returns_nothing"}, r"it returned nothing \(None\)"),
        ({"model": ":ends"}, "fails .SystemExit: 0"),
        ({"model": ":raises"}, "the model is a function: give a torch.nn.Module"),
        ({"loss": "_ends:focal"}, r"cannot be imported: SystemExit: 0 \(own_\d+_ends.py, line 2"),
    ],
)
def test_code_that_fails_is_named_with_its_line(own, things, said):
    with pytest.raises(UsageError, match=said):
        own(**things)


def test_a_function_with_defaults_makes_a_model(own):
    outcome = own(model=":with_default")
    assert not [finding for finding in outcome.findings if finding.code == "TM501"]


def test_masks_that_a_loader_does_not_give_are_said_to_be_unchecked(own):
    assert any("its batches hold images alone" in line for line in own(dataset=":images").skipped)


def test_a_class_in_place_of_an_instance_is_said():
    with pytest.raises(UsageError, match="CrossEntropyLoss is a class: give an instance"):
        checks.check_loss(nn.CrossEntropyLoss, num_classes=3)
    with pytest.raises(UsageError, match="give an instance"):
        checks.check_metric(dict, num_classes=3)


def test_a_model_without_a_tensor_is_said_plainly():
    class Silent(nn.Conv2d):
        def forward(self, input):
            super().forward(input)

    found = checks.check_model(Silent(3, 3, 3, padding=1), torch.rand(2, 3, 32, 32), num_classes=3)
    assert found[0].message == (
        "forward gives no tensor, where a tensor with 2 samples and the axes (B, L, H, W) is "
        "wanted."
    )
