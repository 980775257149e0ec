"""Miniature datasets: generated pictures in the exact folders and files of well-known datasets.

They are to try everything with before the real data is there: some hundred pictures each, made in
seconds, the same for the same seed. Nothing of the real data is in them.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from truemask.build import nearest
from truemask.errors import UsageError
from truemask.files import explain_os_errors, make_folder, write_text
from truemask.miniatures.camvid import write_camvid, write_camvid32
from truemask.miniatures.driving import (
    write_bdd100k,
    write_cityscapes,
    write_folder,
    write_gta5,
)
from truemask.miniatures.photos import (
    write_bsds500,
    write_carvana,
    write_oxford_pet,
    write_voc2007,
    write_voc2012,
)

_FEWEST, _MOST = 10, 20_000


@dataclass(frozen=True)
class _Miniature:
    """How a miniature is written, what it stands for, and how many images it has by default."""

    write: Callable[[Path, int, int], Iterator[None]]
    title: str
    images: int


_ALL = {
    "voc2012": _Miniature(write_voc2012, "PASCAL VOC 2012 (segmentation)", 300),
    "voc2007": _Miniature(write_voc2007, "PASCAL VOC 2007 (segmentation)", 300),
    "bdd100k": _Miniature(write_bdd100k, "BDD100K (10K images, semantic segmentation)", 240),
    "cityscapes": _Miniature(write_cityscapes, "Cityscapes (gtFine)", 240),
    "gta5": _Miniature(write_gta5, "GTA5 (Playing for Data)", 240),
    "carvana": _Miniature(write_carvana, "Carvana Image Masking Challenge", 320),
    "camvid": _Miniature(write_camvid, "CamVid with 11 classes", 240),
    "camvid32": _Miniature(write_camvid32, "CamVid with 32 classes", 240),
    "bsds500": _Miniature(write_bsds500, "BSDS500 (boundaries)", 240),
    "oxford_pet": _Miniature(write_oxford_pet, "Oxford-IIIT Pet (trimaps)", 296),
    "folder": _Miniature(write_folder, "a folder of one's own images and masks", 240),
}

MINIATURES: tuple[str, ...] = tuple(_ALL)
"""The names of all miniatures."""


def write_miniature(
    name: str,
    out: Path,
    *,
    images: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a miniature dataset.

    An image is a function of the name, the seed and its number, however many are written. The
    folder appears when all is written, so that an interrupted writing leaves nothing that looks
    whole.

    Args:
        name: one of `MINIATURES`.
        out: the folder to write; it must be empty, or not there.
        images: how many images; None for some hundred.
        seed: of all pictures.
        progress: called with (done, total) after each image.

    Returns:
        `out`, whose content is what an archive of the real data unpacks to.

    Raises:
        UsageError: there is no such miniature, `out` holds something or cannot be written, or a
            number is out of range.
    """
    if name not in _ALL:
        hint = nearest(name, MINIATURES)
        known = ", ".join(MINIATURES)
        raise UsageError(f"there is no miniature {name!r}{hint} (there are {known})")
    miniature = _ALL[name]
    total = miniature.images if images is None else images
    if not _FEWEST <= total <= _MOST:
        raise UsageError(
            f"images {total} must be from {_FEWEST}, so that no part is empty, to {_MOST}"
        )
    if seed < 0:
        raise UsageError(f"seed {seed} must be 0 or greater")
    _refuse_content(out)
    target = out.resolve()
    make_folder(target.parent)
    partial = target.parent / f".{target.name[:32]}.{secrets.token_hex(4)}.part"
    with explain_os_errors(out):
        try:
            partial.mkdir()
            for done, _ in enumerate(miniature.write(partial, total, seed), 1):
                if progress is not None:
                    progress(done, total)
            write_text(partial / "README.txt", _readme(name, miniature, total, seed))
            _refuse_content(out)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return out


def _refuse_content(out: Path) -> None:
    with explain_os_errors(out):
        if out.is_dir() and not any(out.iterdir()):
            return
        if out.exists() or out.is_symlink():
            what = "is not empty" if out.is_dir() else "is a file"
            raise UsageError(
                f"{out} {what}, and nothing is overwritten: name a folder that does not exist yet"
            )


def _readme(name: str, miniature: _Miniature, images: int, seed: int) -> str:
    return (
        f"Generated pictures, not the real data\n\n"
        f"This folder has the layout and the file formats of {miniature.title}, but every\n"
        f"picture and every label in it was drawn by a program. No picture of the real data is\n"
        f"here, and a score reached here says nothing about the real data.\n\n"
        f"Written by Truemask:\n\n"
        f"    truemask sample {name} --images {images} --seed {seed} --out DIR\n\n"
        f"The same command writes the same files.\n\n"
        f"Licence: these generated pictures and labels are dedicated to the public domain\n"
        f"(CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/). The terms of the real\n"
        f"data apply to the real data only.\n"
    )
