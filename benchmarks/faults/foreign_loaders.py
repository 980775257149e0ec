"""Loaders as people write them: datasets with transforms, and collate functions."""
# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ANN204, D101, D103

import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as TF

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
CIFAR10 = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
MNIST = ([0.1307] * 3, [0.3081] * 3)


def to_tensors(image, mask):
    """(H, W, C) and (H, W) arrays to a float image in [0, 1] and an int64 mask."""
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    return x, torch.from_numpy(np.ascontiguousarray(mask)).long()


class Normalized(Dataset):
    """Images normalised by mean and std; `spoil` stands for whatever the author got wrong."""

    def __init__(self, pairs, stats=IMAGENET, size=None, before=None, after=None):
        self.pairs, self.stats, self.size = list(pairs), stats, size
        self.before, self.after = before, after

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        x, y = to_tensors(self.pairs[i].image, self.pairs[i].mask)
        if self.size is not None:
            x = TF.resize(x, self.size, antialias=True)
            y = TF.resize(y[None], self.size, InterpolationMode.NEAREST)[0]
        if self.before is not None:
            x, y = self.before(x, y)
        if self.stats is not None:
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in self.stats)
            x = (x - mean) / std
        if self.after is not None:
            x, y = self.after(x, y)
        return x, y


class DictNormalized(Normalized):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return {"pixel_values": x, "labels": y}


def loader(dataset, batch_size=4, shuffle=True, **options):
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, **options)


# Augmentations that are right: both get the same.


def flip_both(x, y):
    if random.random() < 0.5:
        return TF.hflip(x), TF.hflip(y)
    return x, y


def rotate_both(x, y):
    angle = random.uniform(-20, 20)
    y = TF.rotate(y[None].float(), angle, fill=255).long()[0]
    return TF.rotate(x, angle, InterpolationMode.BILINEAR), y


def crop_both(x, y):
    height, width = (side // 2 for side in y.shape)
    top, left = random.randint(0, height), random.randint(0, width)
    return TF.crop(x, top, left, height, width), TF.crop(y, top, left, height, width)


def jitter(x, y):
    x = TF.adjust_brightness(x, random.uniform(0.8, 1.2))
    return TF.adjust_contrast(x, random.uniform(0.8, 1.2)), y


class V2Pairs(Dataset):
    """torchvision's transforms.v2, with tv_tensors, as its documentation shows."""

    def __init__(self, pairs, size=(96, 128)):
        self.pairs = list(pairs)
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.2, 0.2, 0.2),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(*IMAGENET),
            ]
        )

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        image = tv_tensors.Image(torch.from_numpy(self.pairs[i].image.transpose(2, 0, 1).copy()))
        mask = tv_tensors.Mask(torch.from_numpy(self.pairs[i].mask).long())
        return self.transform(image, mask)


# Augmentations that are wrong: the mask gets none, or another one.


def flip_image_only(p):
    def apply(x, y):
        return (TF.hflip(x) if random.random() < p else x), y

    return apply


def flip_each_by_itself(p):
    """Two transform pipelines, each drawing its own coin."""

    def apply(x, y):
        return (
            TF.hflip(x) if random.random() < p else x,
            TF.hflip(y) if random.random() < p else y,
        )

    return apply


def rotate_image_only(degrees):
    def apply(x, y):
        angle = random.uniform(-degrees, degrees)
        return TF.rotate(x, angle, InterpolationMode.BILINEAR), y

    return apply


def crop_each_by_itself(reach):
    """Two crops whose corners differ by up to some pixels."""

    def apply(x, y):
        height, width = y.shape[0] - reach, y.shape[1] - reach
        (t, l_), (u, m) = ((random.randint(0, reach), random.randint(0, reach)) for _ in range(2))
        return TF.crop(x, t, l_, height, width), TF.crop(y, u, m, height, width)

    return apply


def affine_image_only(reach):
    def apply(x, y):
        move = [random.randint(-reach, reach), random.randint(-reach, reach)]
        return TF.affine(x, 0.0, move, 1.0, [0.0, 0.0], InterpolationMode.BILINEAR), y

    return apply


# Scaling that is wrong.


def times_255(share):
    """Some images were never divided by 255."""

    def apply(x, y):
        return (x * 255 if random.random() < share else x), y

    return apply


def divided_again(share):
    """`ToTensor` scales already, then somebody divides by 255."""

    def apply(x, y):
        return (x / 255 if random.random() < share else x), y

    return apply


def normalized_with(stats, share=1.0):
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in stats)

    def apply(x, y):
        return ((x - mean) / std if random.random() < share else x), y

    return apply


def channels(order, share=1.0):
    def apply(x, y):
        return (x[list(order)] if random.random() < share else x), y

    return apply


# Collating images of several sizes.


def pad_collate(value, multiple=16, extra=0):
    """Pad right and bottom to the batch's largest size, the mask with `value`."""

    def collate(items):
        height = max(y.shape[0] for _, y in items) + extra
        width = max(y.shape[1] for _, y in items) + extra
        height, width = (-(-side // multiple) * multiple for side in (height, width))
        xs, ys = [], []
        for x, y in items:
            pad = (0, width - y.shape[1], 0, height - y.shape[0])
            xs.append(F.pad(x, pad))
            ys.append(F.pad(y, pad, value=value))
        return torch.stack(xs), torch.stack(ys)

    return collate


def letterbox(side, value):
    """Scale to fit a square, fill the rest: the mask with `value`."""

    def apply(x, y):
        scale = side / max(y.shape)
        size = [max(1, round(n * scale)) for n in y.shape]
        x = TF.resize(x, size, antialias=True)
        y = TF.resize(y[None], size, InterpolationMode.NEAREST)[0]
        bottom, right = side - size[0], side - size[1]
        return F.pad(x, (0, right, 0, bottom)), F.pad(y, (0, right, 0, bottom), value=value)

    return apply


class OpenCvPairs(Dataset):
    """As `cv2.imread` gives images: blue first, (H, W, C) uint8, scaled by hand."""

    def __init__(self, pairs, stats=IMAGENET):
        self.pairs, self.stats = list(pairs), stats

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        image = self.pairs[i].image[..., ::-1].astype(np.float32) / 255.0
        mean, std = (np.array(values, np.float32) for values in self.stats)
        image = (image - mean) / std
        x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return x, torch.from_numpy(self.pairs[i].mask.astype(np.int64))


class PilResized(Dataset):
    """PIL from end to end, as the tutorials do."""

    def __init__(self, pairs, size=(128, 128)):
        self.pairs, self.size = list(pairs), size

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        image = Image.fromarray(self.pairs[i].image).resize(self.size)
        mask = Image.fromarray(self.pairs[i].mask).resize(self.size, Image.Resampling.NEAREST)
        x = TF.normalize(TF.to_tensor(image), *IMAGENET)
        return x, torch.from_numpy(np.array(mask)).long()
