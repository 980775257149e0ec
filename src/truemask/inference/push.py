"""A run's model on the Hugging Face Hub: its bundle, its figures, and a card written from them."""

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from truemask.bundle import DESCRIPTION, INPUTS, WEIGHTS, Bundle
from truemask.errors import UsageError
from truemask.files import make_folder, write_json, write_text
from truemask.inference.export import read_metadata
from truemask.inference.hub import explained, hub_id, hub_library
from truemask.report.card import make_card
from truemask.runs import Run

CARD = "README.md"
ONNX = "model.onnx"
RESULTS = "results.json"
FILES = (CARD, DESCRIPTION, WEIGHTS, INPUTS, RESULTS, ONNX)
"""All that is ever written into a repository, and replaced or removed there by the next push."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was written.

    Attributes:
        repo: "user/name".
        url: where it is; `None` where it was written to a folder only.
        commit: of the Hub; likewise.
        private: whether others cannot see it; `None` where that is not known.
        folder: where it was written instead; `None` on the Hub.
        files: name -> bytes.
    """

    repo: str
    url: str | None
    commit: str | None
    private: bool | None
    folder: str | None
    files: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def push(
    run: Run,
    repo: str,
    bundle: Bundle,
    *,
    license: str,
    data: str | None = None,
    onnx: Path | None = None,
    private: bool | None = None,
    message: str | None = None,
    force: bool = False,
    folder: Path | None = None,
) -> Pushed:
    """Write a run's model, figures and card to the Hub, in one commit; or to a folder.

    Nothing else of the run leaves this machine: no configuration, name of an image or path.

    Args:
        run: a finished run.
        repo: "user/name"; made where it does not exist.
        bundle: the run's best weights.
        license: of the weights, in the Hub's words: "apache-2.0", "cc-by-4.0", "other".
        data: what the images are and under which terms they are used, for the card.
        onnx: an exported file of the same weights, to lie beside them.
        private: whether a new repository is; `None` leaves it to the account, mostly public.
        message: of the commit.
        force: also an unfinished run, one with errors, or into a repository of something else.
        folder: write here, and nothing to the Hub.

    Raises:
        UsageError: the run is refused, the Hub refuses or cannot be reached.
    """
    named = hub_id(f"hf://{repo.removeprefix('hf://')}")
    assert named is not None
    if named.revision is not None:
        raise UsageError(f"{repo}: leave the revision out, a push makes a new one")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise UsageError(
            f"{license!r} is no licence in the Hub's words, such as apache-2.0, mit, cc-by-4.0, "
            "cc-by-nc-4.0 or other: see https://huggingface.co/docs/hub/repositories-licenses"
        )
    library = hub_library()
    if not force:
        _refuse(run)
    with tempfile.TemporaryDirectory(prefix="truemask-push-") as place:
        made = Path(place)
        _write(run, bundle, made, repo=named.repo, license=license, data=data, onnx=onnx)
        files = {name: (made / name).stat().st_size for name in FILES if (made / name).exists()}
        if folder is not None:
            _copy(made, folder, force=force)
            return Pushed(repo=named.repo, url=None, commit=None, private=None,
                          folder=str(folder), files=files)  # fmt: skip
        with explained(named.repo, writing=True):
            api = library.HfApi(library_name="truemask")
            api.create_repo(named.repo, private=private, exist_ok=True)
            if not force:
                _refuse_other(api, named.repo)
            commit = api.upload_folder(
                repo_id=named.repo,
                folder_path=made,
                commit_message=message or f"Model of {run.path.parent.name} by Truemask",
                # What an earlier push left and this one does not have, as an ONNX file.
                delete_patterns=[name for name in FILES if name not in files],
            )
            info = api.model_info(named.repo, revision=commit.oid, files_metadata=True)
        _verify(info, made, files)
    url = str(commit.commit_url).split("/commit/")[0]
    return Pushed(repo=named.repo, url=url, commit=commit.oid, private=info.private,
                  folder=None, files=files)  # fmt: skip


def _refuse(run: Run) -> None:
    if not run.finished:
        raise UsageError(
            f"{run.path} is not finished, so that its card could say nothing of it: finish it by "
            f"`truemask train resume={run.path}`, or push it all the same by --force"
        )
    errors = sorted({str(f.get("code")) for f in run.findings or [] if f.get("level") == "error"})
    if errors:
        raise UsageError(
            f"the checks found errors in {run.path} ({', '.join(errors)}): see its report; push it "
            "all the same by --force, and its card will tell of them"
        )


def _write(
    run: Run,
    bundle: Bundle,
    folder: Path,
    *,
    repo: str,
    license: str,
    data: str | None,
    onnx: Path | None,
) -> None:
    for name in (DESCRIPTION, WEIGHTS, INPUTS):
        if (run.bundle_folder / name).exists():
            shutil.copyfile(run.bundle_folder / name, folder / name)
    if run.finished:
        results = {part: result.to_json() for part, result in run.results.items()}
        write_json(folder / RESULTS, {part: _public(result) for part, result in results.items()})
    said = None
    if onnx is not None:
        said = _said_of(onnx, bundle)
        shutil.copyfile(onnx, folder / ONNX)
    card = make_card(run, bundle, repo=repo, license=license, data=data, onnx=said)
    write_text(folder / CARD, card.render())


def _public(result: dict[str, Any]) -> dict[str, Any]:
    """A part's result without its subgroups, whose names may be of places or people."""
    return {key: value for key, value in result.items() if key != "subgroups"}


def _said_of(onnx: Path, bundle: Bundle) -> str:
    """What an exported file says of its agreement with the weights.

    Raises:
        UsageError: it is none, or of another model.
    """
    if not onnx.is_file():
        raise UsageError(f"{onnx} does not exist: make it by `truemask export RUN --out {onnx}`")
    found = read_metadata(onnx)
    if found is None:
        raise UsageError(f"{onnx} is no file of `truemask export`: make one of this run")
    same = {
        "labels": bundle.labels.to_json(),
        "images": bundle.model.images.to_json(),
        "info": bundle.info,
    }
    for key, value in same.items():
        if found.get(key) != json.loads(json.dumps(value)):
            raise UsageError(f"{onnx} was exported of another model (its {key} differ): export it")
    parity = found.get("parity")
    if not isinstance(parity, dict):
        return ""
    return (
        f"When it was exported, {parity.get('differing'):,} of {parity.get('pixels'):,} pixels of "
        f"{parity.get('images')} images got another class than from the weights."
    )


def _copy(made: Path, folder: Path, *, force: bool) -> None:
    strange = folder.exists() and not (folder / DESCRIPTION).exists() and any(folder.iterdir())
    if strange and not force:
        raise UsageError(f"{folder} holds something else: choose another folder, or an empty one")
    make_folder(folder)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for file in made.iterdir():
        shutil.copyfile(file, folder / file.name)


def _refuse_other(api: Any, repo: str) -> None:
    files = set(api.list_repo_files(repo)) - {".gitattributes", CARD}
    if files and DESCRIPTION not in files:
        raise UsageError(
            f"{repo} exists and holds something else ({sorted(files)[0]}, ...): choose another "
            "name, or write into it by --force"
        )


def _verify(info: Any, made: Path, files: dict[str, int]) -> None:
    """Hold what the Hub says that it has against what was sent.

    Raises:
        UsageError: a file is missing there, or another.
    """
    there = {file.rfilename: file for file in info.siblings or []}
    for name, size in files.items():
        file = there.get(name)
        if file is None or (file.size is not None and file.size != size):
            raise UsageError(f"{name} did not arrive whole on the Hub: push again")
        if file.lfs is not None:
            digest = hashlib.sha256((made / name).read_bytes()).hexdigest()
            if file.lfs.sha256 != digest:
                raise UsageError(f"{name} arrived damaged on the Hub: push again")
