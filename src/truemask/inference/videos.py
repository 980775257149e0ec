"""Frames of videos, by PyAV (the extra `video`): which there are, and their pixels.

Only files of the usual containers are opened, by name and content, and nothing that one refers to:
FFmpeg would otherwise follow playlists to other files and to addresses.
"""

import atexit
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from truemask.datasets.reading import fit_samples
from truemask.errors import UsageError
from truemask.images import ImageSpec

SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"))
"""Endings of files that are taken for videos."""

_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
}


def frame_times(path: Path) -> list[float]:
    """The time of each frame of a video in seconds, in order; nothing is decoded.

    Raises:
        UsageError: it is no video that can be read, or PyAV is not installed.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        times = [
            float(packet.pts * stream.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
    return sorted(times)


def read_frame(path: Path, index: int, spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    """A frame as the model takes it, upright; those of one video are best asked for in order.

    Args:
        path: the video.
        index: of the frame, from 0 on.
        spec: what the model takes.

    Raises:
        UsageError: it cannot be decoded, or not be brought to `spec`.
    """
    with _lock:
        pixels = _playing.frame(path, index)
    fitted = fit_samples(pixels, path, spec)
    return torch.from_numpy(np.array(fitted.transpose(2, 0, 1), order="C"))


class _Playing:
    """The video that was read last, at the frame after that: going on costs no second decoding."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.following = 0
        self.frames: Generator[UInt8[np.ndarray, "H W 3"], None, None] | None = None

    def close(self) -> None:
        self.path = None
        if self.frames is not None:
            self.frames.close()
            self.frames = None

    def frame(self, path: Path, index: int) -> UInt8[np.ndarray, "H W 3"]:
        if path != self.path or index < self.following:
            self.close()
            self.path, self.following, self.frames = path, 0, _decode(path)
        assert self.frames is not None
        try:
            for decoded in self.frames:
                self.following += 1
                if self.following > index:
                    return decoded
        except UsageError:
            self.close()
            raise
        self.close()
        raise UsageError(
            f"{path} ends before frame {index}: it is truncated, replace it by a whole copy"
        )


_playing = _Playing()
_lock = threading.Lock()
# Its file is closed while PyAV is still there to close it.
atexit.register(_playing.close)


def _decode(path: Path) -> Generator[UInt8[np.ndarray, "H W 3"], None, None]:
    with _opened(path) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            yield np.rot90(pixels, k=round(frame.rotation / 90))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise UsageError(
            f"frames of videos need PyAV ({error}): pip install 'truemask[video]'"
        ) from error
    try:
        with av.open(str(path.absolute()), options=_OPTIONS) as container:
            if not container.streams.video:
                raise UsageError(f"{path} has no pictures: give a video")
            yield container
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{path} is truncated, corrupt or no video that can be read ({reason}): replace it by "
            "a whole copy"
        ) from error
