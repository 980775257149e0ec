"""`truemask audit`: labels that are probably wrong."""

import argparse
from pathlib import Path

from truemask.commands.output import print_json
from truemask.commands.words import ALLOW, add_split, allowed, evaluation_config, split_of
from truemask.errors import UsageError
from truemask.tables import print_audit

HELP = "Find labels that are probably wrong: images and regions, ranked, as a page and a CSV file."
EXAMPLES = (
    "truemask audit runs/photos/DATE             the parts that the weights did not train on\n"
    "truemask audit runs/photos/DATE --folds 5   the training part too, by 5 further trainings\n"
    "truemask train photos/ data.exclude=runs/photos/DATE/audit/audit.csv\n"
    "truemask train photos/ data.ignore_regions=runs/photos/DATE/audit/audit.csv"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.add_argument("path", type=Path, metavar="RUN")
    add_split(command, help="audit this part alone: train, validation or test")
    command.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="audit the training part too, by K models that have not seen what they judge",
    )
    command.add_argument(
        "--threshold",
        type=float,
        default=2.5,
        metavar="SCORE",
        help="from which score on images and regions are flagged (default: %(default)s)",
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="default: RUN/audit, of other data RUN/audit-on-NAME-DIGITS",
    )
    command.add_argument("--allow", action="append", default=[], metavar="CLASS", help=ALLOW)
    command.add_argument("words", nargs="*", default=[], metavar="key=value")


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.analysis.audit import audit
    from truemask.analysis.audit_page import write_page
    from truemask.analysis.audit_result import require_ours
    from truemask.runs import Run, on_other_data

    split = split_of(options)
    if options.folds is not None and options.folds < 2:
        raise UsageError(f"--folds is {options.folds}: give 2 or more")
    if not options.threshold > 0:
        raise UsageError(f"--threshold is {options.threshold:g}: give a score above 0, such as 2.5")
    run = Run.open(options.path)
    config, other_data = evaluation_config(run, options.words, command="audit")
    if options.folds is not None and options.words:
        raise UsageError(
            f"--folds trains as the run did, on its own data: leave {options.words[0]!r} out"
        )
    place = f"audit{on_other_data(config) if other_data else ''}"
    out = options.path / place if options.out is None else options.out
    require_ours(out)
    done = audit(
        run,
        config=config,
        other_data=other_data,
        out=out,
        split=split,
        folds=options.folds,
        threshold=options.threshold,
        allow=allowed(options.allow),
        console=options.console,
    )
    kept = done.result.save(out)
    write_page(done.result, done.pictures, labels=done.labels, path=out / "audit.html")
    if options.json:
        print_json(done.result.to_json())
        return 0
    print_audit(done.result)
    if kept is not None:
        print(f"The earlier audit.csv is kept as {kept}.")
    print(f"Page: {out / 'audit.html'}")
    print(f"List: {out / 'audit.csv'} (data.exclude= and data.ignore_regions= take it)")
    return 0
