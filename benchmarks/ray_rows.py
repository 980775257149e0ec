"""What the rows of a prediction on Ray cost: names of images in a bucket, no mask computed.

    python -m benchmarks.ray_rows 1000000

Prints seconds, names a second, and the most memory of this process and of all of Ray's together
(proportional set sizes, so that shared memory counts once; looked at every second).
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from truemask.cluster import call_on_cluster, joined
from truemask.datasets.shard_server import Server
from truemask.inference.distributed import Absolute
from truemask.inference.targets import find_targets


def names(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """As a bucket lists them."""
    for number in range(count):
        yield f"{number // 1000:04d}/image-{number:09d}.jpg", {"size": 9, "ETag": str(number)}


def memory(process: str) -> int:
    """Its share of the memory in bytes; 0 where it has ended."""
    try:
        lines = Path("/proc", process, "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def measure(most: dict[str, int], done: threading.Event) -> None:
    """Look at this process and at Ray's."""
    own = Path("/proc/self").resolve().name
    while not done.wait(1.0):
        others = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if folder.name != own and (b"ray::" in words or b"/ray/" in words):
                others += memory(folder.name)
        most["this process"] = max(most["this process"], memory(own))
        most["Ray"] = max(most["Ray"], others)


def make() -> Callable[[Any], str]:
    """A stub for the prediction, which returns about as much."""
    return lambda target: target.name * 10


def main(count: int) -> None:
    """Run and print."""
    Server.walk = lambda self: names(count)  # type: ignore[method-assign]
    most, done = {"this process": 0, "Ray": 0}, threading.Event()
    began = time.monotonic()
    targets = find_targets(["s3://bucket/photos/"], Path("out-that-is-not-there"))
    print(f"{len(targets):,} names in {time.monotonic() - began:.1f} s, "
          f"{memory('self') >> 20:,} MiB")  # fmt: skip
    with joined("local"):
        threading.Thread(target=measure, args=(most, done), daemon=True).start()
        began = time.monotonic()
        first, found = 0.0, 0
        for _ in call_on_cluster(make, Absolute(targets)):
            first = first or time.monotonic() - began
            found += 1
        took = time.monotonic() - began
        done.set()
    print(f"{found:,} results, the first after {first:.1f} s, all after {took:.1f} s: "
          f"{found / took:,.0f} a second")  # fmt: skip
    for name, size in most.items():
        print(f"{name}: {size >> 20:,} MiB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]))
