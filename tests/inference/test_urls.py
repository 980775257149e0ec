"""Images from the web, held against a server of this machine."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from truemask.cli import main
from truemask.errors import UsageError
from truemask.inference import urls
from truemask.inference.summary import read_summary
from truemask.inference.urls import fetch
from truemask.labels import LabelMap

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


class Handler(BaseHTTPRequestHandler):
    seed = 0

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/to/").replace("%3A", ":"))
            self.end_headers()
            return
        self.send_response(200 if path.endswith(".png") else 404)
        self.end_headers()
        if path == "/endless.png":
            for _ in range(300):
                self.wfile.write(bytes(1 << 16))
        elif path == "/slow.png":
            time.sleep(3)
        elif path == "/text.png":
            self.wfile.write(b"no image")
        elif path.endswith(".png"):
            self.wfile.write(png(Handler.seed))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_image_is_fetched_and_named(server: str, tmp_path: Path) -> None:
    file = fetch(f"{server}/a/x%20y.png?size=3", tmp_path, local=True)
    assert file == tmp_path / "x y.png"
    assert file.read_bytes() == png()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a/b/../..%2f..%2fetc%2fpasswd", "passwd"),
        ("http://a/%2e%2e%5c..%00x.png", "x.png"),
        ("http://a/", "image"),
        ("http://a/" + "y" * 500 + ".png", "y" * 96 + ".png"),
    ],
)
def test_names_lead_nowhere(url: str, name: str) -> None:
    assert urls._name(url) == name


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254",
             "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]", "2130706433"],
)  # fmt: skip
def test_local_addresses_are_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"an address of this machine or its network"):
        fetch(f"http://{host}:9/x.png", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_redirection_to_a_local_address_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = urls._connect
    asked: list[str] = []

    def first_is_public(host: str, port: int, timeout: float, *, local: bool) -> socket.socket:
        asked.append(host)
        return connect(host, port, timeout, local=len(asked) == 1)

    monkeypatch.setattr(urls, "_connect", first_is_public)
    with pytest.raises(UsageError, match="an address of this machine"):
        fetch(f"{server}/to/{server.replace(':', '%3A')}/a.png", tmp_path)
    assert len(asked) == 2


def test_a_redirection_to_a_file_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot fetch"):
        fetch(f"{server}/to/file%3A///etc/passwd", tmp_path, local=True)


def test_limits(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="more than 1,000,000 bytes"):
        fetch(f"{server}/endless.png", tmp_path, local=True, max_bytes=1_000_000)
    with pytest.raises(UsageError, match="the server says 404 Not Found"):
        fetch(f"{server}/nothing", tmp_path, local=True)
    monkeypatch.setattr(urls, "_PAUSE_S", 0.5)
    with pytest.raises(UsageError, match="cannot fetch .*timed out"):
        fetch(f"{server}/slow.png", tmp_path, local=True)


def test_no_proxy_is_asked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(f"{server}/a.png", tmp_path, local=True).exists()


def test_the_command(
    server: str, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.png").write_bytes(png(3))
    words = ["predict", str(bundle_folder), f"{server}/a.png", "b.png", "--out", "out"]
    assert main(words) == 2
    assert "is a URL: --allow-urls public" in capsys.readouterr().err
    assert main([*words, "--allow-urls", "public"]) == 1
    assert "an address of this machine" in capsys.readouterr().err
    assert main([*words, "--allow-urls", "any", f"{server}/text.png", f"{server}/no"]) == 1
    error = capsys.readouterr().err
    assert f"skipped {server}/text.png is no JPEG" in error
    assert f"skipped cannot fetch {server}/no: the server says 404" in error
    rows = read_summary(Path("out"), LABELS)
    assert {mask: row["file"] for mask, row in rows.items()} == {
        "b.png": "b.png",
        "a.png": f"{server}/a.png",
    }
    assert main([*words, "--allow-urls", "any"]) == 0
    assert capsys.readouterr().out.startswith("2 masks of this model")
    monkeypatch.setattr(Handler, "seed", 1)  # another picture at the same address
    assert main([*words, "--allow-urls", "any"]) == 0
    assert "1 mask in out" in capsys.readouterr().out
