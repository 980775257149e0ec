"""Trackio: by default its local store beside the runs."""

import os
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from truemask.training.tracker_client import Job, Place, Status, set_defaults


class Trackio:
    """Trackio, by default in its local store beside the runs, `<runs>/trackio`.

    Args:
        project: its project.
        space_id: a Hugging Face Space to log to; `None` takes `TRACKIO_SPACE_ID`.
        server_url: a server of one's own to log to; `None` takes `TRACKIO_SERVER_URL`.
    """

    def __init__(
        self,
        *,
        project: str = "truemask",
        space_id: str | None = None,
        server_url: str | None = None,
    ) -> None:
        self.project = project
        self.space_id = space_id
        self.server_url = server_url
        self._problem = ""

    def where(self, job: Job) -> str:
        """Server and project."""
        return f"{self.space_id} {self.server_url} {self.project}"

    def open(self, job: Job) -> Place:
        """Begin, or go on with the run of that name."""
        set_defaults(
            TRACKIO_DIR=str(Path(job.runs) / "trackio"),
            GRADIO_ANALYTICS_ENABLED="False",
            HF_HUB_DISABLE_TELEMETRY="1",
        )
        import trackio

        # It never raises: what goes wrong in its threads is a warning and nothing else.
        warnings.simplefilter("always")
        warnings.showwarning = self._notice
        self._trackio = trackio
        name = job.known or f"{job.experiment}/{job.name}"
        self._run = trackio.init(
            project=self.project,
            name=name,
            group=job.experiment,
            space_id=self.space_id,
            server_url=self.server_url,
            config={**job.parameters, "run_folder": job.folder},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._step = 0
        self._check()
        show = f"trackio show --project {shlex.quote(self.project)}"
        hint = f"TRACKIO_DIR={shlex.quote(os.environ['TRACKIO_DIR'])} {show}"
        return Place(id=name, hint=self._run.url or hint)

    def row(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Metrics."""
        self._log(dict(values), step)

    results = row

    def picture(self, path: Path, *, name: str, step: int) -> None:
        """An image at a step."""
        self._log({f"pictures/{name}": self._trackio.Image(str(path), caption=name)}, step)

    def file(self, path: Path) -> None:
        """An artifact."""
        self._run.log_artifact(path, name=f"{self._run.id}-{path.name}", type=path.stem)
        self._check()

    def close(self, status: Status) -> None:
        """Write what is left."""
        self._log({"status": status}, self._step)
        self._run.finish()
        self._check()

    def _log(self, values: dict[str, Any], step: int) -> None:
        self._step = max(self._step, step)
        self._run.log(values, step=step)
        self._flush()
        self._check()

    def _flush(self) -> None:
        """Write to the local store now, and have every failure told, not only the first.

        Trackio has no public call for either; where these are gone, its thread writes in time.
        """
        flush = getattr(self._run, "_flush_queues_inline", None)
        if flush is not None and self._run.url is None:
            getattr(self._run, "_warned_failures", set()).clear()
            flush()

    def _notice(self, message: Warning | str, *_: Any, **__: Any) -> None:
        if "trackio" in str(message).lower():
            self._problem = str(message)

    def _check(self) -> None:
        if self._problem:
            problem, self._problem = self._problem, ""
            raise RuntimeError(problem)
