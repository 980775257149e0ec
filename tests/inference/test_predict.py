import csv
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor, nn
from torchvision import tv_tensors

from truemask.bundle import Bundle
from truemask.datasets.reading import read_image
from truemask.datasets.sample import Sample
from truemask.errors import UsageError
from truemask.evaluation import evaluate
from truemask.images import RGB, ImageSpec
from truemask.inference import predict_image as module
from truemask.inference import tally
from truemask.inference.overlay import overlay_image
from truemask.inference.predict import predict
from truemask.inference.predict_image import predict_image
from truemask.inference.settings import Settings
from truemask.labels import LabelMap
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})
BINARY = LabelMap(names=("background", "crack"), values={0: 0, 255: 1})


def make_bundle(
    labels: LabelMap = LABELS, images: ImageSpec = RGB, widths: Sequence[int] = (8, 16)
) -> Bundle:
    network = {
        "_target_": "truemask.models.unet.UNet",
        "in_channels": images.channels,
        "out_channels": labels.num_logits,
        "widths": list(widths),
    }
    torch.manual_seed(0)
    model = Segmenter(network=build_network(network), images=images)
    nn.init.normal_(model.network.head.weight)  # type: ignore[union-attr]
    nn.init.zeros_(model.network.head.bias)  # type: ignore[union-attr]
    return Bundle(model=model.eval(), labels=labels, network=network, info={})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle()


def photo(height: int, width: int, *, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    return Image.fromarray(coarse.astype(np.uint8)).resize((width, height))


def save(path: Path, height: int = 24, width: int = 32, *, seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(height, width, seed=seed).save(path, **options)
    return path


def written(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def ids_of(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as mask:
        assert mask.mode == "L"
        return np.array(mask)


class Photos:
    """Images with the masks that are to be compared with the predictions."""

    images = RGB

    def __init__(self, files: Sequence[Path], masks: Sequence[Path], labels: LabelMap) -> None:
        self.files, self.masks, self.labels = files, masks, labels
        self.names = [file.name for file in files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            image=read_image(self.files[index], RGB),
            mask=tv_tensors.Mask(torch.from_numpy(ids_of(self.masks[index]))),
            name=self.names[index],
        )


@pytest.mark.parametrize("labels", [LABELS, BINARY])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_predict_is_what_evaluate_counts_pixel_for_pixel(
    tmp_path: Path, labels: LabelMap, batch_size: int
) -> None:
    bundle = make_bundle(labels)
    sizes = [(24, 32), (37, 23), (61, 50)]
    files = [save(tmp_path / f"{i}.jpg", *size, seed=i) for i, size in enumerate(sizes)]
    predict(bundle, files, tmp_path / "out")
    masks = [tmp_path / "out" / f"{i}.png" for i in range(3)]
    # Against its own prediction as the truth, every pixel that differs is off the diagonal.
    evaluation = evaluate(
        bundle.model, Photos(files, masks, labels), labels=labels, batch_size=batch_size
    )
    for matrix, mask in zip(evaluation.matrices, masks, strict=True):
        ids = ids_of(mask)
        assert np.array_equal(matrix, np.diag(np.bincount(ids.ravel(), minlength=len(matrix))))
        assert len(np.unique(ids)) > 1


@pytest.mark.parametrize("labels", [LABELS, BINARY])
def test_probabilities_belong_to_the_ids(labels: LabelMap) -> None:
    image = torch.randint(0, 256, (3, 33, 40), dtype=torch.uint8)
    prediction = predict_image(make_bundle(labels), image, probabilities=True)
    assert prediction.probabilities is not None
    assert prediction.probabilities.shape == (labels.num_classes, 33, 40)
    assert prediction.probabilities.dtype == torch.float16
    exact = prediction.probabilities.double()
    torch.testing.assert_close(exact.sum(0), torch.ones(33, 40).double(), atol=1e-3, rtol=0)
    chosen = exact.gather(0, prediction.ids[None].long())[0]
    assert torch.equal(chosen, exact.amax(0))
    assert prediction.confidence == pytest.approx(float(chosen.mean()), abs=1e-3)


def test_strips_change_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randint(0, 256, (3, 33, 40), dtype=torch.uint8)
    whole = predict_image(bundle, image, probabilities=True)
    monkeypatch.setattr(tally, "_STRIP", 100)
    strips = predict_image(bundle, image, probabilities=True)
    assert whole.probabilities is not None
    assert strips.probabilities is not None
    assert torch.equal(whole.probabilities, strips.probabilities)
    assert whole.confidence == pytest.approx(strips.confidence, rel=1e-9)


def test_predicting_leaves_every_module_in_its_mode(bundle: Bundle) -> None:
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    expected = predict_image(bundle, image).ids
    bundle.model.train()
    frozen = next(m for m in bundle.model.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    modes = [m.training for m in bundle.model.modules()]
    before = {name: tensor.clone() for name, tensor in bundle.model.state_dict().items()}
    assert torch.equal(predict_image(bundle, image).ids, expected)
    assert [m.training for m in bundle.model.modules()] == modes
    for name, tensor in bundle.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    bundle.model.eval()


def test_what_is_written(bundle: Bundle, tmp_path: Path) -> None:
    source = save(tmp_path / "street.jpg", 24, 32)
    out = tmp_path / "new" / "masks"
    calls: list[tuple[int, int]] = []
    result = predict(
        bundle,
        [source],
        out,
        settings=Settings(overlay=True, probabilities=True),
        progress=lambda *counts: calls.append(counts),
    )
    assert written(out) == [
        "predictions.csv",
        "street.color.png",
        "street.npz",
        "street.overlay.jpg",
        "street.png",
    ]
    assert calls == [(0, 1), (1, 1)]
    ids = ids_of(out / "street.png")
    assert ids.shape == (24, 32)
    with Image.open(out / "street.color.png") as color:
        assert np.array_equal(np.array(color.convert("RGB")), LABELS.colorize(ids))
    with Image.open(out / "street.overlay.jpg") as overlay:
        assert overlay.size == (32, 24)
    with np.load(out / "street.npz", allow_pickle=False) as file:
        assert file["probabilities"].dtype == np.float16
        chosen = np.take_along_axis(file["probabilities"], ids[None].astype(int), 0)[0]
        assert np.array_equal(chosen, file["probabilities"].max(0))
        assert file["classes"].tolist() == ["sky", "road", "tree"]

    (image,) = result.written
    assert result.failed == []
    assert (image.file, image.mask) == (str(source), "street.png")
    assert (image.height, image.width) == (24, 32)
    assert image.shares == {
        name: pytest.approx((ids == i).mean()) for i, name in enumerate(LABELS.names)
    }
    with (out / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == [
        "file", "mask", "height", "width", "share_sky", "share_road", "share_tree", "confidence",
        "unlikeness", "warning", "entropy", "pixels_sky", "pixels_road", "pixels_tree",
        "area_m2_sky", "area_m2_road", "area_m2_tree",
    ]  # fmt: skip
    assert float(row["share_road"]) == pytest.approx(image.shares["road"], abs=1e-6)
    assert float(row["confidence"]) == pytest.approx(image.confidence, abs=1e-6)
    assert float(row["entropy"]) == pytest.approx(image.entropy, abs=1e-6)
    assert int(row["pixels_tree"]) == (ids == 2).sum()
    assert row["area_m2_tree"] == ""
    assert result.to_json()["written"][0]["shares"] == image.shares


def test_an_exif_orientation_is_applied(bundle: Bundle, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    source = save(tmp_path / "turned.jpg", 24, 40, exif=exif)
    result = predict(bundle, [source], tmp_path / "out", settings=Settings(overlay=True))
    assert (result.written[0].height, result.written[0].width) == (40, 24)
    ids = ids_of(tmp_path / "out" / "turned.png")
    assert np.array_equal(ids, predict_image(bundle, read_image(source, RGB)).ids.numpy())
    with Image.open(tmp_path / "out" / "turned.overlay.jpg") as overlay:
        assert overlay.size == (24, 40)


def test_grey_float_images(tmp_path: Path) -> None:
    spec = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0)
    Image.fromarray(np.linspace(0, 1, 480, dtype=np.float32).reshape(20, 24)).save(
        tmp_path / "x.tiff"
    )
    bundle = make_bundle(BINARY, spec)
    result = predict(
        bundle, [tmp_path / "x.tiff"], tmp_path / "out", settings=Settings(overlay=True)
    )
    assert result.failed == []
    assert (tmp_path / "out" / "x.overlay.jpg").exists()


# Images that cannot be used.


def test_a_bad_file_is_reported_and_the_others_are_written(bundle: Bundle, tmp_path: Path) -> None:
    images = tmp_path / "images"
    save(images / "a.jpg")
    save(images / "c.jpg")
    (images / "b.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    (images / "d.png").write_text("no image")
    calls: list[tuple[int, int]] = []
    result = predict(
        bundle, [images], tmp_path / "out", progress=lambda *counts: calls.append(counts)
    )
    assert [Path(file).name for file, _ in result.failed] == ["b.jpg", "d.png"]
    assert all(file in reason for file, reason in result.failed)
    assert [image.mask for image in result.written] == ["a.png", "c.png"]
    assert calls == [(i, 4) for i in range(5)]
    assert written(tmp_path / "out") == [
        "a.color.png", "a.png", "c.color.png", "c.png", "predictions.csv",
    ]  # fmt: skip
    assert result.to_json()["failed"][0]["file"] == str(images / "b.jpg")


def test_a_full_disk_ends_it_all_and_keeps_what_is_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        save(images / name)
    real = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if ".b.png" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"b\.png: the disk is full"):
        predict(bundle, [images], out)
    assert written(out) == ["a.color.png", "a.png", "predictions.csv"]
    assert len((out / "predictions.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] ... can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_says_what_to_lower(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Tensor:
        raise error

    monkeypatch.setattr(module, "logits_by_blocks", fail)
    source = save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"out of memory at .*a\.jpg: give a lower --tile"):
        predict(bundle, [source], tmp_path / "out")


def test_a_bug_is_not_taken_for_a_lack_of_memory(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(module, "logits_by_blocks", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predict(bundle, [save(tmp_path / "a.jpg")], tmp_path / "out")


def test_a_tile_that_is_too_small(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tile 128 is too small: give at least 512"):
        predict(bundle, [save(tmp_path / "a.jpg")], tmp_path / "out", settings=Settings(tile=128))
    assert not (tmp_path / "out").exists()


def test_out_is_a_file(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="out"):
        predict(bundle, [save(tmp_path / "a.jpg")], tmp_path / "out")


# The overlay.


def test_an_overlay_tints_regions_and_draws_their_borders() -> None:
    image = np.full((12, 20, 3), 100, dtype=np.uint8)
    ids = np.zeros((12, 20), dtype=np.uint8)
    ids[:, 10:] = 1
    colors = ((200, 0, 50), (0, 255, 0), (1, 2, 3))
    labels = LabelMap(names=("a", "b", "c"), values={}, colors=colors)
    drawn = overlay_image(image, ids, labels)
    assert drawn[5, 3].tolist() == [150, 50, 75]
    assert drawn[5, 15].tolist() == [50, 177, 50]
    assert drawn[5, 9].tolist() == [200, 0, 50]
    assert drawn[5, 10].tolist() == [0, 255, 0]
    assert np.array_equal(overlay_image(image, ids, labels, alpha=0)[5, 3], image[5, 3])
    assert np.array_equal(overlay_image(image, ids, labels, alpha=1), labels.colorize(ids))
    assert image.min() == image.max() == 100


def test_an_overlay_leaves_the_background_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    ids = np.zeros((12, 20), dtype=np.uint8)
    ids[3:6, 4:9] = 1
    ids[8:, :] = BINARY.ignore_index
    drawn = overlay_image(image, ids, BINARY)
    assert np.array_equal(drawn[ids != 1], image[ids != 1])
    assert (drawn[ids == 1] != image[ids == 1]).any(axis=-1).all()


@pytest.mark.slow
def test_a_photo_of_twelve_megapixels(tmp_path: Path) -> None:
    bundle = make_bundle(widths=(2, 4))
    source = save(tmp_path / "photo.jpg", 3000, 4000)
    result = predict(bundle, [source], tmp_path / "out", settings=Settings(overlay=True))
    assert result.failed == []
    assert ids_of(tmp_path / "out" / "photo.png").shape == (3000, 4000)
