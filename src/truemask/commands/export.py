"""`truemask export`: a model file for other programs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, MODEL, allowed
from truemask.errors import UsageError

# The command line starts fast: what imports PyTorch stands inside the functions.
if TYPE_CHECKING:
    from truemask.bundle import Bundle
    from truemask.inference.parity import LabelledImage
    from truemask.inference.sources import Source
    from truemask.runs import Run

T = TypeVar("T")

HELP = "Write a model file for other programs, held against the model on real images."
EXAMPLES = (
    "truemask export runs/photos/DATE                       ONNX: pixels in, class ids out\n"
    "truemask export runs/photos/DATE --int8                its convolutions in 8 bits\n"
    "truemask export runs/photos/DATE --format torch        a program of torch.export\n"
    "truemask export runs/photos/DATE --format triton --out repository/roads\n"
    "truemask export runs/photos/DATE --images photos/new   compared on other images\n"
    "truemask export USER/NAME --images photos/ --out model.onnx   a model of the Hub"
)

_CALIBRATION = 32
"""Images on which the ranges of int8 are found."""

_NAMES = {"onnx": "model.onnx", "torch": "model.pt2", "triton": "triton/model"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN", help=MODEL)
    command.add_argument("--format", choices=tuple(_NAMES), default="onnx", help="default: onnx")
    command.add_argument("--int8", action="store_true", help="convolutions in 8 bits")
    command.add_argument(
        "--probabilities", action="store_true", help="each class's probability as an output too"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="default: exports/ in the run")
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="images to compare on (default: the run's own validation part)",
    )
    command.add_argument("--count", type=int, default=100, metavar="N", help="of them, at most")
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from rich.progress import Progress

    from truemask.inference.export import export
    from truemask.inference.sources import find_source

    if options.count < 1:
        raise UsageError(f"--count is {options.count}: give at least 1")
    source = find_source(options.path)
    if source.run is None:
        _require_places(source, options)
    console: Console = options.console
    bundle = source.load(allow=allowed(options.allow))
    name = _NAMES[options.format]
    if options.int8:
        name = name.replace("model", "model.int8") if options.format == "onnx" else f"{name}-int8"
    out = options.out
    if out is None:
        assert source.run is not None, "required above"
        out = source.run.path / "exports" / name
    images, calibration, whose = _images(source.run, bundle, out, options)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Exporting", total=None)
        result = export(
            bundle,
            out,
            images=images,
            calibration=calibration if options.int8 else (),
            format=options.format,
            int8=options.int8,
            probabilities=options.probabilities,
            progress=lambda said, done, total: bar.update(
                task, description=said, completed=done, total=total
            ),
        )
    if options.json:
        print_json(result.to_json())
        return 0
    parity = result.parity
    print(f"{result.path} ({result.bytes / 1e6:,.1f} MB)")
    print(
        f"Compared on {parity.images} images {whose}: {parity.differing:,} of {parity.pixels:,} "
        "pixels get another class than from the model."
    )
    of = "against the truth" if parity.labelled else "against the model's own masks"
    print(f"IoU {of}: {parity.iou:.4f}; the model's: {parity.model_iou:.4f}.")
    return 0


def _require_places(source: "Source", options: argparse.Namespace) -> None:
    """What a run has, and a bundle that was copied or fetched has not."""
    if options.images is None:
        raise UsageError(
            f"{source.place} is no run, which would know images to compare on: give --images DIR"
        )
    if options.out is None:
        raise UsageError(f"{source.place} is no run to keep the file in: give --out FILE")


def _images(
    run: "Run | None", bundle: "Bundle", out: Path, options: argparse.Namespace
) -> "tuple[Sequence[LabelledImage], Sequence[LabelledImage], str]":
    """Images to compare on, others to find ranges on, and where the first are from."""
    from truemask.datasets.reading import read_image
    from truemask.inference.parity import LabelledImage, Lazy
    from truemask.inference.targets import find_images

    if options.images is None:
        assert run is not None, "required above"
        return _of_run(run, options)
    files = find_images([options.images], out)
    held = files[::2][:_CALIBRATION] if options.int8 else []
    compared = [file for file in files if file not in held]
    if not compared:
        raise UsageError(f"{options.images} has one image: int8 needs another to find ranges on")

    def read(files: Sequence[Path]) -> Lazy:
        return Lazy(
            len(files), lambda at: LabelledImage(read_image(files[at], bundle.model.images))
        )

    return read(_spread(compared, options.count)), read(held), f"of {options.images}"


def _of_run(
    run: "Run", options: argparse.Namespace
) -> "tuple[Sequence[LabelledImage], Sequence[LabelledImage], str]":
    from truemask.inference.parity import LabelledImage, Lazy
    from truemask.training.testing import open_run

    try:
        opened = open_run(
            run, config=run.config, allow=allowed(options.allow), console=options.console
        )
    except UsageError as error:
        raise UsageError(
            f"{error} (the file is compared with the model on the run's validation images: give "
            "others with --images DIR)"
        ) from error

    def read(part: str, count: int) -> Lazy:
        dataset = opened.parts[part]
        chosen = _spread(range(len(dataset)), count)

        def labelled(at: int) -> LabelledImage:
            sample = dataset[chosen[at]]
            return LabelledImage(sample.image, sample.mask)

        return Lazy(len(chosen), labelled)

    compared, held = read("validation", options.count), read("train", _CALIBRATION)
    return compared, held, "of the run's validation part"


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many, evenly from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[at * len(items) // count] for at in range(count)]
