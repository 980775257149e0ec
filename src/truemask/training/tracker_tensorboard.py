"""TensorBoard: event files in the run folder."""

import shlex
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from truemask.training.tracker_client import Job, Place, Status


class TensorBoard:
    """Event files in the run folder; TensorBoard has no artifacts, so that files are left out."""

    def where(self, job: Job) -> str:
        """Always in the run."""
        return "tensorboard"

    def open(self, job: Job) -> Place:
        """Begin an event file; TensorBoard shows all files of the folder as one run."""
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
        from tensorboard.plugins.text import metadata
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._text_metadata, self._tensor = metadata.create_summary_metadata, tensor_pb2.TensorProto
        folder = Path(job.folder) / "tensorboard"
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000}.{socket.gethostname()}"
        self._file = (folder / name).open("xb", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in job.parameters.items()]
        self._text("parameters", "\n".join(["| setting | value |", "|---|---|", *lines]))
        return Place(id="tensorboard", hint=f"tensorboard --logdir {shlex.quote(job.runs)}")

    def row(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Scalars."""
        scalars = [self._summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        self._write(self._event(wall_time=time, step=step, summary=self._summary(value=scalars)))

    results = row

    def picture(self, path: Path, *, name: str, step: int) -> None:
        """An image, as it is in the file."""
        content = path.read_bytes()
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        image = self._summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=content
        )
        value = self._summary.Value(tag=f"pictures/{name}", image=image)
        self._write(
            self._event(wall_time=time.time(), step=step, summary=self._summary(value=[value]))
        )

    def file(self, path: Path) -> None:
        """Left out."""

    def close(self, status: Status) -> None:
        """Write the status, close the file."""
        self._text("status", status)
        self._file.close()

    def _text(self, tag: str, text: str) -> None:
        value = self._summary.Value(
            tag=tag,
            metadata=self._text_metadata(display_name=tag, description=""),
            tensor=self._tensor(dtype="DT_STRING", string_val=[text.encode()]),
        )
        self._write(self._event(wall_time=time.time(), summary=self._summary(value=[value])))

    def _write(self, event: Any) -> None:
        """Write a record whole or not at all, since no reader gets past half of one."""
        end = self._file.tell()
        try:
            self._records.write(event.SerializeToString())
        except OSError:
            self._file.seek(end)
            self._file.truncate()
            raise


def _cell(value: Any) -> str:
    """Text in a Markdown table."""
    return " ".join(str(value).replace("|", "\\|").split())
