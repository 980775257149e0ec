"""The two exceptions that end a command with one line, and how their messages count."""


class UsageError(ValueError):
    """Wrong usage or unusable input.

    The message is one clear line: which file or key, what is wrong with it, how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """


class JobFailed(RuntimeError):
    """A job that was asked for rightly and did not succeed; the command line exits with code 1."""


def counted(number: int, thing: str) -> str:
    """A number of things: "1 image", "2,039 images"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
