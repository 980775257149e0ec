"""How much memory a huge raster takes: `python -m benchmarks.huge WORK`.

A GeoTIFF of random blocks (`--width` x `--height`, 30,000 x 30,000 by default) goes through
`truemask predict RUN huge.tif --overlay`, with a network of random weights: `--network` is
`default`, an experiment's name as `driving/base_64`, or widths as `4,8`. What is measured is the
resident memory of all processes together, looked at every 50 ms, and the time. What memory depends
on is the width of the raster, as a row of tiles is kept, and the network: fewer rows tell the same
in less time, and `--seconds N` ends it after so many. WORK takes the raster (0.6 GB), the bundle
and the masks. Linux only: it reads /proc.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window
from torch import nn

from benchmarks.tiles import networks
from truemask.bundle import save_bundle
from truemask.images import RGB
from truemask.labels import LabelMap
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter

NAMES = ("road", "house", "tree", "water", "field", "other")


def write_raster(path: Path, height: int, width: int) -> None:
    """A compressed GeoTIFF of blocks of 16 pixels with a fine pattern."""
    random = np.random.default_rng(0)
    size = {"height": height, "width": width, "count": 3, "dtype": "uint8", "compress": "deflate"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "zlevel": 1}
    place = {"crs": "EPSG:32633", "transform": from_origin(400_000, 5_700_000, 0.3, 0.3)}
    part = path.with_suffix(".part")
    with (
        rasterio.Env(GDAL_CACHEMAX=64 << 20),
        rasterio.open(part, "w", driver="GTiff", **size, **tiles, **place) as file,
    ):
        for top in range(0, height, 256):
            rows = min(256, height - top)
            coarse = random.integers(0, 256, (3, rows // 16 + 1, width // 16 + 1), dtype=np.uint8)
            block = coarse.repeat(16, 1).repeat(16, 2)[:, :rows, :width] // 2
            fine = random.integers(0, 32, (3, 1, width), dtype=np.uint8)
            file.write(block + fine, window=Window(0, top, width, rows))
    part.replace(path)


def description(network: str) -> dict[str, Any]:
    """How a network is built."""
    if network[0].isdigit():
        unet = "truemask.models.unet.UNet"
        model: dict[str, Any] = {"_target_": unet, "widths": [int(n) for n in network.split(",")]}
    elif network == "default":
        return description("32,64,128,256,512")
    else:
        model = networks()[network]
    return {**model, "in_channels": 3, "out_channels": len(NAMES)}


def write_bundle(folder: Path, network: dict[str, Any]) -> None:
    """A model of random weights that gives every class somewhere."""
    torch.manual_seed(0)
    model = Segmenter(network=build_network(network), images=RGB)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        model.train()(image.repeat_interleave(16, 2).repeat_interleave(16, 3))
    labels = LabelMap(names=NAMES, values={i: i for i in range(len(NAMES))})
    save_bundle(folder, model=model.eval(), network=network, labels=labels, info={})


def below(process: int) -> list[int]:
    """A process and all that it has started."""
    found = [process]
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [one for child in children.read_text().split() for one in below(int(child))]
        except OSError:  # it has ended
            continue
    return found


def resident(process: int) -> int:
    """Bytes of memory of one process; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Make what is needed, predict, say the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--network", default="default")
    parser.add_argument("--width", type=int, default=30_000)
    parser.add_argument("--height", type=int, default=30_000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    raster = options.work / f"huge_{options.width}_{options.height}.tif"
    if not raster.exists():
        write_raster(raster, options.height, options.width)
    name = options.network.replace("/", "_").replace(",", "_")
    bundle = options.work / name / "model"
    if not bundle.exists():
        write_bundle(bundle, description(options.network))
    out = options.work / f"masks_{name}_{options.height}"
    words = ["predict", str(bundle), str(raster), "--out", str(out), "--overlay"]
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "truemask", *words],
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        stdout=subprocess.DEVNULL,
    )
    said = ""
    while process.poll() is None:
        if options.seconds is not None and time.monotonic() - start > options.seconds and not said:
            process.terminate()
            said = "stopped early, "
        peak = max(peak, sum(resident(one) for one in below(process.pid)))
        time.sleep(0.05)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(
        f"{options.network}, {options.width} x {options.height}: {said}"
        f"exit code {process.returncode}, at most {peak / 2**20:,.0f} MiB, "
        f"{seconds:,.0f} s of a core, {time.monotonic() - start:,.0f} s in all",
        flush=True,
    )


if __name__ == "__main__":
    main()
