"""The one exception that means: the user can mend this."""


class UsageError(ValueError):
    """Wrong usage or unusable input.

    The message is one clear line: which file or key, what is wrong with it, how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """
