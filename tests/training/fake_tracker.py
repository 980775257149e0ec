"""A tracker for tests: writes down what it is asked for, and misbehaves where it is told to."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from truemask.training.tracker_client import Job, Place, Status

CALLS = ("open", "row", "results", "picture", "file", "close")


class FakeTracker:
    """Args: `log`, where calls are written; `bad`, calls that fail; `how` they fail; `times`."""

    def __init__(
        self, *, log: str, bad: Sequence[str] = (), how: str = "raise", times: int = 1_000_000
    ) -> None:
        self.log = Path(log)
        self.bad = bad
        self.how = how
        self.times = times

    def where(self, job: Job) -> str:
        return "here"

    def open(self, job: Job) -> Place:
        print("a library prints", flush=True)
        self._call("open", job.known, job.parameters)
        return Place(id=job.known or "fake-1", hint="look here")

    def row(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        self._call("row", step, values)

    def results(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        self._call("results", step, values)

    def picture(self, path: Path, *, name: str, step: int) -> None:
        self._call("picture", name, len(path.read_bytes()))

    def file(self, path: Path) -> None:
        self._call("file", path.name, path.stat().st_size)

    def close(self, status: Status) -> None:
        self._call("close", status, None)

    def _call(self, name: str, *what: Any) -> None:
        if name in self.bad and self.times > 0:
            self.times -= 1
            if self.how == "hang":
                time.sleep(1000)
            elif self.how == "die":
                os._exit(7)
            elif self.how == "exit":
                raise SystemExit(f"{name}: the library gives up")
            else:
                raise ConnectionError(f"{name} fails:\n\x1b[31mno route [bold]to host")
        with self.log.open("a") as file:
            file.write(json.dumps([name, *what]) + "\n")


def calls(log: Path) -> list[list[Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
