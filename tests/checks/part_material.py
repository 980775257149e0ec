"""Pictures, copies of them, and parts made of both."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from truemask.checks.albums import Album
from truemask.checks.probe import Probe
from truemask.checks.similarity import thumbnail

DATA = Path(__file__).parents[2] / "../shared/data"


def scene(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A picture with the amplitudes of natural images, 1 / frequency."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    noise = np.fft.fft2(generator.normal(size=(3, height, width)))
    grey = np.fft.ifft2(noise[:1] / np.maximum(frequency, 1 / width)).real
    tint = np.fft.ifft2(noise / np.maximum(frequency, 1 / width)).real
    pixels = 0.8 * grey + 0.2 * tint
    pixels = 128 + 45 * pixels / pixels.std()
    return pixels.clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)


def altered(
    image: np.ndarray,
    *,
    crop: tuple[float, float, float, float] = (0, 0, 0, 0),
    scale: float = 1.0,
    mirrored: bool = False,
    gain: float = 1.0,
    offset: float = 0.0,
    gamma: float = 1.0,
    quality: int | None = None,
) -> np.ndarray:
    """A copy: cropped (left, top, right, bottom), resized, mirrored, brightened, recompressed."""
    picture = Image.fromarray(image)
    width, height = picture.size
    left, top, right, bottom = crop
    picture = picture.crop(
        (
            round(left * width),
            round(top * height),
            round(width - right * width),
            round(height - bottom * height),
        )
    )
    size = (max(8, round(picture.width * scale)), max(8, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = 255 * (np.asarray(picture) / 255) ** gamma * gain + offset
    picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if quality is not None:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        picture = Image.open(file)
    return np.array(picture)


def randomly_altered(image: np.ndarray, seed: int) -> np.ndarray:
    """Everything that is promised to be found, all at once."""
    generator = np.random.default_rng(seed)
    return altered(
        image,
        crop=tuple(generator.uniform(0, 0.1, 4)),
        scale=float(np.exp(generator.uniform(np.log(0.3), np.log(1.5)))),
        mirrored=bool(generator.integers(2)),
        gain=generator.uniform(0.7, 1.3),
        offset=generator.uniform(-25, 25),
        gamma=float(np.exp(generator.uniform(-0.4, 0.4))),
        quality=int(generator.integers(30, 91)),
    )


def album(
    images: list[np.ndarray],
    *,
    names: list[str] | None = None,
    masks: list[np.ndarray] | None = None,
    total: int | None = None,
) -> Album:
    """A part of these images."""
    names = names or [f"{chr(97 + i % 26)}{'xyz'[i % 3] * (i // 26)}" for i in range(len(images))]

    def read(place: int) -> Probe:
        mask = masks[place] if masks else None
        return Probe(name=names[place], image=images[place], mask=mask)

    return Album(
        names=tuple(names),
        thumbnails=np.stack([thumbnail(image) for image in images]),
        read=read,
        total=total or len(images),
    )


def photos(folder: str) -> list[Path]:
    """The real images of a folder of the shared data, by name."""
    return sorted((DATA / folder / "images").glob("*.jpg"))


def opened(paths: list[Path]) -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in paths]
