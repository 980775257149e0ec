"""The program `truemask`, which is `python -m truemask`."""

import atexit
import os
import sys
from contextlib import suppress

from truemask.cli import main


def run() -> None:
    """Run a command and leave at once.

    Python would take a second or two to take PyTorch's modules apart, which the system does in no
    time; a signal in between would end the program without a word after all is done.
    """
    code = main()
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):  # whoever read the output has read enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
