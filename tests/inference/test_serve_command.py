"""`truemask serve` as a process: what it prints, which engine it takes, how it ends under load."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi", reason="needs `pip install truemask[serve]`")
pytest.importorskip("onnxruntime", reason="needs `pip install truemask[onnx]`")
httpx = pytest.importorskip("httpx", reason="needs `pip install httpx`")

from serve_material import encoded, pixels  # noqa: E402

from truemask.bundle import save_bundle, save_temperature  # noqa: E402
from truemask.cli import main  # noqa: E402
from truemask.errors import UsageError  # noqa: E402
from truemask.images import ImageSpec  # noqa: E402
from truemask.inference import engine_choice  # noqa: E402
from truemask.inference.engine import OnnxEngine, TorchEngine  # noqa: E402
from truemask.inference.engine_choice import Choice, find_pictures, open_file  # noqa: E402
from truemask.inference.predict_image import predict_image  # noqa: E402
from truemask.inference.sources import find_source  # noqa: E402
from truemask.labels import LabelMap  # noqa: E402
from truemask.models.segmenter import Segmenter  # noqa: E402
from truemask.models.unet import UNet  # noqa: E402
from truemask.runs import Run, RunSample  # noqa: E402


def make_run(root: Path, *, seed: int = 0, pictures: int = 4) -> Run:
    run = Run.create(root, experiment="roads")
    run.write_config({"name": "roads"})
    torch.manual_seed(seed)
    network = {"in_channels": 3, "out_channels": 3, "widths": [4, 6]}
    labels = LabelMap(names=("a", "b", "c"), values={})
    save_bundle(
        run.bundle_folder,
        model=Segmenter(network=UNet(**network), images=ImageSpec()),
        network={"_target_": "truemask.models.unet.UNet", **network},
        labels=labels,
        info={},
    )
    truth = np.zeros((40, 56), np.uint8)
    run.write_samples(
        [
            RunSample(part="validation", kind="best", name=f"{i}", iou=None,
                      image=pixels(seed=i), truth=truth)
            for i in range(pictures)
        ]
    )  # fmt: skip
    return run


def choose_engine(path: Path, images: Path | None = None) -> Choice:
    """As the command does."""
    source = find_source(path)
    bundle = source.load()
    pictures = find_pictures(source, bundle.model.images, images)
    return engine_choice.choose_engine(source, bundle, pictures)


def open_exported(file: Path, run: Run) -> Choice:
    source = find_source(run.path)
    bundle = source.load()
    return open_file(file, source, bundle, find_pictures(source, bundle.model.images))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEMASK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs"))


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A server in a process, and what it said when it was ready."""
    command = [sys.executable, "-m", "truemask", "serve", *words, "--port", "0", "--json"]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        text = ""
        while not text.endswith("\n}\n"):
            line = started.stdout.readline()
            assert line, started.stderr.read()
            text += line
        yield started, json.loads(text)
    finally:
        started.kill()
        started.wait()
        started.stdout.close()
        started.stderr.close()


def test_onnx_runtime_is_taken_once_it_is_proven_and_kept(run):
    bundle = run.load_bundle()
    first = choose_engine(run.path)
    assert isinstance(first.engine, OnnxEngine)
    assert "4 pictures" in first.reason
    files = list((run.path / "exports").iterdir())
    assert [file.suffix for file in files] == [".onnx"]
    before = files[0].stat().st_mtime_ns
    second = choose_engine(run.path)
    assert isinstance(second.engine, OnnxEngine)
    assert files[0].stat().st_mtime_ns == before
    image = pixels(seed=9)
    found = second.engine.predict(image.transpose(2, 0, 1)[None]).ids[0]
    expected = predict_image(bundle, torch.from_numpy(image).permute(2, 0, 1)).ids.numpy()
    assert (found != expected).mean() <= 1e-3


def test_a_kept_file_that_says_something_else_is_made_anew(run, tmp_path):
    bundle = run.load_bundle()
    path = Path(run.path / "exports" / f"serve-{engine_choice.digest(bundle)}.onnx")
    choose_engine(run.path)
    good = path.read_bytes()
    other = make_run(tmp_path, seed=1)
    choose_engine(other.path)
    # Of other weights, under the name of these.
    path.write_bytes(next((other.path / "exports").iterdir()).read_bytes())
    assert "agrees" in choose_engine(run.path).reason
    assert len(path.read_bytes()) == len(good)
    path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="no ONNX file"):
        OnnxEngine(path)
    assert "agrees" in choose_engine(run.path).reason


def test_another_temperature_is_another_file(tmp_path):
    run = make_run(tmp_path)
    before = engine_choice.digest(run.load_bundle())
    save_temperature(run.bundle_folder, 2.0)
    assert engine_choice.digest(run.load_bundle()) != before


def test_torch_is_taken_where_nothing_can_be_proven(tmp_path, run, monkeypatch):
    bare = make_run(tmp_path, pictures=0)
    choice = choose_engine(bare.path)
    assert isinstance(choice.engine, TorchEngine)
    assert "no pictures" in choice.reason
    monkeypatch.setattr(engine_choice, "find_spec", lambda name: None)
    choice = choose_engine(run.path)
    assert isinstance(choice.engine, TorchEngine)
    assert "truemask[onnx]" in choice.reason


@pytest.fixture
def bare(run, tmp_path) -> Path:
    """A copy of a run's bundle, with nothing of the run."""
    return Path(shutil.copytree(run.bundle_folder, tmp_path / "roads" / "model"))


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for at in range(20):
        (folder / f"{at:02}.png").write_bytes(encoded(pixels(seed=at)))
    return folder


def test_the_model_of_a_run_is_the_run_s(run, bare, tmp_path, monkeypatch):
    found = find_source(run.bundle_folder)
    assert found.run is not None
    assert found.run.path.samefile(run.path)
    assert (found.name, found.version) == ("roads", run.path.name)
    choose_engine(run.path)
    assert "in the run's exports" in choose_engine(run.bundle_folder).reason
    monkeypatch.chdir(run.bundle_folder)
    assert find_source(".").run.path.samefile(run.path)
    (tmp_path / "link").symlink_to(run.bundle_folder)
    assert find_source(tmp_path / "link").run.path.samefile(run.path)
    # One that was copied into another run's folder is not that run's.
    found = find_source(bare)
    assert (found.run, found.name, found.place) == (None, "roads", str(bare))
    copied = Path(shutil.copytree(bare, run.path / "copied"))
    assert find_source(copied).run is None
    shutil.rmtree(copied)


def test_a_bundle_is_proven_on_images_that_are_given_and_its_file_kept_in_the_cache(bare, photos):
    assert "--images DIR" in choose_engine(bare).reason
    cache = bare.parents[1] / "cache" / "serve"
    cache.mkdir(parents=True)
    others = [cache / f"serve-{at:016}.onnx" for at in range(12)]
    for at, other in enumerate(others):
        other.write_bytes(b"of another model")
        os.utime(other, (at, at))
    (cache / "notes.txt").write_text("mine")
    first = choose_engine(bare, photos)
    assert isinstance(first.engine, OnnxEngine)
    # Of the others, the seven that were used last are left.
    (file,) = set(cache.iterdir()) - {*others[5:], cache / "notes.txt"}
    assert len(list(cache.iterdir())) == 9
    assert f"on 10 pictures of {photos}; kept as {file}" in first.reason
    before, os_time = file.read_bytes(), file.stat().st_mtime_ns
    second = choose_engine(bare, photos)
    assert second.reason == f"kept as {file}"
    assert file.read_bytes() == before
    assert file.stat().st_mtime_ns > os_time  # so that files which are used stay
    assert sorted(path.name for path in bare.iterdir()) == ["model.json", "model.safetensors"]
    (photos / "00.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"00\.png"):
        choose_engine(bare, photos)


def test_a_run_that_cannot_be_written_to_is_served_from_the_cache(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    (run.path / "exports").write_text("a file in the way")
    assert "kept as" in choose_engine(run.path).reason
    (tmp_path / "cache" / "serve").rename(tmp_path / "elsewhere")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("another")
    choice = choose_engine(run.path)
    assert isinstance(choice.engine, TorchEngine)
    assert "TRUEMASK_CACHE" in choice.reason


def test_a_bundle_is_exported_and_served(bare, photos, capsys):
    out = bare.parent / "model.onnx"
    for words, wanted in ((["--out", str(out)], "--images DIR"),
                          (["--images", str(photos)], "--out FILE")):  # fmt: skip
        assert main(["export", str(bare), *words]) == 2
        assert wanted in capsys.readouterr().err
    assert main(["export", str(bare), "--images", str(photos), "--out", str(out)]) == 0
    assert main(["serve", str(bare), "--engine", "torch", "--images", str(photos)]) == 2
    assert "--images is for ONNX Runtime" in capsys.readouterr().err
    with process(str(bare), "--file", str(out), "--images", str(photos)) as (_, said):
        assert said["models"][0]["name"] == "roads"
        assert said["models"][0]["engine"] == "ONNX Runtime fp32"
        answer = httpx.post(f"{said['address']}/predict", content=encoded(pixels()))
        assert answer.json()["model"] == "roads"


def test_a_file_of_another_model_is_refused(run, tmp_path):
    other = make_run(tmp_path, seed=1)
    choose_engine(other.path)
    file = next((other.path / "exports").iterdir())
    assert open_exported(file, other).engine.name == "ONNX Runtime fp32"
    with pytest.raises(UsageError, match="gives other masks"):
        open_exported(file, run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--queue", "0"], "queue is 0"),
        (["--timeout", "-1"], "seconds is -1"),
        (["--port", "70000"], "--port is 70000"),
        (["--host", "host.invalid"], "cannot listen at host.invalid"),
        (["--threads", "-2"], "--threads is -2"),
        (["--drain", "-1"], "drain is -1"),
        (["--allowed-host", "http://roads"], "--allowed-host http://roads is no name"),
    ],
)
def test_wrong_usage_ends_with_one_line(run, capsys, words, said):
    assert main(["serve", str(run.path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken_ends_with_one_line(run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(run.path), "--port", port]) == 2
    assert "choose another --port" in capsys.readouterr().err


def test_two_runs_get_two_names(tmp_path):
    run, other = make_run(tmp_path), make_run(tmp_path, seed=1)
    words = (str(run.path), str(other.path), "--engine", "torch", "--allowed-host", "roads.org")
    with process(*words) as (started, said):
        names = [model["name"] for model in said["models"]]
        assert names == [f"roads-{run.path.name}", f"roads-{other.path.name}"]
        assert {model["engine"] for model in said["models"]} == {"PyTorch fp32"}
        content = encoded(pixels())
        for name in names:
            answer = httpx.post(f"{said['address']}/predict?model={name}", content=content)
            assert answer.json()["model"] == name
        for host, status in (("roads.org", 200), ("evil.example", 400)):
            answer = httpx.get(f"{said['address']}/models", headers={"Host": host})
            assert answer.status_code == status
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 0
        assert started.stdout.read() == ""


class Client(threading.Thread):
    """Sends one image after the other over one connection, until the server has had enough."""

    def __init__(self, address: str, content: bytes) -> None:
        super().__init__()
        host, port = address.removeprefix("http://").split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self.content = content
        self.statuses: list[int] = []
        self.lost: list[str] = []

    def run(self) -> None:
        try:
            self.connection.connect()
            self.ask()
        finally:
            self.connection.close()

    def ask(self) -> None:
        while True:
            try:
                self.connection.request("POST", "/predict?format=mask", self.content)
                answer = self.connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                return
            self.statuses.append(answer.status)
            if answer.getheader("connection") == "close":
                return  # told to go: nothing of it is unanswered


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_no_accepted_request_is_lost_when_the_server_stops_under_load(run, sent):
    content = encoded(pixels(240, 320))
    with process(str(run.path), "--engine", "torch", "--batch", "4") as (started, said):
        clients = [Client(said["address"], content) for _ in range(16)]
        for client in clients:
            client.start()
        time.sleep(1.5)
        started.send_signal(sent)
        for client in clients:
            client.join()
        assert started.wait(60) == 0
        assert started.stderr.read().count("\n") <= 1  # "preparing its engine"
    assert [lost for client in clients for lost in client.lost] == []
    assert {status for client in clients for status in client.statuses} == {200}
    assert min(len(client.statuses) for client in clients) >= 1


def test_while_it_drains_the_server_answers_and_says_so(run):
    content = encoded(pixels())
    with process(str(run.path), "--engine", "torch", "--drain", "2") as (started, said):
        assert httpx.get(f"{said['address']}/health").json()["status"] == "ready"
        started.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        health = httpx.get(f"{said['address']}/health")
        assert (health.status_code, health.json()) == (503, {"status": "draining"})
        answer = httpx.post(f"{said['address']}/predict", content=content)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert started.wait(30) == 0
