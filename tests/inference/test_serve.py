"""The server, over HTTP: its answers are those of `predict_image`, its refusals have a status."""

import base64
import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

pytest.importorskip("fastapi", reason="needs `pip install truemask[serve]`")
httpx = pytest.importorskip("httpx", reason="needs `pip install httpx`")

from serve_material import (  # noqa: E402
    FORMATS,
    NAMES,
    encoded,
    pixels,
    served,
    serving,
    slow_model,
    small_bundle,
)

from truemask.bundle import Inputs  # noqa: E402
from truemask.checks.inputs import describe_images  # noqa: E402
from truemask.inference.doubt import find_doubt  # noqa: E402
from truemask.inference.engine import TorchEngine  # noqa: E402
from truemask.inference.overlay import overlay_image  # noqa: E402
from truemask.inference.predict_image import predict_image  # noqa: E402
from truemask.inference.serve_queue import ServedModel  # noqa: E402


@pytest.fixture(scope="module")
def address():
    with serving(served(), served("other", seed=1, names=("a", "b")), seconds=20) as place:
        yield place


@pytest.fixture(scope="module")
def bundle():
    return small_bundle()


def expected(bundle, image: np.ndarray) -> np.ndarray:
    return predict_image(bundle, torch.from_numpy(image).permute(2, 0, 1)).ids.numpy()


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_json_says_what_the_model_says(address, bundle):
    image = pixels()
    answer = httpx.post(f"{address}/predict", content=encoded(image), params={"mask": True})
    assert answer.status_code == 200
    said, ids = answer.json(), expected(bundle, image)
    assert (said["model"], said["width"], said["height"]) == ("roads", 56, 40)
    assert [c["name"] for c in said["classes"]] == list(NAMES)
    assert [c["pixels"] for c in said["classes"]] == np.bincount(ids.ravel(), minlength=3).tolist()
    assert sum(c["share"] for c in said["classes"]) == pytest.approx(1, abs=1e-5)
    assert said["confidence"] == pytest.approx(
        predict_image(bundle, torch.from_numpy(image).permute(2, 0, 1)).confidence, abs=1e-5
    )
    assert said["warnings"] == []
    np.testing.assert_array_equal(picture(base64.b64decode(said["mask"])), ids)


@pytest.mark.parametrize("how", ["body", "form"])
@pytest.mark.parametrize("format", ["mask", "color", "overlay"])
def test_a_mask_as_a_picture(address, bundle, format, how):
    image = pixels(31, 45)
    sent = {"content": encoded(image)} if how == "body" else {"files": {"image": encoded(image)}}
    answer = httpx.post(f"{address}/predict?format={format}", **sent)
    assert answer.status_code == 200
    ids = expected(bundle, image)
    if format == "mask":
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(picture(answer.content), ids)
    elif format == "color":
        shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
        np.testing.assert_array_equal(shown, bundle.labels.colorize(ids))
    else:
        assert answer.headers["content-type"] == "image/jpeg"
        wanted = overlay_image(image, ids, bundle.labels).astype(int)
        assert np.abs(picture(answer.content).astype(int) - wanted).mean() < 12


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_format_is_read(address, kind):
    answer = httpx.post(f"{address}/predict", content=FORMATS[kind](pixels()))
    assert answer.status_code == 200


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_photo_is_turned_upright(address, bundle, turned):
    image = pixels(24, 40)
    exif = Image.Exif()
    exif[0x0112] = turned
    content = encoded(image, "PNG", exif=exif)
    found = picture(httpx.post(f"{address}/predict?format=mask", content=content).content)
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(found, expected(bundle, upright))


def test_two_models_are_told_apart(address):
    listed = httpx.get(f"{address}/models").json()
    assert [model["name"] for model in listed] == ["roads", "other"]
    content = encoded(pixels())
    said = httpx.post(f"{address}/predict?model=other", content=content).json()
    assert said["model"] == "other"
    assert [c["name"] for c in said["classes"]] == ["a", "b"]
    assert httpx.post(f"{address}/predict?model=third", content=content).status_code == 404


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("format=xml", 400, "format"),
        ("formt=json", 400, "unknown parameter 'formt'"),
        ("mask=perhaps", 400, "mask"),
        ("model=../../etc/passwd", 404, "no such model"),
    ],
)
def test_unknown_words_are_refused(address, query, status, said):
    answer = httpx.post(f"{address}/predict?{query}", content=encoded(pixels()))
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert "passwd" not in answer.text


def test_other_addresses_and_methods(address):
    assert httpx.get(f"{address}/../etc/passwd").status_code == 404
    assert httpx.get(f"{address}/predict").status_code == 405
    assert httpx.get(f"{address}/docs").status_code == 404  # it would load scripts from elsewhere


def test_openapi_describes_all(address):
    described = httpx.get(f"{address}/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/models", "/health", "/metrics"}
    post = described["paths"]["/predict"]["post"]
    assert set(post["responses"]) >= {"200", "400", "404", "408", "413", "415", "422", "503", "504"}
    assert "multipart/form-data" in post["requestBody"]["content"]
    assert all(parameter["description"] for parameter in post["parameters"])


def test_health_and_metrics():
    with serving(served()) as address:
        content = encoded(pixels(10, 20))
        for _ in range(3):
            assert httpx.post(f"{address}/predict", content=content).status_code == 200
        httpx.post(f"{address}/predict", content=b"nothing")
        httpx.get(f"{address}/some/path/of/an/attacker")
        health = httpx.get(f"{address}/health")
        assert (health.status_code, health.json()["status"]) == (200, "ready")
        text = httpx.get(f"{address}/metrics").text
    assert 'truemask_requests_total{path="/predict",status="200"} 3.0' in text
    assert 'truemask_requests_total{path="/predict",status="415"} 1.0' in text
    assert 'truemask_requests_total{path="other",status="404"} 1.0' in text
    assert "attacker" not in text
    assert 'truemask_pixels_total{model="roads"} 600.0' in text
    assert 'truemask_batch_images_sum{model="roads"} 3.0' in text
    assert 'truemask_queue_images{model="roads"} 0.0' in text
    assert 'truemask_request_seconds_count{path="/predict"} 4.0' in text


def test_the_limits_on_bytes_and_pixels():
    with serving(served(), bytes=20_000, pixels=2_000) as address:
        noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        for sent in (encoded(noise), b"\x89PNG\r\n\x1a\n" + bytes(200_000)):
            answer = httpx.post(f"{address}/predict", content=sent)
            assert answer.status_code == 413
            assert "20,000 bytes" in answer.json()["detail"]
        answer = httpx.post(f"{address}/predict", content=(bytes(1000) for _ in range(50)))
        assert answer.status_code == 413  # in pieces, of no stated length
        answer = httpx.post(f"{address}/predict", content=encoded(pixels(40, 51)))
        assert answer.status_code == 413
        assert "2,000 pixels" in answer.json()["detail"]
        assert httpx.post(f"{address}/predict", content=encoded(pixels(40, 50))).status_code == 200


def test_a_length_that_is_far_too_large_is_refused_before_it_is_sent():
    with serving(served(), bytes=1000) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
            raw.settimeout(10)
            assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_concurrent_images_share_batches_and_get_their_own_masks(bundle):
    model, engine = slow_model()
    shapes = [(20, 30)] * 9 + [(24, 24)] * 4
    images = [pixels(*shape, seed=i) for i, shape in enumerate(shapes)]
    with serving(model, batch=4, seconds=20) as address, ThreadPoolExecutor(13) as pool:

        def ask(image: np.ndarray) -> np.ndarray:
            answer = httpx.post(
                f"{address}/predict?format=mask", content=encoded(image), timeout=20
            )
            assert answer.status_code == 200
            return picture(answer.content)

        waiting = [pool.submit(ask, image) for image in images]
        wait_for(lambda: queued(address) == 13)
        engine.free.set()
        for image, answer in zip(images, waiting, strict=True):
            np.testing.assert_array_equal(answer.result(), expected(bundle, image))
    assert sum(engine.batches) == 13
    assert max(engine.batches) == 4
    assert len(engine.batches) <= 6  # one that came first, 4 + 4, 4, and what is left


def queued(address: str) -> int:
    text = httpx.get(f"{address}/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("truemask_queue_images{"))
    return int(float(line.split()[-1]))


def wait_for(true, *, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_full_queue_says_when_to_come_again():
    model, engine = slow_model()
    content = encoded(pixels())
    with serving(model, queue=2, seconds=20) as address, ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(httpx.post, f"{address}/predict", content=content, timeout=20)
            for _ in range(2)
        ]
        wait_for(lambda: queued(address) == 2)
        refused = httpx.post(f"{address}/predict", content=content)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        engine.free.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert httpx.post(f"{address}/predict", content=content).status_code == 200


def test_large_images_do_not_fill_the_memory():
    """Eight images of the largest size may wait, but more than two small ones."""
    model, engine = slow_model()
    with (
        serving(model, pixels=1000, queue=30, seconds=20) as address,
        ThreadPoolExecutor(9) as pool,
    ):
        large = encoded(pixels(25, 40))
        waiting = [
            pool.submit(httpx.post, f"{address}/predict", content=large, timeout=20)
            for _ in range(8)
        ]
        wait_for(lambda: queued(address) == 8)
        assert httpx.post(f"{address}/predict", content=large).status_code == 503
        engine.free.set()
        assert {answer.result().status_code for answer in waiting} == {200}


def test_what_takes_too_long_is_given_up():
    model, engine = slow_model()
    with serving(model, seconds=0.5) as address:
        answers = [httpx.post(f"{address}/predict", content=encoded(pixels())) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [504, 504]
        engine.free.set()
        wait_for(lambda: queued(address) == 0)
        assert httpx.post(f"{address}/predict", content=encoded(pixels())).status_code == 200
    # The second was given up before its turn, and cost nothing.
    assert engine.batches == [1, 1]


def test_a_failure_says_nothing_of_the_inside(capsys):
    model, engine = slow_model()

    def fail(images, **how):
        raise RuntimeError("secret of /home/somebody")

    engine.predict = fail
    with serving(model) as address:
        answer = httpx.post(f"{address}/predict", content=encoded(pixels()))
        assert answer.status_code == 500
        assert answer.json() == {"detail": "the server failed at this request"}
        assert httpx.get(f"{address}/health").status_code == 200
        assert 'status="500"} 1.0' in httpx.get(f"{address}/metrics").text


def test_answers_are_not_kept_and_not_guessed_at(address):
    answer = httpx.post(f"{address}/predict", content=encoded(pixels()))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


def test_stopping_answers_what_was_accepted():
    model, engine = slow_model()
    content = encoded(pixels())
    with ThreadPoolExecutor(6) as pool:
        with serving(model, seconds=20) as address:
            waiting = [
                pool.submit(httpx.post, f"{address}/predict", content=content, timeout=20)
                for _ in range(6)
            ]
            wait_for(lambda: queued(address) == 6)
            threading.Timer(0.5, engine.free.set).start()
        assert [answer.result().status_code for answer in waiting] == [200] * 6
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


def test_a_photo_unlike_the_training_s_is_doubted():
    known = describe_images(pixels(seed=seed) for seed in range(30))
    bundle = replace(small_bundle(), inputs=Inputs(value=known.to_json(), file=Path("inputs.json")))
    model = ServedModel(name="roads", bundle=bundle, engine=TorchEngine(bundle))
    usual, strange = encoded(pixels(seed=3)), encoded(np.zeros((300, 400, 3), np.uint8))
    with serving(model) as address:
        said = httpx.post(f"{address}/predict", content=usual)
        assert said.json()["warnings"] == []
        assert said.json()["unlikeness"] <= 1
        assert "truemask-warning" not in said.headers
        said = httpx.post(f"{address}/predict", content=strange)
        doubt = find_doubt(bundle, torch.zeros(3, 300, 400, dtype=torch.uint8))
        assert said.json()["warnings"] == [doubt.warning]
        assert said.json()["unlikeness"] == pytest.approx(doubt.unlikeness, abs=1e-3)
        mask = httpx.post(f"{address}/predict?format=mask", content=strange)
        assert mask.headers["truemask-warning"] == doubt.warning
        counted = httpx.get(f"{address}/metrics").text
        assert 'truemask_doubtful_images_total{model="roads"} 2.0' in counted
