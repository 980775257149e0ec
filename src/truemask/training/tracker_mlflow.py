"""MLflow: a server, or by default a SQLite file beside the runs."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from truemask.training.tracker_client import Job, Place, Status, set_defaults


class MLflow:
    """MLflow, by default in a SQLite file beside the runs.

    Args:
        tracking_uri: the server or the store; `None` takes `MLFLOW_TRACKING_URI`, or
            `<runs>/mlflow.db`.
        experiment_name: `None` takes the run's experiment.
        artifact_location: where the files of a new experiment are kept; `None` leaves it to a
            server, and takes `<runs>/mlflow-artifacts` for a database.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment_name: str | None = None,
        artifact_location: str | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment_name
        self.artifact_location = artifact_location

    def where(self, job: Job) -> str:
        """Store and experiment."""
        return f"{self._given_uri() or 'local'} {self.experiment_name or job.experiment}"

    def open(self, job: Job) -> Place:
        """Begin a run, or set one that exists to running."""
        artifacts = Path(job.runs) / "mlflow-artifacts"
        set_defaults(
            MLFLOW_DISABLE_TELEMETRY="true",
            DO_NOT_TRACK="true",
            MLFLOW_HTTP_REQUEST_TIMEOUT="20",
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
            GIT_PYTHON_REFRESH="quiet",
            # Without it, a database's default folder for files is made in the working folder.
            _MLFLOW_SERVER_ARTIFACT_ROOT=str(artifacts),
        )
        from mlflow import MlflowClient

        uri = self._given_uri() or f"sqlite:///{Path(job.runs) / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=uri)
        server = re.match(r"https?://|databricks", uri) is not None
        location = self.artifact_location or (None if server else artifacts.as_uri())
        experiment = self._experiment(self.experiment_name or job.experiment, location)
        self._id = self._known(job.known) or self._begin(job, experiment)
        self._log_parameters(job.parameters)
        return Place(id=self._id, hint=_mlflow_hint(uri, experiment, self._id))

    def row(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Metrics."""
        from mlflow.entities import Metric

        metrics = [Metric(k, v, round(time * 1000), step) for k, v in values.items()]
        for start in range(0, len(metrics), 500):
            self._client.log_batch(self._id, metrics=metrics[start : start + 500])

    results = row

    def picture(self, path: Path, *, name: str, step: int) -> None:
        """An artifact in the folder `pictures`."""
        self._client.log_artifact(self._id, str(path), f"pictures/{Path(name).parent}")

    def file(self, path: Path) -> None:
        """An artifact."""
        self._client.log_artifact(self._id, str(path))

    def close(self, status: Status) -> None:
        """Set the status."""
        names = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
        self._client.set_tag(self._id, "status", status)
        self._client.set_terminated(self._id, names[status])

    def _given_uri(self) -> str | None:
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")

    def _experiment(self, name: str, location: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                # Another training made it in this moment.
                found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id)

    def _known(self, known: str | None) -> str | None:
        from mlflow.exceptions import MlflowException

        if known is None:
            return None
        try:
            self._client.update_run(known, status="RUNNING")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None  # it was deleted there
        return known

    def _begin(self, job: Job, experiment: str) -> str:
        tags = {
            "run_folder": job.folder,
            "mlflow.source.name": "truemask",
            "mlflow.source.type": "LOCAL",
        }
        made = self._client.create_run(experiment, run_name=job.name, tags=tags)
        return str(made.info.run_id)

    def _log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log those that the run lacks, as MLflow forbids to change a parameter."""
        from mlflow.entities import Param

        present = self._client.get_run(self._id).data.params
        new = [Param(k, str(v)[:6000]) for k, v in parameters.items() if k not in present]
        for start in range(0, len(new), 100):
            self._client.log_batch(self._id, params=new[start : start + 100])


def _mlflow_hint(uri: str, experiment: str, run: str) -> str:
    if uri.startswith("http"):
        server = re.sub(r"//[^/@]*@", "//", uri).rstrip("/")
        return f"{server}/#/experiments/{experiment}/runs/{run}"
    if uri.startswith("sqlite"):
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    return f"run {run}"
