from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import nn
from torchvision import tv_tensors

from same_evaluations import assert_same
from truemask.datasets.sample import Sample
from truemask.errors import UsageError
from truemask.evaluation import evaluate
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.losses import CrossEntropy
from truemask.models.segmenter import Segmenter
from truemask.models.tiling import image_logits

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2, 9: 255})
BINARY = LabelMap(names=("background", "crack"), values={0: 0, 255: 1})
IMAGES = ImageSpec(mean=(0.4,), std=(0.2,))


class TinyNetwork(nn.Module):
    """A few layers of everything that behaves otherwise in training."""

    def __init__(self, *, channels=3, out_channels=3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.5),
            nn.Conv2d(8, out_channels, 3, padding=1),
        )

    def forward(self, images):
        return self.layers(images)

    def input_size(self, height, width):
        return -(-height // 4) * 4, -(-width // 4) * 4

    def output_size(self, height, width):
        return height, width


class Samples:
    """Noise of many sizes, with ignored pixels, a scene and a name of its own for each."""

    def __init__(self, *, count=7, labels=LABELS, images=IMAGES, change=None):
        self.labels, self.images, self.count, self.change = labels, images, count, change
        # Not in the order of the indices.
        self.names = [f"image-{(5 * i) % count:02d}" for i in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        height, width = 5 + 2 * index, 17 - index
        mask = rng.integers(self.labels.num_classes, size=(height, width), dtype=np.uint8)
        mask[rng.random(mask.shape) < 0.2] = self.labels.ignore_index
        sample = Sample(
            image=tv_tensors.Image(rng.integers(256, size=(3, height, width), dtype=np.uint8)),
            mask=tv_tensors.Mask(mask),
            name=self.names[index],
            attributes={"scene": ("city", "field", "forest")[index % 3], "number": str(index)},
        )
        return sample if self.change is None or index != 4 else self.change(sample)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Segmenter(network=TinyNetwork(), images=IMAGES)


# Evaluating


def test_it_counts_what_the_model_predicts_for_each_image(model):
    dataset, loss = Samples(), CrossEntropy(weight=[1.0, 2.0, 3.0])
    evaluation = evaluate(model, dataset, labels=LABELS, loss=loss)
    assert evaluation.names == tuple(sorted(dataset.names))
    model.eval()
    for sample in (dataset[i] for i in range(len(dataset))):
        logits = image_logits(model, sample.image)[None]
        keep = sample.mask.numpy() != 255
        expected = sklearn.metrics.confusion_matrix(
            sample.mask.numpy()[keep], logits.argmax(1)[0].numpy()[keep], labels=range(3)
        )
        place = evaluation.names.index(sample.name)
        np.testing.assert_array_equal(evaluation.matrices[place], expected)
        assert evaluation.losses[place] == pytest.approx(float(loss(logits, sample.mask[None])))
        assert evaluation.attributes[place] == sample.attributes


@pytest.mark.parametrize("how", [{"batch_size": 3}, {"batch_size": 100}, {"num_workers": 1}])
def test_batches_and_workers_change_nothing(model, how):
    loss = CrossEntropy()
    expected = evaluate(model, Samples(), labels=LABELS, loss=loss)
    assert_same(evaluate(model, Samples(), labels=LABELS, loss=loss, **how), expected)


def test_autocast_around_it_changes_nothing(model):
    expected = evaluate(model, Samples(), labels=LABELS, loss=CrossEntropy())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = evaluate(model, Samples(), labels=LABELS, loss=CrossEntropy())
    assert_same(under_autocast, expected)


def test_it_leaves_the_model_as_it_was(model):
    class Loss(CrossEntropy):
        def forward(self, logits, target):
            modes.append((self.training, model.training, model.network.layers[1].training))
            if len(modes) == 3:
                raise RuntimeError("stop")
            return super().forward(logits, target)

    modes, loss = [], Loss()
    model.train()
    model.network.layers[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"):
        evaluate(model, Samples(), labels=LABELS, loss=loss)
    assert modes == [(False, False, False)] * 3
    assert model.training
    assert loss.training
    assert model.network.layers[3].training
    assert not model.network.layers[1].training, "a frozen layer must stay frozen"
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_it_leaves_the_global_random_state_as_it_was(model, num_workers):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate(model, Samples(), labels=LABELS, num_workers=num_workers)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_computes_on_cuda_and_brings_the_model_back(model):
    evaluation = evaluate(model, Samples(), labels=LABELS, loss=CrossEntropy(), device="cuda")
    expected = evaluate(model, Samples(), labels=LABELS, loss=CrossEntropy())
    assert model.mean.device.type == "cpu"
    np.testing.assert_allclose(evaluation.losses, expected.losses, rtol=1e-3)


def test_without_a_loss_none_is_known(model):
    evaluation = evaluate(model, Samples(), labels=LABELS)
    assert np.isnan(evaluation.losses).all()
    result = evaluation.result(resamples=10)
    assert result.loss is None
    assert "loss" not in result.intervals


def test_progress_counts_images(model):
    calls = []
    evaluate(
        model,
        Samples(),
        labels=LABELS,
        batch_size=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_the_binary_task_has_one_logit():
    torch.manual_seed(0)
    model = Segmenter(network=TinyNetwork(out_channels=1), images=IMAGES)
    evaluation = evaluate(model, Samples(labels=BINARY), labels=BINARY)
    sample = Samples(labels=BINARY)[0]
    model.eval()
    crack = (image_logits(model, sample.image)[0] > 0) & (sample.mask != 255)
    place = evaluation.names.index(sample.name)
    assert evaluation.matrices[place, :, 1].sum() == crack.sum()


def test_another_datasets_raw_values_and_ignored_id_are_its_own(model):
    other = replace(LABELS, values={7: 0, 8: 1, 9: 2}, ignore_index=100, colors=())
    theirs = evaluate(model, Samples(labels=other), labels=LABELS)
    np.testing.assert_array_equal(
        theirs.matrices, evaluate(model, Samples(), labels=LABELS).matrices
    )
    assert theirs.labels == LABELS


def test_an_endless_dataset_is_evaluated_once(model):
    class Endless(Samples):
        endless = True

    assert len(evaluate(model, Endless(), labels=LABELS).names) == 7


def broken_mask(sample):
    return replace(sample, mask=tv_tensors.Mask(sample.mask[1:]))


def strange_id(sample):
    sample.mask[0, 0] = 3
    return sample


def unreadable(sample):
    raise UsageError(f"{sample.name}: the file is truncated")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Samples(count=0), "the dataset to evaluate on is empty"),
        (Samples(labels=BINARY), r"classes \(2: background, crack\) are not the model's \(3: sky,"),
        (Samples(labels=replace(LABELS, names=("road", "sky", "tree"))), "in that order"),
        (
            Samples(images=replace(IMAGES, high=1.0)),
            "images.high of the dataset is 1.0, but .* 255",
        ),
        (Samples(images=replace(IMAGES, dtype="float32")), "images.dtype"),
        (Samples(change=broken_mask), r"image-06: the mask has the size \(12, 13\), .* \(13, 13\)"),
        (Samples(change=strange_id), r"image-06: the mask holds the id 3, .* \(0 to 2\)"),
        (Samples(change=unreadable), "^image-06: the file is truncated$"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(model, dataset, message):
    with pytest.raises(UsageError, match=message):
        evaluate(model, dataset, labels=LABELS)


def test_a_name_that_occurs_twice_is_refused_before_any_work(model):
    dataset = Samples(change=unreadable)
    dataset.names[0] = dataset.names[1]
    with pytest.raises(UsageError, match="two images are called 'image-05'"):
        evaluate(model, dataset, labels=LABELS)


def test_a_model_with_the_wrong_number_of_channels_is_refused():
    model = Segmenter(network=TinyNetwork(out_channels=2), images=IMAGES)
    with pytest.raises(UsageError, match="puts out 2 channels, but 3 classes need 3"):
        evaluate(model, Samples(), labels=LABELS)


def test_what_a_worker_cannot_read_is_one_clear_line(model):
    with pytest.raises(UsageError) as caught:
        evaluate(model, Samples(change=unreadable), labels=LABELS, num_workers=1)
    assert str(caught.value) == "image-06: the file is truncated"


def test_an_observer_sees_what_is_counted(model):
    seen = []

    def observe(image):
        mask = np.asarray(image.sample.mask)
        valid = mask != 255
        counts = np.zeros((3, 3), dtype=np.int64)
        np.add.at(counts, (mask[valid], image.ids.numpy()[valid]), 1)
        assert (image.truth.numpy() == mask).all()
        assert (LABELS.decode(image.logits[None])[0] == image.ids).all()
        seen.append((image.sample.name, counts))

    watched = evaluate(model, Samples(), labels=LABELS, batch_size=3, observe=observe)
    assert_same(watched, evaluate(model, Samples(), labels=LABELS, batch_size=3))
    assert [name for name, _ in seen] == Samples().names
    assert [name for name, _ in sorted(seen, key=lambda item: item[0])] == list(watched.names)
    for (_, counts), matrix in zip(sorted(seen, key=lambda i: i[0]), watched.matrices, strict=True):
        assert (counts == matrix).all()
