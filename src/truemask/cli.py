"""The command line: parse, call, print; heavy imports stand inside the command."""

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import truemask
from truemask import check_command
from truemask.errors import JobFailed, UsageError, counted
from truemask.tables import (
    print_comparison,
    print_reproduction,
    print_scores,
    print_sweep,
)

_EXAMPLES = {
    "train": (
        "truemask train                                  the embedded textures, a minute\n"
        "truemask train photos/                          your own images and masks\n"
        "truemask train photos/ trainer.max_time=20:00   for twenty minutes\n"
        "truemask train photos/ model.widths=[64,128,256,512] data.crop=[256,256] seed=1\n"
        "truemask train -m optimizer.lr=0.001,0.01       one run for each value, and a comparison\n"
        "truemask train resume=runs/photos/DATE          go on with a run that was interrupted\n"
        "truemask train photos/ logger=[tensorboard,mlflow] profile=true"
    ),
    "evaluate": "truemask evaluate runs/photos/DATE --split validation",
    "predict": (
        "truemask predict runs/photos/DATE new/*.jpg --out masks/ --overlay\n"
        "truemask predict runs/photos/DATE /data/new --out /data/masks --ray   on a cluster"
    ),
    "check": check_command.EXAMPLES,
    "compare": (
        "truemask compare runs/photos/DATE-1 runs/photos/DATE-2\n"
        "truemask compare runs/photos/sweep_DATE --out comparison"
    ),
    "shard": (
        "truemask shard photos/ --out /data/shards --size 256MB\n"
        "truemask train data=shards data.dataset.root=/data/shards"
    ),
    "report": "truemask report runs/photos/DATE",
    "sample": (
        "truemask sample voc2012 --out data/voc     a miniature in the layout of PASCAL VOC\n"
        "truemask train experiment=edges/weighted data.dataset.root=data/voc"
    ),
    "reproduce": (
        "truemask reproduce textures                   all of it, on the CPU\n"
        "truemask reproduce edges --data /data/VOC     on your copy of the data\n"
        "truemask reproduce driving --miniature        a few minutes, to see what it makes\n"
        "truemask reproduce edges --data /data/VOC --only weighted,unweighted"
    ),
    "list": "truemask list",
}


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="truemask",
        description=truemask.__doc__,
        epilog="`truemask COMMAND --help` explains a command with an example.",
    )
    top.add_argument("--version", action="version", version=f"truemask {truemask.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"examples:\n{_indent(_EXAMPLES[name])}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        command.add_argument(
            "--json", action="store_true", help="print the result as JSON, and nothing else"
        )
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return command

    train = add(
        "train", _train, "Train on a folder of images and masks, test the best weights, report."
    )
    train.add_argument("words", nargs="*", default=[], metavar="[DATA_FOLDER] [key=value ...]")
    train.add_argument(
        "-m", "--multirun", action="store_true", help="one run for each combination of values"
    )
    train.add_argument("--allow", action="append", default=[], metavar="CLASS", help=_ALLOW)

    evaluate = add(
        "evaluate",
        _evaluate,
        "Score a run's best weights on one part of its data, or on other data.",
    )
    evaluate.add_argument("path", type=Path, metavar="RUN")
    evaluate.add_argument(
        "--split",
        metavar="PART",
        help="train, validation or test (default: test, or validation where there is no test part)",
    )
    evaluate.add_argument("--allow", action="append", default=[], metavar="CLASS", help=_ALLOW)
    evaluate.add_argument("words", nargs="*", default=[], metavar="key=value")

    predict = add("predict", _predict, "Write masks for images: class ids, and colours to look at.")
    predict.add_argument("path", type=Path, metavar="RUN")
    predict.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="images, folders or globs"
    )
    predict.add_argument("--out", type=Path, required=True, metavar="DIR")
    predict.add_argument(
        "--overlay", action="store_true", help="also the image with the mask laid over it"
    )
    predict.add_argument(
        "--probabilities", action="store_true", help="also each class's probability (.npz)"
    )
    predict.add_argument(
        "--tile", type=int, metavar="PIXELS", help="largest side that is predicted in one piece"
    )
    predict.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="on all machines of a Ray cluster; write it after the inputs",
    )
    predict.add_argument("--allow", action="append", default=[], metavar="CLASS", help=_ALLOW)

    check = add("check", _check, "Look for silent bugs in data, code or a run; 1 if there is one.")
    check_command.add_arguments(check)

    compare = add(
        "compare", _compare, "Runs side by side: what differs, and how sure the differences are."
    )
    compare.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_SWEEP")
    compare.add_argument("--out", type=Path, metavar="DIR", help="default: comparisons/DATE-TIME")

    shard = add(
        "shard", _shard, "Write a dataset as shards, to train on data larger than one disk."
    )
    shard.add_argument("words", nargs="*", default=[], metavar="[DATA_FOLDER] [key=value ...]")
    shard.add_argument("--out", required=True, metavar="DIR_OR_URL")
    shard.add_argument("--size", default="256MB", help="of a shard, such as 256MB")

    report = add("report", _report, "Render a run's report again.")
    report.add_argument("path", type=Path, metavar="RUN")

    sample = add(
        "sample", _sample, "Write a miniature of a dataset, generated, in its exact layout on disk."
    )
    sample.add_argument("name", metavar="NAME", help="such as voc2012; `truemask list` has all")
    sample.add_argument("--out", type=Path, required=True, metavar="DIR")
    sample.add_argument("--images", type=int, metavar="N", help="how many (default: some hundred)")
    sample.add_argument("--seed", type=int, default=0, metavar="N")

    reproduce = add(
        "reproduce", _reproduce, "A published project's experiments, its figures beside ours."
    )
    reproduce.add_argument("project", metavar="PROJECT")
    reproduce.add_argument("--data", type=Path, metavar="DIR", help="your copy of its data")
    reproduce.add_argument(
        "--miniature", action="store_true", help="on a generated miniature of its data"
    )
    reproduce.add_argument("--out", type=Path, metavar="DIR", help="default: reproductions/PROJECT")
    reproduce.add_argument(
        "--runs", nargs="+", type=Path, default=[], metavar="RUN", help="finished runs to take in"
    )
    reproduce.add_argument("--only", metavar="TRIAL,...", help="some of its experiments")
    reproduce.add_argument("words", nargs="*", default=[], metavar="key=value")

    add("list", _list, "Experiments, models, losses, the other choices of `train`, and the checks.")
    return top


_ALLOW = "a class of your own that an existing run may name, such as my_package.nets.MyNet"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 done, 1 a failed job, 2 wrong usage or unusable input."""
    options, unknown = parser().parse_known_args(arguments)
    flags = [word for word in unknown if word.startswith("-")]
    console = Console(stderr=True)
    try:
        if flags:
            raise UsageError(f"truemask {options.command} has no option {flags[0]} (see --help)")
        # argparse cuts the words in two where an option stands between them.
        if "words" in options:
            options.words = [*options.words, *unknown]
        elif "inputs" in options:
            options.inputs = [*options.inputs, *map(Path, unknown)]
        elif unknown:
            raise UsageError(f"truemask {options.command} does not take {unknown[0]!r}")
        options.console = console
        return int(options.run(options))
    except UsageError as error:
        return _fail(error, options.debug, code=2)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 1
    except JobFailed as error:
        return _fail(error, options.debug, code=1)
    except Exception:
        traceback.print_exc()
        print(
            "truemask: this is a bug in Truemask; please report it with the lines above",
            file=sys.stderr,
        )
        return 1


def _fail(error: Exception, debug: bool, *, code: int) -> int:
    if debug:
        traceback.print_exception(error)
    message = str(error)
    if wrapped := re.match(r"Caught (UsageError|JobFailed) in DataLoader", message):
        # A loading process wraps what it raised, with its traceback; the message comes last.
        message = message.rpartition(f"{wrapped[1]}: ")[2]
    line = " ".join(message.split())
    # Names from files may hold escape sequences, which are no business of the terminal.
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    print(f"truemask: {shown}", file=sys.stderr)
    return code


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _folder_and_overrides(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The data folder among the words of a command, and the `key=value` words."""
    folders = [
        word for word in words if os.path.isdir(word) or not ("=" in word or word.startswith("~"))
    ]
    if len(folders) > 1:
        raise UsageError(f"give one data folder, not {len(folders)}: {', '.join(folders)}")
    return Path(folders[0]) if folders else None, [word for word in words if word not in folders]


def _train(options: argparse.Namespace) -> int:
    from truemask.training.allocation import use_huge_pages

    use_huge_pages()  # before PyTorch is imported, and for the processes that are started from here
    folder, overrides = _folder_and_overrides(options.words)
    if options.multirun:
        return _sweep(options, folder, overrides)

    from truemask.training.interruption import Interruption

    # From here on, as what comes first takes seconds, and a signal shall get its line there too.
    with Interruption(options.console).installed():
        return _train_once(options, folder, overrides)


def _train_once(options: argparse.Namespace, folder: Path | None, overrides: list[str]) -> int:
    from truemask.compose import compose_config, resume_config
    from truemask.runs import Run
    from truemask.training.fit import train

    run = None
    resumed = [word for word in overrides if word.startswith("resume=")]
    if resumed:
        if len(resumed) > 1:
            raise UsageError(f"resume one run at a time, not {len(resumed)}")
        if folder is not None:
            raise UsageError("resume=RUN goes on with the data of that run: leave the folder out")
        run = Run.open(Path(resumed[0].partition("=")[2]))
        rest = [word for word in overrides if word not in resumed]
        config = resume_config(run.config, rest, allow=options.allow)
    else:
        config = compose_config(overrides, folder=folder)
    result = train(config, console=options.console, resume=run)
    if options.json:
        _print_json(result.to_json())
        return 0
    judged, part = list(result.parts.items())[-1]
    print_scores(part, title=f"{judged}, best weights (epoch {result.best_epoch + 1})")
    if judged == "validation":
        print("There is no test part: these figures are of the part that chose the weights.")
    print(f"Training ended: {result.stopped} ({result.seconds:.0f} s).")
    print(f"Run:    {result.run}")
    print(f"Report: {Path(result.run) / 'report.html'}")
    return 0


def _sweep(options: argparse.Namespace, folder: Path | None, overrides: Sequence[str]) -> int:
    from truemask.sweeps.sweep import run_sweep

    result = run_sweep(overrides, folder=folder, allow=options.allow, console=options.console)
    if options.json:
        _print_json(result.to_json())
    else:
        print_sweep(result)
    return 0 if result.complete else 1


def _check(options: argparse.Namespace) -> int:
    return check_command.run(options, _folder_and_overrides)


def _compare(options: argparse.Namespace) -> int:
    from truemask.analysis.compare import compare

    result = compare(options.paths, options.out)
    if options.json:
        _print_json(result.to_json())
    else:
        print_comparison(result)
    return 0


def _shard(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from rich.progress import Progress

    from truemask.compose import compose_config
    from truemask.data.sharding import parse_size, write_shards
    from truemask.training.opening import open_parts
    from truemask.training.settings import DataSettings

    folder, overrides = _folder_and_overrides(options.words)
    if folder is None and not overrides:
        raise UsageError("give what to shard: a data folder, or experiment=NAME")
    size = parse_size(options.size)
    config = compose_config(overrides, folder=folder)
    # Size and classes are the training's to choose; the shards hold the files as they are.
    data = replace(
        DataSettings(**config["data"]), labels=None, resize=None, evaluation_size="native"
    )
    parts, _ = open_parts(data, seed=config["seed"], fetch=True)
    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Sharding", total=None)
        result = write_shards(
            parts,
            options.out,
            size=size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.json:
        _print_json(result.to_json())
        return 0
    for note in parts.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    for name, part in result.parts.items():
        samples, shards = counted(part.samples, "sample"), counted(part.shards, "shard")
        print(f"{name}: {samples} in {shards}, {part.bytes / 1e6:,.1f} MB")
    print(f"Shards: {result.out}")
    return 0


def _allowed(names: Sequence[str]) -> dict[str, Any]:
    from truemask.build import locate

    return {name: locate(name, key="--allow") for name in names}


def _evaluate(options: argparse.Namespace) -> int:
    from truemask.compose import override_config
    from truemask.runs import Run
    from truemask.training.testing import evaluate_run

    if options.split not in (None, "train", "validation", "test"):
        raise UsageError(f"--split is {options.split!r}: give train, validation or test")
    for word in options.words:
        if not word.startswith(("data.", "loss.")):
            raise UsageError(f"{word!r} changes nothing here: evaluate takes data.* and loss.*")
    run = Run.open(options.path)
    before = run.config
    config = override_config(before, options.words)
    place = str(config["data"]["dataset"].get("root", ""))
    if "://" in place and not any(word.startswith("data.dataset.root=") for word in options.words):
        raise UsageError(
            f"the run's data is at {place}: say data.dataset.root={place} if it may be fetched"
        )
    other_data = any(
        config["data"]["dataset"].get(key) != before["data"]["dataset"].get(key)
        for key in ("_target_", "root")
    )
    parted = [word for word in options.words if word.startswith(("data.split", "data.subset"))]
    if parted and not other_data:
        raise UsageError(f"{parted[0]!r} changes nothing here: the run's own data keeps its parts")
    for key in ("split", "subset"):  # the run's are for its own data
        if other_data and not any(word.startswith(f"data.{key}") for word in parted):
            config["data"][key] = None
    split, result, evaluation = evaluate_run(
        run,
        split=options.split,
        config=config,
        other_data=other_data,
        allow=_allowed(options.allow),
        console=options.console,
    )
    name = split
    if other_data:
        root = Path(str(config["data"]["dataset"].get("root", "other-data")))
        name += "-on-" + re.sub(r"[^A-Za-z0-9_-]", "_", root.resolve().name)
    file = run.write_evaluation(name, result, save=evaluation.save)
    if options.json:
        _print_json(result.to_json())
    else:
        print_scores(result, title=f"{split} of {run.path}")
        print(f"Saved: {file}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    import torch
    from rich.progress import Progress

    from truemask.inference.distributed import predict_on_ray
    from truemask.inference.predict import predict
    from truemask.runs import Run

    run = Run.open(options.path)
    allow = _allowed(options.allow)
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
        _print_json(result.to_json())
    for file, reason in result.failed:
        where = "" if file in reason else f"{file}: "
        print(f"truemask: skipped {where}{reason}", file=sys.stderr)
    if not options.json:
        masks = counted(len(result.written), "mask")
        print(f"{masks} in {options.out}; *.color.png shows the classes in colours.")
        print(f"Ids: {bundle.labels.legend()}")
    return 1 if result.failed else 0


def _report(options: argparse.Namespace) -> int:
    from truemask.report.pages import render_report
    from truemask.runs import Run

    page = render_report(Run.open(options.path))
    if options.json:
        _print_json({"report": str(page)})
    else:
        print(page)
    return 0


def _sample(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from truemask.miniatures.writing import write_miniature

    console = options.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Drawing {options.name}", total=None)
        folder = write_miniature(
            options.name,
            options.out,
            images=options.images,
            seed=options.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.json:
        _print_json({"name": options.name, "folder": str(folder)})
    else:
        print(f"A generated miniature of {options.name} is in {folder}.")
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from truemask.projects.reproduce import reproduce

    out = options.out or Path("reproductions") / options.project
    result = reproduce(
        options.project,
        out=out,
        data=options.data,
        miniature=options.miniature,
        finished=options.runs,
        only=() if options.only is None else tuple(options.only.split(",")),
        overrides=options.words,
        console=options.console,
    )
    if options.json:
        _print_json(result.to_json())
    else:
        print_reproduction(result)
        print(f"Page: {result.page}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from truemask.checks.catalogue import rules
    from truemask.compose import GROUPS
    from truemask.compose import options as choices
    from truemask.miniatures.writing import MINIATURES

    found = {group: choices(group) for group in GROUPS if group != "trainer"}
    found["sample"] = list(MINIATURES)
    found["check"] = [f"{rule.code} {rule.name} ({rule.level})" for rule in rules()]
    if options.json:
        _print_json(found)
        return 0
    for group, names in found.items():
        print(f"truemask {group}" if group in ("sample", "check") else f"{group}=")
        for name in names:
            print(f"  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
