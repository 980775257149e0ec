"""The command line: the grammar of all commands, and how each ends."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence

from rich.console import Console

import truemask
from truemask.commands import (
    audit,
    check,
    compare,
    evaluate,
    explain,
    export,
    listing,
    plan,
    predict,
    push,
    report,
    reproduce,
    sample,
    serve,
    shard,
    survey,
    train,
)
from truemask.errors import JobFailed, UsageError

_COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "explain": explain,
    "predict": predict,
    "check": check,
    "survey": survey,
    "audit": audit,
    "compare": compare,
    "plan": plan,
    "shard": shard,
    "export": export,
    "serve": serve,
    "push": push,
    "report": report,
    "sample": sample,
    "reproduce": reproduce,
    "list": listing,
}
"""Name -> the module that has its `HELP`, `EXAMPLES`, `add_arguments` and `run`."""


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="truemask",
        description=truemask.__doc__,
        epilog="`truemask COMMAND --help` explains a command with an example.",
    )
    top.add_argument("--version", action="version", version=f"truemask {truemask.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"examples:\n{_indent(module.EXAMPLES)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=module.run)
        command.add_argument(
            "--json", action="store_true", help="print the result as JSON, and nothing else"
        )
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.add_arguments(command)
    return top


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
            options.inputs = [*options.inputs, *unknown]
        elif unknown:
            raise UsageError(f"truemask {options.command} does not take {unknown[0]!r}")
        options.console = console
        return int(options.run(options))
    except UsageError as error:
        return _fail(error, options.debug, code=2)
    except BrokenPipeError:
        # Whoever reads the output, such as `head`, has enough; at exit Python would say it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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


if __name__ == "__main__":
    sys.exit(main())
