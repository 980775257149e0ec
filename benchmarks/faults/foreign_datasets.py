"""Datasets as people write them, over pairs in memory or files: each in another style."""
# ruff: noqa: ANN001, ANN201, ANN204

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import functional as TF

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TensorPairs(Dataset):
    """Tuples of a float image (C, H, W) in [0, 1] and an int64 mask."""

    def __init__(self, pairs):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        pair = self.pairs[i]
        image = torch.from_numpy(np.ascontiguousarray(pair.image.transpose(2, 0, 1))).float()
        if pair.image.dtype == np.uint8:
            image = image / 255
        return image, torch.from_numpy(pair.mask.astype(np.int64))


class NumpyPairs(Dataset):
    """Tuples of arrays: (H, W, C) as loaded, and an (H, W) mask."""

    def __init__(self, pairs):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        return self.pairs[i].image, self.pairs[i].mask


class PilPairs(Dataset):
    """PIL images, as `VOCSegmentation` gives them."""

    def __init__(self, pairs):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        pair = self.pairs[i]
        return Image.fromarray(pair.image), Image.fromarray(pair.mask)


class DictPairs(Dataset):
    """A mapping with a float32 image and a uint8 mask as tensors, and the name."""

    def __init__(self, pairs):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        pair = self.pairs[i]
        return {
            "image": TF.to_tensor(pair.image),
            "mask": torch.as_tensor(pair.mask),
            "name": pair.name,
        }


class FloatMaskPairs(Dataset):
    """Binary: the mask is float and has a channel, as BCE takes it; 0/255 files or ids alike."""

    def __init__(self, pairs, normalize=False):
        self.pairs = list(pairs)
        self.normalize = normalize

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        pair = self.pairs[i]
        image = TF.to_tensor(pair.image)
        if self.normalize:
            image = TF.normalize(image, [0.5] * len(image), [0.5] * len(image))
        return image, torch.from_numpy(pair.mask).float().unsqueeze(0)


class PairList:
    """No torch at all: a plain class with `__len__` and `__getitem__`."""

    def __init__(self, pairs):
        self.images = [pair.image for pair in pairs]
        self.masks = [pair.mask for pair in pairs]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        if i >= len(self.images):
            raise IndexError(i)
        return {"image": self.images[i], "mask": self.masks[i]}


STYLES = {
    "camvid": NumpyPairs,
    "crackforest": FloatMaskPairs,
    "bsds500": PilPairs,
    "textures": TensorPairs,
    "benchmarks": PilPairs,
    "edges": FloatMaskPairs,
    "driving": DictPairs,
    "cityscapes": TensorPairs,
    "gta5": NumpyPairs,
    "carvana": PairList,
}
"""The style in which each experiment's dataset is written."""


class FilePairs(Dataset):
    """Reads files, as everybody does first."""

    def __init__(self, files, mask_mode=None):
        self.files = list(files)
        self.mask_mode = mask_mode

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        image, mask = self.files[i]
        mask = Image.open(mask)
        if self.mask_mode is not None:
            mask = mask.convert(self.mask_mode)
        return np.array(Image.open(image).convert("RGB")), np.array(mask)


def write_files(pairs, folder: Path, *, image_suffix=".jpg", mask_suffix=".png"):
    """Write `images/` and `masks/` and give the pairs of paths."""
    files = []
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        image = folder / "images" / f"{pair.name}{image_suffix}"
        mask = folder / "masks" / f"{pair.name}{mask_suffix}"
        options = {"quality": 95} if image_suffix == ".jpg" else {"compress_level": 1}
        Image.fromarray(pair.image.squeeze()).save(image, **options)
        Image.fromarray(pair.mask).save(mask)
        files.append((image, mask))
    return files
