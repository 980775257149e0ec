"""The tracking libraries themselves: what they stored is read back through each of them."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fake_tracker import until
from mlflow_server import MLflowServer
from rich.console import Console
from tracked_run import CONFIG, finish, make_run, row

from truemask.runs import Run
from truemask.training.trackers import TRACKERS, open_trackers

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in TRACKERS), reason="the trackers are not installed"
)


@pytest.fixture(scope="module", autouse=True)
def _no_account() -> Any:
    """Nobody is logged in anywhere, and the trackers' variables are not set."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_", "HF_")):
                patch.delenv(name)
        yield


class Tracked:
    """A run that all four tracked: to its end, and then resumed with a raised limit."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "the runs é"
        self.run = make_run(self.runs)
        self.home, self.work = folder / "home", folder / "work"
        self.console = Console(file=io.StringIO(), width=60)
        self.track(10)
        self.track(20)
        command = [sys.executable, str(Path(__file__).with_name("read_trackers.py"))]
        command += [str(self.runs), str(self.run.path)]
        read = subprocess.run(command, cwd=self.work, check=True, capture_output=True)
        self.stored = json.loads(read.stdout)

    def track(self, step: int) -> None:
        """Train once more."""
        with open_trackers(
            list(TRACKERS), run=self.run, config=CONFIG, console=self.console
        ) as tracked:
            self.run.write_history([*self.run.history, row(step)])
            tracked.log_row(row(step))
            # However busy the machine is, the end is not what is tested here.
            until(lambda: set(state(self.run)) == set(TRACKERS), seconds=120)
            until(lambda: all(s["step"] == step for s in state(self.run).values()), seconds=120)
            tracked.finish(finish(self.run))


def state(run: Run) -> dict[str, Any]:
    file = run.path / "trackers.json"
    return json.loads(file.read_text()) if file.exists() else {}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("home", "work"):
            (folder / name).mkdir()
        patch.setenv("HOME", str(folder / "home"))
        patch.chdir(folder / "work")
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.delenv(name, raising=False)
        yield Tracked(folder)


CURVE = [[10, 0.9], [20, 0.95]]


def test_nothing_is_written_elsewhere_and_nothing_goes_wrong(tracked: Tracked) -> None:
    assert list(tracked.work.iterdir()) == []
    assert list(tracked.home.iterdir()) == []
    assert {path.name for path in tracked.runs.iterdir()} == {
        "trees", "mlflow.db", "mlflow-artifacts", "trackio",
    }  # fmt: skip
    lines = tracked.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 8, lines
    assert f"tensorboard: tensorboard --logdir '{tracked.runs}'" in lines
    assert f"mlflow: mlflow ui --backend-store-uri 'sqlite:///{tracked.runs}/mlflow.db'" in lines


def test_tensorboard_reads_the_events(tracked: Tracked) -> None:
    stored = tracked.stored["tensorboard"]
    curve = stored["scalars"]["validation/iou"]
    assert curve == [[step, pytest.approx(value)] for step, value in CURVE]
    assert stored["scalars"]["test/iou_low"][0] == [10, pytest.approx(0.4)]
    assert "| optimizer.lr | 0.001 |" in stored["texts"]["parameters"][0]
    assert '["a\\|b"]' in stored["texts"]["parameters"][0]
    assert stored["texts"]["status"] == ["finished", "finished"]
    assert stored["images"]["pictures/test/best/a"] == [[148, 32]] * 2


def test_mlflow_has_one_run_that_went_on(tracked: Tracked) -> None:
    (stored,) = tracked.stored["mlflow"]
    assert stored["metrics"]["validation/iou"] == CURVE
    assert stored["metrics"]["test/iou"] == [[10, 0.5], [20, 0.5]]
    assert stored["metrics"]["test/iou_per_class/road_high"][-1] == [20, 0.9]
    assert stored["parameters"]["optimizer.lr"] == "0.001"
    assert stored["parameters"]["environment.versions.torch"] == "2"
    assert stored["status"] == "FINISHED"
    assert stored["tags"]["run_folder"] == str(tracked.run.path)
    assert stored["name"] == tracked.run.path.name
    assert stored["uri"].endswith(f"mlflow-artifacts/{stored['id']}/artifacts")
    assert set(stored["files"]) >= {
        "config.yaml", "report.html", "results.json", "pictures/test/best/a.png",
        "pictures/test/worst/b_ä_.x.png",
    }  # fmt: skip


def test_wandb_kept_it_offline_in_the_run_under_one_id(tracked: Tracked) -> None:
    first, second = tracked.stored["wandb"]
    assert first["id"] == second["id"] == state(tracked.run)["wandb"]["id"]
    rows = [*first["history"], *second["history"]]
    assert [[item["_step"], item["validation/iou"]] for item in rows] == CURVE
    assert first["config"]["optimizer.lr"] == 0.001
    assert first["config"]["run_folder"] == str(tracked.run.path)
    assert first["group"] == "trees/first"
    assert first["summary"]["test/iou_high"] == 0.6
    assert first["summary"]["status"] == "finished"
    assert first["exit"] == 0
    assert {"config", "report", "results"} == set(first["artifacts"])
    assert any("pictures/test/best/a" in path for path in first["files"])


def test_trackio_has_one_run_that_went_on(tracked: Tracked) -> None:
    (stored,) = tracked.stored["trackio"]
    assert stored["name"] == f"trees/first/{tracked.run.path.name}"
    rows = [log for log in stored["logs"] if "validation/iou" in log]
    assert [[log["step"], log["validation/iou"]] for log in rows] == CURVE
    assert any(log.get("test/iou") == 0.5 for log in stored["logs"])
    assert any("pictures/test/best/a" in log for log in stored["logs"])
    assert any("report.html" in name for name in stored["artifacts"])
    assert stored["config"]["optimizer.lr"] == 0.001


def quick_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_an_mlflow_server_that_comes_goes_and_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_mlflow(monkeypatch)
    run = make_run(tmp_path / "runs")
    server = MLflowServer(tmp_path / "artifacts")
    console = Console(file=io.StringIO(), width=60)

    def said() -> str:
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    setting = {"mlflow": {"tracking_uri": server.uri}}
    with open_trackers(setting, run=run, config=CONFIG, console=console) as tracked:
        until(lambda: "cannot log" in said(), seconds=60)  # it is refused
        tracked.log_row(row(10))
        server.start()
        time.sleep(5.2)  # the pause between attempts to open
        tracked.log_row(row(20))
        until(lambda: state(run).get("mlflow", {}).get("step") == 20)
        server.stop()
        tracked.log_row(row(30))
        server.start()
        tracked.log_row(row(40))
        until(lambda: server.steps() == {10, 20, 30, 40})
        server.stop()
        start = time.monotonic()
        tracked.finish(finish(run))
        assert time.monotonic() - start < 60
    assert said().count("cannot log, the training goes on") == 1
    assert "the training goes on: Connection refused: " in said()
    assert re.search("not delivered: .*1 result .Connection refused", said())
    assert server.requests("runs/create") == 1


def test_an_mlflow_server_that_accepts_and_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_mlflow(monkeypatch)
    monkeypatch.setattr("truemask.training.tracker_link.PATIENCE", 3.0)
    run = make_run(tmp_path / "runs")
    console = Console(file=io.StringIO(), width=60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        setting = {"mlflow": {"tracking_uri": uri}}
        with open_trackers(setting, run=run, config=CONFIG, console=console) as tracked:
            server.settimeout(60)
            connection, _ = server.accept()  # only now it hangs; before it was being imported
            with connection:
                tracked.log_row(row(10))
                start = time.monotonic()
                tracked.finish(finish(run))
                assert time.monotonic() - start < 60
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "mlflow: not delivered: 3 files, 2 pictures, 1 result, 1 row (no answer within" in text
