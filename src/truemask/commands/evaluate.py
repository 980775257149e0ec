"""`truemask evaluate`: the scores of a run's best weights."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, add_split, allowed, evaluation_config, split_of
from truemask.tables import print_boundaries, print_edges, print_scores

BOUNDARY_TOLERANCE = 0.0075
HELP = "Score a run's best weights on one part of its data, or on other data."
EXAMPLES = (
    "truemask evaluate runs/photos/DATE --split validation\n"
    "truemask evaluate runs/photos/DATE --boundaries   how near the outlines lie, by class\n"
    "truemask evaluate runs/contours/DATE --edges      ODS, OIS and AP of a task of two classes"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")
    add_split(command)
    command.add_argument(
        "--boundaries",
        type=_tolerance,
        nargs="?",
        const=BOUNDARY_TOLERANCE,
        metavar="TOLERANCE",
        help="also precision, recall and F of each class's boundary, within this share of the "
        f"image's diagonal (default: {BOUNDARY_TOLERANCE}); on BSDS500 also --edges",
    )
    command.add_argument(
        "--edges",
        action="store_true",
        help="also ODS, OIS and AP of the foreground's probability, as BSDS500's benchmark",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)
    command.add_argument("words", nargs="*", default=[], metavar="key=value")


def _tolerance(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word!r} is no tolerance: give it alone, after the run, or with a number"
        ) from None


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.analysis.boundaries import Watchers
    from truemask.analysis.doubts import DoubtWatcher
    from truemask.evaluation import Seen
    from truemask.report.pages import render_report
    from truemask.runs import Run, on_other_data
    from truemask.training.testing import open_run

    split = split_of(options)
    run = Run.open(options.path)
    config, other_data = evaluation_config(run, options.words, command="evaluate")
    opened = open_run(
        run,
        config=config,
        other_data=other_data,
        allow=allowed(options.allow),
        console=options.console,
    )
    watchers = Watchers(
        opened.bundle.labels, config, boundaries=options.boundaries, edges=options.edges
    )
    doubts = DoubtWatcher(opened.bundle)

    def observe(seen: Seen) -> None:
        watchers(seen)
        doubts(seen)

    split = opened.part(options.split)
    evaluation = opened.evaluate(split, console=options.console, observe=observe)
    result = evaluation.result()
    name = split
    if other_data:
        name += on_other_data(config)
    files = [run.write_evaluation(name, result, save=evaluation.save)]
    shown = result.to_json()
    unlike = doubts.result(evaluation)
    if unlike is not None:
        shown["unlike"] = unlike.to_json()
    boundaries, edges = watchers.results()
    if watchers.boundaries is not None and boundaries is not None:
        save = watchers.boundaries.counts().save
        files.append(run.write_evaluation(f"boundaries-{name}", boundaries, save=save))
        shown["boundaries"] = boundaries.to_json()
    if watchers.edges is not None and edges is not None:
        save = watchers.edges.counts().save
        files.append(run.write_evaluation(f"edges-{name}", edges, save=save))
        shown["edges"] = edges.to_json()
    if (boundaries is not None or edges is not None) and run.report_path.exists():
        render_report(run)  # which shows them
    if options.json:
        print_json(shown)
        return 0
    print_scores(result, title=f"{split} of {run.path}")
    if unlike is not None and unlike.unlike:
        print(unlike)
    if boundaries is not None:
        print_boundaries(boundaries)
    if edges is not None:
        print_edges(edges)
    print(f"Saved: {', '.join(map(str, files))}")
    return 0
