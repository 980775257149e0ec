"""The networks of the five projects, each trained for a minute or so on real images.

A network of random weights gives logits that are all nearly equal, which tells little of how exact
another way to compute is. `python -m benchmarks.trained DATA RUNS` trains each that is missing in
the folder RUNS; DATA holds camvid and crackforest, in folders of images and masks.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from truemask.bundle import Bundle
from truemask.compose import compose_config
from truemask.runs import Run

_FIVE = "data.labels={keep:[road,building,tree,sky,car]}"
_WHOLE = "data.labels=null"


@dataclass(frozen=True)
class Trained:
    """A short training of a project's network.

    Attributes:
        experiment: whose network it is; `None` for Truemask's own default.
        data: "camvid", "crackforest", or `None` where the experiment makes its own images.
        steps: of the training.
        words: what differs.
        stands_for: further experiments with the same network, but for the number of classes.
    """

    experiment: str | None
    data: str | None
    steps: int
    words: tuple[str, ...] = ()
    stands_for: tuple[str, ...] = ()


TRAININGS = {
    "textures_adam": Trained(
        "textures/adam", None, 400, ("optimizer.lr=0.01",), ("textures/sgd", "textures/rmsprop")
    ),
    "textures_corrected": Trained("textures/corrected", None, 400),
    "driving_base_32": Trained("driving/base_32", "camvid", 120, (_FIVE, "data.batch_size=8")),
    "driving_overfit": Trained(
        "driving/overfit", "camvid", 100, (_FIVE, "~data.subset.test", "data.batch_size=4")
    ),
    "driving_base_64": Trained("driving/base_64", "camvid", 100, (_FIVE, "data.batch_size=4")),
    "driving_attention": Trained(
        "driving/attention_dropout_20",
        "camvid",
        100,
        (_FIVE, "data.batch_size=4"),
        ("driving/attention_dropout_0",),
    ),
    "driving_base_128": Trained(
        "driving/base_128",
        "camvid",
        40,
        (_FIVE, "data.batch_size=4"),
        ("driving/best", "driving/corrected"),
    ),
    "edges": Trained(
        "edges/cracks_weighted",
        "crackforest",
        120,
        (_WHOLE, "data.crop=[128,128]", "data.batch_size=4"),
        ("edges/weighted", "edges/unweighted", "edges/classes_and_void"),
    ),
    "cityscapes": Trained(
        "cityscapes/published",
        "camvid",
        40,
        (_WHOLE, "data.batch_size=2"),
        ("cityscapes/improved",),
    ),
    "carvana": Trained("benchmarks/carvana", "crackforest", 40, (_WHOLE, "data.batch_size=2")),
    "voc": Trained(
        "benchmarks/voc2012",
        "camvid",
        40,
        (_WHOLE, "data.batch_size=2"),
        ("benchmarks/gta5", "benchmarks/voc2007", "benchmarks/voc2012_void_class"),
    ),
    "encoder_unet": Trained(
        "benchmarks/voc2012_improved",
        "camvid",
        120,
        (_WHOLE, "model.weights=null", "data.crop=[128,128]", "data.batch_size=8"),
    ),
    "manet": Trained(
        "benchmarks/voc2012_improved",
        "camvid",
        120,
        (
            *(_WHOLE, "model.weights=null", "model.encoder=resnet18", "model.architecture=manet"),
            *("data.crop=[128,128]", "data.batch_size=8"),
        ),
    ),
    "default": Trained(None, "camvid", 120, ("data.crop=[128,128]", "data.batch_size=8")),
}
"""By name. CamVid and CrackForest stand for data that cannot be had without a licence."""


def words(name: str, data: Path, runs: Path) -> list[str]:
    """What `truemask train` is given."""
    training = TRAININGS[name]
    said = [] if training.experiment is None else [f"experiment={training.experiment}"]
    if training.data is not None:
        folder = f"{{_target_:truemask.datasets.folder.folder,root:{data / training.data}}}"
        said += ["data=folder", f"data.dataset={folder}", "data.split=null"]
    if training.data == "camvid":
        said.append("data.subset={train:200,validation:10}")
    every = (f"trainer.{key}={training.steps}" for key in _ONCE)
    return [
        *said,
        *("trainer.interval_unit=steps", "trainer.eval_iterations=null", "trainer.accumulate=1"),
        *("trainer.pictures=0", "checks.stop=false", "data.evaluation_size=native"),
        *every,
        *training.words,
        f"name={name}",
        f"runs={runs}",
    ]


_ONCE = ("max_steps", "eval_interval", "save_interval")


def find(name: str, runs: Path) -> Run | None:
    """The newest run of that name with weights."""
    folders = sorted((runs / name).iterdir()) if (runs / name).is_dir() else []
    found = [path for path in folders if (path / "model" / "model.safetensors").is_file()]
    return Run(found[-1]) if found else None


def load(name: str, runs: Path) -> Bundle:
    """The trained model, once its network was seen to be the experiment's."""
    run = find(name, runs)
    if run is None:
        raise SystemExit(f"{name} is not trained: python -m benchmarks.trained DATA {runs}")
    bundle = run.load_bundle()
    training = TRAININGS[name]
    said = ["data=folder"] if training.experiment is None else [f"experiment={training.experiment}"]
    if training.data is not None:
        said.append("data.dataset.root=anywhere")
    said += [word for word in training.words if word.startswith("model.")]
    expected = compose_config(said)["model"]
    shaped = {"in_channels", "out_channels", "weights", "init"}
    for key, value in expected.items():
        if key not in shaped:
            assert bundle.network[key] == value, f"{name}: {key} is {bundle.network[key]}"
    return bundle


def main() -> None:
    """Half an hour on two cores."""
    data, runs = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:] or TRAININGS:
        if find(name, runs) is None:
            command = [sys.executable, "-m", "truemask", "train", *words(name, data, runs)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
