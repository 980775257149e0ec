"""What would be answered too late is refused at once, and nothing else is."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

pytest.importorskip("fastapi", reason="needs `pip install truemask[serve]`")
httpx = pytest.importorskip("httpx", reason="needs `pip install httpx`")

from serve_material import encoded, pixels, serving, small_bundle  # noqa: E402

from truemask.inference.engine import BatchPrediction, TorchEngine  # noqa: E402
from truemask.inference.serve_queue import Rate, ServedModel  # noqa: E402


@dataclass
class SteadyEngine:
    """Takes so many seconds for an image, whatever the processor does."""

    inner: TorchEngine
    seconds: float
    name = "steady"

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def predict(self, images, **how) -> BatchPrediction:
        ready = time.monotonic() + self.seconds * len(images)
        found = self.inner.predict(images, **how)
        time.sleep(max(0.0, ready - time.monotonic()))
        return found


def steady(seconds: float) -> tuple[ServedModel, SteadyEngine]:
    bundle = small_bundle()
    engine = SteadyEngine(TorchEngine(bundle), seconds)
    return ServedModel(name="roads", bundle=bundle, engine=engine), engine


def ask(address: str, content: bytes) -> tuple[int, float, dict]:
    started = time.monotonic()
    answer = httpx.post(f"{address}/predict?format=mask", content=content, timeout=60)
    return answer.status_code, time.monotonic() - started, dict(answer.headers)


def at_once(address: str, content: bytes, count: int) -> list[tuple[int, float, dict]]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: ask(address, content), range(count)))


def test_what_would_come_too_late_is_refused_at_once_and_the_rest_is_answered():
    model, engine = steady(0.2)
    content = encoded(pixels(20, 30))
    with serving(model, seconds=4, batch=1) as address:
        assert {ask(address, content)[0] for _ in range(10)} == {200}  # which is measured
        found = at_once(address, content, 60)
        statuses = [status for status, _, _ in found]
        # Of four seconds, twenty images at most; threads on a busy machine take of that.
        assert 10 <= statuses.count(200) <= 21
        assert statuses.count(503) >= 35
        assert statuses.count(504) <= 8
        late = [(seconds, headers) for status, seconds, headers in found if status == 503]
        assert max(seconds for seconds, _ in late) < 3
        assert all(1 <= int(headers["retry-after"]) <= 5 for _, headers in late)
        # Once those before are answered, images are taken again.
        assert ask(address, content)[0] == 200
        # A model that is faster all at once is known to be so after a few images.
        engine.seconds = 0.0
        assert {ask(address, content)[0] for _ in range(30)} == {200}
        assert {status for status, _, _ in at_once(address, content, 60)} == {200}


def test_before_anything_is_measured_all_are_taken():
    model, engine = steady(0.4)
    content = encoded(pixels(20, 30))
    with serving(model, seconds=0.5, batch=1) as address:
        statuses = [status for status, _, _ in at_once(address, content, 6)]
    assert set(statuses) <= {200, 504}
    assert 504 in statuses


def test_one_image_that_takes_too_long_is_tried_each_time():
    model, engine = steady(0.0)
    content = encoded(pixels(20, 30))
    with serving(model, seconds=0.4) as address:
        assert {ask(address, content)[0] for _ in range(12)} == {200}
        engine.seconds = 0.8
        assert ask(address, content)[0] == 504
        time.sleep(0.8)
        engine.seconds = 0.0
        assert ask(address, content)[0] == 200


def test_sixty_four_clients_are_all_answered():
    """Each sends the next image when it has its answer: no more than the queue takes ever wait."""
    model, _ = steady(0.004)
    content = encoded(pixels(20, 30))
    statuses: list[int] = []

    def client(address: str) -> None:
        with httpx.Client(timeout=60) as connection:
            for _ in range(4):
                answer = connection.post(f"{address}/predict?format=mask", content=content)
                statuses.append(answer.status_code)

    with serving(model) as address:
        clients = [threading.Thread(target=client, args=(address,)) for _ in range(64)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
    assert statuses == [200] * 256


def measured(*batches: tuple[int, int, float]) -> Rate:
    rate = Rate()
    for images, area, seconds in batches:
        rate.add(images, area, seconds)
    return rate


def test_the_time_of_images_of_one_size_is_told():
    assert measured(*[(1, 100, 0.5)] * 8).wait(10, 1000) == 0.0
    assert measured(*[(1, 100, 0.5)] * 9).wait(10, 1000) == pytest.approx(5.0)
    assert measured(*[(4, 400, 2.0)] * 20).wait(10, 1000) == pytest.approx(5.0)


def test_the_first_batch_counts_for_nothing():
    slow = [(1, 100, 60.0), *[(1, 100, 0.5)] * 9]
    assert measured(*slow).wait(10, 1000) == pytest.approx(5.0)


def test_a_halt_is_forgotten():
    rate = measured(*[(1, 100, 0.1)] * 20, (1, 100, 60.0), *[(1, 100, 0.1)] * 30)
    assert rate.wait(64, 6400) < 10


@pytest.mark.parametrize("overhead", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("sizes", [(10,), (1_000_000,), (10, 1000, 1_000_000), (500, 1_000_000)])
@pytest.mark.parametrize("waiting", [(10,), (1_000_000,), (10, 100_000), (4_000_000, 3)])
def test_images_of_other_sizes_are_never_told_to_take_longer(overhead, sizes, waiting):
    """An image that costs a call and its pixels, whatever was measured before."""

    def cost(area: int) -> float:
        return overhead + 1e-6 * area

    rate = measured(*[(1, area, cost(area)) for _ in range(200) for area in sizes])
    # One size among those that were measured weighs a little more, as the last of them.
    assert rate.wait(len(waiting), sum(waiting)) <= 1.6 * sum(map(cost, waiting)) + 1e-9
