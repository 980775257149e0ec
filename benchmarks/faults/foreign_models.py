"""Models as people write them: sound ones first, then each with one fault."""
# ruff: noqa: ANN001, ANN201, ANN204, D101, D102, D103, D106

import torch
import torch.nn as nn
import torch.nn.functional as F

# --- Sound.


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


class SmallUNet(nn.Module):
    """Three levels, pads nothing: sides divisible by 8."""

    def __init__(self, cin=3, num_classes=5, width=16):
        super().__init__()
        w = width
        self.d1, self.d2, self.d3 = (
            double_conv(cin, w),
            double_conv(w, 2 * w),
            double_conv(2 * w, 4 * w),
        )
        self.pool = nn.MaxPool2d(2)
        self.u2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2)
        self.c2 = double_conv(4 * w, 2 * w)
        self.u1 = nn.ConvTranspose2d(2 * w, w, 2, 2)
        self.c1 = double_conv(2 * w, w)
        self.head = nn.Conv2d(w, num_classes, 1)

    def features(self, x):
        a = self.d1(x)
        b = self.d2(self.pool(a))
        c = self.d3(self.pool(b))
        b = self.c2(torch.cat([b, self.u2(c)], 1))
        return self.c1(torch.cat([a, self.u1(b)], 1))

    def forward(self, x):
        return self.head(self.features(x))


class PaddedUNet(SmallUNet):
    """Pads to a multiple of 4 and crops the same pixels off again."""

    def forward(self, x):
        h, w = x.shape[-2:]
        bottom, right = -h % 4, -w % 4
        y = super().forward(F.pad(x, (0, right, 0, bottom), mode="replicate"))
        return y[..., :h, :w]


class PlainConvs(nn.Sequential):
    """No normalisation; dilated so that it sees enough."""

    def __init__(self, cin=3, num_classes=5, width=24):
        layers = [nn.Conv2d(cin, width, 3, padding=1), nn.ReLU()]
        for d in (2, 4, 8, 16):
            layers += [nn.Conv2d(width, width, 3, padding=d, dilation=d), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(width, num_classes, 1))


class DictOut(nn.Module):
    """As torchvision's: {"out": logits}."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return {"out": self.net(x)}


class GroupNormUNet(SmallUNet):
    def __init__(self, cin=3, num_classes=5, width=16):
        super().__init__(cin, num_classes, width)
        for module in self.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.GroupNorm(4, child.num_features))


class SharedHarmless(nn.Module):
    """One ReLU, one pooling and one dropout for all levels: they have no state."""

    def __init__(self, cin=3, num_classes=5, width=16):
        super().__init__()
        self.act, self.pool, self.drop = nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1)
        self.a = nn.Conv2d(cin, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.c = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
        self.head = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x):
        a = self.act(self.a(x))
        b = self.drop(self.act(self.b(self.pool(a))))
        c = self.drop(self.act(self.c(self.pool(b))))
        return self.head(torch.cat([a, self.up(c)], 1))


# --- 23: shape and place.


class ValidConvs(nn.Module):
    """Every convolution eats a border, and nobody gives it back."""

    def __init__(self, layers, num_classes=5):
        super().__init__()
        body = [nn.Conv2d(3, 16, 3), nn.ReLU()]
        for _ in range(layers - 1):
            body += [nn.Conv2d(16, 16, 3), nn.ReLU()]
        self.body, self.head = nn.Sequential(*body), nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        return self.head(self.body(x))


class NeverUpsampled(nn.Module):
    """The output is a half, a quarter or an eighth of the mask."""

    def __init__(self, times, num_classes=5):
        super().__init__()
        layers, c = [], 3
        for _ in range(times):
            layers += [nn.Conv2d(c, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
            c = 16
        self.body, self.head = nn.Sequential(*layers), nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        return self.head(self.body(x))


class ChannelsLast(SmallUNet):
    """(B, H, W, C), as in another framework."""

    def forward(self, x):
        return super().forward(x).permute(0, 2, 3, 1)


class Shifted(SmallUNet):
    """Padded on all sides, cropped from the top left corner only."""

    def __init__(self, pixels, num_classes=5):
        super().__init__(3, num_classes)
        self.pixels = pixels

    def forward(self, x):
        p, (h, w) = self.pixels, x.shape[-2:]
        bottom, right = (p + (-(n + 2 * p) % 4) for n in (h, w))
        y = super().forward(F.pad(x, (p, right, p, bottom), mode="reflect"))
        return y[..., :h, :w]


class OneSided(nn.Module):
    """Causal padding: every layer looks up and left."""

    def __init__(self, layers, num_classes=5):
        super().__init__()
        convs, c = [], 3
        for _ in range(layers):
            convs.append(nn.Conv2d(c, 16, 3))
            c = 16
        self.convs, self.head = nn.ModuleList(convs), nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(F.pad(x, (2, 0, 2, 0))))
        return self.head(x)


class WrongCrop(nn.Module):
    """Skips are cropped from their corner, not from their centre."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.head = nn.Conv2d(32, num_classes, 1)

    def forward(self, x):
        h, w = x.shape[-2:]
        a = self.a(F.pad(x, (12, 12, 12, 12)))
        b = self.up(self.b(F.max_pool2d(a, 2)))
        a = a[..., : b.shape[-2], : b.shape[-1]]
        y = self.head(torch.cat([a, b], 1))
        return F.interpolate(y, (h, w)) if y.shape[-2] < h else y[..., :h, :w]


# --- 24: a final activation.


class Activated(nn.Module):
    def __init__(self, net, activation):
        super().__init__()
        self.net, self.activation = net, activation

    def forward(self, x):
        return self.activation(self.net(x))


# --- 25: a module used twice.


class OneBatchNorm(nn.Module):
    """The published textures: one batch norm for three layers."""

    def __init__(self, cin=1, num_classes=1, uses=3):
        super().__init__()
        self.inp = nn.Conv2d(cin, 16, 5, padding=2)
        self.mid = nn.ModuleList(nn.Conv2d(16, 16, 5, padding=2) for _ in range(uses - 1))
        self.out = nn.Conv2d(16, num_classes, 5, padding=2)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x):
        x = self.bn(F.relu(self.inp(x)))
        for conv in self.mid:
            x = self.bn(F.relu(conv(x)))
        return self.out(x)


class MultipliedList(nn.Module):
    """`[block] * n` is n times the same block."""

    def __init__(self, times, num_classes=5):
        super().__init__()
        block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(*[block] * times)
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        return self.head(self.body(self.stem(x)))


class DefaultArgument(nn.Module):
    """A norm made once, in the signature."""

    class Layer(nn.Module):
        def __init__(self, c, norm=nn.BatchNorm2d(16)):  # noqa: B008
            super().__init__()
            self.conv, self.norm = nn.Conv2d(c, 16, 3, padding=1), norm

        def forward(self, x):
            return F.relu(self.norm(self.conv(x)))

    def __init__(self, num_classes=5):
        super().__init__()
        self.a, self.b = self.Layer(3), self.Layer(16)
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        return self.head(self.b(self.a(x)))


# --- 26: parameters that do not learn.


class UnusedBranch(SmallUNet):
    """An auxiliary head that nobody calls any more."""

    def __init__(self, width, num_classes=5):
        super().__init__(3, num_classes)
        self.aux = nn.Sequential(nn.Conv2d(16, width, 3, padding=1), nn.Conv2d(width, 5, 1))


class DetachedEncoder(SmallUNet):
    """The features are cut off from their gradient."""

    def forward(self, x):
        return self.head(self.features(x).detach())


class DetachedSkip(SmallUNet):
    """The deepest level goes on as data."""

    def features(self, x):
        a = self.d1(x)
        b = self.d2(self.pool(a))
        with torch.no_grad():
            c = self.d3(self.pool(b))
        b = self.c2(torch.cat([b, self.u2(c)], 1))
        return self.c1(torch.cat([a, self.u1(b)], 1))


class DeadReLU(SmallUNet):
    """A bias so low that a layer is 0 for every image."""

    def __init__(self, num_classes=5):
        super().__init__(3, num_classes)
        norm = self.c1[4]
        nn.init.constant_(norm.bias, -100.0)


class ListOfLayers(nn.Module):
    """Layers in a plain list: no parameters of the model."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.layers = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)]
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


# --- 27: samples that influence each other.


class BatchStatistics(SmallUNet):
    """Batch norm without running statistics: the batch's own in evaluation too."""

    def __init__(self, num_classes=5):
        super().__init__(3, num_classes)
        self.norm = nn.BatchNorm2d(16, track_running_stats=False)

    def forward(self, x):
        return self.head(self.norm(self.features(x)))


class ScaledByBatch(SmallUNet):
    """Divides by the batch's standard deviation."""

    def __init__(self, share=1.0, num_classes=5):
        super().__init__(3, num_classes)
        self.share = share

    def forward(self, x):
        scaled = (x - x.mean()) / (x.std() + 1e-6)
        return super().forward(x + self.share * (scaled - x))


class AlwaysTraining(SmallUNet):
    """`F.batch_norm(training=True)`."""

    def forward(self, x):
        f = self.features(x)
        f = F.batch_norm(f, None, None, training=True)
        return self.head(f)


class AttentionOverBatch(nn.Module):
    """`batch_first` forgotten: attention runs over the samples."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.attention = nn.MultiheadAttention(16, 2)
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        f = self.stem(x)
        b, c, h, w = f.shape
        tokens = f.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        f = tokens.transpose(1, 2).reshape(b, c, h, w)
        return F.interpolate(self.head(f), size=x.shape[-2:], mode="bilinear")


class SoftmaxOverBatch(SmallUNet):
    """Attention weights that sum to 1 over the wrong axis."""

    def forward(self, x):
        f = self.features(x)
        return self.head(f * torch.softmax(f.mean((2, 3), keepdim=True), dim=0))


# --- 28: norms.


class NormOfOneValue(SmallUNet):
    """Global context, one value a channel, then a norm over it."""

    def __init__(self, norm, num_classes=5):
        super().__init__(3, num_classes)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), norm, nn.ReLU())

    def forward(self, x):
        f = self.features(x)
        return self.head(f + self.pooled(f))


class BiasedNorm(nn.Module):
    """Convolutions with bias in front of batch norms."""

    def __init__(self, layers, num_classes=5):
        super().__init__()
        body, c = [], 3
        for i in range(4):
            body += [nn.Conv2d(c, 16, 3, padding=2**i, dilation=2**i, bias=i < layers)]
            body += [nn.BatchNorm2d(16), nn.ReLU()]
            c = 16
        self.body, self.head = nn.Sequential(*body), nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        return self.head(self.body(x))


# --- 29: what it can see.


class Nearsighted(nn.Sequential):
    def __init__(self, layers, num_classes=5):
        body, c = [], 3
        for _ in range(layers):
            body += [nn.Conv2d(c, 16, 3, padding=1), nn.ReLU()]
            c = 16
        super().__init__(*body, nn.Conv2d(c, num_classes, 1))


# --- 30: where it starts, and whether it can learn.


class BadStart(SmallUNet):
    """The last layer's weights are some times too large, or its bias favours one class."""

    def __init__(self, scale=1.0, bias=0.0, num_classes=5):
        super().__init__(3, num_classes)
        with torch.no_grad():
            self.head.weight.mul_(scale)
            self.head.bias[0] += bias


class ColorOnly(nn.Module):
    """Sees one pixel at a time."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)

    def forward(self, x):
        return self.head(x)


class Blurred(SmallUNet):
    """The input loses nearly all detail before the first layer."""

    def __init__(self, factor, num_classes=5):
        super().__init__(3, num_classes)
        self.factor = factor

    def forward(self, x):
        small = F.adaptive_avg_pool2d(x, max(4, x.shape[-1] // self.factor) // 4 * 4)
        return F.interpolate(super().forward(small), x.shape[-2:], mode="nearest")


class Constant(nn.Module):
    """Forgets its input: the same for every image."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.net = SmallUNet(3, num_classes)

    def forward(self, x):
        return self.net(x * 0)


class Saturated(nn.Module):
    """Sigmoids inside, and images from 0 to 255."""

    def __init__(self, num_classes=5):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Conv2d(16, num_classes, 1)
        with torch.no_grad():
            self.a.weight.abs_()

    def forward(self, x):
        x = torch.sigmoid(self.a((x + 3) * 42.5))
        return self.head(torch.sigmoid(self.b(x)))


class NearlyAllDropped(SmallUNet):
    def __init__(self, p, num_classes=5):
        super().__init__(3, num_classes)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        return self.head(self.drop(self.features(x)))


class AllZero(SmallUNet):
    """Somebody initialised every weight with 0."""

    def __init__(self, num_classes=5):
        super().__init__(3, num_classes)
        for value in self.parameters():
            nn.init.zeros_(value)


class DeadOutput(SmallUNet):
    """A ReLU behind a head whose bias is far below 0: all logits are 0, and stay it."""

    def __init__(self, num_classes=5):
        super().__init__(3, num_classes)
        nn.init.constant_(self.head.bias, -50.0)

    def forward(self, x):
        return F.relu(super().forward(x))


class Frozen(SmallUNet):
    """Fine-tuning that froze the head too."""

    def __init__(self, num_classes=5):
        super().__init__(3, num_classes)
        self.requires_grad_(False)
