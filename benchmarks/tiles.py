"""Whether tiles give the mask of the whole image: `python -m benchmarks.tiles PHOTO [RUN ...]`.

For every network of the five projects' experiments, and for each run that is given: the share of
pixels of a 2000x1500 image that get the same class when it is cut into tiles of at most 1024x1024
(`--tile`), and the largest difference of logits. The image is PHOTO, enlarged. A network of random
weights is made as hard as can be: batch norms take the statistics of the image, and the last layer
is set such that every class is as frequent and varies as much as the others. Then most pixels are
near a border, where the least difference shows. With `--width N`, the first level has N channels
and the others follow: that leaves how far a network sees as it is, and asks for less memory and
time. `--only WORD` takes the networks whose experiment's name has the word.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

import truemask
from benchmarks.loops import DEVICE
from truemask.compose import compose_config
from truemask.datasets.reading import read_image
from truemask.images import RGB, ImageSpec, resize_image
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter
from truemask.models.tiling import image_logits
from truemask.runs import Run

SIZE = (1500, 2000)
CLASSES = 6


def networks() -> dict[str, dict[str, Any]]:
    """Each network once, by the first experiment that trains it."""
    found: dict[str, dict[str, Any]] = {}
    folder = Path(truemask.__file__).parent / "configs" / "experiment"
    for file in sorted(folder.glob("*/[!_]*.yaml")):
        name = f"{file.parent.name}/{file.stem}"
        data = [] if "textures" in name else ["data.dataset.root=anywhere"]
        config = compose_config([f"experiment={name}", *data])
        # What changes nothing of a trained network, or is 0 and 1 by default.
        model = {
            k: v for k, v in config["model"].items() if k not in ("dropout", "init", "weights")
        }
        if model not in found.values():
            found[name] = model
    return found


def narrowed(model: dict[str, Any], width: int | None) -> dict[str, Any]:
    """With another first width."""
    if width is None or "widths" not in model:
        return model
    first = model["widths"][0]
    return model | {"widths": [value * width // first for value in model["widths"]]}


def settled(model: dict[str, Any], image: Shaped[Tensor, "C H W"]) -> Segmenter:
    """A network whose every layer does something, and whose classes are equally frequent."""
    torch.manual_seed(0)
    texture = "texture" in str(model["_target_"])
    channels, logits = (1, 1) if texture else (3, CLASSES)
    network = build_network({**model, "in_channels": channels, "out_channels": logits})
    spec = ImageSpec(channels=1, mean=(0.5,), std=(0.25,)) if texture else RGB
    segmenter = Segmenter(network=network, images=spec).to(DEVICE)
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    crop = image[:channels, :768, :1024].to(DEVICE)
    with torch.no_grad():
        segmenter.train()(crop[None])
        found = segmenter.eval()(crop[None])[0]
        head = [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1]
        mean, std = found.mean((1, 2)), found.std((1, 2))
        folded = head.out_channels // logits  # of a network that unfolds its logits
        std, mean = (value.repeat_interleave(folded) for value in (std, mean))
        head.weight.div_(std[:, None, None, None])
        assert head.bias is not None
        head.bias.sub_(mean).div_(std)
    return segmenter


def show(
    name: str, model: Segmenter, image: Shaped[Tensor, "C H W"], num_classes: int, *, tile: int
) -> None:
    """A line of the table."""
    image = image[: model.images.channels].to(DEVICE)
    model.size = None  # of how the whole image is resized, tiles can know nothing
    whole = image_logits(model, image)
    tiled = image_logits(model, image, tile=tile)

    def ids(logits: Tensor) -> Tensor:
        return (logits[0] > 0).long() if len(logits) == 1 else logits.max(0).indices

    differing = float((ids(whole) != ids(tiled)).double().mean())
    largest = float((whole - tiled).abs().max() / whole.std())
    shares = torch.bincount(ids(whole).flatten(), minlength=num_classes) / ids(whole).numel()
    print(
        f"| {name} | {1 - differing:.4%} | {largest:.1e} | {float(shares.max()):.0%} |", flush=True
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--width", type=int)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    image = resize_image(read_image(options.photo, RGB), SIZE).as_subclass(Tensor)
    print("| network | pixels of one class | largest difference, of the logits' deviation | ")
    print("|---|---|---|---|")
    for path in options.runs:
        bundle = Run.open(path).load_bundle()
        show(
            f"{path.parent.name}, trained",
            bundle.model.to(DEVICE),
            image,
            len(bundle.labels.names),
            tile=options.tile,
        )
    for name, model in networks().items():
        if options.only in name:
            network = settled(narrowed(model, options.width), image)
            show(name, network, image, CLASSES, tile=options.tile)


if __name__ == "__main__":
    main()
