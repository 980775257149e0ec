"""Prediction on a Ray cluster of two machines, held against prediction without it."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ray_cluster import TwoNodes, two_nodes
from truemask.bundle import load_bundle, save_bundle
from truemask.cluster import Called, call_on_cluster, joined
from truemask.errors import UsageError
from truemask.images import RGB
from truemask.inference import distributed
from truemask.inference.distributed import predict_on_ray
from truemask.inference.predict import predict
from truemask.inference.settings import Settings
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})


class SlowUNet(UNet):
    """Waits for the second machine, so that the first has not done it all; then takes its time."""

    pause = 0.0
    meeting: Path | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.meeting is not None:
            import ray

            (self.meeting / ray.get_runtime_context().get_node_id()).touch()
            until = time.monotonic() + 120
            while len(list(self.meeting.iterdir())) < 2 and time.monotonic() < until:
                time.sleep(0.05)
        time.sleep(self.pause)
        return super().forward(images)


ALLOW: dict[str, type[nn.Module]] = {"test_distributed.SlowUNet": SlowUNet}


@pytest.fixture(scope="module")
def cluster(s3_server: Any) -> Iterator[TwoNodes]:
    with two_nodes() as running:  # whose machines know the server, too
        import ray

        # The machines cannot import a test.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        with joined(running.address) as machines:  # once, as each time takes seconds
            assert [node.cpus for node in machines] == [1, 1]
            yield running


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the cluster's processes: other threads add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"in_channels": 3, "out_channels": 3, "widths": [8, 16]}
    torch.manual_seed(0)
    model = Segmenter(network=SlowUNet(**settings), images=RGB)
    nn.init.normal_(model.network.head.weight)  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("run") / "model"
    network = {"_target_": "test_distributed.SlowUNet", **settings}
    save_bundle(folder, model=model, network=network, labels=LABELS, info={})
    return folder


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """24 images of several sizes, one of them cut off, in the working folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    files = [Path("in", f"{name:02d}.png") for name in range(24)]
    Path("in").mkdir()
    for number, file in enumerate(files):
        size = (20 + number, 44 - number, 3)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(file)
    files[5].write_bytes(files[5].read_bytes()[:200])
    return files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Called]:
    """What came back from the cluster, in this order."""
    found: list[Called] = []

    def watched(*args: Any) -> Iterator[Called]:
        for called in call(*args):
            found.append(called)
            yield called

    call = distributed.call_on_cluster
    monkeypatch.setattr(distributed, "call_on_cluster", watched)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
def test_an_error_on_a_machine_is_one_line_here(cluster: TwoNodes) -> None:
    def make() -> Callable[[int], int]:
        def invert(number: int) -> int:
            if number == 3:
                raise UsageError("no inverse of 3: leave it out")
            return -number

        return invert

    assert {each.index: each.value for each in call_on_cluster(make, [4, 5])} == {0: -4, 1: -5}
    with pytest.raises(UsageError, match="^no inverse of 3: leave it out$"):
        list(call_on_cluster(make, range(100)))


@pytest.mark.slow
def test_the_machines_fetch_from_a_bucket_themselves(
    cluster: TwoNodes, bundle_folder: Path, images: list[Path], calls: list[Called]
) -> None:
    url = f"file://{images[0].parent.absolute()}"
    bundle = load_bundle(bundle_folder, allow=ALLOW)
    plain = predict(bundle, [url], Path("plain"))
    spread = predict_on_ray(
        bundle_folder, [url], Path("spread"), address=cluster.address, allow=ALLOW
    )
    assert contents(Path("spread")) == contents(Path("plain"))
    assert spread.written == plain.written
    assert [image.file for image in spread.written][0] == f"{url}/00.png"
    assert spread.failed == plain.failed
    assert [file for file, _ in spread.failed] == [f"{url}/05.png"]
    again = predict_on_ray(
        bundle_folder, [url], Path("spread"), address=cluster.address, allow=ALLOW
    )
    assert (len(again.written), len(again.kept)) == (0, 23)
    assert len(calls) == 24 + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of botocore and moto
def test_masks_go_into_a_bucket(
    cluster: TwoNodes, bundle_folder: Path, images: list[Path], s3_server: Any
) -> None:
    options: dict[str, Any] = {"settings": Settings(overlay=True)}
    plain = predict(load_bundle(bundle_folder, allow=ALLOW), [Path("in")], Path("plain"), **options)
    how: dict[str, Any] = {"address": cluster.address, "allow": ALLOW, **options}
    out = "s3://bucket/masks"
    left = Path(".07.png.0123abcd.part")  # in the working folder, which is no one's of these
    left.touch()
    spread = predict_on_ray(bundle_folder, [Path("in")], out, **how)
    assert spread.written == plain.written
    assert spread.failed == plain.failed
    found = {name.removeprefix("bucket/masks/"): name for name in s3_server.find("bucket/masks")}
    there = {name: s3_server.cat_file(found[name]) for name in found if name[0] != "."}
    assert there == contents(Path("plain"))
    again = predict(load_bundle(bundle_folder, allow=ALLOW), [Path("in")], out, **options)
    assert (again.written, again.kept) == ([], plain.written)
    assert left.exists()


@pytest.mark.slow
def test_a_cluster_writes_what_predict_writes_though_a_machine_is_lost(
    cluster: TwoNodes,
    bundle_folder: Path,
    images: list[Path],
    calls: list[Called],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lost: list[int] = []
    counts: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        counts.append((done, total))
        if not lost and len({called.node for called in calls}) == 2:
            cluster.kill_second()
            lost.append(done)

    options: dict[str, Any] = {"settings": Settings(overlay=True, probabilities=True)}
    inputs = [images[7], Path("in")]
    plain = predict(load_bundle(bundle_folder, allow=ALLOW), inputs, Path("plain"), **options)
    # As a process leaves it that is killed while it writes.
    Path("spread").mkdir()
    Path("spread", ".07.color.png.0123abcd.part").touch()
    monkeypatch.setattr(SlowUNet, "pause", 0.3)
    Path("meeting").mkdir()
    monkeypatch.setattr(SlowUNet, "meeting", Path("meeting").absolute())
    spread = predict_on_ray(
        bundle_folder,
        inputs,
        Path("spread"),
        address=cluster.address,
        allow=ALLOW,
        progress=progress,
        **options,
    )
    assert len(contents(Path("plain"))) == 23 * 4 + 1
    assert contents(Path("spread")) == contents(Path("plain"))
    assert spread.written == plain.written
    assert [file for file, _ in plain.failed] == ["in/05.png"]
    assert spread.failed == plain.failed
    assert counts == [(done, 24) for done in range(25)]
    assert lost[0] < 12, "nothing was left to do"
    # What it had finished comes first, what it was doing when it was lost comes from the other.
    assert len({called.node for called in calls[-8:]}) == 1
    assert capfd.readouterr().out == ""


def test_a_wrong_call_is_refused_before_the_cluster_is_joined(
    bundle_folder: Path, images: list[Path]
) -> None:
    nowhere = "127.0.0.1:1"
    for options, message in [
        ({"inputs": [Path("nothing")], "allow": ALLOW}, "nothing does not exist"),
        ({}, "SlowUNet"),
    ]:
        with pytest.raises(UsageError, match=message):
            predict_on_ray(
                bundle_folder, **{"inputs": images, "out": Path("out"), **options}, address=nowhere
            )
    assert not Path("out").exists()
