from types import SimpleNamespace

import pytest
import torch
from model_material import (
    CLASSES,
    Around,
    CornerCrop,
    Detached,
    EvenKernels,
    Forgotten,
    Global,
    Kept,
    Listed,
    Pooled,
    Untracked,
    ZeroBranch,
    example,
    unet,
)
from torch import nn
from torch.nn import functional

from truemask.checks import models
from truemask.checks.models import check_model
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.losses import CrossEntropy, Dice
from truemask.models.segmenter import Segmenter
from truemask.models.texture_cnn import TextureCNN

CE = nn.CrossEntropyLoss(ignore_index=255)


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    """A probe that fails on a model is a fault of the probe here."""
    monkeypatch.setattr(models, "STRICT", True)
    torch.manual_seed(0)


def levels(findings):
    return {(finding.code, finding.level) for finding in findings if finding.level != "note"}


def check(model, batch=None, **options):
    settings = {"num_classes": CLASSES, "loss": CE, "overfit_seconds": 1.0}
    return check_model(model, example() if batch is None else batch, **(settings | options))


def only(findings, code):
    (found,) = [finding for finding in findings if finding.code == code]
    return found


SOUND = {
    "unet": unet,
    "biases": lambda: unet(bias=True),
    "no norm": lambda: unet(normalization="none", bias=True),
    "attention, bilinear, dropout": lambda: unet(
        attention=True, upsampling="bilinear", dropout=0.3
    ),
    "valid": lambda: unet(widths=(4, 8), padding="valid"),
    "downscaled": lambda: unet(downscale=2),
    "texture": lambda: TextureCNN(in_channels=3, out_channels=CLASSES, channels=8),
    "zero branch": ZeroBranch,
    "centre crop": lambda: CornerCrop(centre=True),
    "mapping": lambda: Around(after=lambda logits: {"out": logits, "aux": logits[..., ::2, ::2]}),
    "tuple": lambda: Around(after=lambda logits: (logits, logits.mean((2, 3)))),
    "log-softmax": lambda: Around(after=lambda logits: logits.log_softmax(1)),
    "layer norm of all channels": lambda: Pooled(nn.GroupNorm(1, 8)),
    "batch norm of two values": lambda: Pooled(nn.BatchNorm2d(8)),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_said_of_a_sound_model(name):
    model = SOUND[name]()
    optimizer = torch.optim.AdamW(model.parameters())
    assert levels(check(model, optimizer=optimizer)) == set()


FAULTS = {
    "half the size": (lambda: Around(after=lambda x: x[..., ::2, ::2]), "TM501"),
    "a class too many": (lambda: unet(out_channels=CLASSES + 1), "TM501"),
    "class ids": (lambda: Around(after=lambda x: x.argmax(1)), "TM501"),
    "channels last": (lambda: Around(after=lambda x: x.permute(0, 2, 3, 1)), "TM501"),
    "height and width exchanged": (lambda: Around(after=lambda x: x.transpose(2, 3)), "TM501"),
    "two pixels down": (lambda: Around(after=lambda x: x.roll(2, 2)), "TM502"),
    "mirrored": (lambda: Around(after=lambda x: x.flip(3)), "TM502"),
    "mirrored before": (lambda: Around(before=lambda x: x.flip(2)), "TM502"),
    "reshaped": (
        lambda: Around(after=lambda x: x.permute(0, 2, 3, 1).reshape(x.shape)),
        "TM502",
    ),
    "corner crop": (lambda: CornerCrop(centre=False), "TM502"),
    "even kernels": (EvenKernels, "TM502"),
    "softmax": (lambda: Around(after=lambda x: x.softmax(1)), "TM503"),
    "sigmoid": (lambda: Around(after=torch.sigmoid), "TM503"),
    "tanh": (lambda: Around(after=torch.tanh), "TM503"),
    "one norm for three layers": (
        lambda: TextureCNN(in_channels=3, out_channels=CLASSES, shared_batch_norm=True),
        "TM504",
    ),
    "detached": (Detached, "TM505"),
    "no running statistics": (Untracked, "TM506"),
    "maximum of the batch": (lambda: Around(before=lambda x: x / x.abs().max()), "TM506"),
    "group norm of one value": (lambda: Pooled(nn.GroupNorm(8, 8)), "TM507"),
    "instance norm of one value": (lambda: Pooled(nn.InstanceNorm2d(8)), "TM507"),
    "one pixel down and right": (
        lambda: Around(
            network=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, CLASSES, 1)),
            after=lambda x: x.roll((1, 1), (2, 3)),
        ),
        "TM502",
    ),
    "layers in a list": (Listed, "TM505"),
    "a layer in a mapping": (lambda: Around(after=Kept(nn.Conv2d(CLASSES, CLASSES, 1))), "TM505"),
    "global": (Global, "TM511"),
    "everything dropped": (lambda: Around(after=lambda x: dropped(x, 1.0)), "TM511"),
    "image times zero": (lambda: Around(before=lambda x: 0 * x), "TM511"),
    "two equal channels": (
        lambda: Around(
            network=unet(out_channels=CLASSES - 1), after=lambda x: torch.cat([x, x[:, :1]], 1)
        ),
        "TM511",
    ),
}


def dropped(values, share):
    return functional.dropout(values, share)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name):
    build, code = FAULTS[name]
    assert (code, "error") in levels(check(build()))


def test_the_model_is_left_as_it_was():
    model = unet(dropout=0.2)
    model.encoder[0].eval()
    model.head.bias.requires_grad_(False)
    model(example()[0]).sum().backward()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    state = torch.get_rng_state()
    check(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(model.get_parameter(name).grad, grads[name]) for name in grads)
    assert not model.head.bias.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_quarter_of_the_size_under_the_name_logits_is_a_note():
    model = Around(after=lambda x: SimpleNamespace(logits=functional.avg_pool2d(x, 4)))
    found = only(check(model), "TM501")
    assert found.level == "note"
    assert "a quarter" in found.message
    assert "size=(64, 96)" in found.remedy


def test_a_loss_that_enlarges_the_logits_makes_them_right():
    def loss(logits, masks):
        size = masks.shape[-2:]
        return CE(functional.interpolate(logits, size, mode="bilinear"), masks)

    model = Around(after=lambda x: functional.avg_pool2d(x, 2))
    assert levels(check(model, loss=loss)) == set()


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (-4, 0), (5, -2)])
def test_the_shift_is_told_in_pixels(rows, columns):
    found = only(check(Around(after=lambda x: x.roll((rows, columns), (2, 3)))), "TM502")
    assert found.evidence["shift"] == [rows, columns]


def test_uint8_images_are_followed_too():
    spec = ImageSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    images, ids = example((70, 90))
    pixels = ((images - images.min()) / (images.max() - images.min()) * 255).to(torch.uint8)
    model = Segmenter(network=unet(), images=spec)
    assert levels(check(model, (pixels, ids))) == set()
    shifted = Around(network=model, after=lambda x: x.roll(3, 3))
    assert only(check(shifted, (pixels, ids)), "TM502").evidence["shift"] == [0, 3]


def test_probabilities_are_right_for_a_loss_that_expects_them():
    def loss(probabilities, target):
        return functional.nll_loss(probabilities.clamp_min(1e-6).log(), target)

    model = Around(after=lambda x: x.softmax(1))
    assert levels(check(model, loss=loss)) == set()
    assert only(check(model, loss=None), "TM503").level == "note"


@pytest.mark.parametrize("loss", [CrossEntropy(), Dice(), nn.CrossEntropyLoss(label_smoothing=0.1)])
def test_a_softmax_before_any_loss_on_logits_is_found(loss):
    assert ("TM503", "error") in levels(check(Around(after=lambda x: x.softmax(1)), loss=loss))


def test_one_channel_for_two_classes():
    images, ids = example()
    batch = {"image": images, "mask": (ids > 1).float()[:, None]}
    logit = unet(out_channels=1)
    settings = {"num_classes": 2, "loss": nn.BCEWithLogitsLoss()}
    assert levels(check(logit, batch, **settings)) == set()
    assert ("TM503", "error") in levels(
        check(Around(network=logit, after=torch.sigmoid), batch, **settings)
    )
    assert ("TM503", "error") in levels(
        check(Around(network=logit, after=torch.relu), batch, **settings)
    )


def test_a_shared_batch_norm_is_told_with_its_calls():
    found = only(check(TextureCNN(in_channels=3, out_channels=4, shared_batch_norm=True)), "TM504")
    assert found.where == "norms.0"
    assert found.evidence["calls"] == 3
    assert found.evidence["difference"] > 0.1


def test_a_batch_norm_with_equal_inputs_may_be_shared():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = unet()

        def forward(self, images):
            return (self.network(images) + self.network(images.flip(3)).flip(3)) / 2

    assert levels(check(Twice())) == set()


def test_parameters_that_the_optimiser_lacks():
    model = unet()
    part = only(check(model, optimizer=torch.optim.SGD(model.head.parameters(), 0.1)), "TM505")
    assert part.level == "error"
    assert "encoder.0.0.conv.weight" in part.evidence["parameters"]
    other = only(check(model, optimizer=torch.optim.SGD(unet().parameters(), 0.1)), "TM505")
    assert "none of the model's" in other.message
    two = [
        torch.optim.SGD([*model.encoder.parameters(), *model.head.parameters()], 0.1),
        torch.optim.SGD(model.decoder.parameters(), 0.1),
    ]
    assert levels(check(model, optimizer=two)) == set()


def test_parameters_held_twice():
    model = unet()
    twice = [torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(model.head.parameters(), 1)]
    assert "twice" in only(check(model, optimizer=twice), "TM505").message


def test_a_layer_that_is_never_called_is_a_warning_and_a_frozen_one_a_note():
    assert levels(check(Forgotten())) == {("TM505", "warning")}
    model = unet()
    model.encoder.requires_grad_(False)
    found = only(check(model), "TM505")
    assert (found.level, found.where) == ("note", "encoder")


def test_layers_in_a_list_are_named_and_an_optimiser_may_hold_them():
    model = Listed()
    found = only(check(model), "TM505")
    assert found.evidence["tensors"][0].startswith("layers.0.")
    assert found.evidence["count"] == 4
    for layer in model.layers:
        layer.requires_grad_(False)
    assert levels(check(model)) == set()
    kept = Kept(nn.Conv2d(CLASSES, CLASSES, 1))
    model = Around(after=kept)
    assert only(check(model), "TM505").where == "after.layer.last"
    held = [*model.parameters(), *kept.layer["last"].parameters()]
    assert levels(check(model, optimizer=torch.optim.SGD(held, 0.1))) == set()
    model = Listed()
    held = [*model.parameters(), *(p for layer in model.layers for p in layer.parameters())]
    assert levels(check(model, optimizer=torch.optim.SGD(held, 0.1))) == set()


def test_a_gate_that_is_nearly_constant_normalises_nothing():
    squeeze = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
    nn.init.zeros_(squeeze[0].weight)
    assert levels(check(Pooled(squeeze))) == set()


def test_what_mixes_the_samples_is_named():
    assert only(check(Untracked()), "TM506").where == "norm"
    found = only(check(Around(before=lambda x: x / x.abs().max())), "TM506")
    assert "the code before network.encoder.0.0.conv" in found.message


def test_a_batch_norm_of_one_value_is_found_with_one_image_only():
    model = Pooled(nn.BatchNorm2d(8))
    found = only(check(model, example(batch=1)), "TM507")
    assert found.where == "normalization"
    assert found.evidence["input"] == [1, 8, 1, 1]


def test_biases_before_a_batch_norm_are_counted():
    found = only(check(unet(bias=True)), "TM508")
    assert found.level == "note"
    assert found.evidence["count"] == 10  # Two in each of five blocks.
    assert all(name.endswith("conv.bias") for name in found.evidence["parameters"])


def test_the_receptive_field_is_measured():
    model = TextureCNN(in_channels=3, out_channels=CLASSES)  # Four kernels of five: 17 pixels.
    found = only(check(model, structure_size=40), "TM509")
    assert found.evidence["receptive_field"] == 17
    assert "TM509" not in {finding.code for finding in check(model, structure_size=17)}


def test_logits_that_begin_far_too_large_are_found():
    model = Around(after=lambda logits: 60 * logits)
    assert ("TM510", "warning") in levels(check(model))
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([50.0, 1, 1, 0.1]))
    assert levels(check(unet(), loss=weighted)) == set()


def test_a_bias_that_prefers_a_rare_class_is_found_and_one_for_the_frequent_is_not():
    model, (images, ids) = unet(), example()
    ids = torch.where(torch.arange(96) < 80, 0, ids)  # Class 0 has five sixths and more.
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([-4.0, 0, 0, 0]))
        found = only(check(model, (images, ids)), "TM510")
        assert "prefer some classes" in found.message
        model.head.bias.copy_(torch.tensor([4.0, 0, 0, 0]))
    assert levels(check(model, (images, ids))) == set()


def test_a_loss_that_is_no_number_is_found():
    images, ids = example()
    images[0, 0, 20, 20] = torch.inf
    assert ("TM510", "error") in levels(check(unet(), (images, ids)))


def test_a_loss_that_nothing_lowers_is_found():
    class Saturated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, CLASSES, 3, padding=1)

        def forward(self, images):
            return (1e4 * self.first(1e3 * images)).clamp(-1, 1) * 1e-7 + 0.5

    found = check(Saturated(), overfit_seconds=10.0)
    assert ("TM511", "error") in levels(found)


def test_weights_of_zero_learn_no_more_than_frequencies():
    model = unet()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    found = only(check(model, overfit_seconds=60.0), "TM511")
    assert "the same at all pixels" in found.message
    head = unet()
    nn.init.zeros_(head.head.weight)
    assert levels(check(head, overfit_seconds=60.0)) == set()
    images, ids = example()
    ids[:] = 1  # Where there is one class, one verdict is right.
    assert "TM511" not in {finding.code for finding in check(model, (images, ids))}


@pytest.mark.parametrize(("share", "said"), [(0.5, False), (0.8, False), (0.9, True), (0.99, True)])
def test_a_dropout_that_leaves_next_to_nothing_is_named(share, said):
    model = nn.Sequential(unet(out_channels=32), nn.Dropout(share), nn.Conv2d(32, CLASSES, 1))
    found = [f for f in check(model) if f.code == "TM511"]
    assert bool(found) == said
    assert all("noise" in finding.message for finding in found)


@pytest.mark.parametrize(("side", "said"), [(1, False), (2, False), (8, True)])
def test_images_that_lose_their_detail_are_found(side, said):
    def shrunk(images):
        return functional.interpolate(functional.avg_pool2d(images, side), images.shape[-2:])

    found = [f for f in check(Around(before=shrunk)) if f.code == "TM511"]
    assert [f.evidence["unseen_period"] for f in found] == [8] * said


def test_shrinking_is_sound_where_nothing_in_the_masks_is_as_small():
    images, ids = example((128, 192))
    ids = (torch.arange(192) // 96).expand(2, 128, 192).clone()
    model = Around(before=lambda x: functional.interpolate(functional.avg_pool2d(x, 4), (128, 192)))
    assert "TM511" not in {finding.code for finding in check(model, (images, ids))}


def test_masks_whose_pixels_are_scattered_are_found():
    images, ids = example()
    order = torch.randperm(ids[0].numel(), generator=torch.Generator().manual_seed(0))
    scattered = ids.flatten(1)[:, order].view_as(ids)
    assert "scattered" in only(check(unet(), (images, scattered)), "TM511").message


def test_unusable_input_is_told_in_one_line():
    with pytest.raises(UsageError, match="does not take the example batch"):
        check(nn.Conv2d(1, CLASSES, 3, padding=1))
    with pytest.raises(UsageError, match=r"the shape \(3, 64, 96\)"):
        check(unet(), example()[0][0])
    with pytest.raises(UsageError, match="num_classes is 0"):
        check(unet(), num_classes=0)
    with pytest.raises(UsageError, match="param_groups"):
        check(unet(), optimizer="adam")
