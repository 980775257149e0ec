"""Experiment trackers: what the run folder says, told to TensorBoard, MLflow, W&B and trackio too.

    truemask train photos/ logger=tensorboard
    truemask train photos/ logger=[tensorboard,mlflow]
    truemask train photos/ 'logger={mlflow: {tracking_uri: http://host:5000}, wandb: {}}'

The run folder is the truth and is written in any case. A tracker's failure is a line on the console
and nothing more: each works in a process of its own (`tracker_process`), which no step waits for.
"""

import base64
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from truemask.build import check_settings, nearest
from truemask.errors import JobFailed, UsageError
from truemask.files import write_json
from truemask.results import PartResult
from truemask.run_search import CONFIG
from truemask.runs import Run
from truemask.training.tracker_client import Status
from truemask.training.tracker_content import parameters, pictures, result_values, row_values
from truemask.training.tracker_link import LONGEST, Link
from truemask.training.tracker_process import describe
from truemask.untrusted import naming, read_object, safe_name

TRACKERS = {
    "tensorboard": "truemask.training.tracker_tensorboard:TensorBoard",
    "mlflow": "truemask.training.tracker_mlflow:MLflow",
    "wandb": "truemask.training.tracker_wandb:WandB",
    "trackio": "truemask.training.tracker_trackio:Trackio",
}
"""Word of `logger` -> its client; the word is the library's and the extra's name too."""

STATE = "trackers.json"
"""In the run folder: under which id each tracker has the run."""

_SECRETS = {
    "mlflow": "MLFLOW_TRACKING_URI or MLFLOW_TRACKING_PASSWORD",
    "trackio": "TRACKIO_WRITE_TOKEN",
}

_IN_A_HURRY = 5.0
"""Seconds for the end of trackers where the training failed, or was told to stop."""


def read_setting(setting: Any) -> dict[str, dict[str, Any]]:
    """Tracker -> its settings, of what `logger` was given: a name, names, or a mapping.

    Raises:
        UsageError: a tracker or a setting does not exist, or a value cannot be one.
    """
    if setting is None:
        return {}
    chosen = [setting] if isinstance(setting, str) else setting
    if isinstance(chosen, list) and all(isinstance(name, str) for name in chosen):
        chosen = dict.fromkeys(chosen)
    if not isinstance(chosen, Mapping):
        raise UsageError(
            f"logger is {setting!r}; give a name (logger=mlflow), names "
            "(logger=[tensorboard,mlflow]) or names with settings "
            "('logger={mlflow: {experiment_name: roads}}')"
        )
    settings = {}
    for name, value in chosen.items():
        if name not in TRACKERS:
            known = ", ".join(TRACKERS)
            raise UsageError(f"no logger is called {name!r}{nearest(name, TRACKERS)} ({known})")
        if value is not None and not isinstance(value, Mapping):
            raise UsageError(f"logger.{name} is {value!r}, but must be a mapping of settings")
        settings[name] = dict(value or {})
        _check(name, settings[name])
    return settings


def check_trackers(setting: Any) -> None:
    """Hold `logger` against what there is, before any data is read.

    Raises:
        UsageError: see `read_setting`; or a library is not installed.
    """
    for name in read_setting(setting):
        found = find_spec(name)
        # A folder of that name where the training was started is no library.
        if found is None or found.origin is None:
            raise UsageError(
                f"logger={name} needs a library that is not installed: "
                f"pip install 'truemask[{name}]'"
            )


def open_trackers(
    setting: Any, *, run: Run, config: Mapping[str, Any], console: Console
) -> "Trackers":
    """Begin to track a run, or go on with it; at once, as the trackers are waited for nowhere.

    Args:
        setting: the value of `logger`; `None` tracks nothing.
        run: its folder, with `environment.json`.
        config: the whole configuration, resolved.
        console: for a line where a tracker cannot be reached.

    Raises:
        UsageError: see `check_trackers`.
    """
    check_trackers(setting)
    return Trackers(read_setting(setting), run=run, config=config, console=console)


class Trackers:
    """The trackers of a run. As a context, it ends them however the training ends.

    No method raises because of a tracker, and only the end waits, for a few seconds.
    """

    def __init__(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        *,
        run: Run,
        config: Mapping[str, Any],
        console: Console,
    ) -> None:
        self.run = run
        self.console = console
        self._links: list[Link] = []
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._state = self._read_state() if settings else {}
        self._step = 0
        if settings:
            self._open(settings, config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stopped = isinstance(error, JobFailed | KeyboardInterrupt | SystemExit)
        self._close("stopped" if stopped or error is None else "failed", longest=_IN_A_HURRY)

    def log_row(self, row: Mapping[str, Any]) -> None:
        """A row of the history."""
        step = int(row["step"])
        self._step = max(self._step, step)
        self._send("row", rows=[{"values": row_values(row), "step": step, "time": time.time()}])

    def finish(self, results: Mapping[str, PartResult], *, status: Status = "finished") -> None:
        """Log the scores, some pictures and the report, which must be rendered; then end."""
        if not self._links:
            return
        values = result_values(results)
        self._send("result", values=values, step=self._step, time=time.time())
        with self._telling():
            for name, content in pictures(self.run.samples, self.run.labels):
                text = base64.b64encode(content).decode()
                self._send("picture", name=name, content=text, step=self._step)
        for file in (self.run.report_path, self.run.path / "results.json"):
            if file.exists():
                self._send("file", path=str(file.resolve()))
        self._close(status)

    def _open(self, settings: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]) -> None:
        environment: Mapping[str, Any] = {}
        with self._telling():
            environment = self.run.environment
        job = _job(self.run, config, environment)
        for name, values in settings.items():
            module, _, client = TRACKERS[name].partition(":")
            # -P: a file in the working folder must not stand for a module.
            program = [sys.executable, "-P", "-m", "truemask.training.tracker_process"]
            link = Link(
                name,
                [*program, module, client, json.dumps(values)],
                warn=self._say,
                opened=self._opened,
                delivered=self._delivered,
            )
            link.send("open", job=job, saved=self._state.get(name, {}))
            self._links.append(link)
        self._send("file", path=str((self.run.path / CONFIG).resolve()))
        with self._telling():
            now, history = time.time(), self.run.history
            steps = [int(row["step"]) for row in history]
            rows = [
                {"values": row_values(row), "step": step, "time": now}
                for row, step in zip(history, steps, strict=True)
            ]
            if rows:  # those that a tracker has already are not logged again
                self._step = steps[-1]
                self._send("row", rows=rows)

    def _send(self, kind: str, **content: Any) -> None:
        for link in self._links:
            link.send(kind, **content)

    def _close(self, status: Status, *, longest: float = LONGEST) -> None:
        """Tell all, then wait for all, so that the longest wait is all the waiting there is."""
        links, self._links = self._links, []
        try:
            for link in links:
                link.end(status)
            start = time.monotonic()
            for link in links:
                link.wait(start=start, longest=longest)
        finally:
            for link in links:
                link.kill()

    def _opened(self, name: str, told: Mapping[str, Any]) -> None:
        self._say(f"{name}: {told['hint']}")
        if told["problem"]:
            self._say(f"{name}: {told['problem']}")
        self._remember(name, {key: told[key] for key in ("id", "where", "step")})

    def _delivered(self, name: str, step: int) -> None:
        self._remember(name, {"step": max(step, self._state[name]["step"])})

    def _remember(self, name: str, item: Mapping[str, Any]) -> None:
        """Each tracker has a thread that calls this."""
        with self._telling(), self._lock:
            self._state[name] = {**self._state.get(name, {}), **item}
            write_json(self.run.path / STATE, self._state)

    def _read_state(self) -> dict[str, dict[str, Any]]:
        """Under which ids the run is known; anybody may have written the file."""
        state: dict[str, dict[str, Any]] = {}
        file = self.run.path / STATE
        with self._telling(), naming(file):
            for name, item in read_object(file).items() if file.exists() else ():
                safe_name(str(item["id"]), what="the id of a run")
                state[name] = {
                    "id": str(item["id"]),
                    "where": str(item["where"]),
                    "step": int(item["step"]),
                }
        return state

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say once what goes wrong, and go on."""
        try:
            yield
        except (ValueError, KeyError, OSError) as error:  # a UsageError is a ValueError
            line = f"trackers: {describe(error)}"
            if line not in self._said:
                self._said.add(line)
                self._say(line)

    def _say(self, line: str) -> None:
        # A server's words may hold escape sequences.
        line = "".join(letter if letter.isprintable() else " " for letter in line)
        with suppress(OSError, ValueError):  # the terminal may be gone
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _check(name: str, settings: Mapping[str, Any]) -> None:
    module, _, client = TRACKERS[name].partition(":")
    key = f"logger.{name}"
    check_settings(getattr(import_module(module), client), settings, key=key)
    for setting, value in settings.items():
        if isinstance(value, str) and re.search(r"://[^/\s]*:[^/@\s]*@|write_token=", value):
            raise UsageError(
                f"{key}.{setting} holds a password, which config.yaml would keep: give it in an "
                f"environment variable, such as {_SECRETS.get(name, 'WANDB_API_KEY')}"
            )


def _job(run: Run, config: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    folder = run.path.resolve()
    experiment = str(config["name"])
    depth = len(Path(experiment).parts)
    # A run that was moved may lie elsewhere than in runs/EXPERIMENT.
    inside = folder.parent.parts[-depth:] == Path(experiment).parts
    return {
        "experiment": experiment,
        "name": folder.name,
        "folder": str(folder),
        "runs": str(folder.parents[depth] if inside else folder.parent),
        "parameters": parameters(config, environment),
        "pid": os.getpid(),
    }
