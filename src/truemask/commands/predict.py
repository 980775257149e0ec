"""`truemask predict`: masks for images."""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, MODEL, allowed
from truemask.errors import UsageError, counted

if TYPE_CHECKING:
    from truemask.bundle import Bundle
    from truemask.inference.settings import Settings
    from truemask.inference.summary import PredictResult

_WARNINGS = 5
HELP = "Write masks for images: class ids, and colours to look at."
EXAMPLES = (
    "truemask predict runs/photos/DATE new/*.jpg --out masks/ --overlay\n"
    "truemask predict runs/photos/DATE city.tif --out masks/         a GeoTIFF of any size\n"
    "truemask predict runs/photos/DATE new/ --out masks/ --flips --scales 0.75,1,1.25\n"
    "truemask predict runs/photos/DATE /data/new --out /data/masks --engine ray   a cluster\n"
    "truemask predict runs/photos/DATE s3://bucket/new/ --out s3://bucket/masks/   buckets"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN", help=MODEL)
    command.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="images, folders, globs, videos or s3://BUCKET/FOLDER/",
    )
    command.add_argument(
        "--out",
        type=_path_or_url,
        required=True,
        metavar="DIR",
        help="a folder or s3://BUCKET/FOLDER/",
    )
    command.add_argument(
        "--overlay", action="store_true", help="also the image with the mask laid over it"
    )
    command.add_argument(
        "--probabilities", action="store_true", help="also each class's probability (.npz)"
    )
    command.add_argument(
        "--polygons", metavar="KIND,KIND", help="also outlines: geojson, labelme, coco"
    )
    command.add_argument(
        "--flips", action="store_true", help="average over the image and its mirror images"
    )
    command.add_argument(
        "--scales", metavar="S,S", help="average over the image at several sizes: 0.75,1,1.25"
    )
    command.add_argument(
        "--tile", type=int, metavar="PIXELS", help="largest side that is predicted in one piece"
    )
    command.add_argument(
        "--bands", metavar="N,N", help="channels of a GeoTIFF that the model is to see: 1,2,3"
    )
    command.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: two to three times as fast, few pixels differ",
    )
    command.add_argument(
        "--allow-urls",
        choices=("public", "any"),
        help="inputs may be URLs: of public addresses, or also of this machine and its network",
    )
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="of a video, every N-th frame"
    )
    command.add_argument("--fresh", action="store_true", help="predict again what is there already")
    command.add_argument(
        "--processes", type=int, default=1, metavar="N", help="of this machine (default: 1)"
    )
    command.add_argument(
        "--part", default="1/1", metavar="I/N", help="every N-th image, from the I-th on"
    )
    command.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on all machines of a Ray cluster",
    )
    command.add_argument(
        "--address", default="auto", metavar="HOST:PORT", help="of the Ray cluster"
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.inference.sources import find_source

    settings = _settings(options)
    if options.engine == "ray" and (options.processes != 1 or options.allow_urls):
        name = "--allow-urls" if options.allow_urls else "--processes"
        raise UsageError(f"{name} is for this machine alone: leave it out with --engine ray")
    allow = allowed(options.allow)
    source = find_source(options.path)
    bundle, folder = source.load(allow=allow), source.folder
    if source.place != str(options.path):
        options.console.print(f"Model: {source.place}", highlight=False, markup=False)
    from dataclasses import replace

    from truemask.inference.summary import PredictResult

    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="truemask-") as temporary:
        try:
            inputs, urls, missing = _inputs(options, Path(temporary))
            how: dict[str, Any] = {
                "settings": settings,
                "fresh": options.fresh,
                "every": options.every,
                "part": _part(options.part),
            }
            if inputs:
                how |= {"urls": urls} if urls else {}
                result = _predict(options, bundle, folder, inputs, allow, how)
            else:
                result = PredictResult(out=str(options.out), written=[], kept=[], failed=[])
        except KeyboardInterrupt:
            again = "the same command goes on from there"
            print(f"truemask: stopped; {again}", file=sys.stderr)
            return 1
    result = replace(result, failed=[*result.failed, *missing])
    if options.json:
        print_json(result.to_json())
    for file, reason in result.failed:
        where = "" if file in reason else f"{file}: "
        print(f"truemask: skipped {where}{reason}", file=sys.stderr)
    if not options.json:
        _print(result, bundle)
    return 1 if result.failed else 0


def _predict(
    options: argparse.Namespace,
    bundle: "Bundle",
    folder: Path,
    inputs: list[Path | str],
    allow: dict[str, Any],
    how: dict[str, Any],
) -> "PredictResult":
    import torch
    from rich.progress import Progress

    from truemask.inference.distributed import predict_on_ray
    from truemask.inference.predict import predict
    from truemask.inference.processes import in_processes
    from truemask.inference.records import model_key

    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Predicting", total=None)
        how["progress"] = lambda done, total: bar.update(task, completed=done, total=total)
        if options.engine == "ray":
            how |= {"address": options.address, "allow": allow, "console": console}
            return predict_on_ray(folder, inputs, options.out, **how)
        if options.processes != 1:
            settings = how["settings"]
            how["calling"] = in_processes(
                folder,
                count=options.processes,
                settings=settings,
                key=model_key(bundle, settings),
                allow=allow,
            )
        elif torch.cuda.is_available():
            bundle.model.to("cuda")
        return predict(bundle, inputs, options.out, **how)


def _inputs(
    options: argparse.Namespace, temporary: Path
) -> tuple[list[Path | str], dict[Path, str], list[tuple[str, str]]]:
    """What lies on disk, URLs among it fetched, and buckets; from where those are; what is not."""
    from truemask.inference.buckets import is_bucket
    from truemask.inference.urls import fetch, is_url

    inputs: list[Path | str] = []
    urls: dict[Path, str] = {}
    missing: list[tuple[str, str]] = []
    for number, text in enumerate(options.inputs):
        if not is_url(text):
            inputs.append(text if is_bucket(text) else Path(text))
            continue
        if options.allow_urls is None:
            raise UsageError(f"{text} is a URL: --allow-urls public lets it be fetched")
        place = temporary / f"{number + 1}"
        place.mkdir()
        try:
            file = fetch(text, place, local=options.allow_urls == "any")
        except UsageError as error:
            missing.append((text, str(error)))
        else:
            inputs.append(file)
            urls[file] = text
    return inputs, urls, missing


def _print(result: "PredictResult", bundle: "Bundle") -> None:
    if result.kept:
        kept = counted(len(result.kept), "mask")
        print(f"{kept} of this model and these settings there already (--fresh makes them anew).")
    colors = any(image.mask.endswith(".png") for image in result.written)
    where = "; *.color.png shows the classes in colours" if colors else ""
    print(f"{counted(len(result.written), 'mask')} in {result.out}{where}.")
    if result.coco is not None:
        print(f"Outlines of all images in {result.coco}.")
    print(f"Ids: {bundle.labels.legend()}")
    _print_warnings(result)


def _print_warnings(result: "PredictResult") -> None:
    """The most doubtful masks, and where the others stand."""
    warned = result.warned
    if not warned:
        return
    many = counted(len(result.written) + len(result.kept), "image")
    print(f"Look before you use them: {len(warned)} of {many} unlike those of the training.")
    for image in warned[:_WARNINGS]:
        file = image.file.encode("utf-8", "backslashreplace").decode()
        print(f"  {file}: {image.warning}")
    if len(warned) > _WARNINGS:
        print(f"  ... all stand in {result.out}/predictions.csv")


def _settings(options: argparse.Namespace) -> "Settings":
    from truemask.inference.settings import Settings

    bands = _numbers("--bands", options.bands, int)
    scales = _numbers("--scales", options.scales, float)
    return Settings(
        tile=options.tile,
        flips=options.flips,
        scales=scales or (1.0,),
        overlay=options.overlay,
        probabilities=options.probabilities,
        polygons=tuple(options.polygons.split(",")) if options.polygons else (),
        bands=bands,
        precision=options.precision,
    )


def _path_or_url(text: str) -> Path | str:
    return text if "://" in text else Path(text)


def _part(text: str) -> tuple[int, int]:
    which, _, number = text.partition("/")
    if not which.isdecimal() or not number.isdecimal():
        raise UsageError(f"--part {text} is none: the first of three is 1/3")
    return int(which), int(number)


def _numbers(option: str, text: str | None, kind: type) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        return tuple(map(kind, text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text} is no list of numbers such as 1,2") from None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does, with a table of what is there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
