"""A tracker's process: what is delivered, tried again and given up, and what of it is said."""

import os
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_tracker import FakeTracker, calls, until

from truemask.errors import UsageError
from truemask.training.tracker_client import Job
from truemask.training.tracker_process import describe, serve
from truemask.training.tracker_trackio import Trackio


def deliver(client: FakeTracker, folder: Path, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    replies: list[dict[str, Any]] = []
    job = {"experiment": "e", "name": "n", "folder": ".", "runs": ".", "parameters": {}, "pid": 1}
    opening = {"kind": "open", "job": job, "saved": {}}
    messages = [{"number": i, **body} for i, body in enumerate([opening, *bodies])]
    serve(client, messages, replies.append, folder=folder)
    return replies


def row_message(step: int) -> dict[str, Any]:
    return {"kind": "row", "rows": [{"values": {}, "step": step, "time": 0.0}]}


CLOSE = {"kind": "close", "status": "finished"}


def test_what_failed_is_delivered_after_the_next_success(tmp_path: Path) -> None:
    client = FakeTracker(log=str(tmp_path / "log"), bad=["row"], times=3)
    replies = deliver(client, tmp_path, *(row_message(step) for step in range(1, 6)), CLOSE)
    steps = [what[1] for what in calls(tmp_path / "log") if what[0] == "row"]
    assert sorted(steps) == [1, 2, 3, 4, 5]
    assert replies[-1] == {"closed": True}
    assert not any("lost" in reply for reply in replies)


def test_a_message_that_is_refused_for_ever_holds_up_no_other(tmp_path: Path) -> None:
    client = FakeTracker(log=str(tmp_path / "log"), bad=["file"])
    file = {"kind": "file", "path": __file__}
    replies = deliver(client, tmp_path, file, row_message(1), row_message(2), CLOSE)
    assert [what[0] for what in calls(tmp_path / "log")] == ["open", "row", "row", "close"]
    (lost,) = [reply for reply in replies if "lost" in reply]
    assert lost == {"lost": 1, "reason": "file fails: [31mno route [bold]to host"}
    assert replies[-1] == {"closed": True}


def test_an_outage_of_any_length_loses_nothing(tmp_path: Path) -> None:
    client = FakeTracker(log=str(tmp_path / "log"), bad=["row"], times=40)
    replies = deliver(client, tmp_path, *(row_message(step) for step in range(1, 50)), CLOSE)
    steps = [what[1] for what in calls(tmp_path / "log") if what[0] == "row"]
    assert sorted(steps) == list(range(1, 50))
    assert not any("lost" in reply for reply in replies)


def test_a_training_that_was_killed_is_closed_as_failed(tmp_path: Path) -> None:
    deliver(FakeTracker(log=str(tmp_path / "log")), tmp_path, row_message(1))
    assert calls(tmp_path / "log")[-1] == ["close", "failed", None]


def test_what_trackio_only_warns_of_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(url=None, log=lambda values, step: None, finish=lambda: None)
    run._warned_failures = {"an earlier one"}

    def flush() -> None:
        if not run._warned_failures:  # as trackio does: of each kind the first only
            run._warned_failures.add("disk")
            warnings.warn("trackio failed to flush metric logs: disk I/O error", stacklevel=1)

    run._flush_queues_inline = flush
    module = SimpleNamespace(init=lambda **settings: run)
    monkeypatch.setitem(sys.modules, "trackio", module)
    for name in ("TRACKIO_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, str(tmp_path))
    tracker = Trackio()
    job = Job(experiment="e", name="n", folder=".", runs=".", parameters={}, pid=1)
    with warnings.catch_warnings():
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        tracker.open(job)
        for step in (1, 2):
            with pytest.raises(RuntimeError, match="disk I/O error"):
                tracker.row({"a": 1.0}, step=step, time=0.0)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb\x1b[0m\tc"), "a b[0m c"),
        (KeyError(), "KeyError"),
        (UsageError("cannot write x: the disk is full"), "cannot write x: the disk is full"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_a_reason_is_one_plain_line(error: Exception, line: str) -> None:
    assert describe(error) == line


def request() -> None:
    try:
        socket.create_connection(("127.0.0.1", 1)).close()
    except OSError as inner:
        raise RuntimeError("API request failed " + "x" * 500) from inner


def test_what_the_system_said_comes_first_of_a_reason() -> None:
    with pytest.raises(RuntimeError) as caught:
        request()
    assert describe(caught.value).startswith("Connection refused: API request failed xx")
    assert len(describe(caught.value)) == 200


def test_the_trackers_process_ends_when_the_training_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from truemask.training.tracker_link import Link
program = [sys.executable, "-P", "-m", "truemask.training.tracker_process"]
nothing = lambda *told: None
link = Link("fake", [*program, "fake_tracker", "FakeTracker", '{{"log": "log"}}'],
            warn=nothing, opened=nothing, delivered=nothing)
job = dict(experiment="e", name="n", folder=".", runs=".", parameters={{}}, pid=1)
link.send("open", job=job, saved={{}})
link.send("row", rows=[dict(values={{}}, step=10, time=0.0)])
while not os.path.exists("log") or '"row"' not in open("log").read(): pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False, env=env)
    assert done.returncode == -signal.SIGKILL
    until(lambda: calls(tmp_path / "log")[-1] == ["close", "failed", None])
    until(lambda: not list(tmp_path.glob("truemask-*")))
