"""Frames of videos, held against the frames that were encoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.images import RGB
from truemask.inference import videos
from truemask.inference.predict import predict
from truemask.inference.targets import find_targets
from truemask.inference.videos import frame_times, read_frame

av = pytest.importorskip("av")


def encode(path: Path, count: int = 25, rate: int = 10) -> Path:
    """A video whose n-th frame is of grey 10 n."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(count):
            pixels = np.full((48, 64, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def grey(path: Path, index: int) -> float:
    return float(read_frame(path, index, RGB).float().mean())


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_frames_come_in_order_and_by_number(tmp_path: Path, ending: str) -> None:
    path = encode(tmp_path / f"a{ending}")
    assert frame_times(path) == pytest.approx([n / 10 for n in range(25)], abs=1e-3)
    for index in [0, 1, 7, 24, 3, 3, 4, 0]:
        assert grey(path, index) == pytest.approx(10 * index, abs=3)
    with pytest.raises(UsageError, match="ends before frame 25"):
        read_frame(path, 25, RGB)
    assert grey(path, 2) == pytest.approx(20, abs=3)


def test_going_on_decodes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4")
    starts: list[Path] = []

    def counted(path: Path) -> Any:
        starts.append(path)
        return decode(path)

    decode = videos._decode
    monkeypatch.setattr(videos, "_decode", counted)
    for index in range(0, 25, 3):
        read_frame(path, index, RGB)
    assert len(starts) == 1


def test_every_tenth_frame_is_predicted(bundle: Bundle, tmp_path: Path) -> None:
    path = encode(tmp_path / "ü b.mp4")
    result = predict(bundle, [path], tmp_path / "out", every=10)
    assert [image.mask for image in result.written] == [
        "ü b/000000_00m00s000.png", "ü b/000010_00m01s000.png", "ü b/000020_00m02s000.png",
    ]  # fmt: skip
    with Image.open(tmp_path / "out" / result.written[2].mask) as mask:
        assert mask.size == (64, 48)
    assert len(predict(bundle, [path], tmp_path / "out", every=10).kept) == 3
    assert len(predict(bundle, [path], tmp_path / "out", every=5).written) == 2
    with pytest.raises(UsageError, match="--every 0"):
        predict(bundle, [path], tmp_path / "out", every=0)


def test_videos_of_one_name_keep_their_endings(tmp_path: Path) -> None:
    paths = [encode(tmp_path / "a.mp4", 2), encode(tmp_path / "a.mkv", 2)]
    names = {target.stem.parent.name for target in find_targets(paths, tmp_path / "out")}
    assert names == {"a.mp4", "a.mkv"}


def test_what_is_no_video(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("#EXTM3U\nhttp://127.0.0.1:9/x.ts\n")
    (tmp_path / "b.mov").write_bytes(encode(tmp_path / "c.mov").read_bytes()[:900])
    for name in ("a.mp4", "b.mov"):
        with pytest.raises(UsageError, match=rf"{name} is truncated, corrupt or no video"):
            predict(bundle, [tmp_path / name], tmp_path / "out")
