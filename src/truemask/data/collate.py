"""From samples to a batch: mixed sizes are padded, and padding is ignored, never background."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from truemask.datasets.sample import Sample
from truemask.geometry import pad_to, round_up


@dataclass
class Batch:
    """Samples of one batch.

    Attributes:
        images: (B, C, H, W), of the dataset's dtype; padded with zeros at the bottom and the right.
        masks: (B, H, W) uint8 class ids; padded with the ignored id.
        names: one a sample.
        attributes: what else is known of each sample.
    """

    images: Shaped[Tensor, "B C H W"]
    masks: UInt8[Tensor, "B H W"]
    names: list[str]
    attributes: list[Mapping[str, str]]

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, which PyTorch's loader calls for beside a GPU."""
        return replace(self, images=self.images.pin_memory(), masks=self.masks.pin_memory())

    def to(self, device: torch.device) -> "Batch":
        """The same on a device; page-locked memory goes there while the device computes."""
        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, masks=self.masks.to(device, non_blocking=True))


def collate_step(
    samples: Sequence[Sample], *, share: int, ignore_index: int = 255, stride: int = 1
) -> list[Batch]:
    """The batches of one optimiser step: `share` samples each, in order."""
    return [
        collate(samples[start : start + share], ignore_index=ignore_index, stride=stride)
        for start in range(0, len(samples), share)
    ]


def collate(samples: Sequence[Sample], *, ignore_index: int = 255, stride: int = 1) -> Batch:
    """Stack samples, each padded to the largest height and width among them.

    Args:
        samples: of any sizes.
        ignore_index: id of padded pixels.
        stride: what the batch's height and width are multiples of.
    """
    height = round_up(max(sample.mask.shape[-2] for sample in samples), stride)
    width = round_up(max(sample.mask.shape[-1] for sample in samples), stride)
    images, masks = [], []
    for sample in samples:
        image, mask = sample.image.as_subclass(Tensor), sample.mask.as_subclass(Tensor)
        padding = pad_to(*mask.shape[-2:], to_height=height, to_width=width)
        images.append(padding.add(image))
        masks.append(padding.add(mask, value=ignore_index))
    return Batch(
        images=torch.stack(images),
        masks=torch.stack(masks),
        names=[sample.name for sample in samples],
        attributes=[sample.attributes for sample in samples],
    )
