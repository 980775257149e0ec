"""How far each exported form of each model agrees with the model, on 100 real images.

`python -m benchmarks.parity DATA RUNS OUT [NAME ...]` takes the models that `benchmarks.trained`
left in RUNS, and the other kinds of networks with random weights, whose batch statistics are those
of real images. DATA holds camvid, crackforest and bsds500. What is found is kept in OUT, one JSON
file a model, and printed as a table; a second start goes on where the first ended.

A pixel counts as differing whenever its class differs, ties too. To tell ties from errors, the
largest margin between the two greatest logits of a differing pixel is kept, in units of the
logits' standard deviation: rounding moves none whose margin is above some 1e-5.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.trained import TRAININGS, find, load
from truemask.build import build
from truemask.bundle import Bundle
from truemask.compose import compose_config
from truemask.datasets.reading import read_image
from truemask.errors import JobFailed
from truemask.images import RGB
from truemask.inference.engine import OnnxEngine, TorchEngine
from truemask.inference.export import export
from truemask.inference.parity import LabelledImage, compare_predictions
from truemask.labels import LabelMap
from truemask.models.pretrained import EncoderUNet
from truemask.models.segmenter import Segmenter
from truemask.models.tiling import image_logits
from truemask.models.unet import UNet
from truemask.training.testing import open_run

CLASSES = {"driving_base_128": 5, "cityscapes": 24, "carvana": 2, "voc": 21}
"""Of networks that may be left untrained, as a training takes long."""

SHARED = "textures_adam"
"""The network with one batch norm for three layers."""

PROGRAMS = 20
"""Images on which a program of `torch.export` is compared."""

CALIBRATION = 32
JUDGED = 40
"""Images with a truth on which IoU is measured."""

OTHERS: dict[str, Callable[[], nn.Module]] = {
    "UNet, bilinear": lambda: UNet(
        in_channels=3, out_channels=6, widths=(16, 32, 64), upsampling="bilinear"
    ),
    "UNet, valid, attention": lambda: UNet(
        in_channels=3, out_channels=6, widths=(16, 32, 64), padding="valid", attention=True
    ),
    "UNet, downscale 3": lambda: UNet(
        in_channels=3, out_channels=6, widths=(16, 32, 64), downscale=3
    ),
    **{
        f"EncoderUNet, {architecture}": lambda architecture=architecture: EncoderUNet(
            in_channels=3, out_channels=6, encoder="resnet18", architecture=architecture
        )
        for architecture in (
            "unet", "unetplusplus", "manet", "linknet", "fpn", "deeplabv3plus", "upernet",
        )
    },
    "EncoderUNet, scse": lambda: EncoderUNet(
        in_channels=3, out_channels=6, encoder="resnet18", attention="scse"
    ),
    "EncoderUNet, segformer, mit_b0": lambda: EncoderUNet(
        in_channels=3, out_channels=6, encoder="mit_b0", architecture="segformer"
    ),
    "EncoderUNet, unet, tu-convnext_atto": lambda: EncoderUNet(
        in_channels=3, out_channels=6, encoder="tu-convnext_atto"
    ),
}  # fmt: skip
"""Networks of other kinds than the projects', with random weights."""


def photos(data: Path, count: int = 100) -> list[Tensor]:
    """Real images: streets, anything in both orientations, roads from above; 7 of 10 cut oddly."""
    shares = {"camvid": 0.4, "bsds500": 0.4, "crackforest": 0.2}
    found = []
    for name, share in shares.items():
        files = sorted((data / name / "val" / "images").iterdir())
        wanted = round(count * share)
        chosen = [files[at * len(files) // wanted] for at in range(wanted)]
        found += [read_image(file, RGB).as_subclass(Tensor) for file in chosen]
    sizes = ((97, 131), (33, 47), (255, 63), (128, 128), (61, 320), (200, 33), (160, 211))
    return [
        image if at % 10 < 3 else image[:, : sizes[at % 10 - 3][0], : sizes[at % 10 - 3][1]]
        for at, image in enumerate(found)
    ]


@dataclass
class Tally:
    """Differing pixels of one form.

    Attributes:
        images: compared.
        pixels: of them.
        differing: with another class.
        margin: the largest of a differing pixel.
        seconds: that it took.
    """

    images: int = 0
    pixels: int = 0
    differing: int = 0
    margin: float = 0.0
    seconds: float = 0.0

    def add(self, expected: Tensor, found: np.ndarray, margins: Tensor) -> None:
        """One image."""
        other = expected != torch.from_numpy(found)
        self.images += 1
        self.pixels += other.numel()
        self.differing += int(other.sum())
        if other.any():
            self.margin = max(self.margin, float(margins[other].max()))


@dataclass
class Found:
    """What was found of a model.

    Attributes:
        name: of it.
        forms: the tally of each form.
        said: other things, such as why a form is refused.
    """

    name: str
    forms: dict[str, Tally] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "forms": {name: vars(tally) for name, tally in self.forms.items()},
            **self.said,
        }


def untrained(name: str, images: Sequence[Tensor]) -> Bundle:
    """A project's network with random weights, with the experiment's image size."""
    experiment, classes = TRAININGS[name].experiment, CLASSES[name]
    config = compose_config([f"experiment={experiment}", "data.dataset.root=anywhere"])
    network: nn.Module = build(
        config["model"], key="model", in_channels=3, out_channels=1 if classes == 2 else classes
    )
    resize = config["data"].get("resize")
    return random_bundle(network, images, classes, None if resize is None else tuple(resize))


def random_bundle(
    network: nn.Module,
    images: Sequence[Tensor],
    classes: int = 6,
    size: tuple[int, int] | None = None,
) -> Bundle:
    """A model of random weights, with the batch statistics of real images."""
    model = Segmenter(network=network, images=RGB, size=size)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        whole = [image for image in images if min(image.shape[1:]) >= 320][:6]
        model.train()(torch.stack([image[:, :256, :256] for image in whole]))
    names = tuple(f"class {i}" for i in range(classes))
    return Bundle(model=model.eval(), labels=LabelMap(names=names, values={}), network={}, info={})


def balance(bundle: Bundle, images: Sequence[Tensor]) -> None:
    """Move the bias of the logits so that half of the pixels are of each class.

    For the network whose layers share a batch norm: its running statistics, a mixture, fit none of
    them, so that it finds but one class once it is trained.
    """
    with torch.inference_mode():
        logits = [image_logits(bundle.model, fitted(image, bundle)) for image in images[3:6]]
    middle = torch.cat([part.flatten() for part in logits]).median()
    head = bundle.model.network.head
    assert isinstance(head, nn.Conv2d)
    head.bias = nn.Parameter(head.bias.detach() - middle)


def fitted(image: Tensor, bundle: Bundle) -> Tensor:
    """The image as the model takes it; textures get photos in grey."""
    if bundle.model.images.channels == 3:
        return image
    return image.float().mean(0, keepdim=True) / 255


def judged(name: str, runs: Path) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The run's validation images with their truth, and training images to find ranges on."""
    run = find(name, runs)
    assert run is not None
    config = run.config
    if TRAININGS[name].data is not None:
        config["data"]["subset"] = None
    from rich.console import Console

    opened = open_run(run, config=config, allow={}, console=Console(quiet=True))

    def some(part: str, count: int) -> list[LabelledImage]:
        found = opened.parts[part]
        chosen = range(0, len(found), max(1, len(found) // count))
        samples = [found[at] for at in list(chosen)[:count]]
        return [LabelledImage(sample.image, sample.mask) for sample in samples]

    return some("validation", JUDGED), some("train", CALIBRATION)


def compare(bundle: Bundle, images: Sequence[Tensor], forms: dict[str, Any]) -> dict[str, Tally]:
    """All forms on the same images."""
    tallies = {name: Tally() for name in forms}
    for count, image in enumerate(images):
        image = fitted(image, bundle).contiguous()
        with torch.inference_mode():
            logits = image_logits(bundle.model, image)
        expected = bundle.labels.decode(logits[None])[0]
        margins = (
            logits[0].abs() if len(logits) == 1 else -torch.diff(logits.topk(2, 0)[0], dim=0)[0]
        )
        margins = margins / logits.std()
        for name, form in forms.items():
            if name == "torch.export" and count % (len(images) // PROGRAMS):
                continue  # which takes as long as the model
            if name == "torch.export" and min(image.shape[1:]) < 33:
                continue
            start = time.perf_counter()
            ids = form(image)
            tallies[name].seconds += time.perf_counter() - start
            tallies[name].add(expected, ids, margins)
    return tallies


def examine(name: str, bundle: Bundle, images: Sequence[Tensor], runs: Path) -> Found:
    """Export it in all forms, and compare."""
    found = Found(name)
    trained = name in TRAININGS and find(name, runs) is not None and name != SHARED
    found.said["trained"] = trained
    truth, ranges = judged(name, runs) if trained else ([], [])
    few = [LabelledImage(fitted(image, bundle)) for image in images[::12]]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        engines: dict[str, OnnxEngine | TorchEngine] = {"bf16": TorchEngine(bundle, "bf16")}
        forms: dict[str, Any] = {}
        for form, file, options in (
            ("onnx", place / "m.onnx", {}),
            ("torch.export", place / "m.pt2", {"format": "torch"}),
        ):
            try:
                export(bundle, file, images=few, **options)
            except JobFailed as error:
                found.said[f"{form} refused"] = str(error).replace(folder, "")
        if (place / "m.onnx").exists():
            engines["onnx"] = OnnxEngine(place / "m.onnx", threads=torch.get_num_threads())
        if (place / "m.pt2").exists():
            program = torch.export.load(place / "m.pt2").module()

            def traced(image: Tensor) -> np.ndarray:
                with torch.inference_mode():
                    return program(image.permute(1, 2, 0).contiguous()[None])[0][0].numpy()

            forms["torch.export"] = traced
        if trained:
            try:
                done = export(bundle, place / "i.onnx", images=truth, calibration=ranges, int8=True)
                found.said["int8"] = done.parity.to_json()
                engines["int8"] = OnnxEngine(place / "i.onnx", threads=torch.get_num_threads())
            except JobFailed as error:
                found.said["int8 refused"] = str(error).replace(folder, "")
            engine = engines["bf16"]
            parity = compare_predictions(
                bundle,
                lambda one: engine.predict(one.transpose(0, 3, 1, 2), confidence=False).ids,
                truth,
            )
            found.said["bf16"] = parity.to_json()

        forms |= {
            form: lambda image, engine=engine: engine.predict(
                image.numpy()[None], confidence=False
            ).ids[0]
            for form, engine in engines.items()
        }
        found.forms = compare(bundle, images, forms)
    return found


def row(found: dict[str, Any]) -> str:
    """A line of the table in docs/export.md."""
    forms, judged = found["forms"], found.get("int8")

    def differing(form: str) -> str:
        tally = forms.get(form)
        if tally is None:
            return ""
        return f"{tally['differing']:,}" + (f" ({tally['margin']:.0e})" if tally["margin"] else "")

    def share(form: str) -> str:
        tally = forms.get(form)
        return "" if tally is None else f"{tally['differing'] / tally['pixels']:.2%}"

    lost = "" if "bf16" not in found else f"{found['bf16']['iou_lost']:+.4f}"
    if "int8 refused" in found:
        words = found["int8 refused"].split("loses ")[1]
        int8 = f"refused: {words.split(' ')[0]}"
    else:
        int8 = "" if judged is None else f"{judged['iou_lost']:+.4f}"
    weights = "trained" if found["trained"] else "random"
    exact, program = (
        found.get(f"{form} refused", differing(form)) for form in ("onnx", "torch.export")
    )
    cells = (
        found["name"],
        weights,
        exact,
        program,
        share("bf16"),
        lost,
        share("int8"),
        int8,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """An hour on one core."""
    data, runs, out = (Path(word) for word in sys.argv[1:4])
    out.mkdir(parents=True, exist_ok=True)
    images = photos(data)
    for name in sys.argv[4:] or [*TRAININGS, *OTHERS]:
        file = out / f"{name.replace(', ', '_').replace(' ', '_')}.json"
        if file.exists():
            print(row(json.loads(file.read_text())), flush=True)
            continue
        if name in TRAININGS:
            torch.manual_seed(0)
            trained = find(name, runs) is not None
            bundle = load(name, runs) if trained else untrained(name, images)
            if name == SHARED:
                balance(bundle, images)
        else:
            torch.manual_seed(0)
            bundle = random_bundle(OTHERS[name](), images)
        found = examine(name, bundle, images, runs).to_json()
        file.write_text(json.dumps(found, indent=1))
        print(row(found), flush=True)


if __name__ == "__main__":
    main()
