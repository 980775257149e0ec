"""Names of runs against what the runs do."""

import pytest
import torch
from torch import nn, optim

from truemask.checks.naming import check_name
from truemask.compose import compose_config, options
from truemask.losses import CrossEntropy, Focal
from truemask.models.unet import UNet

SGD = {"_target_": "torch.optim.SGD", "lr": 0.001}


def words(name: str, settings: dict) -> list[str]:
    return [finding.evidence["word"] for finding in check_name(name, settings)]


@pytest.mark.parametrize("experiment", options("experiment"))
def test_no_experiment_of_ours_contradicts_its_name(experiment: str) -> None:
    data = [] if experiment.startswith("textures/") else ["data.dataset.root=data"]
    config = compose_config([f"experiment={experiment}", *data])
    assert check_name(experiment, config) == []


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("sgd", {"optimizer": SGD | {"momentum": 0.9}}, "sgd"),
        ("SGD-lr0.001", {"optimizer": "SGD", "momentum": 0.9, "lr": 0.001}, "sgd"),
        ("sgd", {"optimizer": {"name": "Adam"}}, "sgd"),
        ("adam", {"optimizer": {"_target_": "torch.optim.AdamW"}}, "adam"),
        ("sgd_momentum", {"optimizer": SGD}, "momentum"),
        ("sgd_without_momentum", {"optimizer": SGD | {"momentum": 0.9}}, "no momentum"),
        ("run-lr0.01", {"optimizer": SGD}, "lr 0.01"),
        ("wd_1e-3", {"optimizer": SGD | {"weight_decay": 1e-2}}, "wd 1e-3"),
        ("weighted", {"loss": {"_target_": "truemask.losses.CrossEntropy"}}, "weighted"),
        ("weighted", {"loss": {"_target_": "x.BCE", "pos_weight": 1.0}}, "weighted"),
        ("weighted", {"loss": {"_target_": "x.CE", "weight": [1, 1, 1]}}, "weighted"),
        ("unweighted", {"loss": {"_target_": "x.BCE", "pos_weight": 27.0}}, "no weighted"),
        ("focal_loss", {"loss": {"_target_": "truemask.losses.CrossEntropy"}}, "focal"),
        ("focal", {"loss": {"_target_": "x.FocalLoss", "gamma": 0}}, "focal"),
        ("dice+ce", {"loss": "torch.nn.CrossEntropyLoss"}, "dice"),
        ("frozen-encoder", {"freeze_encoder": False}, "frozen"),
        ("attention", {"model": {"_target_": "truemask.models.unet.UNet"}}, "attention"),
        ("dropout_20", {"model": {"dropout": 0.1}}, "dropout 20"),
        ("dropout", {"model": {"_target_": "truemask.models.unet.UNet"}}, "dropout"),
        ("augmented", {"data": {"augmentation": None}}, "augmented"),
        ("no_aug", {"augmentations": ["flip"]}, "no aug"),
        ("pretrained", {"model": {"_target_": "x.Net", "weights": None}}, "pretrained"),
        ("bs16", {"data": {"batch_size": 8}}, "bs 16"),
        ("seed3", {"seed": 0}, "seed 3"),
    ],
)  # fmt: skip
def test_a_contradiction_is_found(name: str, settings: dict, word: str) -> None:
    assert words(name, settings) == [word]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {"optimizer": SGD}),
        ("sgd_momentum0.9", {"optimizer": SGD | {"momentum": 0.9}}),
        ("adamw/lr_1e-3/wd_0.05", {"optimizer": "AdamW", "lr": 0.001, "weight_decay": 5e-2}),
        ("weighted", {"loss": {"_target_": "x.BCE", "pos_weight": 27.0}}),
        ("weighted", {"loss": {"_target_": "x.Sum", "losses": [{"weight": "balanced"}]}}),
        ("ce_dice", {"loss": {"_target_": "S", "losses": [{"_target_": "a.Dice"},
                                                          {"_target_": "a.CrossEntropy"}]}}),
        ("dropout_0.2", {"model": {"dropout": 0.2}}),
        ("dropout-20", {"model": {"dropout": 0.2}}),
        ("seed0", {"seed": 0}),
        ("weighted_focal_sgd", {}),  # nothing is known
        ("city_256_2024-01-01", {"optimizer": SGD, "seed": 3}),
    ],
)  # fmt: skip
def test_what_agrees_or_is_not_known_is_not_reported(name: str, settings: dict) -> None:
    assert words(name, settings) == []


def test_the_objects_themselves() -> None:
    model = UNet(in_channels=3, out_channels=1, widths=[2, 4], dropout=0.1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert len(check_name("sgd", optimizer=optimizer)) == 1
    assert len(check_name("sgd", {"optimizer": SGD}, optimizer=optimizer)) == 1
    assert check_name("momentum 0.9, lr 0.1, dropout", optimizer=optimizer, model=model) == []
    assert len(check_name("weighted", loss=CrossEntropy())) == 1
    assert check_name("weighted ce", loss=nn.CrossEntropyLoss(torch.tensor([1.0, 5.0]))) == []
    assert check_name("focal", loss=Focal()) == []
    assert len(check_name("frozen", model=model)) == 1
    model.requires_grad_(False)
    assert check_name("frozen", model=model) == []
