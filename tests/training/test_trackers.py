"""Experiment trackers: what they are told, and that nothing that happens there holds up a run."""

import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from fake_tracker import CALLS, calls, until
from rich.console import Console
from tracked_run import CONFIG, finish, make_run, row

from truemask.errors import JobFailed, UsageError
from truemask.runs import Run
from truemask.training import tracker_link, trackers
from truemask.training.tracker_content import (
    result_values,
    row_values,
)
from truemask.training.trackers import Trackers, check_trackers, open_trackers, read_setting


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=60)


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PATIENCE", 1.0), ("SHORTEST", 0.2), ("SILENCE", 0.3)):
        monkeypatch.setattr(tracker_link, name, seconds)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", "fake_tracker:FakeTracker")
    monkeypatch.setattr(trackers, "check_trackers", lambda setting: None)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# What may be given


def test_names_lists_and_mappings_are_one_setting() -> None:
    assert read_setting(None) == {}
    assert read_setting("tensorboard") == {"tensorboard": {}}
    assert read_setting(["tensorboard", "wandb"]) == {"tensorboard": {}, "wandb": {}}
    assert read_setting({"mlflow": {"experiment_name": "a"}, "trackio": None}) == {
        "mlflow": {"experiment_name": "a"},
        "trackio": {},
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tensorbord", "no logger is called 'tensorbord'; did you mean 'tensorboard'?"),
        (["mlflow", "wandbb"], "did you mean 'wandb'?"),
        (
            {"mlflow": {"tracking_url": "x"}},
            "logger.mlflow has no setting 'tracking_url'; did you ",
        ),
        (
            {"mlflow": {"experiment_name": 3}},
            "logger.mlflow.experiment_name is 3, but must be text",
        ),
        ({"wandb": {"mode": "on"}}, "logger.wandb.mode is 'on', but must be one of 'online', "),
        ({"tensorboard": {"folder": "x"}}, "logger.tensorboard has no setting 'folder'"),
        ({"mlflow": "http://host"}, "logger.mlflow is 'http://host', but must be a mapping"),
        (7, "logger is 7; give a name"),
        ([{"mlflow": {}}], "give a name"),
        ({"mlflow": {"tracking_uri": "https://me:secret@host"}}, "MLFLOW_TRACKING_PASSWORD"),
        ({"trackio": {"server_url": "http://h/?write_token=abc"}}, "TRACKIO_WRITE_TOKEN"),
    ],
)
def test_a_wrong_setting_is_named(setting: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_setting(setting)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_installed_is_said_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'truemask\[mlflow\]'"):
        check_trackers("mlflow")
    check_trackers(None)
    # A folder of that name is not the library, though Python would import it.
    (tmp_path / "wandb").mkdir()
    monkeypatch.undo()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match="wandb"):
        check_trackers("wandb")


# Through the process


def track(run: Run, console: Console, log: Path, **settings: Any) -> Trackers:
    setting = {"mlflow": {"log": str(log), **settings}}
    return open_trackers(setting, run=run, config=CONFIG, console=console)


@pytest.mark.usefixtures("fake")
def test_a_whole_run_is_told_in_order_and_goes_on_under_its_id(
    run: Run, console: Console, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with track(run, console, log) as tracked:
        for step in (10, 20):
            tracked.log_row(row(step))
        run.write_history([row(10), row(20)])
        tracked.finish(finish(run))
    told = calls(log)
    kinds = ["open", "file", "row", "row", "results", "picture", "picture", "file", "file", "close"]
    assert [what[0] for what in told] == kinds
    assert told[0][1] is None
    assert told[0][2]["optimizer.lr"] == 0.001
    assert told[2][1:] == [10, row_values(row(10))]
    assert told[4][1:] == [20, result_values(run.results)]
    assert [what[1] for what in told if what[0] == "file"] == [
        "config.yaml", "report.html", "results.json",
    ]  # fmt: skip
    assert told[-1] == ["close", "finished", None]
    assert output(console) == "mlflow: look here\n"
    # What a library prints is not among the results.
    assert capfd.readouterr().out == ""
    # Resumed: steps that were delivered are not delivered again, those that were not are.
    log.unlink()
    run.write_history([row(10), row(20), row(25)])
    with track(run, console, log) as tracked:
        tracked.log_row(row(20))
        tracked.log_row(row(30))
    told = calls(log)
    assert told[0][1] == "fake-1"
    assert [what[1] for what in told if what[0] == "row"] == [25, 30]
    assert told[-1] == ["close", "stopped", None]
    assert json.loads((run.path / "trackers.json").read_text())["mlflow"]["step"] == 30


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("call", CALLS)
def test_a_failure_in_any_call_is_a_line(
    call: str, run: Run, console: Console, tmp_path: Path
) -> None:
    with track(run, console, tmp_path / "log", bad=[call]) as tracked:
        tracked.log_row(row(10))
        tracked.finish(finish(run))
    lines = [line for line in output(console).splitlines() if "look here" not in line]
    assert lines[0] == f"mlflow cannot log, the training goes on: {call} fails: " + (
        "[31mno route [bold]to host"
    )
    assert len(lines) == 2
    assert lines[1].startswith("mlflow: not delivered: ")
    expected = {"results": "1 result", "close": "how the run ended", "open": "1 row"}
    assert expected.get(call, call) in lines[1]
    others = [what[0] for what in calls(tmp_path / "log")]
    if call != "open":
        assert set(others) == set(CALLS) - {call}


@pytest.mark.usefixtures("fake", "_short_waits")
@pytest.mark.parametrize("call", ["open", "row", "close"])
def test_a_call_that_hangs_holds_up_the_end_for_a_moment_only(
    call: str, run: Run, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with track(run, console, tmp_path / "log", bad=[call], how="hang") as tracked:
        tracked.log_row(row(10))
        start = time.monotonic()
        tracked.finish(finish(run))
        assert time.monotonic() - start < 60  # of 1000
    assert list((tmp_path / "temporary").iterdir()) == []
    assert "no answer within" in output(console)
    assert "not delivered: " in output(console)


@pytest.mark.usefixtures("fake", "_short_waits")
def test_silence_during_the_training_is_said_once(
    run: Run, console: Console, tmp_path: Path
) -> None:
    with track(run, console, tmp_path / "log", bad=["row"], how="hang") as tracked:
        for step in range(1, 8):
            tracked.log_row(row(step))
            time.sleep(0.1)
    assert output(console).count("no answer for 0 s; it is asked on\n") == 1
    assert "not delivered: 7 rows (no answer within " in output(console)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("how", "reason"), [("die", "ended with code 7"), ("exit", "the library gives up")]
)
def test_a_process_that_ends_is_a_line(
    how: str, reason: str, run: Run, console: Console, tmp_path: Path
) -> None:
    with track(run, console, tmp_path / "log", bad=["row"], how=how) as tracked:
        tracked.log_row(row(10))
        until(lambda: reason in output(console))
        tracked.log_row(row(20))
        tracked.finish(finish(run))
    assert "2 rows" in output(console)


@pytest.mark.usefixtures("fake", "_short_waits")
def test_a_queue_that_is_full_never_blocks(
    run: Run, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_link, "QUEUE", 5)
    with track(run, console, tmp_path / "log", bad=["open"], how="hang") as tracked:
        start = time.monotonic()
        for step in range(2000):
            tracked.log_row({**row(1), "step": step, "note": "x" * 100})
        assert time.monotonic() - start < 60  # of 1000
    assert "2000 rows" in output(console)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("error", "status"), [(JobFailed("by SIGTERM"), "stopped"), (RuntimeError("bug"), "failed")]
)
def test_how_the_training_ended_is_told(
    error: Exception, status: str, run: Run, console: Console, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), track(run, console, tmp_path / "log"):
        raise error
    assert calls(tmp_path / "log")[-1] == ["close", status, None]


@pytest.mark.usefixtures("fake")
def test_a_damaged_state_and_a_full_disk_are_lines(
    run: Run, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.path / "trackers.json").write_text('{"mlflow": {"id": "../x", "where": "", "step": 0}}')

    def full(path: Path, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trackers, "write_json", full)
    with track(run, console, tmp_path / "log") as tracked:
        tracked.finish(finish(run))
    assert "trackers.json" in output(console)
    assert "No space left on device" in output(console)
    assert calls(tmp_path / "log")[-1] == ["close", "finished", None]


@pytest.mark.usefixtures("fake")
def test_a_process_that_cannot_be_started_is_a_line(
    run: Run, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with track(run, console, tmp_path / "log") as tracked:
        tracked.log_row(row(10))
        tracked.finish(finish(run))
    assert "its process cannot be started: " in output(console)
    assert "No such file" in output(console)
