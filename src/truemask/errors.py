"""The two exceptions that end a command with one line."""


class UsageError(ValueError):
    """Wrong usage or unusable input.

    The message is one clear line: which file or key, what is wrong with it, how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """


class JobFailed(RuntimeError):
    """A job that was asked for rightly and did not succeed; the command line exits with code 1."""
