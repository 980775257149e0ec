"""Images a second and latency of each way to predict, against the projects' own.

`python -m benchmarks.inference DATA RUNS OUT [NAME ...]` takes the models that `benchmarks.trained`
left in RUNS. The projects' way is theirs: PyTorch in float32 with the channels first, each image
scaled and normalised by itself as torchvision's transforms do, the batch through the network, and
the class of each logit. All ways begin with decoded images, (H, W, C) of 8 bits, and end with class
ids; they take turns in one process, so that a machine's drift meets all of them, and a ratio is the
median over the turns.
`--batches 1,8 --sizes 256 --seconds 6` say what is measured, `--prepare` only exports.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor
from torchvision.transforms import functional as transforms

from benchmarks.parity import fitted, photos, untrained
from benchmarks.trained import TRAININGS, find, load
from truemask.bundle import Bundle
from truemask.images import resize_image
from truemask.inference.engine import Engine, OnnxEngine, TorchEngine
from truemask.inference.export import METADATA, export, read_metadata
from truemask.inference.parity import LabelledImage
from truemask.inference.quantization import quantize

Images = np.ndarray
Way = Callable[[Images], np.ndarray]

BASELINE = "projects"


@dataclass(frozen=True)
class Measured:
    """What one way took.

    Attributes:
        name: of the model.
        way: how it was predicted.
        batch: images a call.
        size: their height and width.
        median: seconds of a call.
        p95: seconds that 95 % of the calls do not exceed.
        ratio: how many times as fast as the projects' way: the median over the turns.
        turns: how many.
    """

    name: str
    way: str
    batch: int
    size: int
    median: float
    p95: float
    ratio: float
    turns: int


def projects_way(bundle: Bundle) -> Way:
    """As the published programs predict a batch: nothing of it is slower than theirs."""
    network, spec = bundle.model.network.eval(), bundle.model.images
    mean, std = list(spec.mean), list(spec.std)

    def one(image: np.ndarray) -> Tensor:
        # ToTensor scales 8 bits to [0, 1]; images of floats are there already.
        return transforms.normalize(transforms.to_tensor(image), mean, std)

    def run(images: Images) -> np.ndarray:
        with torch.no_grad():
            batch = torch.stack([one(image) for image in images])
            height, width = batch.shape[2:]
            rows, columns = network.input_size(height, width)
            if (rows, columns) != (height, width):  # without padding in its convolutions
                top, left = (rows - height) // 2, (columns - width) // 2
                mode = [left, columns - width - left, top, rows - height - top]
                batch = torch.nn.functional.pad(batch, mode, "reflect")
            logits = network(batch)
            if logits.shape[1] == 1:
                return (logits.sigmoid() > 0.5)[:, 0].numpy()
            return torch.argmax(logits, 1).numpy()

    return run


def through(engine: Engine) -> Way:
    """An engine's ids."""
    return lambda images: engine.predict(images.transpose(0, 3, 1, 2), confidence=False).ids


def ways(
    name: str, bundle: Bundle, data: Path, folder: Path, *, threads: int, wanted: Sequence[str]
) -> dict[str, Way]:
    """All that are wanted; whether int8 loses too much is for `benchmarks.parity` to say."""
    found = {BASELINE: projects_way(bundle)}
    if "bf16" in wanted:
        found["bf16"] = through(TorchEngine(bundle, "bf16"))
    exact, rounded = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
    if not rounded.exists() and {"onnx", "int8"} & set(wanted):
        small = pictures(bundle, data, batch=8, size=160)
        few = [LabelledImage(torch.from_numpy(image).permute(2, 0, 1)) for image in small]
        export(bundle, exact, images=few)
        rounded.write_bytes(exact.read_bytes())
        quantize(rounded, few)
        model = onnx.load(rounded)
        described = {METADATA: json.dumps({**(read_metadata(exact) or {}), "int8": True})}
        onnx.helper.set_model_props(model, described)
        onnx.save(model, rounded)
    for form, file in (("onnx", exact), ("int8", rounded)):
        if form in wanted:
            found[form] = through(OnnxEngine(file, threads=threads))
    return found


def measure(
    name: str, all_ways: dict[str, Way], images: Images, *, seconds: float, turns: tuple[int, int]
) -> list[Measured]:
    """Calls of each way in turn, for about so many seconds, within the least and the most turns."""
    for way in all_ways.values():
        way(images)
    times: dict[str, list[float]] = {way: [] for way in all_ways}
    end = time.perf_counter() + seconds
    least, most = turns
    while (done := len(times[BASELINE])) < least or (time.perf_counter() < end and done < most):
        for way, call in all_ways.items():
            start = time.perf_counter()
            call(images)
            times[way].append(time.perf_counter() - start)
    return [
        Measured(
            name=name,
            way=way,
            batch=len(images),
            size=images.shape[1],
            median=statistics.median(taken),
            p95=float(np.quantile(taken, 0.95)),
            ratio=statistics.median(
                base / other for base, other in zip(times[BASELINE], taken, strict=True)
            ),
            turns=len(taken),
        )
        for way, taken in times.items()
    ]


def pictures(bundle: Bundle, data: Path, *, batch: int, size: int) -> Images:
    """A batch of real images as decoders give them."""
    found = []
    for photo in photos(data, 40)[:batch]:
        image = fitted(resize_image(photo, (size, size)), bundle)
        found.append(image.permute(1, 2, 0).numpy())
    return np.ascontiguousarray(np.stack(found))


def main() -> None:
    """As long as it is told."""
    parser = argparse.ArgumentParser()
    for name in ("data", "runs", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("names", nargs="*", default=list(TRAININGS))
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--sizes", default="256")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", default="bf16,onnx,int8", help="besides the projects'")
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        # A network takes as long with random weights.
        trained = find(name, options.runs) is not None
        bundle = load(name, options.runs) if trained else untrained(name, photos(options.data))
        bundle.model.size = None  # the images have the size that is measured
        wanted, threads = options.ways.split(","), options.threads
        found = ways(name, bundle, options.data, options.out, threads=threads, wanted=wanted)
        if options.prepare:
            continue
        for size in map(int, options.sizes.split(",")):
            for batch in map(int, options.batches.split(",")):
                images = pictures(bundle, options.data, batch=batch, size=size)
                rows = measure(name, found, images, seconds=options.seconds, turns=(3, 25))
                with (options.out / "measured.jsonl").open("a") as file:
                    for row in rows:
                        file.write(json.dumps(asdict(row) | {"threads": options.threads}) + "\n")
                said = (f"{row.way} {row.median * 1e3:.1f} ms {row.ratio:.2f}" for row in rows)
                print(f"{name} {batch} x {size}: {', '.join(said)}", flush=True)


if __name__ == "__main__":
    main()
