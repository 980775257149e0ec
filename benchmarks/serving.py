"""`truemask serve` under load against a bare loop over ONNX Runtime on the same images.

    python -m benchmarks.serving RUN IMAGES [--clients 64] [--seconds 120] [--size 256x256]

The loop is a process of its own that runs the same file in several ways (`LOOPS`), on images that
lie decoded in memory: no decoding, no encoding, no HTTP. It runs before and after the server, whose
rate is held against the best of all. The clients are one process that sends JPEG files over
connections that stay open; what they and the server take of the processors is measured.

Where other programs keep the cores busy, rates say little: the scheduler gives more to what has
more threads. With `--beside SECONDS` loop and server also run at once, and the time of a core that
an image costs each is compared: on cores that are never idle, the rate is its inverse.
"""

import argparse
import asyncio
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LOOPS = ((1, True), (1, False), (8, False))
"""Of the bare loop: images at once, and whether threads that wait spin, as is the default."""


def bare_loop(
    file: Path, images: list[bytes], *, seconds: float, batch: int, spinning: bool
) -> dict[str, float]:
    """Images a second of ONNX Runtime alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    arrays = [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images]
    count, at, started, spent = 0, 0, 0.0, 0.0
    end = float("inf")
    warm = 2
    while time.perf_counter() < end:
        chosen = [arrays[(at + i) % len(arrays)] for i in range(batch)]
        session.run(["mask", "confidence"], {"image": np.stack(chosen)})
        at += batch
        if warm:
            warm -= 1
            if not warm:
                started, spent = time.perf_counter(), time.process_time()
                end = started + seconds
        else:
            count += batch
    return {
        "images_per_second": count / (time.perf_counter() - started),
        "cpu_ms": 1e3 * (time.process_time() - spent) / count,
    }


async def _client(
    host: str,
    port: int,
    requests: list[bytes],
    end: float,
    seen: list[tuple[int, float]],
    lost: Counter[str],
) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    at = 0
    while time.perf_counter() < end:
        started = time.perf_counter()
        try:
            writer.write(requests[at % len(requests)])
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError) as error:
            lost[type(error).__name__] += 1
            reader, writer = await asyncio.open_connection(host, port)
            continue
        seen.append((int(head.split(b" ", 2)[1]), time.perf_counter() - started))
        at += 1
    writer.close()


async def _clients(
    address: str, images: list[bytes], *, clients: int, seconds: float
) -> dict[str, Any]:
    host, port = address.removeprefix("http://").split(":")
    requests = [
        b"POST /predict?format=mask HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        % (len(image), image)
        for image in images
    ]
    seen: list[tuple[int, float]] = []
    lost: Counter[str] = Counter()
    started = time.perf_counter()
    turned = [requests[i % len(requests) :] + requests[: i % len(requests)] for i in range(clients)]
    await asyncio.gather(
        *(_client(host, int(port), own, started + seconds, seen, lost) for own in turned)
    )
    took = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    waited = sorted(time for status, time in seen if status == 200)
    return {
        "images_per_second": len(waited) / took,
        "statuses": {str(status): count for status, count in Counter(s for s, _ in seen).items()},
        "lost": dict(lost),
        "median_seconds": statistics.median(waited),
        "p99_seconds": waited[int(0.99 * (len(waited) - 1))],
        "longest_seconds": waited[-1],
        "seconds": took,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


@contextmanager
def _server(run: Path, more: list[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "truemask", "serve", str(run), "--port", "0", "--json", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the server did not start")
            text += line
        yield process, json.loads(text)
    finally:
        process.terminate()
        process.wait()


def _metric(address: str, name: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _part(words: list[str]) -> dict[str, Any]:
    """Run a part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving", *words]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def read_images(folder: Path, size: str | None) -> list[bytes]:
    """Up to 32 of a folder as JPEG files, all of one size."""
    images = []
    for path in sorted(folder.iterdir())[:32]:
        picture = Image.open(path).convert("RGB")
        if size is not None:
            width, height = map(int, size.split("x"))
            picture = picture.resize((width, height))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=90)
        images.append(content.getvalue())
    return images


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--bare-seconds", type=float, default=20)
    parser.add_argument(
        "--beside", type=float, default=0, metavar="SECONDS", help="both at once, on busy cores"
    )
    parser.add_argument("--size", help="such as 256x256; default: the images' own")
    parser.add_argument("--part", choices=("bare", "clients"), help=argparse.SUPPRESS)
    parser.add_argument("--to", default="", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--spinning", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    images = read_images(options.images, options.size)
    if options.part == "bare":
        alone = bare_loop(
            options.run,
            images,
            seconds=options.seconds,
            batch=options.batch,
            spinning=options.spinning,
        )
        print(json.dumps(alone))
        return
    if options.part == "clients":
        measured = _clients(options.to, images, clients=options.clients, seconds=options.seconds)
        print(json.dumps(asyncio.run(measured)))
        return

    size = ["--size", options.size] if options.size else []
    with _server(options.run, []) as (process, said):  # also makes the file, if there is none
        address = said["address"]
        engine = said["models"][0]["engine"]
        file = max(
            (options.run / "exports").glob("serve-*.onnx"), key=lambda path: path.stat().st_mtime
        )

        rates: list[float] = []
        costs: list[float] = []

        def bare() -> None:
            for batch, spinning in LOOPS:
                words = [str(file), str(options.images), "--part", "bare", *size]
                more = ["--seconds", str(options.bare_seconds), "--batch", str(batch)]
                alone = _part([*words, *more, *(["--spinning"] if spinning else [])])
                rates.append(alone["images_per_second"])
                costs.append(alone["cpu_ms"])
                print(
                    f"bare loop, batch {batch}, threads {'spin' if spinning else 'sleep'}: "
                    f"{rates[-1]:.2f} images/s, {costs[-1]:.1f} ms of a core each",
                    flush=True,
                )

        def load(seconds: float, clients: int = options.clients) -> dict[str, Any]:
            words = [str(options.run), str(options.images), "--part", "clients", *size]
            more = ["--to", address, "--clients", str(clients), "--seconds", str(seconds)]
            return _part([*words, *more])

        cores = len(os.sched_getaffinity(0))
        print(f"{engine}, {len(images)} JPEG images {options.size or ''}, {cores} cores")
        bare()
        load(5)  # the first batches of each size allocate memory
        names = ("process_cpu_seconds_total", "truemask_batch_images_sum",
                 "truemask_batch_images_count")  # fmt: skip
        before = [_metric(address, name) for name in names]
        found = load(options.seconds)
        cpu, computed, batches = (
            _metric(address, name) - was for name, was in zip(names, before, strict=True)
        )
        memory = _metric(address, "process_resident_memory_bytes")
        _say(found, cpu=cpu, clients=options.clients, a_batch=computed / max(1, batches))
        bare()
        beside: dict[str, float] = {}
        if options.beside:
            words = [str(file), str(options.images), "--part", "bare", *size]
            with ThreadPoolExecutor(1) as pool:
                alone = pool.submit(_part, [*words, "--seconds", str(options.beside)])
                before = [_metric(address, name) for name in names]
                some = load(options.beside, clients=8)
                beside["bare"] = alone.result()["cpu_ms"]
            now = [_metric(address, name) for name in names]
            beside["server"], beside["images"] = now[0] - before[0], now[1] - before[1]
            beside["clients"] = some["cpu_seconds"]
        process.terminate()
        code = process.wait()
    print(f"rate: {found['images_per_second'] / max(rates):.1%} of the best bare loop's")
    if beside:
        mine = 1e3 * beside["server"] / beside["images"]
        both = mine + 1e3 * beside["clients"] / beside["images"]
        print(
            f"beside each other, time of a core an image: bare loop {beside['bare']:.1f} ms, "
            f"server {mine:.1f} ({beside['bare'] / mine:.1%}), with its clients {both:.1f} "
            f"({beside['bare'] / both:.1%})"
        )
    print(f"the server's memory {memory / 1e6:.0f} MB, its exit code {code}")


def _say(found: dict[str, Any], *, cpu: float, clients: int, a_batch: float) -> None:
    cores = len(os.sched_getaffinity(0))
    total = cores * found["seconds"]
    print(
        f"served to {clients} clients for {found['seconds']:.0f} s: "
        f"{found['images_per_second']:.2f} images/s, {a_batch:.1f} images a batch\n"
        f"answers by status: {found['statuses']}; without an answer: {found['lost'] or 'none'}\n"
        f"seconds to an answer: median {found['median_seconds']:.2f}, 99 of 100 "
        f"{found['p99_seconds']:.2f}, longest {found['longest_seconds']:.2f}\n"
        f"of the {cores} cores the server took {cpu / total:.1%}, the clients "
        f"{found['cpu_seconds'] / total:.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
