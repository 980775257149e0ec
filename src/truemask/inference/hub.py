"""Models of the Hugging Face Hub: which word names one, and its files on this disk.

Three files of a repository are asked for, by name: two of JSON and one of safetensors, which
`load_bundle` reads without executing anything. Whatever else lies there is never downloaded.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.bundle import DESCRIPTION, INPUTS, WEIGHTS
from truemask.errors import UsageError
from truemask.untrusted import one_line

_NAME = r"[A-Za-z0-9][\w.-]{0,95}"
_ID = re.compile(rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w./-]{{1,200}}))?")
_SCHEME = re.compile(r"hf:/{1,2}")
"""A `Path` makes one slash of two."""


@dataclass(frozen=True)
class HubId:
    """A model of the Hub.

    Attributes:
        repo: "user/name".
        revision: a branch, a tag or a commit; `None` for what is newest.
        stated: whether it was called "hf://".
    """

    repo: str
    revision: str | None = None
    stated: bool = False

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_id(source: str | Path) -> HubId | None:
    """The model of the Hub that a word names: "user/name", "hf://user/name@revision".

    What lies on this disk comes first: a word whose first folder is here names no model of the Hub,
    so that a slip in the name of a run never loads a stranger's model; "hf://" always does.

    Raises:
        UsageError: it begins with "hf://", but names no model.
    """
    word = str(source)
    stated = _SCHEME.match(word)
    found = _ID.fullmatch(word[stated.end() :] if stated else word)
    if stated and found is None:
        raise UsageError(
            f"{word} names no model of the Hub: write hf://USER/NAME, or hf://USER/NAME@REVISION"
        )
    if found is None or (not stated and Path(word).parts[0] in _here()):
        return None
    return HubId(found["repo"], found["revision"], stated=stated is not None)


def _here() -> set[str]:
    try:
        return {path.name for path in Path().iterdir()}
    except OSError:
        return set()


def fetch(model: HubId) -> tuple[Path, str]:
    """The folder of a model's files, downloaded where they are not yet, and their commit.

    The token of `hf auth login` or `HF_TOKEN` is used; `HF_ENDPOINT` names another server. Without
    a connection, what was downloaded before is used.

    Raises:
        UsageError: there is no such model for this user, it is none of Truemask, or the Hub cannot
            be reached.
    """
    library = hub_library()
    with explained(str(model)):
        folder = Path(
            library.snapshot_download(
                model.repo,
                revision=model.revision,
                allow_patterns=[DESCRIPTION, WEIGHTS, INPUTS],
                library_name="truemask",
            )
        )
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{model} on the Hub is no model of Truemask: it has no {name}; those are made by "
                "`truemask push`"
            )
    return folder, folder.name


def hub_library() -> Any:
    """The package `huggingface_hub`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils import logging
    except ImportError as error:
        raise UsageError(
            "models of the Hugging Face Hub need the package huggingface_hub: "
            "pip install 'truemask[hub]'"
        ) from error
    # It tells of a missing token with every download, and of what it does again and again.
    logging.set_verbosity_error()
    return huggingface_hub


@contextmanager
def explained(what: str, *, writing: bool = False) -> Iterator[None]:
    """Make one line of whatever the Hub's library raises; it changes its transport now and then.

    Args:
        what: "user/name", with the revision.
        writing: whether something is written to the Hub.

    Raises:
        UsageError: in place of the library's errors.
    """
    from huggingface_hub import errors

    server = _server()
    try:
        yield
    except UsageError:
        raise
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{what}: its owner wants you to accept terms first: do so on {server}/"
            f"{what.split('@')[0]}, and log in by `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{what}: the model has no such branch, tag or commit") from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{what}: {server} has no such model, or it is private and you may not see it: look at "
            "the name, or log in by `hf auth login` (or set HF_TOKEN)"
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(f"{what} cannot be a name on the Hub: {one_line(error)}") from error
    except errors.LocalTokenNotFoundError as error:
        raise UsageError("you are not logged in: `hf auth login`, or set HF_TOKEN") from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        reason = "" if cause is None else f" ({one_line(cause)[:120]})"
        raise UsageError(
            f"{what}: {server} cannot be reached{reason}, and it was not downloaded before"
        ) from error
    except errors.HfHubHTTPError as error:
        raise UsageError(f"{what}: {_refusal(error, server, writing=writing)}") from error
    except Exception as error:
        cause = error.__cause__ or error
        raise UsageError(f"{what}: {server} cannot be used: {one_line(cause)[:300]}") from error


def _refusal(error: Exception, server: str, *, writing: bool) -> str:
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code == 401:
        return (
            f"{server} does not know your token: log in by `hf auth login`, or set HF_TOKEN to one "
            "that is valid"
        )
    if code == 403:
        right = "write to" if writing else "read"
        return f"your token may not {right} it: take one that may, or another USER/NAME"
    if code == 429:
        return f"{server} says that there were too many requests: try again later"
    return f"{server} answers {one_line(error)[:300]}"


def _server() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
