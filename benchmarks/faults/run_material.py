"""Real short trainings, sound and faulty, and copies of them to spoil."""

import shutil
from functools import cache
from pathlib import Path

from rich.console import Console

from benchmarks.faults.material import KEPT, miniature, new_folder, scratch
from truemask.compose import compose_config
from truemask.runs import Run
from truemask.training.fit import train

_TEXTURES = (
    "data.dataset.size=40", "data.dataset.train=600", "data.dataset.test=60",
    "trainer.max_steps=300", "trainer.eval_interval=50", "trainer.interval_unit=steps",
)  # fmt: skip
_EDGES = (
    "trainer.max_epochs=6", "trainer.patience=null", "model.widths=[8,16,32]",
    "data.crop=[96,96]",
)  # fmt: skip
_CARVANA = (
    "data=carvana", "model.widths=[8,16,32]", "trainer.max_epochs=12", "data.resize=[64,96]",
)  # fmt: skip

_TRAININGS: dict[str, tuple[str, ...]] = {
    "textures": _TEXTURES,
    "carvana": _CARVANA,
    "edges_weighted": ("experiment=edges/weighted", *_EDGES, "optimizer.lr=1e-3"),
    "standstill": (*_TEXTURES, "optimizer.lr=1e-12"),
    "diverged": (*_TEXTURES, "optimizer=sgd", "optimizer.lr=1e6", "trainer.gradient_clip=null"),
    "edges_unweighted": ("experiment=edges/unweighted", *_EDGES, "trainer.max_epochs=2"),
}
"""Name -> what is set. The last three are the faulty ones."""

SOUND = ("textures", "carvana", "edges_weighted")


@cache
def trained(name: str) -> Path:
    """The folder of a training; made once."""
    root = (Path(KEPT) if KEPT else scratch()) / "runs" / name
    found = [path.parent for path in root.rglob("config.yaml")]
    if found and Run(found[0]).finished:
        return found[0]
    words = list(_TRAININGS[name])
    data = "voc2012" if name.startswith("edges") else "carvana"
    if name in ("carvana", "edges_weighted", "edges_unweighted"):
        words.append(f"data.dataset.root={miniature(data)}")
    config = compose_config([*words, f"name={name}", f"runs={root}"])
    return Path(train(config, console=Console(quiet=True)).run)


def copy_of(name: str) -> Run:
    """A copy of a training's folder, to spoil."""
    folder = new_folder() / name
    shutil.copytree(trained(name), folder)
    return Run(folder)
