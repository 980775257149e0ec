"""Weights & Biases: on line for a user who is logged in, else into the run folder."""

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from truemask.training.tracker_client import Job, Place, Status, set_defaults


class WandB:
    """Weights & Biases: on line for a user who is logged in, else into the run folder.

    Args:
        project: `None` takes `WANDB_PROJECT`, or "truemask".
        entity: user or team; `None` leaves it to W&B.
        mode: `None` takes `WANDB_MODE`, or online where an API key is found, else offline.
        tags: of the run.
    """

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self.project = project
        self.entity = entity
        self.mode = mode
        self.tags = tags

    def where(self, job: Job) -> str:
        """Server, entity and project."""
        server = os.environ.get("WANDB_BASE_URL", "")
        return f"{server} {self.entity or os.environ.get('WANDB_ENTITY')} {self._project()}"

    def open(self, job: Job) -> Place:
        """Begin; offline where the server cannot be reached, so that nothing is lost."""
        set_defaults(
            WANDB_ERROR_REPORTING="false",
            WANDB_SILENT="true",
            WANDB_CONSOLE="off",
            WANDB_DISABLE_GIT="true",
            WANDB_DISABLE_CODE="true",
            WANDB_DIR=job.folder,
            WANDB_DATA_DIR=str(Path(job.folder) / "wandb"),
            WANDB_CACHE_DIR=job.folder,
            WANDB_INIT_TIMEOUT="20",
        )
        import wandb
        from wandb.errors import AuthenticationError, UsageError

        mode = self.mode or os.environ.get("WANDB_MODE")
        id_ = job.known or secrets.token_hex(4)
        problem = ""
        try:
            self._run = self._init(job, id_, mode or "online")
        except (UsageError, AuthenticationError) as error:  # no key, or a wrong one
            if mode is not None:
                problem = f"{error}"
            self._run = self._init(job, id_, "offline")
        except wandb.Error as error:
            problem = f"{error}"
            wandb.teardown(1)  # or the id would be taken by the attempt
            self._run = self._init(job, id_, "offline")
        folder = Path(self._run.dir).parent
        sync = f"wandb sync {shlex.quote(str(folder))}"
        return Place(
            id=id_,
            hint=self._run.url or sync,
            problem=problem and f"{problem}; it is kept offline",
            rescue=f"send it with `{sync}`",
        )

    def _init(self, job: Job, id_: str, mode: Any) -> Any:
        import wandb

        settings: dict[str, Any] = {
            "x_disable_meta": True,
            "x_save_requirements": False,
            "x_stats_pid": job.pid,
            # Whatever ends this process, all but the last moment is on disk.
            "x_transaction_log_flush_interval": 1.0,
            # Below `tracker_link.PATIENCE`: the run is closed on disk rather than killed.
            "finish_timeout": 8.0,
            "finish_timeout_raises": True,
        }
        return wandb.init(
            project=self._project(),
            entity=self.entity,
            id=id_,
            name=job.name,
            group=job.experiment,
            tags=self.tags or None,
            config={**job.parameters, "run_folder": job.folder},
            mode=mode,
            resume="allow" if mode == "online" else None,
            allow_val_change=True,
            settings=wandb.Settings(
                # Private settings may go with a new version, which must not end the logging.
                **{k: v for k, v in settings.items() if k in wandb.Settings.model_fields}
            ),
        )

    def row(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """A row of the history."""
        self._run.log(dict(values), step=step)

    def results(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """The summary."""
        self._run.summary.update(dict(values))

    def picture(self, path: Path, *, name: str, step: int) -> None:
        """An image at a step of the history."""
        import wandb

        self._run.log({f"pictures/{name}": wandb.Image(str(path), caption=name)}, step=step)

    def file(self, path: Path) -> None:
        """An artifact."""
        import wandb

        artifact = wandb.Artifact(f"run-{self._run.id}-{path.stem}", type=path.stem)
        # Neither staged nor cached: the run folder has the file already.
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact)

    def close(self, status: Status) -> None:
        """Send what is left."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "finished" else 1)

    def _project(self) -> str:
        return self.project or os.environ.get("WANDB_PROJECT") or "truemask"
