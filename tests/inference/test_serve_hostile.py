"""Hostile and broken uploads, and slow clients: each gets its status, and the server goes on."""

import io
import re
import socket
import struct
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs `pip install truemask[serve]`")
httpx = pytest.importorskip("httpx", reason="needs `pip install httpx`")

from serve_material import FORMATS, encoded, pixels, served, serving  # noqa: E402

from truemask.inference import serve_http  # noqa: E402

PIXELS = 1_000_000
Case = tuple[str, bytes, set[int]]

INSIDE = re.compile(r"Traceback|site-packages|\.py|/tmp|/work|/home|/usr|/etc|0x[0-9a-f]{6}")
"""What an answer must not hold: paths, file names of programs, addresses in memory."""


def truncated() -> Iterator[Case]:
    for kind, encode in FORMATS.items():
        content = encode(pixels(60, 80))
        for cut in np.linspace(16, 0.85 * len(content), 18).astype(int):
            yield f"{kind} cut at {cut}", content[:cut], {422}
        for cut in range(1, 3):
            yield f"{kind} cut at {cut}", content[:cut], {415, 422}


def flipped() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for kind, encode in FORMATS.items():
        content = encode(pixels(30, 40))
        for at in rng.integers(4, min(len(content), 400), 20):
            broken = bytearray(content)
            broken[at] ^= int(rng.integers(1, 256))
            yield f"{kind} flipped at {at}", bytes(broken), {200, 413, 415, 422}


def noise() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for at in range(40):
        yield f"noise {at}", b"\x00" + rng.bytes(int(rng.integers(1, 5000))), {415}
    for kind, encode in FORMATS.items():
        start = encode(pixels())[:12]
        for at in range(6):
            yield f"{kind} and noise {at}", start + rng.bytes(2000), {413, 422}


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width: int, height: int, *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + body + chunk(b"IEND", b"")


def bombs() -> Iterator[Case]:
    """Images that state more pixels than are allowed, in few bytes."""
    for side in (1001, 20_000, 50_000, 2**31 - 1):
        yield f"PNG of {side}", png(side, side), {413} if side < 2**31 - 1 else {413, 422}
    gif = bytearray(FORMATS["GIF"](pixels()))
    gif[6:10] = b"\xff\xff\xff\xff"
    yield "GIF", bytes(gif), {413}
    bmp = bytearray(FORMATS["BMP"](pixels()))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield "BMP", bytes(bmp), {413}
    jpeg = bytearray(FORMATS["JPEG"](pixels()))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    yield "JPEG", bytes(jpeg), {413}
    white = Image.new("1", (40_000, 40_000))
    yield "TIFF of one colour", encoded(white, "TIFF", compression="group4"), {413}
    yield "PNG of one colour", encoded(Image.new("1", (8000, 8000))), {413}
    text = zlib.compress(bytes(80_000_000), 9)
    yield "PNG with text", png(5, 5, chunk(b"zTXt", b"x\0\0" + text)), {422}
    yield "PNG with a profile", png(5, 5, chunk(b"iCCP", b"x\0\0" + text)), {200, 422}
    many = png(5, 5, *[chunk(b"tEXt", b"a\0" + bytes([65]) * 200)] * 3000)
    yield "PNG with many texts", many, {200, 422}


def others() -> Iterator[Case]:
    yield "nothing", b"", {400}
    texts = (
        "<html><script>alert(1)</script>",
        '<svg xmlns="http://www.w3.org/2000/svg"/>',
        "{}",
        "/etc/passwd",
        "../../../etc/passwd\0.png",
        "%PDF-1.7",
        "#!/bin/sh\nid",
        "PK\x03\x04",
        "\x7fELF\x02",
        "\x80\x04\x95\x0b.",
        "GIF",
        "RIFF\x10\0\0\0WAVEfmt ",
    )
    for text in texts:
        yield text[:12], text.encode("latin-1"), {415}
    frames = [Image.fromarray(pixels(seed=seed)) for seed in range(3)]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        several = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        yield f"{kind} of three frames", several, {422}
    yield "no pixels", png(0, 5), {422}
    half = np.dstack([pixels(), np.full((40, 56), 128, np.uint8)])
    yield "half transparent", encoded(half), {422}
    yield "12 bits", encoded(Image.fromarray(np.full((9, 9), 4000, np.uint16))), {422}
    yield "floats", encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), {422}
    exif = b"Exif\0\0MM\0*" + bytes(range(256)) * 20
    yield "EXIF of noise", encoded(pixels(), "JPEG", exif=exif), {200, 422}


CASES = [*truncated(), *flipped(), *noise(), *bombs(), *others()]


def test_the_cases_are_many():
    assert len(CASES) >= 300
    assert len([1 for _, _, wanted in CASES if 200 not in wanted]) >= 200


def test_every_hostile_upload_gets_its_status_and_the_server_goes_on():
    good = encoded(pixels())
    wrong = []
    with serving(served(), pixels=PIXELS) as address, httpx.Client(timeout=30) as client:
        before = client.post(f"{address}/predict?format=mask", content=good).content
        for at, (name, content, wanted) in enumerate(CASES):
            format = ("json", "mask", "color", "overlay")[at % 4]
            url = f"{address}/predict?format={format}"
            sent = {"content": content} if at % 2 else {"files": {"image": ("a.png", content)}}
            answer = client.post(url, **sent)
            if answer.status_code not in wanted:
                wrong.append((name, answer.status_code, answer.text[:200]))
            elif answer.status_code != 200:
                said = answer.json()["detail"]
                if INSIDE.search(said) or "\n" in said or len(said) > 400:
                    wrong.append((name, said))
        after = client.post(f"{address}/predict?format=mask", content=good).content
        assert client.get(f"{address}/health").status_code == 200
        text = client.get(f"{address}/metrics").text
    assert wrong == []
    assert before == after
    assert 'status="5' not in text
    assert 'truemask_queue_images{model="roads"} 0.0' in text


DISPOSITION = b"--x\r\nContent-Disposition: form-data"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", DISPOSITION + b"\r\n\r\na\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            DISPOSITION + b'; name="image"\r\n\r\ntext\r\n--x--\r\n',
        ),
        (
            "multipart/form-data; boundary=x; charset=rot13",
            DISPOSITION + b'; name="a"; filename="b"\r\n\r\n\r\n--x--\r\n',
        ),
        ("multipart/form-data; boundary=" + "y" * 4000, b"--" + b"y" * 4000),
        (
            "multipart/form-data; boundary=x",
            (DISPOSITION + b'; name="a"; filename="b"\r\n\r\na\r\n') * 3 + b"--x--",
        ),
        ("multipart/form-data; boundary=\xff\xfe", b"--\xff\xfe\r\n"),
    ],
)
def test_broken_forms(hostile, kind, body):
    answer = httpx.post(
        f"{hostile}/predict", content=body, headers={"content-type": kind.encode("latin-1")}
    )
    assert answer.status_code == 400
    assert not INSIDE.search(answer.text)


@pytest.fixture(scope="module")
def hostile():
    with serving(served(), seconds=1) as address:
        yield address


def test_a_name_that_leads_elsewhere_is_only_a_name(hostile):
    files = {"image": ("../../../../etc/passwd", encoded(pixels()), "text/html")}
    answer = httpx.post(f"{hostile}/predict", files=files)
    assert answer.status_code == 200
    assert "passwd" not in answer.text


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    ],
)
def test_what_is_no_request_gets_400_and_no_more(hostile, head):
    with connect(hostile) as raw:
        try:
            raw.sendall(head)
            said = raw.recv(500)
        except ConnectionError:
            said = b""  # closed while it was sending
        assert said == b"" or b" 400 " in said.split(b"\r\n")[0]
    assert httpx.get(f"{hostile}/health").status_code == 200


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)), timeout=10)
    return raw


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


def test_a_slow_body_is_given_up(hostile):
    with connect(hostile) as raw:
        raw.sendall(HEAD)
        started = time.monotonic()
        raw.settimeout(0.1)
        said = b""
        while not said:
            assert time.monotonic() - started < 5
            raw.sendall(b"x")
            try:
                said = raw.recv(1000)
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in said.lower()
        assert 0.8 < time.monotonic() - started < 3


@pytest.mark.parametrize("start", [b"", b"POST /predict HTTP/1.1\r\nHost:", HEAD[:-2]])
@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
def test_a_slow_head_is_given_up(monkeypatch, start, before):
    monkeypatch.setattr(serve_http, "HEAD_SECONDS", 0.6)
    monkeypatch.setattr(serve_http, "KEEP_ALIVE", 1)
    with serving(served()) as address, connect(address) as raw:
        if before:  # a whole request, then a slow one on the same connection
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        raw.sendall(start)
        said = raw.recv(1000)
        assert said == b""
        assert time.monotonic() - started < 4


def test_slow_clients_keep_nobody_else_waiting(hostile):
    good = encoded(pixels())
    slow = [connect(hostile) for _ in range(60)]
    try:
        for raw in slow:
            raw.sendall(HEAD + bytes(1000))
        started = time.monotonic()
        assert httpx.post(f"{hostile}/predict", content=good).status_code == 200
        assert time.monotonic() - started < 2
        said = [raw.recv(1000) for raw in slow]
    finally:
        for raw in slow:
            raw.close()
    assert {head.split(b"\r\n")[0] for head in said} == {b"HTTP/1.1 408 Request Timeout"}


def test_a_client_that_leaves_in_the_middle_costs_nothing(hostile):
    for _ in range(20):
        with connect(hostile) as raw:
            raw.sendall(HEAD + bytes(5000))
    content = io.BytesIO(encoded(pixels()))
    assert httpx.post(f"{hostile}/predict", content=content.read()).status_code == 200


def test_a_client_that_takes_no_answer_keeps_nothing_up(monkeypatch):
    monkeypatch.setattr(serve_http, "TAKING_SECONDS", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    content = encoded(noise, "BMP")  # whose overlay is more than the system's buffers hold
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with serving(served()) as address:
            host, port = address.removeprefix("http://").split(":")
            raw.connect((host, int(port)))
            head = f"POST /predict?format=overlay HTTP/1.1\r\nContent-Length: {len(content)}"
            raw.sendall(f"{head}\r\nHost: x\r\n\r\n".encode() + content)
            raw.settimeout(30)
            assert raw.recv(1) == b"H"  # it begins, and nothing more of it is taken
            time.sleep(1)
            assert httpx.get(f"{address}/health").status_code == 200
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 5  # nobody waited for it
