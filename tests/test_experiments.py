"""Every experiment trains two steps on a miniature of its data, with its own model and settings."""

import gc
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from truemask.compose import compose_config, options
from truemask.miniatures.writing import write_miniature
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


SMALL, THIN = "data.resize=[64,64]", "model.widths=[8,16,32,64,128]"
LIKE_OTHERS = {
    **dict.fromkeys(("benchmarks/voc2007", "benchmarks/voc2012"), SMALL),
    "benchmarks/voc2012_void_class": SMALL,
    **dict.fromkeys(("benchmarks/voc2012_focal", "benchmarks/gta5"), SMALL),
    "benchmarks/carvana_full_precision": SMALL,
    "cityscapes/improved": "data.resize=[64,128]",
    **dict.fromkeys(("driving/best", "driving/grid", "driving/corrected"), THIN),
    **dict.fromkeys(("driving/weight_decay_1e-2", "driving/weight_decay_1e-3"), THIN),
}
"""What saves minutes where another experiment trains the same model at its full size."""


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
        return [*words, "data.dataset.train=8"]
    name = next(name for start, name in MINIATURES.items() if experiment.startswith(start))
    words.append(f"data.dataset.root={miniatures[name]}")
    test = "" if name in ("cityscapes", "folder") else ", test: 2"  # whose own parts have none
    words.append(f"data.subset={{train: 8, validation: 2{test}}}")
    if compose_config(words)["trainer"]["interval_unit"] == "steps":
        words += ["trainer.eval_interval=1", "trainer.save_interval=1"]
    if experiment.startswith("edges/cracks"):  # the miniature has more classes than two
        words.append("data.labels={keep: [vehicle], rest: other}")
    if experiment in LIKE_OTHERS:
        words.append(LIKE_OTHERS[experiment])
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


def test_every_experiment_has_a_miniature() -> None:
    for experiment in options("experiment"):
        known = any(experiment.startswith(start) for start in MINIATURES)
        assert known or experiment.startswith("textures/"), experiment
