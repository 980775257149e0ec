import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from truemask.errors import UsageError
from truemask.images import RGB
from truemask.models.pretrained import Architecture, EncoderUNet
from truemask.models.segmenter import Segmenter

FIVE = (8, 8, 8, 4, 4)
NARROW: dict[str, Any] = {"decoder_channels": FIVE}
IMAGENET = {"input_space": "RGB", "input_range": [0, 1], "mean": [0.5, 0.4, 0.3]}


def small(**options: Any) -> EncoderUNet:
    torch.manual_seed(0)
    given = {"in_channels": 3, "out_channels": 2, "encoder": "mobilenet_v2"} | options
    return EncoderUNet(**given)


class Hub:
    """What stands in for the place where smp's weights lie: a folder with those of mobilenet_v2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        torch.manual_seed(7)
        self.trained = smp.encoders.get_encoder("mobilenet_v2", weights=None)
        safetensors.torch.save_file(self.trained.state_dict(), folder / "model.safetensors")
        self.describe()

    def describe(self, **changes: Any) -> None:
        text = json.dumps(IMAGENET | {"std": [0.1, 0.2, 0.3]} | changes)
        (self.folder / "config.json").write_text(text)

    def __call__(self, repo_id: str, filename: str, revision: str | None = None) -> str:
        self.asked.append(f"{repo_id}/{filename}")
        return str(self.folder / filename)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", made)
    return made


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise FileNotFoundError("An error happened while trying\nto locate the file on the Hub")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", refuse)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_it_computes_what_the_library_s_network_computes(architecture: Architecture) -> None:
    network = small(architecture=architecture).eval()
    torch.manual_seed(0)
    model = smp.create_model(architecture, "mobilenet_v2", None, classes=2).eval()
    images = torch.randn(1, 3, 64, 96)
    logits = network(images)
    assert logits.shape == (1, 2, 64, 96)
    assert torch.equal(logits, model(images))


def test_one_channel_and_one_logit_at_any_size() -> None:
    network = small(in_channels=1, out_channels=1, **NARROW)
    assert network.input_size(33, 1) == (64, 32)
    assert network.output_size(64, 32) == (64, 32)
    assert network(torch.randn(2, 1, 32, 64)).shape == (2, 1, 32, 64)
    photo = torch.zeros(1, 3, 37, 5, dtype=torch.uint8)
    assert Segmenter(network=small(**NARROW), images=RGB).eval()(photo).shape == (1, 2, 37, 5)


def test_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no images of 30x32 pixels; the next size is \(32, 32\)"):
        small(**NARROW)(torch.zeros(1, 3, 30, 32))


def test_a_batch_too_small_for_its_batch_norms() -> None:
    network = small(**NARROW)
    with pytest.raises(UsageError, match="one image of 32x32 .*raise data.batch_size"):
        network(torch.zeros(1, 3, 32, 32))
    assert network(torch.zeros(1, 3, 32, 64)).shape == (1, 2, 32, 64)


def test_dropout_takes_whole_channels_before_the_head() -> None:
    network, without = small(dropout=0.5, **NARROW), small(**NARROW)
    images = torch.randn(8, 3, 32, 32)
    assert torch.equal(network.eval()(images), without.eval()(images))
    seen: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.train()(images)
    empty = (seen[0].flatten(2) == 0).all(2)
    assert 0.2 < empty.float().mean() < 0.8


def test_decoder_options_reach_the_library() -> None:
    network = small(decoder_channels=[16, 20, 24, 28, 32], attention="scse")
    assert network.head[0].in_channels == 32
    attention = [m for m in network.modules() if type(m).__name__ == "SCSEModule"]
    assert len(attention) == 10


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "mit_b0", "tu-test_convnext"])
@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_shapes_need_no_memory(encoder: str, in_channels: int) -> None:
    with torch.device("meta"):
        shapes = small(encoder=encoder, in_channels=in_channels, weights=None)
    network = small(encoder=encoder, in_channels=in_channels)
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}
    assert {n: (t.shape, t.dtype) for n, t in shapes.state_dict().items()} == expected
    shapes.load_state_dict(network.state_dict(), assign=True)
    images = torch.randn(1, in_channels, 32, 64)
    assert torch.equal(shapes.eval()(images), network.eval()(images))


# Trained weights.


def test_trained_weights_and_their_normalisation(hub: Hub) -> None:
    network = small(weights="imagenet", **NARROW)
    for name, tensor in hub.trained.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor), name
    assert network.normalization == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert {asked.split("/")[1] for asked in hub.asked} == {"mobilenet_v2.imagenet"}


def test_other_numbers_of_channels(hub: Hub) -> None:
    grey = small(weights="imagenet", in_channels=1, **NARROW)
    first = hub.trained.features[0][0].weight
    torch.testing.assert_close(grey.encoder.features[0][0].weight, first.sum(1, keepdim=True))
    mean, std = grey.normalization or ((), ())
    assert mean == pytest.approx((0.4,))
    assert std == pytest.approx((0.2,))
    assert small(weights="imagenet", in_channels=4, **NARROW).normalization is None


def test_statistics_in_units_of_bytes_are_scaled(hub: Hub) -> None:
    hub.describe(input_range=[0, 255], mean=[51, 102, 153], std=[255, 25.5, 51])
    mean, std = small(weights="imagenet", **NARROW).normalization or ((), ())
    assert mean == pytest.approx((0.2, 0.4, 0.6))
    assert std == pytest.approx((1.0, 0.1, 0.2))


def test_weights_that_want_other_images_are_refused(hub: Hub) -> None:
    hub.describe(input_space="BGR")
    network = small(weights="imagenet", **NARROW)
    with pytest.raises(UsageError, match="trained on BGR images, but Truemask gives RGB"):
        _ = network.normalization


def test_without_weights_there_is_no_normalisation() -> None:
    assert small(**NARROW).normalization is None


def test_timm_s_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {}

    def download(repo: str, *args: Any, **options: Any) -> dict[str, Tensor]:
        trained.update(timm_state())
        assert repo == "timm/test_resnet.r160_in1k"
        return dict(trained)

    def timm_state() -> dict[str, Tensor]:
        torch.manual_seed(7)
        return models.create_model("test_resnet").state_dict()

    from timm import models

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    for encoder in ("tu-test_resnet", "tu-test_resnet.r160_in1k"):
        network = small(encoder=encoder, weights="imagenet", **NARROW)
        expected = trained["layer1.0.conv1.weight"]
        assert torch.equal(network.encoder.model.layer1[0].conv1.weight, expected)
        assert network.normalization == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "tu-test_resnet"])
@pytest.mark.usefixtures("offline")
def test_weights_that_cannot_be_had(encoder: str) -> None:
    with pytest.raises(UsageError, match=f"cannot get the weights 'imagenet' of .*{encoder}") as e:
        small(encoder=encoder, weights="imagenet")
    assert "\n" not in str(e.value)
    assert "FileNotFoundError" in str(e.value)
    assert "model.weights=null" in str(e.value)


@pytest.mark.usefixtures("offline")
def test_the_meta_device_needs_no_download() -> None:
    with torch.device("meta"):
        network = small(weights="imagenet")
    assert all(tensor.is_meta for tensor in network.parameters())
    with pytest.raises(UsageError, match="cannot get the weights"):
        _ = network.normalization


def test_saved_settings_download_nothing() -> None:
    settings = {"encoder": "resnet34", "weights": "imagenet", "dropout": 0.1}
    assert EncoderUNet.saved_settings(settings) == {"encoder": "resnet34", "dropout": 0.1}
    assert settings["weights"] == "imagenet"


# Names and options that make no network.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet33"}, "'resnet33' is none of smp's.*did you mean 'resnet34'"),
        ({"encoder": "tu-resnet181"}, "did you mean 'tu-resnet18"),
        ({"encoder": ""}, "encoder '' is none of smp's"),
        ({"encoder": "tu-"}, "encoder 'tu-' is none of smp's"),
        ({"encoder": "tu-*"}, "none of smp's"),
        ({"encoder": "timm-efficientnet-b0"}, "none of smp's"),
        ({"encoder": "tu-hf-hub:someone/model"}, "none of smp's"),
        ({"encoder": "tu-hf_hub:someone/model.tag"}, "none of smp's"),
        ({"encoder": "tu-local-dir:/tmp/model"}, "none of smp's"),
        ({"encoder": "hf-hub:someone/model"}, "none of smp's"),
        ({"encoder": "tu-resnet18/../x"}, "none of smp's"),
        ({"encoder": "tu-resnet18.a1_in2k"}, "timm has no .*did you mean 'tu-resnet18.a1_in1k'"),
        ({"weights": "imagnet"}, "weights is 'imagnet'.*'mobilenet_v2' allowed are null, imagenet"),
        ({"encoder": "resnet18", "weights": "x"}, "allowed are null, imagenet, ssl, swsl"),
        ({"encoder": "tu-test_mambaout", "weights": "imagenet"}, "allowed are null"),
        ({"encoder": "mit_b0", "architecture": "linknet"}, "'mit_b0' does not fit .*'linknet'"),
        ({"encoder": "tu-vit_tiny_patch16_224"}, "does not fit the architecture 'unet'"),
        ({"encoder": "tu-swin_tiny_patch4_window7_224"}, "doesn't match model .224"),
        ({"architecture": "unet3"}, "architecture is 'unet3'; allowed are unet, unetplusplus"),
        ({"decoder_channels": (8, 8)}, "decoder_channels has 2 values: give 5"),
        ({"decoder_channels": FIVE, "architecture": "fpn"}, "decoder_channels.*here fpn"),
        ({"decoder_channels": (8, 8, 8, 8, 0)}, r"decoder_channels\[4\] is 0"),
        ({"attention": "scse", "architecture": "manet"}, "attention is 'scse'.*here manet"),
        ({"attention": "gate"}, "attention is 'gate'"),
        ({"attention": "scse", "decoder_channels": FIVE}, "of 16 or more"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"out_channels": 0}, "out_channels is 0"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        small(**options)
    assert "\n" not in str(caught.value)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UsageError, match=r"pip install 'truemask\[encoders\]'"):
        small()


def test_the_libraries_are_imported_only_where_they_are_used() -> None:
    code = (
        "import sys, truemask.bundle, truemask.training.fit; "
        "sys.exit(any(name in sys.modules for name in ('segmentation_models_pytorch', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
