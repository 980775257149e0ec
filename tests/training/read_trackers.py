"""A program that reads one run back through each tracking library: prints JSON."""

import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_tensorboard(run: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    texts = {
        tag: [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)]
        for tag in tags["tensors"]
    }
    return {
        "scalars": {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in tags["scalars"]
        },
        "texts": texts,
        "images": {
            tag: [(image.width, image.height) for image in events.Images(tag)]
            for tag in tags["images"]
        },
    }


def read_mlflow(runs: Path) -> list[dict[str, Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("trees/first")
    assert experiment is not None
    found = []
    for run in client.search_runs([experiment.experiment_id]):
        id_ = run.info.run_id
        folders = ["", "pictures/test/best", "pictures/test/worst"]
        files = [file.path for folder in folders for file in client.list_artifacts(id_, folder)]
        found.append(
            {
                "id": id_,
                "name": run.info.run_name,
                "status": run.info.status,
                "uri": run.info.artifact_uri,
                "parameters": run.data.params,
                "tags": run.data.tags,
                "metrics": {
                    key: [
                        (point.step, point.value) for point in client.get_metric_history(id_, key)
                    ]
                    for key in run.data.metrics
                },
                "files": files,
            }
        )
    return found


def read_wandb(run: Path) -> list[dict[str, Any]]:
    """All offline runs of a run folder, from their transaction logs."""
    found = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        one: dict[str, Any] = {"history": [], "summary": {}, "artifacts": [], "files": []}
        for record in wandb_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one |= {"id": record.run.run_id, "group": record.run.run_group}
                one["config"] = {i.key: json.loads(i.value_json) for i in record.run.config.update}
            elif kind == "history":
                one["history"].append(
                    {_key(i): json.loads(i.value_json) for i in record.history.item}
                )
            elif kind == "summary":
                one["summary"] |= {_key(i): json.loads(i.value_json) for i in record.summary.update}
            elif kind == "artifact":
                one["artifacts"].append(record.artifact.type)
            elif kind == "files":
                one["files"] += [item.path for item in record.files.files]
            elif kind == "exit":
                one["exit"] = record.exit.exit_code
        found.append(one)
    return found


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a log in LevelDB's format: pieces in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole piece, or the last
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def read_trackio(runs: Path) -> list[dict[str, Any]]:
    os.environ["TRACKIO_DIR"] = str(runs / "trackio")
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    return [
        {
            "name": run.name,
            "config": run.config,
            "logs": SQLiteStorage.get_logs("truemask", run.name, run_id=run.id),
            "artifacts": [item["name"] for item in SQLiteStorage.get_artifacts("truemask")],
        }
        for run in trackio.Api().runs("truemask")
    ]


if __name__ == "__main__":
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    print(
        json.dumps(
            {
                "tensorboard": read_tensorboard(folder),
                "mlflow": read_mlflow(root),
                "wandb": read_wandb(folder),
                "trackio": read_trackio(root),
            }
        )
    )
