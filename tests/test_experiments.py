"""Every experiment trains two steps on a miniature of its data, with its own model and settings."""

import gc
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console

from truemask.compose import compose_config, options
from truemask.miniatures.writing import write_miniature
from truemask.models.described import build_network
from truemask.runs import Run
from truemask.training.fit import train

MINIATURES = {
    "edges/cracks": "folder",
    "edges": "voc2012",
    "driving": "bdd100k",
    "cityscapes": "cityscapes",
    "benchmarks/carvana": "carvana",
    "benchmarks/gta5": "gta5",
    "benchmarks/voc2007": "voc2007",
    "benchmarks/voc2012": "voc2012",
}

FEW = {"carvana": 64, "bdd100k": 60}
"""Images of a miniature; 40 elsewhere. Carvana has 16 of each car, BDD100K some without a scene."""

LIMITS = [
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer.max_steps=2",
    "trainer.accelerator=cpu",
]

AT_FULL_WIDTH = ("edges/weighted", "driving/base_32", "benchmarks/voc2012_improved")
"""Networks as wide as they are; the others train an eighth as wide or less, which saves minutes."""


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("miniatures")
    return {
        name: write_miniature(name, root / name, images=FEW.get(name, 40))
        for name in sorted(set(MINIATURES.values()))
    }


def words_for(experiment: str, miniatures: dict[str, Path]) -> list[str]:
    words = [f"experiment={experiment}", *LIMITS]
    if experiment.startswith("textures/"):
        return [*words, *(f"data.dataset.{part}=8" for part in ("train", "validation", "test"))]
    name = next(name for start, name in MINIATURES.items() if experiment.startswith(start))
    words.append(f"data.dataset.root={miniatures[name]}")
    test = "" if name in ("cityscapes", "folder") else ", test: 2"  # whose own parts have none
    words.append(f"data.subset={{train: 8, validation: 2{test}}}")
    if compose_config(words)["trainer"]["interval_unit"] == "steps":
        words += ["trainer.eval_interval=1", "trainer.save_interval=1"]
    if experiment.startswith("edges/cracks"):  # the miniature has more classes than two
        words.append("data.labels={keep: [vehicle], rest: other}")
    widths = compose_config(words)["model"].get("widths")
    if widths and experiment not in AT_FULL_WIDTH:
        words.append(f"model.widths={[8 << level for level in range(len(widths))]}")
    if experiment == "benchmarks/voc2012_improved":
        words += ["model.weights=null", "data.crop=[64,64]"]  # there is no network in tests
    return words


@pytest.mark.slow
@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_trains_on_its_miniature(experiment, miniatures, tmp_path) -> None:
    config = compose_config([*words_for(experiment, miniatures), f"runs={tmp_path}"])
    try:
        result = train(config, console=Console(quiet=True))
        run = Run.open(Path(result.run))
        assert int(run.history[-1]["step"]) == 2
        assert "validation" in result.parts
        for part in result.parts.values():
            assert part.pixel_accuracy is not None
        assert run.load_bundle().labels.names == run.labels.names
    finally:
        shutil.rmtree(tmp_path)  # up to 2 GB, and as much in memory
        gc.collect()


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_network_takes_its_images_at_full_size(experiment) -> None:
    """Without memory for weights or pixels: there are shapes only."""
    textures = experiment.startswith("textures/")
    config = compose_config(
        [f"experiment={experiment}", *([] if textures else ["data.dataset.root=data"])]
    )
    network = {**config["model"], "in_channels": 1 if textures else 3, "out_channels": 2}
    if "weights" in network:
        network["weights"] = None  # there is no network in tests
    crop = config["data"].get("crop")
    height, width = config["data"].get("resize") or (crop if isinstance(crop, list) else (256, 256))
    with torch.device("meta"):
        model = build_network(network)
        images = torch.empty(2, network["in_channels"], *model.input_size(height, width))
        logits = model(images)
        logits.sum().backward()
    assert tuple(logits.shape) == (2, 2, *model.output_size(*images.shape[2:]))


def test_every_experiment_has_a_miniature() -> None:
    for experiment in options("experiment"):
        known = any(experiment.startswith(start) for start in MINIATURES)
        assert known or experiment.startswith("textures/"), experiment
