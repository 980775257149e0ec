"""`truemask serve`: masks over HTTP, and a page to drop a photo on."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, MODEL, allowed
from truemask.errors import UsageError

# The command line starts fast: what imports PyTorch stands inside the functions.
if TYPE_CHECKING:
    from truemask.bundle import Bundle
    from truemask.inference.engine_choice import Choice
    from truemask.inference.serve_queue import ServedModel
    from truemask.inference.sources import Source

HELP = "Serve a model over HTTP, with a page to drop a photo on; two models side by side."
EXAMPLES = (
    "truemask serve runs/photos/DATE                        http://127.0.0.1:8000\n"
    "truemask serve runs/photos/DATE runs/photos/OTHER      two models side by side\n"
    "truemask serve USER/NAME@COMMIT --images photos/       a model of the Hugging Face Hub\n"
    "truemask serve runs/photos/DATE --host 0.0.0.0 --port 80 --queue 128\n"
    "curl --data-binary @photo.jpg 'http://127.0.0.1:8000/predict?format=mask' > mask.png"
)
_ENGINES = ("auto", "onnx", "torch", "bf16")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN", help=MODEL)
    command.add_argument(
        "other", type=Path, metavar="RUN2", nargs="?", help="another, to be seen beside it"
    )
    command.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    command.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that the server is reached by, as behind a proxy; * for all (default: that of "
        "--host, localhost and its addresses; all with --host 0.0.0.0)",
    )
    command.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any free one")
    command.add_argument(
        "--engine",
        choices=_ENGINES,
        default="auto",
        help="default: ONNX Runtime where it agrees with the model, else PyTorch",
    )
    command.add_argument(
        "--file", type=Path, metavar="ONNX", help="an exported file of RUN, such as an int8 one"
    )
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="images on which an ONNX file is held against the model (default: those in the run)",
    )
    command.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    command.add_argument(
        "--max-bytes", type=int, default=20_000_000, metavar="N", help="of an upload"
    )
    command.add_argument(
        "--max-pixels", type=int, default=25_000_000, metavar="N", help="of an image"
    )
    command.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="to upload, and to answer"
    )
    command.add_argument(
        "--queue", type=int, default=64, metavar="N", help="images accepted and not yet answered"
    )
    command.add_argument(
        "--batch", type=int, default=8, metavar="N", help="images computed at once"
    )
    command.add_argument(
        "--drain",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="to go on serving after SIGTERM while /health says so (default: 0)",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    try:
        from truemask.inference.serve import create_app
        from truemask.inference.serve_http import open_socket, run_server
    except ImportError as error:
        raise UsageError(f"serve needs {error.name}: pip install 'truemask[serve]'") from error
    from truemask.inference.serve_hosts import Hosts
    from truemask.inference.serve_limits import Limits
    from truemask.inference.sources import find_source

    limits = Limits(
        bytes=options.max_bytes,
        pixels=options.max_pixels,
        seconds=options.timeout,
        queue=options.queue,
        batch=options.batch,
        drain=options.drain,
    )
    if options.file is not None and options.other is not None:
        raise UsageError("--file is of one run: leave RUN2 out")
    if options.images is not None and options.file is None and options.engine in ("torch", "bf16"):
        raise UsageError(
            f"--images is for ONNX Runtime: leave it out with --engine {options.engine}"
        )
    if options.threads < 0:
        raise UsageError(f"--threads is {options.threads}: give 1 or more, or 0 for all cores")
    # Before the models are loaded, which takes long.
    listening = open_socket(options.host, options.port)
    with listening:
        hosts = Hosts.of(options.host, listening.getsockname()[0], options.allowed_host)
        words = [word for word in (options.path, options.other) if word is not None]
        sources = [find_source(word) for word in words]
        named = zip(sources, _names(sources), strict=True)
        models = [_serve(source, name, options) for source, name in named]
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{listening.getsockname()[1]}"

        def started() -> None:
            _say(address, models, json=options.json)

        run_server(create_app(models, limits, hosts=hosts), listening, started=started)
    return 0


def _say(address: str, models: "list[ServedModel]", *, json: bool) -> None:
    if json:
        said: list[dict[str, Any]] = [
            {"name": model.name, "engine": model.engine.name, "reason": model.reason}
            for model in models
        ]
        print_json({"address": address, "models": said})
    else:
        for model in models:
            print(f"{model.name}: {model.engine.name} ({model.reason})")
        print(f"Serving at {address} (Ctrl-C stops it, once all requests are answered)")
    sys.stdout.flush()


def _serve(source: "Source", name: str, options: argparse.Namespace) -> "ServedModel":
    from truemask.inference.serve_queue import ServedModel

    bundle = source.load(allow=allowed(options.allow))
    options.console.print(f"{name}: preparing its engine", style="dim", highlight=False)
    choice = _choose(source, bundle, options)
    return ServedModel(name=name, bundle=bundle, engine=choice.engine, reason=choice.reason)


def _choose(source: "Source", bundle: "Bundle", options: argparse.Namespace) -> "Choice":
    import torch

    from truemask.inference import engine_choice as choices
    from truemask.inference.engine import OnnxEngine, TorchEngine

    if options.file is None and options.engine in ("torch", "bf16"):
        if torch.cuda.is_available():
            bundle.model.to("cuda")
        if options.threads:
            torch.set_num_threads(options.threads)
        engine = TorchEngine(bundle, "bf16" if options.engine == "bf16" else "fp32")
        return choices.Choice(engine=engine, reason="asked for")
    pictures = choices.find_pictures(source, bundle.model.images, options.images)
    if options.file is not None:
        return choices.open_file(options.file, source, bundle, pictures, threads=options.threads)
    if torch.cuda.is_available() and options.engine != "onnx":
        bundle.model.to("cuda")
    choice = choices.choose_engine(source, bundle, pictures, threads=options.threads)
    if options.engine == "onnx" and not isinstance(choice.engine, OnnxEngine):
        raise UsageError(f"{source.place} cannot be served by ONNX Runtime: {choice.reason}")
    return choice


def _names(sources: "list[Source]") -> list[str]:
    """A name for each, of signs that need no escape in an address; no two are alike."""
    names = [_plain(source.name) for source in sources]
    if len(set(names)) < len(names):
        both = zip(names, sources, strict=True)
        names = [f"{name}-{_plain(source.version)}" for name, source in both]
    if len(set(names)) < len(names):
        names = [f"{name}-{i}" for i, name in enumerate(names, start=1)]
    return names


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:60] or "model"
