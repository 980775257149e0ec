"""Models on a Hub that the Hub's own library speaks to over HTTP, and their cards."""

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import truemask
from truemask.bundle import DESCRIPTION, INPUTS, WEIGHTS, save_bundle
from truemask.checks.inputs import describe_images
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.export import export
from truemask.inference.hub import HubId, hub_id
from truemask.inference.loaded import LoadedModel
from truemask.inference.parity import LabelledImage
from truemask.inference.push import push
from truemask.inference.sources import find_source
from truemask.labels import LabelMap
from truemask.metrics.scoring import score
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.runs import Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"  # of the Hub's library, to the one below it
)

LABELS = LabelMap(names=("road", "<i>sky</i> | x", "car"), values={0: 0, 1: 1, 2: 2})
ODD = "/home/me/photos/a.png is | odd"
NETWORK = {"in_channels": 3, "out_channels": 3, "widths": [4, 6]}


def photo(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(40, 160, (40, 48, 3), dtype=np.uint8)


def make_run(path: Path, *, level: str | None = "warning", seed: int = 0) -> Run:
    """A finished run, without the minutes of a training."""
    torch.manual_seed(seed)
    run = Run(path)
    save_bundle(
        run.bundle_folder,
        model=Segmenter(network=UNet(**NETWORK), images=ImageSpec()),
        network={"_target_": "truemask.models.unet.UNet", **NETWORK},
        labels=LABELS,
        info={"epoch": 3, "step": 40 + seed},
        inputs=describe_images(photo(seed) for seed in range(12)).to_json(),
    )
    run.write_labels(LABELS)
    run.write_splits({"train": [f"secret/{i}" for i in range(12)], "test": ["a", "b", "c"]})
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 50, (8, 3, 3)) + 100 * np.eye(3, dtype=np.int64)
    losses = np.full(8, 0.5)
    result = score(matrices, losses, names=LABELS.names, resamples=200, seed=0)
    run.write_results({"test": result})
    environment = {"device": "cpu", "seed": 0, "versions": {"truemask": "0.1.0"},
                   "training": {"epochs": 4, "best_epoch": 3, "seconds": 75.0,
                                "class_shares": {"road": 0.5, "car": 0.1}}}  # fmt: skip
    run.write_environment(environment)
    if level is not None:
        finding = {"level": level, "code": "TM101", "message": ODD,
                   "where": "a.png", "remedy": "mend it", "evidence": {}}  # fmt: skip
        run.write_findings([finding])
    run.write_config(
        {
            "name": "streets",
            "data": {"dataset": {"_target_": "truemask.datasets.folder.folder",
                                 "root": "/home/me/photos"}, "batch_size": 4},
            "model": {"_target_": "truemask.models.unet.UNet", "widths": [4, 6]},
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
            "trainer": {},
        }
    )  # fmt: skip
    return run


@dataclass
class Hub:
    """A server that runs, and the Hub's own library pointed at it."""

    url: str
    patch: pytest.MonkeyPatch

    def ask(self, path: str, value: object = None) -> object:
        """A request as a program makes it."""
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "text/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def put(self, repo: str, files: dict[str, bytes], *, gated: bool = False) -> str:
        """A repository of files; its commit."""
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        return str(self.ask(f"/_repo/{repo}", {"gated": gated, "files": encoded})["sha"])

    def use(
        self, home: Path, *, token: str | None = None, url: str | None = None, offline: bool = False
    ) -> None:
        """What the library reads from its environment, partly when it is imported."""
        constants = huggingface_hub.constants
        url = url or self.url
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_OFFLINE": offline,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            assert hasattr(constants, name)
            self.patch.setattr(constants, name, value)
        self.patch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        if token is None:
            self.patch.delenv("HF_TOKEN", raising=False)
        else:
            self.patch.setenv("HF_TOKEN", token)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(__file__).with_name("hub_server.py")
    process = subprocess.Popen([sys.executable, str(program), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/_requests", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def hub(server: str, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(server, monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "streets" / "one")


def ids(model: LoadedModel) -> list[list[int]]:
    """What it predicts of a grey image."""
    found: list[list[int]] = model.predict(np.full((40, 48, 3), 90, np.uint8)).ids.tolist()
    return found


def test_what_is_pushed_is_loaded_and_predicts_the_same(hub, finished, tmp_path) -> None:
    hub.use(tmp_path, token="writer")
    bundle = finished.load_bundle()
    first = push(finished, "me/streets", bundle, license="cc-by-4.0", data="Streets, CC BY 4.0")
    assert (first.url, first.private) == (f"{hub.url}/me/streets", False)
    assert set(first.files) == {"README.md", DESCRIPTION, WEIGHTS, INPUTS, "results.json"}
    info = hub.ask("/api/models/me/streets")
    assert info["sha"] == first.commit
    sizes = {file["rfilename"]: file["size"] for file in info["siblings"]}
    assert first.files == {name: sizes[name] for name in first.files}

    hub.use(tmp_path)  # nobody in particular
    model = truemask.load("me/streets")
    assert model.source == f"me/streets@{first.commit}"
    assert ids(model) == ids(truemask.load(finished.path))
    assert (model.bundle.labels, model.bundle.info) == (LABELS, bundle.info)
    assert model.predict(np.full((40, 48, 3), 255, np.uint8)).warnings

    # A second push, of other weights; the first stays under its commit, and without a connection.
    other = make_run(finished.path.parent / "two", seed=1)
    hub.use(tmp_path, token="writer")
    second = push(other, "me/streets", other.load_bundle(), license="mit")
    hub.use(tmp_path)
    assert truemask.load("me/streets").source == f"me/streets@{second.commit}"
    assert ids(truemask.load("me/streets")) == ids(truemask.load(other.path)) != ids(model)
    for offline in (False, True):
        hub.use(tmp_path, offline=offline)
        assert ids(truemask.load(f"hf://me/streets@{first.commit}")) == ids(model)


def test_a_local_folder_comes_first(hub, finished, tmp_path, monkeypatch) -> None:
    hub.use(tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.bundle_folder, tmp_path / "me" / "streets")
    assert truemask.load("me/streets").source == "me/streets"
    with pytest.raises(UsageError, match="me/street does not exist"):
        truemask.load("me/street")  # a slip loads no stranger's model


def test_an_exported_file_goes_along_and_goes_again(hub, finished, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxscript")
    hub.use(tmp_path, token="writer")
    bundle = finished.load_bundle()
    file = tmp_path / "streets.onnx"
    export(
        bundle, file, images=[LabelledImage(torch.full((3, 40, 48), 9, dtype=torch.uint8), None)]
    )
    pushed = push(finished, "me/with-onnx", bundle, license="mit", onnx=file)
    assert pushed.files["model.onnx"] == file.stat().st_size
    folder = tmp_path / "card"
    push(finished, "me/with-onnx", bundle, license="mit", onnx=file, folder=folder)
    assert "0 of 1,920 pixels of 1 images" in (folder / "README.md").read_text()
    # The code of the card does what the model does.
    Image.fromarray(photo(77)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = (folder / "README.md").read_text().split("```python\n")[1:]
    for block in blocks:
        exec(block.split("```")[0], {})
        written = np.asarray(Image.open(tmp_path / "mask.png"))
        expected = truemask.load(finished.path).predict("photo.jpg").ids
        assert (written == expected).mean() >= 0.999
        (tmp_path / "mask.png").unlink()
    assert len(blocks) == 2
    other = make_run(tmp_path / "runs" / "other", seed=1)
    with pytest.raises(UsageError, match="exported of another model"):
        push(other, "me/with-onnx", other.load_bundle(), license="mit", onnx=file)
    again = push(other, "me/with-onnx", other.load_bundle(), license="mit")
    assert "model.onnx" not in again.files
    there = {f["rfilename"] for f in hub.ask("/api/models/me/with-onnx")["siblings"]}
    assert there == {".gitattributes", *again.files}


def test_private_models_are_seen_by_their_owner_only(hub, finished, tmp_path) -> None:
    hub.use(tmp_path, token="writer")
    pushed = push(finished, "me/hidden", finished.load_bundle(), license="mit", private=True)
    assert pushed.private is True
    assert truemask.load("me/hidden").source.endswith(str(pushed.commit))
    for token in (None, "reader"):
        hub.use(tmp_path / str(token), token=token)
        with pytest.raises(UsageError, match=r"no folder me/hidden here.*or it is private"):
            truemask.load("me/hidden")


def test_each_refusal_of_a_push_is_one_line(hub, finished, tmp_path) -> None:
    bundle = finished.load_bundle()

    def refused(repo: str, token: str | None, url: str | None = None) -> str:
        hub.use(tmp_path, token=token, url=url)
        with pytest.raises(UsageError) as error:
            push(finished, repo, bundle, license="mit")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "log in" in refused("me/new", None)
    assert "does not know your token" in refused("me/new", "stolen")
    assert "may not write" in refused("me/new", "reader")
    assert "cannot be used" in refused("me/new", "writer", "http://127.0.0.1:9")
    assert "names no model of the Hub" in refused("new", "writer")
    assert "leave the revision out" in refused("me/new@main", "writer")
    hub.put("me/other", {"pytorch_model.bin": b"x"})
    with pytest.raises(UsageError, match="is no licence in the Hub's words"):
        push(finished, "me/new", bundle, license="Apache License 2.0")
    assert "holds something else (pytorch_model.bin" in refused("me/other", "writer")


def test_each_refusal_of_a_load_is_one_line(hub, tmp_path) -> None:
    def refused(source: str, **how: Any) -> str:
        hub.use(tmp_path, **how)
        with pytest.raises(UsageError) as error:
            truemask.load(source)
        assert "\n" not in str(error.value)
        return str(error.value)

    hub.put("they/other", {"pytorch_model.bin": b"x"})
    assert "no such model" in refused("they/nothing")
    assert "no such model" in refused("they/nothing", token="reader")
    assert "no such branch, tag or commit" in refused("they/other@v9")
    assert "cannot be reached" in refused("they/other", url="http://127.0.0.1:9")
    assert "cannot be reached" in refused("hf://they/other", offline=True)
    assert "does not know your token" in refused("they/other", token="stolen")
    assert "is no model of Truemask" in refused("they/other")
    hub.put("they/gated", {DESCRIPTION: b"{}", WEIGHTS: b"{}"}, gated=True)
    assert "accept terms" in refused("they/gated")


def test_nothing_but_three_files_is_downloaded(hub, finished, tmp_path) -> None:
    hub.use(tmp_path)
    files = {name: (finished.bundle_folder / name).read_bytes() for name in (DESCRIPTION, WEIGHTS)}
    hub.put("they/trap", {**files, "pytorch_model.bin": b"\x80", "modeling.py": b"exit(9)"})
    truemask.load("they/trap")
    asked = [line.split("/")[-1] for line in hub.ask("/_requests") if "they/trap/resolve" in line]
    assert set(asked) == {DESCRIPTION, WEIGHTS}
    hub.put("they/trap", {**files, WEIGHTS: b"bad"})
    with pytest.raises(UsageError, match="is not a safetensors file"):
        truemask.load("they/trap")


def test_the_command_line_finds_the_server_by_itself(server, finished, tmp_path) -> None:
    words = ["push", str(finished.path), "me/by-command", "--license", "mit", "--private", "--json"]
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "truemask", *words],
        env={**known, "HF_ENDPOINT": server, "HF_HOME": str(tmp_path), "HF_TOKEN": "writer",
             "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pushed = json.loads(done.stdout)
    assert (pushed["private"], pushed["url"]) == (True, f"{server}/me/by-command")


def test_a_model_of_the_hub_is_served(hub, finished, tmp_path) -> None:
    pytest.importorskip("httpx", reason="needs `pip install httpx`")
    import httpx

    files = {name: (finished.bundle_folder / name).read_bytes() for name in (DESCRIPTION, WEIGHTS)}
    commit = hub.put("they/roads", files)
    hub.use(tmp_path)
    found = find_source("hf://they/roads")
    assert (found.place, found.run) == (f"they/roads@{commit}", None)
    assert (found.name, found.version) == ("roads", commit[:8])
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    words = ["hf://they/roads", str(finished.path), "--engine", "torch", "--port", "0", "--json"]
    server = subprocess.Popen(
        [sys.executable, "-m", "truemask", "serve", *words],
        env={**known, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"),
             "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        text = ""
        while not text.endswith("\n}\n"):
            line = server.stdout.readline()
            assert line, "it ended"
            text += line
        said = json.loads(text)
        photo = io.BytesIO()
        Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(photo, "PNG")
        answer = httpx.post(f"{said['address']}/predict?format=mask", content=photo.getvalue())
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert said["models"][0]["name"] == "roads"
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert mask.tolist() == ids(truemask.load("they/roads"))


def test_the_card_is_valid_and_says_what_the_results_say(finished: Run, tmp_path: Path) -> None:
    bundle = finished.load_bundle()
    push(finished, "me/streets", bundle, license="cc-by-4.0", folder=tmp_path / "card")
    card = ModelCard.load(tmp_path / "card" / "README.md")
    card_data = yaml.safe_load(card.content.split("---")[1])
    assert card_data["license"] == "cc-by-4.0"
    assert card_data["library_name"] == "truemask"
    assert card_data["pipeline_tag"] == "image-segmentation"
    result = finished.results["test"]
    told = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert told["mean_iou"] == pytest.approx(result.iou, abs=1e-6)
    assert told["accuracy"] == pytest.approx(result.pixel_accuracy, abs=1e-6)
    assert {r.dataset_split for r in card.data.eval_results} == {"test"}
    text = card.text
    low, high = result.intervals["iou"]
    assert f"| {result.iou:.3f} | {low:.3f} to {high:.3f} |" in text
    for name in ("road", "car"):
        assert f"| {name} | {result.iou_per_class[name]:.3f} |" in text
    assert "<i>" not in text  # names are anybody's
    assert "&lt;i&gt;sky&lt;/i&gt; \\| x" in text
    assert "| warning | TM101 | …/a.png is \\| odd |" in text
    whole = "".join(file.read_text("utf-8", "replace") for file in (tmp_path / "card").iterdir())
    for secret in ("/home/me", "secret/", str(finished.path)):
        assert secret not in whole
    # Every row of a table has as many cells as its head.
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} <= {3, 4, 8}


def test_unfinished_and_faulty_runs_are_refused(tmp_path: Path) -> None:
    faulty = make_run(tmp_path / "a" / "faulty", level="error")
    bundle = faulty.load_bundle()
    with pytest.raises(UsageError, match=r"errors in .* \(TM101\)"):
        push(faulty, "me/x", bundle, license="mit", folder=tmp_path / "out")
    pushed = push(faulty, "me/x", bundle, license="mit", folder=tmp_path / "out", force=True)
    assert pushed.commit is None
    assert "The checks found 1 error" in (tmp_path / "out" / "README.md").read_text()
    faulty.discard_results()
    with pytest.raises(UsageError, match="is not finished"):
        push(faulty, "me/x", bundle, license="mit", folder=tmp_path / "out")
    push(faulty, "me/x", bundle, license="mit", folder=tmp_path / "out", force=True)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "there are no figures" in text
    assert not (tmp_path / "out" / "results.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        push(make_run(tmp_path / "b" / "fine"), "me/x", bundle, license="mit",
             folder=tmp_path / "mine")  # fmt: skip


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("user/name", HubId("user/name")),
        ("user/name@v1.0", HubId("user/name", "v1.0")),
        ("hf://user/name@refs/pr/1", HubId("user/name", "refs/pr/1", stated=True)),
        (Path("hf://user/name"), HubId("user/name", None, stated=True)),
        ("hf://here/name", HubId("here/name", None, stated=True)),
        ("here/name", None),
        ("/user/name", None),
        ("./user/name", None),
        ("user", None),
        ("a/b/c", None),
        ("../b", None),
    ],
)
def test_words_that_name_a_model_of_the_hub(word, found, tmp_path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_id(word) == found


@pytest.mark.parametrize("word", ["hf://name", "hf://", "hf://a/b/c", "hf://a b/c", "hf://../x"])
def test_what_is_no_name_is_one_line(word: str) -> None:
    with pytest.raises(UsageError, match="names no model of the Hub"):
        hub_id(word)
