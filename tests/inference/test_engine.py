"""Engines: the masks of `predict_image`, alone and in a batch, whatever computes them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_export import BUNDLES, images, picture

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.inference.engine import Engine, OnnxEngine, TorchEngine
from truemask.inference.export import export
from truemask.inference.predict_image import predict_image

pytest.importorskip("onnxruntime", reason="needs `pip install truemask[onnx]`")

NAMES = ("vanilla", "binary", "resizing", "textures")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Bundle, list[Engine]]]:
    made: dict[str, tuple[Bundle, list[Engine]]] = {}
    for name in NAMES:
        bundle = BUNDLES[name]()
        path = tmp_path_factory.mktemp("engine") / "model.onnx"
        export(bundle, path, images=images(bundle), probabilities=True)
        made[name] = (bundle, [TorchEngine(bundle), OnnxEngine(path, threads=2)])
    return made


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "onnx"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(33, 47), (64, 96), (1, 1)])
def test_a_batch_says_what_single_predictions_say(engines, name, which, size):
    bundle, made = engines[name]
    engine = made[which]
    batch = picture(bundle.model, *size, batch=5)
    found = engine.predict(batch.numpy(), probabilities=True)
    assert found.ids.dtype == np.uint8
    assert found.ids.shape == (5, *size)
    for at, image in enumerate(batch):
        expected = predict_image(bundle, image, probabilities=True)
        alone = engine.predict(batch[at : at + 1].numpy(), probabilities=True)
        np.testing.assert_array_equal(found.ids[at], alone.ids[0])
        np.testing.assert_array_equal(found.probabilities[at], alone.probabilities[0])
        assert found.confidence[at] == pytest.approx(alone.confidence[0], rel=1e-6)
        differing = (found.ids[at] != expected.ids.numpy()).mean()
        assert differing <= (0 if which == 0 else 1e-3)  # ties of a random network
        assert found.confidence[at] == pytest.approx(expected.confidence, abs=1e-4)
        np.testing.assert_allclose(found.probabilities[at], expected.probabilities, atol=2e-3)


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "onnx"])
def test_only_what_is_asked_for_is_given(engines, which):
    bundle, made = engines["vanilla"]
    batch = picture(bundle.model, 20, 30).numpy()
    plain = made[which].predict(batch, confidence=False)
    assert plain.confidence is None
    assert plain.probabilities is None
    np.testing.assert_array_equal(plain.ids, made[which].predict(batch).ids)
    assert made[which].predict(batch, confidence=False, probabilities=True).confidence is None


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "onnx"])
def test_the_order_of_the_memory_changes_nothing(engines, which):
    bundle, made = engines["vanilla"]
    batch = picture(bundle.model, 20, 30, batch=2)
    last = batch.permute(0, 2, 3, 1).contiguous().numpy().transpose(0, 3, 1, 2)
    first = made[which].predict(batch.numpy())
    np.testing.assert_array_equal(made[which].predict(last).ids, first.ids)


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "onnx"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((1, 4, 8, 8), np.uint8), r"\(N, 3, H, W\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(N, 3, H, W\)"),
        (np.zeros((1, 3, 0, 8), np.uint8), r"\(N, 3, H, W\)"),
        (np.zeros((1, 3, 8, 8), np.float32), "dtype uint8"),
    ],
)
def test_other_images_are_refused(engines, which, wrong, said):
    with pytest.raises(UsageError, match=said):
        engines["vanilla"][1][which].predict(wrong)


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "onnx"])
@pytest.mark.parametrize("value", [2.0, float("nan")])
def test_values_out_of_range_are_refused(engines, which, value):
    batch = np.zeros((1, 1, 8, 8), np.float32)
    batch[0, 0, 3, 3] = value
    with pytest.raises(UsageError, match="image values reach"):
        engines["textures"][1][which].predict(batch)


def test_bf16_is_near(engines):
    bundle, made = engines["vanilla"]
    batch = picture(bundle.model, 64, 64, batch=2).numpy()
    exact = made[0].predict(batch, probabilities=True)
    fast = TorchEngine(bundle, "bf16").predict(batch, probabilities=True)
    np.testing.assert_allclose(fast.probabilities, exact.probabilities, atol=0.05)
    assert TorchEngine(bundle, "bf16").name == "PyTorch bf16"
    assert bundle.model.training is False


def test_a_file_says_what_it_is(engines):
    bundle, (torch_engine, onnx_engine) = engines["binary"]
    assert onnx_engine.name == "ONNX Runtime fp32"
    assert torch_engine.name == "PyTorch fp32"
    assert onnx_engine.labels == bundle.labels
    assert onnx_engine.images == bundle.model.images


def test_a_file_of_others_is_refused(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UsageError, match="no ONNX file that `truemask export` wrote"):
        OnnxEngine(path)


def test_a_file_without_probabilities_says_so(tmp_path: Path):
    bundle = BUNDLES["vanilla"]()
    path = tmp_path / "model.onnx"
    export(bundle, path, images=images(bundle)[:1])
    with pytest.raises(UsageError, match="--probabilities"):
        OnnxEngine(path).predict(
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8).numpy(), probabilities=True
        )
