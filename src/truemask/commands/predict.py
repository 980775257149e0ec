"""`truemask predict`: masks for images."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, allowed
from truemask.errors import counted

if TYPE_CHECKING:
    from truemask.inference.summary import PredictResult

_WARNINGS = 5
HELP = "Write masks for images: class ids, and colours to look at."
EXAMPLES = (
    "truemask predict runs/photos/DATE new/*.jpg --out masks/ --overlay\n"
    "truemask predict runs/photos/DATE /data/new --out /data/masks --ray   on a cluster"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")
    command.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="images, folders or globs"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument(
        "--overlay", action="store_true", help="also the image with the mask laid over it"
    )
    command.add_argument(
        "--probabilities", action="store_true", help="also each class's probability (.npz)"
    )
    command.add_argument(
        "--tile", type=int, metavar="PIXELS", help="largest side that is predicted in one piece"
    )
    command.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="on all machines of a Ray cluster; write it after the inputs",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    import torch
    from rich.progress import Progress

    from truemask.inference.distributed import predict_on_ray
    from truemask.inference.predict import predict
    from truemask.runs import Run

    run = Run.open(options.path)
    allow = allowed(options.allow)
    bundle = run.load_bundle(allow=allow)
    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Predicting", total=None)
        how: dict[str, Any] = {
            "overlay": options.overlay,
            "probabilities": options.probabilities,
            "tile": options.tile,
            "progress": lambda done, total: bar.update(task, completed=done, total=total),
        }
        if options.ray is not None:
            how |= {"address": options.ray, "allow": allow, "console": console}
            result = predict_on_ray(run.bundle_folder, options.inputs, options.out, **how)
        else:
            if torch.cuda.is_available():
                bundle.model.to("cuda")
            result = predict(bundle, options.inputs, options.out, **how)
    if options.json:
        print_json(result.to_json())
    for file, reason in result.failed:
        where = "" if file in reason else f"{file}: "
        print(f"truemask: skipped {where}{reason}", file=sys.stderr)
    if not options.json:
        masks = counted(len(result.written), "mask")
        print(f"{masks} in {options.out}; *.color.png shows the classes in colours.")
        print(f"Ids: {bundle.labels.legend()}")
        _print_warnings(result)
    return 1 if result.failed else 0


def _print_warnings(result: "PredictResult") -> None:
    """The most doubtful masks, and where the others stand."""
    warned = result.warned
    if not warned:
        return
    many = counted(len(result.written), "image")
    print(f"Look before you use them: {len(warned)} of {many} unlike those of the training.")
    for image in warned[:_WARNINGS]:
        print(f"  {image.file}: {image.warning}")
    if len(warned) > _WARNINGS:
        print(f"  ... all stand in {result.out}/predictions.csv")
