"""A small model that several files predict with, and buckets.

One bucket is in memory, the other of a server of this machine that speaks S3.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from truemask.bundle import Bundle, load_bundle, save_bundle
from truemask.datasets import shard_server
from truemask.images import RGB
from truemask.inference import buckets
from truemask.labels import LabelMap
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter

NAMES = ("a/x.png", "b/x.png", "y.jpg", "y.png", "z.tif", "deep/er/w.png")


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundle lies; nothing may be written there."""
    network = {
        "_target_": "truemask.models.unet.UNet", "in_channels": 3, "out_channels": 3,
        "widths": [4, 8],
    }  # fmt: skip
    torch.manual_seed(0)
    model = Segmenter(network=build_network(network), images=RGB)
    nn.init.normal_(model.network.head.weight)  # type: ignore[union-attr]
    labels = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})
    place = tmp_path_factory.mktemp("run") / "model"
    save_bundle(place, model=model, network=network, labels=labels, info={})
    return place


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    """A test's own."""
    return load_bundle(bundle_folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder `photos` of six images, and of what is none."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    (tmp_path / "photos" / "notes.txt").write_text("none")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"none")
    return tmp_path / "photos"


@pytest.fixture
def memory(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same in memory://bucket/photos."""
    for module in (shard_server, buckets):
        monkeypatch.setattr(module, "PROTOCOLS", (*shard_server.PROTOCOLS, "memory"))
    monkeypatch.setattr(shard_server, "PAUSE_S", 0.0)
    system = fsspec.filesystem("memory")
    for file in photos.rglob("*"):
        if file.is_file():
            system.pipe_file(f"/bucket/photos/{file.relative_to(photos)}", file.read_bytes())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[Any]:
    """What fsspec knows of a server of this machine that speaks S3, with an empty bucket."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install 'truemask[s3]'")
    pytest.importorskip("moto", reason="needs the extra dev")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        patch.setattr(shard_server, "PAUSE_S", 0.0)
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem(use_listings_cache=False)
        system.mkdir("bucket")
        yield system
        system.rm("bucket", recursive=True)  # moto keeps all for as long as the process lives
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def s3(photos: Path, s3_server: Any) -> Iterator[str]:
    """The photos in that bucket."""
    for file in photos.rglob("*"):
        if file.is_file():
            s3_server.pipe_file(f"bucket/photos/{file.relative_to(photos)}", file.read_bytes())
    yield "s3://bucket/photos/"
    s3_server.rm("bucket", recursive=True)
    s3_server.mkdir("bucket")
