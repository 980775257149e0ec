"""The five projects' trainings with images made up in memory, so that only steps are measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import tv_tensors

from truemask.build import build
from truemask.compose import compose_config
from truemask.datasets.sample import Parts, Sample
from truemask.datasets.textures import IMAGES as TEXTURE_IMAGES
from truemask.images import RGB, ImageSpec
from truemask.labels import LabelMap

PARTS = ("train", "validation", "test")

DISTINCT = 16
"""Different samples; they come again and again."""


@dataclass(frozen=True)
class Workload:
    """A training of one of the projects.

    Attributes:
        name: of the model.
        experiment: which of Truemask's it is.
        size: height and width of the images.
        batch_size: of the comparison.
        classes: number of classes.
        words: what differs from the experiment.
        images: what the pixels mean.
        metrics: how often a step of the published loop updates an IoU of its training predictions.
        clip: largest norm of the gradient in the published loop.
        bf16: whether Truemask trains it with bfloat16.
    """

    name: str
    experiment: str
    size: tuple[int, int]
    batch_size: int
    classes: int
    words: tuple[str, ...] = ()
    images: ImageSpec = RGB
    metrics: int = 0
    clip: float | None = None
    bf16: bool = True

    def config(self, batch_size: int, *words: str) -> dict[str, Any]:
        """Truemask's configuration of it on made-up images; the training is as good as endless."""
        return compose_config(
            [
                f"experiment={self.experiment}",
                "data.dataset={_target_: benchmarks.workloads.synthetic, "
                f"workload: '{self.name}', length: {10_000 * batch_size}}}",
                *("data.labels=null", "data.split=null", "data.resize=null", "data.crop=null"),
                *("data.normalization=declared", "data.statistics=4", "data.num_workers=0"),
                *("data.evaluation_size=native", f"data.batch_size={batch_size}"),
                *("trainer.max_epochs=1000", "trainer.max_steps=null", "trainer.accumulate=1"),
                *("trainer.interval_unit=epochs", "trainer.eval_interval=1000"),
                *("trainer.save_interval=1000", "trainer.pictures=0", "checks.stop=false"),
                *self.words,
                *words,
            ]
        )

    def network(self) -> nn.Module:
        """Its network with fresh weights, as all loops train it."""
        logits = 1 if self.classes == 2 else self.classes
        network: nn.Module = build(
            self.config(self.batch_size)["model"],
            key="model",
            in_channels=self.images.channels,
            out_channels=logits,
        )
        return network

    def samples(self) -> tuple[Tensor, Tensor]:
        """Images as the dataset gives them and masks of class ids, `DISTINCT` of each."""
        generator = torch.Generator().manual_seed(0)
        shape = (DISTINCT, self.images.channels, *self.size)
        images = torch.rand(shape, generator=generator)
        if self.images.dtype == "uint8":
            images = (images * 255).to(torch.uint8)
        masks = torch.randint(self.classes, (DISTINCT, *self.size), generator=generator)
        return images, masks.to(torch.uint8)

    def criterion(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of (logits, class ids as int64) with what PyTorch has, as the projects did."""
        if self.name == "textures":
            return lambda logits, masks: functional.mse_loss(logits[:, 0].sigmoid(), masks.float())
        if self.classes == 2:
            weight = torch.tensor(27.0, device=device)
            binary = nn.BCEWithLogitsLoss(pos_weight=weight)
            return lambda logits, masks: binary(logits[:, 0], masks.float())
        weights = torch.ones(self.classes, device=device) if self.metrics else None
        entropy = nn.CrossEntropyLoss(weight=weights, ignore_index=255)
        if self.name != "cityscapes":
            return entropy
        return lambda logits, masks: entropy(logits, masks) + _dice(logits, masks)


def _dice(logits: Tensor, masks: Tensor) -> Tensor:
    """The Dice loss as it is usually written."""
    shares = logits.softmax(1)
    truth = functional.one_hot(masks, logits.shape[1]).movedim(-1, 1).float()
    overlap = (shares * truth).sum((0, 2, 3))
    return 1 - ((2 * overlap + 1) / (shares.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)).mean()


VANILLA = Workload("vanilla U-Net, 64", "driving/base_64", (128, 128), 8, 5, metrics=2)
ATTENTION = Workload(
    "attention U-Net, 32",
    "driving/attention_dropout_20",
    (128, 128),
    8,
    5,
    words=("model.widths=[32,64,128,256,512]",),
    metrics=2,
)
EDGES = Workload("single-convolution U-Net", "edges/weighted", (384, 512), 2, 2, metrics=1)
CITYSCAPES = Workload("cityscapes", "cityscapes/published", (256, 512), 4, 24, clip=1.0)
TEXTURES = Workload(
    "textures", "textures/adam", (128, 128), 8, 2, images=TEXTURE_IMAGES, bf16=False
)
WORKLOADS = (VANILLA, ATTENTION, EDGES, CITYSCAPES, TEXTURES)


def synthetic(*, workload: str, length: int) -> Parts:
    """The dataset of a workload, by its name: `length` training images, one of each other part."""
    (found,) = (each for each in WORKLOADS if each.name == workload)
    return Parts({part: Synthetic(found, part, length if part == "train" else 1) for part in PARTS})


class Synthetic:
    """Samples in memory.

    Args:
        workload: whose samples.
        part: which part this is.
        length: how many there seem to be.
    """

    endless = True
    """So that nothing is cached, and every sample is asked for here."""

    on_sample: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Called before each training sample is given."""

    def __init__(self, workload: Workload, part: str, length: int) -> None:
        self.images = workload.images
        self.part = part
        self.names = [f"{part} {i}" for i in range(length)]
        names = tuple(f"class {i}" for i in range(workload.classes))
        self.labels = LabelMap(names=names, values={i: i for i in range(len(names))})
        self._images, self._masks = workload.samples()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        if self.part == "train":
            Synthetic.on_sample()
        place = index % DISTINCT
        return Sample(
            image=tv_tensors.Image(self._images[place]),
            mask=tv_tensors.Mask(self._masks[place]),
            name=self.names[index % len(self)],
        )
