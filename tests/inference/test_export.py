"""Exported files: the model's own masks at any size, names and parity inside, refused otherwise."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from truemask.bundle import Bundle
from truemask.errors import JobFailed, UsageError
from truemask.images import ImageSpec
from truemask.inference import export as module
from truemask.inference import portable
from truemask.inference.export import export, onnx_runner, read_metadata
from truemask.inference.parity import LabelledImage, Parity, compare_predictions
from truemask.inference.portable import Portable
from truemask.inference.predict_image import predict_image
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN
from truemask.models.unet import UNet

runtime = pytest.importorskip("onnxruntime", reason="needs `pip install truemask[onnx]`")

RGB = ImageSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
GREY = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0, mean=(0.4,), std=(0.2,))
SIZES = ((33, 47), (64, 64), (7, 90), (1, 1), (120, 61))


def make(
    network: nn.Module,
    spec: ImageSpec = RGB,
    size: tuple[int, int] | None = None,
    temperature: float = 1.0,
) -> Bundle:
    model = Segmenter(network=network, images=spec, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    channels = model.train()(picture(model, 40, 48, batch=2)).shape[1]
    classes = max(2, channels)
    return Bundle(
        model=model.eval(),
        labels=LabelMap(names=tuple(f"class {i}" for i in range(classes)), values={}),
        network={},
        info={"epoch": 3},
        temperature=temperature,
    )


def picture(model: Segmenter, height: int, width: int, *, batch: int = 1) -> torch.Tensor:
    spec = model.images
    generator = torch.Generator().manual_seed(height * 1000 + width)
    values = torch.rand(batch, spec.channels, height, width, generator=generator)
    return values if spec.dtype == "float32" else (values * 255).to(torch.uint8)


def images(bundle: Bundle) -> list[LabelledImage]:
    return [LabelledImage(picture(bundle.model, *size)[0]) for size in SIZES]


class Pyramid(UNet):
    """Pools to several bins, of sizes that are no multiples of them."""

    def __init__(self, bins=(1, 2, (3, 2), 6)) -> None:
        super().__init__(in_channels=3, out_channels=4, widths=(4, 6))
        self.bins = nn.ModuleList([nn.AdaptiveAvgPool2d(size) for size in bins])

    def forward(self, images):
        found = super().forward(images)
        for each in self.bins:
            found = found + nn.functional.interpolate(each(found), found.shape[2:], mode="bilinear")
        return found


def pyramid(*bins) -> Pyramid:
    torch.manual_seed(0)
    return Pyramid(*bins)


def unet(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"in_channels": 3, "out_channels": 4, "widths": (4, 6, 8)} | options)


BUNDLES: dict[str, Callable[[], Bundle]] = {
    "vanilla": lambda: make(unet(), temperature=0.6),
    "binary": lambda: make(unet(out_channels=1), temperature=1.7),
    "attention, valid": lambda: make(unet(attention=True, padding="valid", convolutions=1)),
    "downscaled, bilinear": lambda: make(unet(downscale=3, upsampling="bilinear")),
    "resizing": lambda: make(unet(), size=(32, 48)),
    "textures": lambda: make(TextureCNN(), GREY),
    "pooling": lambda: make(pyramid()),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Bundle, Path]]:
    folder = tmp_path_factory.mktemp("exports")
    made = {}
    for name, build in BUNDLES.items():
        bundle = build()
        path = folder / f"{name}.onnx"
        export(bundle, path, images=images(bundle))
        made[name] = (bundle, path)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("size", [*SIZES, (200, 17), (64, 96)])
def test_a_file_gives_the_model_s_masks_at_any_size(files, name, size):
    bundle, path = files[name]
    batch = picture(bundle.model, *size, batch=3)
    found, confidence = runtime.InferenceSession(path).run(
        ["mask", "confidence"], {"image": batch.permute(0, 2, 3, 1).numpy()}
    )
    assert found.dtype == np.uint8
    for image, ids, sure in zip(batch, found, confidence, strict=True):
        expected = predict_image(bundle, image)
        assert (ids != expected.ids.numpy()).mean() <= 1e-3  # ties of a random network
        assert sure == pytest.approx(expected.confidence, abs=1e-4)


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("size", SIZES)
def test_the_portable_model_is_the_model(name, size):
    bundle = BUNDLES[name]()
    image = picture(bundle.model, *size)
    with torch.inference_mode():
        ids, _, shares = Portable(bundle.model, temperature=bundle.temperature, probabilities=True)(
            image.permute(0, 2, 3, 1)
        )
    expected = predict_image(bundle, image[0], probabilities=True)
    assert (ids[0] != expected.ids).float().mean() <= 1e-3
    assert torch.allclose(shares[0], expected.probabilities.float(), atol=2e-3)


def test_a_file_says_what_it_is(files):
    bundle, path = files["vanilla"]
    said = read_metadata(path)
    assert LabelMap.from_json(said["labels"]) == bundle.labels
    assert ImageSpec.from_json(said["images"]) == bundle.model.images
    assert said["info"] == {"epoch": 3}
    assert said["parity"]["images"] == len(SIZES)
    assert said["parity"]["share"] <= 1e-5
    session = runtime.InferenceSession(path)
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("image", ["batch", "height", "width", 3], "tensor(uint8)")
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [
        ("mask", ["batch", "height", "width"]),
        ("confidence", ["batch"]),
    ]


@pytest.mark.parametrize("name", ["vanilla", "resizing"])
def test_a_program_of_torch_export_gives_the_model_s_masks(tmp_path, name):
    bundle = BUNDLES[name]()
    larger = [item for item in images(bundle) if min(item.image.shape[1:]) > 4]
    assert {h > w for h, w in (item.image.shape[1:] for item in larger)} == {True, False}
    result = export(bundle, tmp_path / "model.pt2", images=larger, format="torch")
    assert result.parity.differing == 0
    extra = {"truemask": ""}
    program = torch.export.load(result.path, extra_files=extra).module()
    assert json.loads(extra["truemask"])["info"] == {"epoch": 3}
    for height, width in ((50, 60), (60, 50), (50, 50)):
        image = picture(bundle.model, height, width)
        found = program(image.permute(0, 2, 3, 1))[0][0]
        assert torch.equal(found, predict_image(bundle, image[0]).ids)


def test_a_file_that_disagrees_is_not_written(tmp_path, monkeypatch):
    bundle = BUNDLES["vanilla"]()
    mend = Portable._logits

    def other(self, image):  # a class of its own ends up elsewhere
        return mend(self, image).flip(1)

    monkeypatch.setattr(Portable, "_logits", other)
    with pytest.raises(JobFailed, match="pixels of 5 images get another class"):
        export(bundle, tmp_path / "model.onnx", images=images(bundle))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_compute_is_not_written(tmp_path, monkeypatch):
    bundle = make(pyramid([3]))  # each more takes seconds
    monkeypatch.setattr(portable, "_with_portable_pooling", lambda model: model)
    with pytest.raises(JobFailed, match=r"cannot compute an image of \d+ x \d+ by this network"):
        export(bundle, tmp_path / "model.onnx", images=images(bundle))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("differing", "pixels", "written"),
    [(1, 50_000, True), (2, 50_000, False), (10, 1_000_000, True), (11, 1_000_000, False)],
)
def test_one_pixel_in_a_hundred_thousand_may_differ(differing, pixels, written, tmp_path):
    parity = Parity(
        images=3, pixels=pixels, differing=differing, model_iou=1.0, iou=1.0, labelled=False
    )
    refused = nullcontext() if written else pytest.raises(JobFailed, match="get another class")
    with refused:
        module._require_agreement(parity, int8=False, path=tmp_path / "model.onnx")


def test_int8_that_loses_too_much_is_not_written(tmp_path, monkeypatch):
    bundle = BUNDLES["vanilla"]()
    held = images(bundle)
    monkeypatch.setattr(module, "MOST_LOST", -1.0)  # any loss is too much
    with pytest.raises(JobFailed, match=r"in int8 the model loses 0\.\d+ IoU"):
        export(bundle, tmp_path / "model.onnx", images=held, calibration=held, int8=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="int8 needs images"):
        export(bundle, tmp_path / "model.onnx", images=held, int8=True)


def test_int8_computes_in_integers(tmp_path, monkeypatch):
    bundle = BUNDLES["vanilla"]()
    held = images(bundle)
    monkeypatch.setattr(module, "MOST_LOST", 1.0)  # a random network is all ties
    level = logging.getLogger().level
    result = export(bundle, tmp_path / "m.onnx", images=held, calibration=held, int8=True)
    assert logging.getLogger().level == level
    onnx = pytest.importorskip("onnx")
    kinds = [node.op_type for node in onnx.load(result.path).graph.node]
    assert kinds.count("QuantizeLinear") > 5
    assert read_metadata(result.path)["int8"] is True
    assert result.parity.share < 0.5


def test_triton_gets_a_repository(tmp_path):
    bundle = BUNDLES["textures"]()
    folder = tmp_path / "repository" / "textures"
    for probabilities in (True, False):  # an earlier export is replaced
        few = images(bundle)[:1]
        export(bundle, folder, images=few, format="triton", probabilities=probabilities)
        text = (folder / "config.pbtxt").read_text()
        outputs = runtime.InferenceSession(folder / "1" / "model.onnx").get_outputs()
        for output in outputs:
            dims = ", ".join(str(d) if isinstance(d, int) else "-1" for d in output.shape)
            kind = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}[output.type]
            assert f'{{ name: "{output.name}", data_type: {kind}, dims: [{dims}] }}' in text
        assert text.count("name:") == 2 + len(outputs)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "1/model.onnx",
        "config.pbtxt",
    ]
    assert 'name: "textures"' in text
    assert "TYPE_FP32, dims: [-1, -1, -1, 1]" in text


def test_what_is_no_earlier_export_is_not_overwritten(tmp_path):
    bundle = BUNDLES["vanilla"]()
    file = tmp_path / "thesis.onnx"
    file.write_bytes(b"years of work")
    with pytest.raises(UsageError, match="is no earlier export"):
        export(bundle, file, images=images(bundle))
    assert file.read_bytes() == b"years of work"


def test_parity_counts_pixels_and_scores_against_the_truth():
    bundle = BUNDLES["vanilla"]()
    item = images(bundle)[1]
    expected = predict_image(bundle, item.image).ids.numpy()
    wrong = expected.copy()
    wrong[:2] = (wrong[:2] + 1) % 4

    def other(image):
        assert image.shape == (1, 64, 64, 3)
        return wrong[None]

    found = compare_predictions(bundle, other, [item])
    assert (found.pixels, found.differing, found.labelled) == (64 * 64, 2 * 64, False)
    assert found.model_iou == 1.0
    truth = torch.from_numpy(wrong)
    judged = compare_predictions(bundle, other, [LabelledImage(item.image, truth)])
    assert judged.labelled
    assert judged.iou == 1.0
    scores = [
        ((expected == k) & (wrong == k)).sum() / ((expected == k) | (wrong == k)).sum()
        for k in range(4)
    ]
    assert judged.model_iou == pytest.approx(np.mean(scores))
    assert judged.lost == pytest.approx(np.mean(scores) - 1)


def test_the_runner_is_the_file(files):
    bundle, path = files["vanilla"]
    image = picture(bundle.model, 30, 40)
    ids = onnx_runner(path, threads=1)(image.permute(0, 2, 3, 1).numpy())
    assert (ids[0] != predict_image(bundle, image[0]).ids.numpy()).mean() <= 1e-3


def test_the_example_gives_the_mask_of_predict(files, tmp_path):
    bundle, path = files["vanilla"]
    pixels = picture(bundle.model, 40, 50)[0]
    photo, out = tmp_path / "photo.png", tmp_path / "mask.png"
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(photo)
    example = Path(__file__).parents[2] / "examples" / "predict_onnx.py"
    said = subprocess.run(
        [sys.executable, str(example), str(path), str(photo), str(out)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = np.asarray(Image.open(out))
    assert (found != predict_image(bundle, pixels).ids.numpy()).mean() <= 1e-3
    assert f"class 2              {(found == 2).mean():7.2%}" in said
    assert len(example.read_text().splitlines()) <= 30


def test_the_page_holds_the_example():
    root = Path(__file__).parents[2]
    example = (root / "examples" / "predict_onnx.py").read_text()
    assert example in (root / "docs" / "export.md").read_text()
