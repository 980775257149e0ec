"""A plan against the fixed default settings, at the same time given, on several datasets.

`python -m benchmarks.plan OUT NAME=SECONDS[=FOLDER] ... [--seeds 1,2]`, where a name is `textures`,
one of `truemask sample`'s miniatures (240 images, drawn into OUT), or any with a folder of images
and masks. Both arms of a pair train at the same time, on a core each, with one thread; with the
next seed they change cores. The time given is the processor's, of the training's own process, so
that what else runs on the machine takes nothing off one of them; what planning took is taken off
the plan's. Judged are the weights that are best on the validation part, as `train` keeps them; a
difference is of the same images, with an interval over images and seeds.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ARMS = ("default", "plan")
IMAGES = 240


def words_of(name: str, folder: str | None, out: Path) -> tuple[Path | None, list[str]]:
    """The folder and the words that name the data."""
    if folder is not None:
        return Path(folder), []
    if name == "textures":
        return None, ["data=textures"]
    group = "voc" if name.startswith("voc") else name
    return None, [f"data={group}", f"data.dataset.root={out / 'data' / name}"]


def train_arm(order: dict[str, Any]) -> None:
    """One training, in a process of its own."""
    from rich.console import Console

    from truemask.analysis import plan_machine
    from truemask.commands.plan import planned
    from truemask.compose import compose_config
    from truemask.training import loop
    from truemask.training.fit import train

    processor = SimpleNamespace(monotonic=time.process_time, perf_counter=time.process_time)
    loop.time = plan_machine.time = processor  # type: ignore[assignment]
    folder, words = words_of(order["name"], order["folder"], Path(order["out"]))
    seconds = int(order["seconds"])
    words += [
        f"seed={order['seed']}", f"runs={Path(order['out']) / 'runs' / order['arm']}",
        f"name={order['name']}", "checks.enabled=false", "trainer.patience=null",
    ]  # fmt: skip
    timed = [*words, f"trainer.max_time='{seconds // 60}:{seconds % 60:02d}'"]
    console = Console(quiet=True)
    planning, opened = 0.0, None
    if order["arm"] == "plan":
        start = time.process_time()
        plan, config = planned(timed, folder=folder, console=console)
        planning, opened = time.process_time() - start, plan.opened
        left = max(1, seconds - round(planning))
        config["trainer"]["max_time"] = f"{left // 60}:{left % 60:02d}"
        config["plan"] = plan.text
    else:
        config = compose_config(timed, folder=folder)
    result = train(config, console=console, opened=opened)
    print(json.dumps({"run": result.run, "planning": planning, "seconds": result.seconds}))


def train_pair(order: dict[str, Any]) -> list[dict[str, Any]]:
    """Both arms at the same time; which has which core depends on the seed.

    A pair that was trained before is read again.
    """
    name = "{name}-{seconds}-{seed}.json".format(**order)
    before = Path(order["out"]) / "pairs" / name
    if before.exists():
        return list(json.loads(before.read_text()))
    running = []
    for place, arm in enumerate(ARMS):
        core = (place + order["seed"]) % 2
        command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.plan", "--arm"]
        running.append(
            subprocess.Popen(
                [*command, json.dumps({**order, "arm": arm})], stdout=subprocess.PIPE, text=True
            )
        )
    found = []
    for process in running:
        answer, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{order['name']}: an arm failed")
        found.append(json.loads(answer.splitlines()[-1]))
    before.parent.mkdir(parents=True, exist_ok=True)
    before.write_text(json.dumps(found))
    return found


def compare(pairs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """What came of one dataset's pairs."""
    import numpy as np

    from truemask.analysis.differences import Doubt, difference, doubt
    from truemask.metrics.confusion import Margins, headline, iou, margins
    from truemask.per_image import load_parts
    from truemask.runs import Run

    runs = [[Run(Path(pair[place]["run"])) for pair in pairs] for place in range(2)]
    part = "test" if "test" in runs[0][0].results else "validation"
    images = runs[0][0].results[part].images

    def score(counts: Margins) -> np.ndarray:
        return headline(iou(counts))

    def doubt_of(run: Run) -> Doubt:
        counts = margins(load_parts(run.per_image_path)[part].matrices)
        found = doubt(counts, score, places=np.arange(images), images=images)
        assert found is not None, f"{run.path} has no score"
        return found

    doubts = [[doubt_of(run) for run in arm] for arm in runs]
    found = difference(doubts[0], doubts[1], images=images)
    return {
        "part": part,
        "images": images,
        "scores": {arm: [one.score for one in of] for arm, of in zip(ARMS, doubts, strict=True)},
        "steps": {
            arm: [int(run.history[-1]["step"]) for run in group]
            for arm, group in zip(ARMS, runs, strict=True)
        },
        "difference": found.value,
        "interval": found.interval,
        "over": found.over,
        "planning": [pair[1]["planning"] for pair in pairs],
    }


def main() -> None:
    """Train all pairs, seed by seed, and print a line for each dataset after each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("data", nargs="*", metavar="NAME=SECONDS[=FOLDER]")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--arm")
    options = parser.parse_args()
    if options.arm:
        train_arm(json.loads(options.arm))
        return
    from truemask.miniatures.writing import MINIATURES, write_miniature

    done: dict[str, list[list[dict[str, Any]]]] = {}
    for seed in map(int, options.seeds.split(",")):
        for text in options.data:
            name, seconds, *folder = text.split("=", 2)
            root = options.out / "data" / name
            if not folder and name in MINIATURES and not root.exists():
                write_miniature(name, root, images=IMAGES, seed=0)
            order = {
                "name": name, "seconds": int(seconds), "folder": folder[0] if folder else None,
                "seed": seed, "out": str(options.out.resolve()),
            }  # fmt: skip
            done.setdefault(name, []).append(train_pair(order))
            line = {"name": name, "seconds": int(seconds), **compare(done[name])}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
