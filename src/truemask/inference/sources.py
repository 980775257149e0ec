"""Where a model is from: a run, a bundle's folder, the Hugging Face Hub; one way for all commands.

`predict`, `export`, `serve` and `truemask.load` take the same words. Some want more than the model:
a run's pictures to hold a file against, a folder to keep it in. These a run has, also where its
`model/` was given, and a bundle that was copied or fetched has not.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from truemask.bundle import DESCRIPTION, Bundle, load_bundle
from truemask.errors import UsageError
from truemask.inference.doubt import known_inputs
from truemask.inference.hub import fetch, hub_id
from truemask.run_search import is_run
from truemask.runs import Run


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model's files, and what is known of where they are from.

    Attributes:
        folder: of the bundle.
        place: where it is from: a folder, or "user/name@commit" of the Hub.
        name: a short name, for people: of the experiment, the folder or the Hub's repository.
        version: what tells it from others of that name: a run's date, a commit, else the folder.
        run: whose best weights these are; `None` of a copied bundle and of the Hub.
    """

    folder: Path
    place: str
    name: str
    version: str
    run: Run | None = None

    def load(self, *, allow: Mapping[str, type[nn.Module]] | None = None) -> Bundle:
        """The model, on the CPU and in evaluation mode.

        Args:
            allow: by dotted name, classes of your own that the bundle may be built of.

        Raises:
            UsageError: it is damaged, or of a class that is not allowed.
        """
        bundle = load_bundle(self.folder, allow=allow)
        known_inputs(bundle)  # so that damage is told now, and not of each image
        return bundle


def find_source(word: str | Path) -> Source:
    """The model that a word names: a run, a bundle's folder, "user/name" or "hf://user/name@commit".

    What lies on this disk comes first; see `hub.hub_id`.

    Raises:
        UsageError: there is none, the run has no weights yet, or the Hub cannot be reached.
    """
    if not isinstance(word, str | os.PathLike) or not str(word):
        raise UsageError(f"{word!r} names no model: give a run, a bundle's folder or USER/NAME")
    path = Path(word)
    if (path / DESCRIPTION).is_file():
        return _of_bundle(path)
    model = None if path.exists() else hub_id(word)
    if model is None:
        run = Run.open(path)
        run.require_weights()
        return _of_run(run, run.bundle_folder, path)
    try:
        folder, commit = fetch(model)
    except UsageError as error:
        where = "" if model.stated else f"there is no folder {word} here, and on the Hub: "
        raise UsageError(f"{where}{error}") from error
    name = model.repo.rpartition("/")[2]
    return Source(folder=folder, place=f"{model.repo}@{commit}", name=name, version=commit[:8])


def _of_bundle(path: Path) -> Source:
    full = path.resolve()
    run = Run(path.parent if path.name == full.name else full.parent)
    if is_run(run.path) and run.bundle_folder.resolve() == full:
        return _of_run(run, path, path)
    name = full.parent.name if full.name == "model" else full.name
    return Source(folder=path, place=str(path), name=name, version=full.name)


def _of_run(run: Run, folder: Path, given: Path) -> Source:
    full = run.path.resolve()
    return Source(
        folder=folder, place=str(given), name=full.parent.name, version=full.name, run=run
    )
