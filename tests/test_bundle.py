import errno
import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from truemask.bundle import DESCRIPTION, WEIGHTS, Bundle, load_bundle, save_bundle, save_temperature
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.models.described import NETWORKS, build_network
from truemask.models.segmenter import Segmenter

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 7: 2, 255: 255})
BINARY = LabelMap(names=("background", "crack"), values={0: 0, 255: 1})
IMAGES = ImageSpec(mean=(0.1, 0.2, 1 / 3), std=(0.3, 0.2, 0.1))
UNET: dict[str, Any] = {
    "_target_": "truemask.models.unet.UNet",
    "in_channels": 3,
    "out_channels": 3,
    "widths": [4, 8],
    "normalization": "batch",
    "bias": False,
}
CNN: dict[str, Any] = {
    "_target_": "truemask.models.texture_cnn.TextureCNN",
    "in_channels": 3,
    "shared_batch_norm": True,
}
ENCODER: dict[str, Any] = {
    "_target_": "truemask.models.pretrained.EncoderUNet",
    "in_channels": 3,
    "out_channels": 3,
    "encoder": "mobilenet_v2",
    "decoder_channels": [8, 8, 8, 4, 4],
}


class Tied(nn.Module):
    """A network as a user may write it: shared weights, float64, a buffer that is not saved."""

    def __init__(self, *, channels: int, options: dict[str, float]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.second = self.first
        self.head = nn.Conv2d(3, channels, 1)
        self.register_buffer("scale", torch.tensor(options["scale"], dtype=torch.float64))
        self.register_buffer("shift", torch.tensor([0.25]), persistent=False)
        self.rate = float(torch.rand(3).sum())  # what a meta tensor could not do

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(images)) * self.scale.float() + self.shift)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


def make_model(network: dict[str, Any], **allow: type[nn.Module]) -> Segmenter:
    torch.manual_seed(0)
    model = Segmenter(network=build_network(network, allow=allow), images=IMAGES)
    photo = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8)
    model.train()(photo)  # so that batch statistics differ from those of a fresh network
    return model.eval()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_bundle(folder, model=make_model(UNET), network=UNET, labels=LABELS, info={"epoch": 3})
    return folder


def edit(folder: Path, **changes: Any) -> None:
    file = folder / DESCRIPTION
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize(("network", "labels"), [(UNET, LABELS), (CNN, BINARY)])
def test_a_bundle_is_the_model_that_was_saved(
    tmp_path: Path, network: dict[str, Any], labels: LabelMap
) -> None:
    model = make_model(network)
    save_bundle(
        tmp_path, model=model, network=network, labels=labels, info={"run": "a", "iou": 0.5}
    )
    loaded = load_bundle(tmp_path)

    assert loaded.labels == labels
    assert loaded.network == network
    assert loaded.info == {"run": "a", "iou": 0.5}
    assert loaded.model.images == IMAGES
    assert not any(module.training for module in loaded.model.modules())
    saved = model.state_dict()
    assert loaded.model.state_dict().keys() == saved.keys()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
        assert tensor.device.type == "cpu"
    photo = torch.randint(0, 256, (1, 3, 31, 17), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.model(photo), model(photo))


def test_every_network_on_the_list_makes_a_bundle(tmp_path: Path) -> None:
    for name in NETWORKS:
        small = {"widths": [4, 8]} if name.endswith(".UNet") else {}
        small |= {"encoder": "tu-test_resnet"} if name.endswith("EncoderUNet") else {}
        network = {"_target_": name, "in_channels": 3, "out_channels": 1, **small}
        model = Segmenter(network=build_network(network), images=IMAGES)
        save_bundle(tmp_path / name, model=model, network=network, labels=BINARY, info={})
        assert load_bundle(tmp_path / name).network == network


def test_weights_are_saved_as_contiguous_float32(tmp_path: Path) -> None:
    model = make_model(UNET).half().to(memory_format=torch.channels_last)
    save_bundle(tmp_path, model=model, network=UNET, labels=LABELS, info={})
    state = safetensors.torch.load_file(tmp_path / WEIGHTS)
    for name, tensor in state.items():
        assert tensor.is_contiguous(), name
        assert tensor.dtype == (torch.int64 if "num_batches" in name else torch.float32), name
    # The statistics come from the description, so that half precision has not rounded them.
    assert torch.equal(load_bundle(tmp_path).model.mean, torch.tensor(IMAGES.mean))


def test_loading_draws_no_random_number(bundle: Path) -> None:
    before = torch.get_rng_state()
    load_bundle(bundle)
    assert torch.equal(torch.get_rng_state(), before)


def test_loaded_weights_do_not_change_with_their_file(bundle: Path) -> None:
    model = load_bundle(bundle).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with (bundle / WEIGHTS).open("rb+") as file:
        file.write(bytes((bundle / WEIGHTS).stat().st_size))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_info_without_numbers_is_null(tmp_path: Path) -> None:
    info = {"iou": float("nan"), "low": float("-inf")}
    save_bundle(tmp_path, model=make_model(UNET), network=UNET, labels=LABELS, info=info)
    assert load_bundle(tmp_path).info == {"iou": None, "low": None}


def test_the_callers_network_is_not_changed(tmp_path: Path) -> None:
    network = dict(UNET) | {"widths": (4, 8)}
    save_bundle(tmp_path, model=make_model(network), network=network, labels=LABELS, info={})
    assert network["widths"] == (4, 8)
    assert load_bundle(tmp_path).network["widths"] == [4, 8]


def test_saving_again_replaces_the_weights_only(bundle: Path) -> None:
    description = (bundle / DESCRIPTION).read_bytes()
    model = make_model(UNET)
    nn.init.ones_(model.network.head.bias)
    save_bundle(bundle, model=model, network=UNET, labels=LABELS, info={"epoch": 4})
    assert (bundle / DESCRIPTION).read_bytes() == description
    assert load_bundle(bundle).info == {"epoch": 4}
    assert load_bundle(bundle).model.network.head.bias.tolist() == [1.0, 1.0, 1.0]
    assert sorted(file.name for file in bundle.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_another_model_is_not_overwritten(bundle: Path) -> None:
    other = UNET | {"widths": [4, 4]}
    before = (bundle / WEIGHTS).read_bytes()
    with pytest.raises(UsageError, match="holds another model: choose another folder"):
        save_bundle(bundle, model=make_model(other), network=other, labels=LABELS, info={})
    assert (bundle / WEIGHTS).read_bytes() == before
    assert load_bundle(bundle).network == UNET


def test_a_full_disk_leaves_the_earlier_weights(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UsageError, match=r"model\.safetensors: the disk is full"):
            save_bundle(
                bundle, model=make_model(UNET), network=UNET, labels=LABELS, info={"epoch": 9}
            )
    assert load_bundle(bundle).info == {"epoch": 3}
    assert sorted(file.name for file in bundle.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(UsageError, match="a file of that name is in the way"):
        save_bundle(
            tmp_path / "model", model=make_model(UNET), network=UNET, labels=LABELS, info={}
        )


def test_a_users_own_class(tmp_path: Path) -> None:
    network = {"_target_": "my.networks.Tied", "channels": 3, "options": {"scale": 2.0}}
    allow = {"my.networks.Tied": Tied}
    model = make_model(network, **allow)
    save_bundle(tmp_path, model=model, network=network, labels=LABELS, info={})

    with pytest.raises(UsageError, match=r"'my.networks.Tied' is none of.*if you trust it.*allow="):
        load_bundle(tmp_path)
    before = torch.get_rng_state()
    loaded = load_bundle(tmp_path, allow=allow).model
    assert torch.equal(torch.get_rng_state(), before)
    photo = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(loaded(photo), model(photo))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"_target_": "torch.nn.Identity"}, "network.extra has a _target_ of its own"),
        ([{"_target_": "os.system"}], r"network.extra\[0\] has a _target_ of its own"),
        (torch.zeros(2), "network.extra is of the type Tensor"),
        (float("nan"), "network.extra is nan, which is no number"),
    ],
)
def test_a_network_takes_plain_values_only(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        save_bundle(
            tmp_path,
            model=make_model(UNET),
            network=UNET | {"extra": value},
            labels=LABELS,
            info={},
        )
    assert list(tmp_path.iterdir()) == []


# The temperature.


def test_a_temperature_is_kept_and_taken_back(bundle: Path) -> None:
    weights = (bundle / WEIGHTS).read_bytes()
    assert load_bundle(bundle).temperature == 1.0
    save_temperature(bundle, 1.75)
    assert load_bundle(bundle).temperature == 1.75
    assert json.loads((bundle / DESCRIPTION).read_text())["temperature"] == 1.75
    assert (bundle / WEIGHTS).read_bytes() == weights
    save_temperature(bundle, 1)
    assert load_bundle(bundle).temperature == 1.0
    assert sorted(file.name for file in bundle.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_a_bundle_without_a_temperature_is_not_calibrated(bundle: Path) -> None:
    description = json.loads((bundle / DESCRIPTION).read_text())
    del description["temperature"], description["size"]
    (bundle / DESCRIPTION).write_text(json.dumps(description))
    assert load_bundle(bundle).temperature == 1.0
    save_temperature(bundle, 0.5)
    assert load_bundle(bundle).temperature == 0.5


def test_new_weights_have_no_temperature_of_the_old_ones(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_temperature(bundle, 2.0)
    with monkeypatch.context() as patch:

        def full(self: Path, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UsageError, match="the disk is full"):
            save_bundle(bundle, model=make_model(UNET), network=UNET, labels=LABELS, info={})
    assert load_bundle(bundle).temperature == 1.0
    save_temperature(bundle, 2.0)
    save_bundle(bundle, model=make_model(UNET), network=UNET, labels=LABELS, info={})
    assert load_bundle(bundle).temperature == 1.0


@pytest.mark.parametrize("value", [0, -1.0, 1e9, "1.0", True, None, [2.0]])
def test_a_temperature_must_be_one(bundle: Path, value: Any) -> None:
    with pytest.raises(UsageError, match="temperature is .* must be a number from 0.01 to 100"):
        save_temperature(bundle, value)
    description = json.loads((bundle / DESCRIPTION).read_text())
    (bundle / DESCRIPTION).write_text(json.dumps(description | {"temperature": value}))
    with pytest.raises(UsageError, match=r"model\.json: temperature is "):
        load_bundle(bundle)


@pytest.mark.parametrize("labels", [LABELS, BINARY], ids=["classes", "binary"])
def test_probabilities_are_of_the_divided_logits(labels: LabelMap) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, labels.num_logits, 5, 4) * 4
    network = UNET | {"out_channels": labels.num_logits}
    plain = Bundle(model=make_model(network), labels=labels, network=network, info={})
    warm = replace(plain, temperature=2.5)
    assert torch.equal(plain.probabilities(logits), labels.probabilities(logits))
    if labels.num_classes == 2:
        foreground = 1 / (1 + torch.exp(-logits[:, 0] / 2.5))
        expected = torch.stack((1 - foreground, foreground), 1)
    else:
        powers = torch.exp(logits / 2.5)
        expected = powers / powers.sum(1, keepdim=True)
    torch.testing.assert_close(warm.probabilities(logits), expected)
    assert torch.equal(warm.probabilities(logits).argmax(1).byte(), labels.decode(logits))


# Encoders.


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a bundle needs no download")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", refuse)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)


@pytest.mark.parametrize(
    ("encoder", "architecture"),
    [("mobilenet_v2", "unet"), ("mit_b0", "segformer"), ("tu-tiny_vit_5m_224", "unet")],
)
@pytest.mark.usefixtures("no_download")
def test_an_encoder_comes_back(tmp_path: Path, encoder: str, architecture: str) -> None:
    network = ENCODER | {"encoder": encoder, "architecture": architecture}
    if architecture != "unet":
        del network["decoder_channels"]
    model = make_model(network)
    save_bundle(tmp_path, model=model, network=network, labels=LABELS, info={})
    before = torch.get_rng_state()
    loaded = load_bundle(tmp_path).model
    assert torch.equal(torch.get_rng_state(), before)
    photo = torch.randint(0, 256, (1, 3, 31, 67), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(photo), model(photo))


@pytest.mark.usefixtures("no_download")
def test_a_bundle_does_not_ask_for_trained_weights(tmp_path: Path) -> None:
    trained = ENCODER | {"weights": "imagenet"}
    model = make_model(ENCODER)
    save_bundle(tmp_path, model=model, network=trained, labels=LABELS, info={})
    assert json.loads((tmp_path / DESCRIPTION).read_text())["network"] == ENCODER
    assert load_bundle(tmp_path).network == ENCODER
    save_bundle(tmp_path, model=model, network=trained, labels=LABELS, info={"epoch": 2})
    assert load_bundle(tmp_path).info == {"epoch": 2}
    edit(tmp_path, network=trained)
    assert load_bundle(tmp_path).model.network.normalization is None


# Bundles that somebody else made.


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.nn.Identity",
        "truemask.models.unet.UNet.__init__.__globals__",
        "truemask.models.segmenter.Segmenter",
        "",
    ],
)
def test_only_networks_of_the_list_are_built(bundle: Path, target: str) -> None:
    mark = bundle.parent / "hacked"
    edit(bundle, network={"_target_": target, "command": f"touch {mark}", "args": f"touch {mark}"})
    assert "none of those that a bundle may name" in refused(bundle)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("os.system", "network must be a mapping"),
        ({"_target_": ["os.system"]}, "dotted name of a class"),
        (UNET | {"widths": {"_target_": "os.system", "command": "true"}}, "_target_ of its own"),
        (UNET | {"_args_": ["touch hacked"]}, "network._args_ is no argument"),
        (UNET | {"_partial_": True}, "network._partial_ is no argument"),
        (UNET | {"width": [4, 8]}, "has no setting 'width'; did you mean 'widths'?"),
        (UNET | {"widths": "4, 8"}, "network.widths is '4, 8', but must be a list"),
        (UNET | {"widths": [-4]}, "widths"),
        (UNET | {"padding": "reflect"}, "reflect"),
        ({"_target_": UNET["_target_"]}, "in_channels is missing"),
        (UNET | {"in_channels": 4}, "network.in_channels is 4"),
        (UNET | {"out_channels": 1}, "network.out_channels is 1"),
    ],
)
def test_a_network_that_cannot_be_built(bundle: Path, network: Any, message: str) -> None:
    edit(bundle, network=network)
    assert message in refused(bundle)


@pytest.mark.parametrize(
    "bomb",
    [
        {"widths": [100_000, 100_000]},
        {"widths": [10**9, 10**9]},
        {"widths": [10**30]},
        {"convolutions": 10**9},
        {"downscale": 10**6},
        {"widths": [1] * 100_000},
    ],
    ids=lambda bomb: next(iter(bomb)),
)
def test_a_memory_bomb_costs_neither_memory_nor_time(bundle: Path, bomb: dict[str, Any]) -> None:
    edit(bundle, network=UNET | bomb)
    start = time.monotonic()
    refused(bundle)
    assert time.monotonic() - start < 5
    load_fine = build_network(UNET)  # the bound ends with the loading
    assert sum(p.numel() for p in load_fine.parameters()) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, but Truemask"),
        ({"format": "torch"}, "has format 'torch'"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"images": None}, "`images` is not a mapping"),
        ({"images": IMAGES.to_json() | {"channels": 10**12, "mean": [0]}}, "images.channels is"),
        ({"images": IMAGES.to_json() | {"std": [0, 0, 0]}}, "images.std must be positive"),
        ({"images": {"channels": 3}}, "not a description of images"),
        ({"labels": []}, "not a label map"),
        ({"labels": {"classes": [], "ignore": {"id": 255}}}, "not a label map"),
    ],
)
def test_a_damaged_description(bundle: Path, changes: dict[str, Any], message: str) -> None:
    edit(bundle, **changes)
    assert message in refused(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"format": 1', "not valid JSON"),
        ("[]", "must hold a mapping"),
        ("{}", "no `format`"),
        ('{"format": 1}', "has no `truemask`"),
        ("[" * 100_000, "not valid JSON"),
        ('{"format": 1, "x": "' + "x" * 5_000_000 + '"}', "larger than any description"),
    ],
    ids=["empty", "cut off", "list", "no format", "no keys", "deep", "large"],
)
def test_a_description_that_is_none(bundle: Path, text: str, message: str) -> None:
    (bundle / DESCRIPTION).write_text(text)
    assert message in refused(bundle)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"encoder": "tu-hf-hub:someone/model"}, "none of smp's"),
        ({"encoder": "tu-local-dir:/tmp/model"}, "none of smp's"),
        ({"encoder": "hf-hub:someone/model"}, "none of smp's"),
        ({"encoder": "tu-../model"}, "none of smp's"),
        ({"encoder": "tu-" + "resnet" * 100_000}, "none of smp's"),
        ({"decoder_channels": [10**9] * 5}, "not built"),
        ({"decoder_channels": [1] * 100_000}, "decoder_channels has 100000 values"),
        ({"encoder": "tu-swinv2_cr_giant_224"}, "not built"),
        ({"in_channels": 10**6}, "network.in_channels is 1000000"),
        ({"out_channels": 10**6}, "network.out_channels is 1000000"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.usefixtures("no_download")
def test_a_hostile_encoder(bundle: Path, network: dict[str, Any], message: str) -> None:
    edit(bundle, network=ENCODER | network)
    start = time.monotonic()
    assert message in refused(bundle)
    assert time.monotonic() - start < 15


def test_a_network_nested_too_deeply(bundle: Path) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    edit(bundle, network=UNET | {"widths": deep})
    refused(bundle)


class Hack:
    """A pickle of it touches a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_a_pickle_under_the_name_of_the_weights(bundle: Path) -> None:
    mark = bundle.parent / "hacked"
    (bundle / WEIGHTS).write_bytes(pickle.dumps(Hack(mark)))
    assert "not a safetensors file" in refused(bundle)
    torch.save({"network": Hack(mark)}, bundle / WEIGHTS)
    assert "not a safetensors file" in refused(bundle)
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(bundle: Path, kept: int) -> None:
    file = bundle / WEIGHTS
    file.write_bytes(file.read_bytes()[:kept])
    assert "cut off" in refused(bundle)


def test_missing_files(bundle: Path) -> None:
    (bundle / WEIGHTS).unlink()
    assert "has no weights" in refused(bundle)
    (bundle / WEIGHTS).mkdir()
    assert "has no weights" in refused(bundle)
    (bundle / DESCRIPTION).unlink()
    assert "is no bundle" in refused(bundle)
    assert "is no bundle" in refused(bundle / "nothing")


def change_weights(folder: Path, change: Any) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    change(state)
    safetensors.torch.save_file(state, folder / WEIGHTS)


def test_weights_that_do_not_fit_name_the_tensor(bundle: Path) -> None:
    change_weights(bundle, lambda state: state.update(extra=torch.zeros(1)))
    assert "the network has no tensor extra" in refused(bundle)
    change_weights(bundle, lambda state: state.pop("extra"))
    assert load_bundle(bundle).info == {}
    change_weights(bundle, lambda state: state.update({"head.bias": torch.zeros(5)}))
    assert "head.bias is F32 [5], but the network needs F32 [3]" in refused(bundle)
    change_weights(bundle, lambda state: state.update({"head.bias": torch.zeros(3).double()}))
    assert "head.bias is F64 [3], but the network needs F32 [3]" in refused(bundle)
    change_weights(bundle, lambda state: state.pop("head.bias"))
    assert "the tensor head.bias is missing" in refused(bundle)


def test_a_description_of_other_widths_names_a_tensor(bundle: Path) -> None:
    edit(bundle, network=UNET | {"widths": [4, 16]})
    message = refused(bundle)
    assert "does not fit model.json: the tensor encoder" in message
    assert "[8" in message
    assert "[16" in message


@pytest.mark.parametrize("info", ["[1]", "nothing", "[" * 100_000])
def test_damaged_info(bundle: Path, info: str) -> None:
    state = safetensors.torch.load_file(bundle / WEIGHTS)
    safetensors.torch.save_file(state, bundle / WEIGHTS, metadata={"info": info})
    assert "`info` is not" in refused(bundle)
