"""Models in bfloat16: near the exact logits, folded and rounded once, the given model untouched."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from truemask.bundle import Bundle
from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.engine import TorchEngine
from truemask.inference.lowered import lower, with_precision
from truemask.inference.predict import predict
from truemask.inference.predict_image import predict_image
from truemask.inference.settings import Settings
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN
from truemask.models.unet import UNet

SPEC = ImageSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


class Normed(nn.Module):
    """A network with a layer that must not be rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, images):
        return self.norm(self.conv(images))

    def input_size(self, height, width):
        return height, width

    output_size = input_size


def unet(**options) -> nn.Module:
    return UNet(**{"in_channels": 3, "out_channels": 4, "widths": (8, 16, 32)} | options)


NETWORKS = {
    "vanilla": unet,
    "plain": lambda: unet(normalization="none", convolutions=1, out_channels=1),
    "attention": lambda: unet(attention=True, dropout=0.2),
    "valid, downscaled": lambda: unet(padding="valid", downscale=2, upsampling="bilinear"),
    "textures": lambda: TextureCNN(in_channels=3, shared_batch_norm=True),
    "group norm": Normed,
}


def build(name: str, size: tuple[int, int] | None = None) -> Segmenter:
    torch.manual_seed(0)
    model = Segmenter(network=NETWORKS[name](), images=SPEC, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
            layer.momentum = 1.0
    model.train()(photo(48, 64, batch=2))
    return model.eval()


def photo(height: int, width: int, *, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    rough = torch.rand(batch, 3, 6, 8, generator=generator)
    smooth = nn.functional.interpolate(rough, (height, width), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


def bundle(model: Segmenter) -> Bundle:
    names = tuple(f"class {i}" for i in range(4))
    return Bundle(model=model, labels=LabelMap(names=names, values={}), network={}, info={})


@pytest.mark.parametrize("size", [None, (32, 48)])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_model_but_for_rounding(name, size):
    model = build(name, size)
    images = photo(49, 75, batch=2)
    with torch.inference_mode():
        exact, found = model(images), lower(model)(images)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    # bfloat16 has 8 bits: 0.4 % a rounding, some of them one after the other.
    error = (found - exact).std() / exact.std()
    assert 0 < error < 0.03


def test_the_given_model_stays_as_it_is():
    model = build("vanilla")
    before = copy.deepcopy(model.state_dict())
    model.train()
    lowered = lower(model)
    assert model.training
    assert not lowered.training
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_batch_norms_are_folded_and_weights_rounded_once():
    lowered = lower(build("attention"))
    assert not [m for m in lowered.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {p.dtype for p in lowered.parameters()} == {torch.bfloat16}
    # What stands after a ReLU, or is a norm of another kind, stays exact.
    kept = [m for m in lower(build("textures")).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.weight.dtype for m in kept} == {torch.float32}
    assert {p.dtype for p in lower(build("group norm")).parameters()} == {torch.float32}


def test_predictions_agree_where_the_classes_are_not_nearly_as_likely():
    exact = bundle(build("vanilla"))
    image = photo(120, 160)[0]
    expected = predict_image(exact, image, probabilities=True)
    found = predict_image(with_precision(exact, "bf16"), image)
    best = expected.probabilities.float().topk(2, 0)[0]
    clear = best[0] - best[1] > 0.1
    assert clear.float().mean() > 0.5
    assert torch.equal(found.ids[clear], expected.ids[clear])
    ids = TorchEngine(exact, "bf16").predict(image[None].numpy()).ids[0]
    assert torch.equal(torch.from_numpy(ids), found.ids)


def test_precision_is_asked_for():
    exact = bundle(build("plain"))
    assert with_precision(exact, "fp32") is exact
    with pytest.raises(UsageError, match="precision is 'fp16'; allowed are fp32, bf16"):
        with_precision(exact, "fp16")


def test_predict_computes_in_the_precision_that_is_asked_for(tmp_path):
    exact = bundle(build("vanilla"))
    source = tmp_path / "photo.png"
    Image.fromarray(photo(70, 90)[0].permute(1, 2, 0).numpy()).save(source)
    out = tmp_path / "masks"
    for precision in ("fp32", "bf16"):  # the second is not left as done
        result = predict(exact, [source], out, settings=Settings(precision=precision))
        assert len(result.written) == 1
        image = read_image(source, SPEC)
        expected = predict_image(with_precision(exact, precision), image, probabilities=True)
        assert np.array_equal(np.asarray(Image.open(out / "photo.png")), expected.ids.numpy())
        assert result.written[0].confidence == pytest.approx(expected.confidence)
