"""Rules on the files of a part: readable, paired, of one size, turned alike."""

from collections.abc import Iterator
from pathlib import Path

from truemask.checks.file_probes import probe_files
from truemask.checks.finding import Finding, rule
from truemask.checks.mask_part import Part, named, names
from truemask.checks.mask_records import Record
from truemask.datasets.layout import some
from truemask.errors import counted


@rule("TM101", "unreadable-file", "error")
def unreadable_file(part: Part) -> Iterator[Finding]:
    """A file of the dataset is empty, truncated or corrupt.

    Why it matters:
        A loader that skips what it cannot read trains on fewer images than the report says; one
        that accepts truncated files trains on grey. An interrupted download or a full disk leaves
        such files, typically the last one.

    How it decides:
        Every image and mask is decoded whole. Where only a sample of a large part is decoded, the
        size and the last bytes of all other files are looked at as well, and a file that seems to
        end early is decoded. What somebody's dataset raises for a sample counts too.

    False alarms:
        Files of formats that Truemask does not read (it reads JPEG, PNG, TIFF, WebP, GIF and BMP of
        1, 3 or 4 channels).

    How to mend:
        Fetch the file again, or remove it and its counterpart.
    """
    faults = [(record.where, record.fault[1]) for record in part.records if record.fault]
    if len(part.samples) < part.samples.total:
        faults += _faults_of_unread(part)
    if not faults:
        return
    others = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
    yield unreadable_file.finding(
        f"{counted(len(faults), 'sample')} cannot be read: {faults[0][1]}{others}.",
        where=part.where(faults[0][0]),
        remedy="Fetch these files again, or remove each with its counterpart.",
        evidence=part.evidence(
            unreadable=len(faults), faults=[{"where": w, "why": why} for w, why in faults[:50]]
        ),
    )


def _faults_of_unread(part: Part) -> list[tuple[str, str]]:
    """Files of the samples that were not drawn, which seem to end early and do."""
    looked = {path for record in part.records for path in (record.image_path, record.mask_path)}
    faults = []
    for image, mask in part.samples.files:
        for path, is_image in ((image, True), (mask, False)):
            if path is None or path in looked or not _ends_early(path):
                continue
            files = (path, None) if is_image else (None, path)
            fault = probe_files(*files, name=str(path)).fault
            faults += [(str(path), fault[1])] if fault else []
    return faults


def _ends_early(path: Path) -> bool:
    """Whether a file is missing or empty, or lacks the mark at the end of a PNG or JPEG file."""
    try:
        with path.open("rb") as file:
            head = file.read(3)
            size = file.seek(0, 2)
            file.seek(max(0, size - 4096))
            tail = file.read()
    except OSError:
        return True
    if head == b"\x89PN":
        return b"IEND" not in tail
    return not head or (head == b"\xff\xd8\xff" and b"\xff\xd9" not in tail)


@rule("TM102", "unpaired-file", "error")
def unpaired_file(part: Part) -> Iterator[Finding]:
    """An image has no mask, or a mask has no image.

    Why it matters:
        A loader that pairs two sorted lists by position gives every image after the gap the mask of
        another one, and training still runs. One that pairs by name drops the rest in silence.

    How it decides:
        Files are paired by name, with the usual marks such as `_mask` taken off. A test part
        without any mask is left alone.

    False alarms:
        Images that are kept unlabelled on purpose beside labelled ones.

    How to mend:
        Give an image and its mask the same name, or move what stands alone out of the dataset.
    """
    images, masks = part.samples.lonely_images, part.samples.lonely_masks
    if not images and not masks:
        return
    told = []
    if images:
        shown = some([path.name for path in images])
        told.append(f"{counted(len(images), 'image')} without a mask ({shown})")
    if masks:
        shown = some([path.name for path in masks])
        told.append(f"{counted(len(masks), 'mask')} without an image ({shown})")
    yield unpaired_file.finding(
        f"There {'is' if len(images) + len(masks) == 1 else 'are'} {' and '.join(told)}.",
        where=part.where(str((*images, *masks)[0])),
        remedy="Give an image and its mask the same name, or move these files away.",
        evidence={
            "images": [str(path) for path in images[:50]],
            "masks": [str(path) for path in masks[:50]],
            "lonely_images": len(images),
            "lonely_masks": len(masks),
        },
    )


@rule("TM103", "size-mismatch", "error")
def size_mismatch(part: Part) -> Iterator[Finding]:
    """An image and its mask have different sizes.

    Why it matters:
        Code that resizes both to one size hides it: if the image was cropped rather than resized,
        every label then lies beside its object.

    How it decides:
        Height and width of the image, turned by its EXIF orientation, against those of its mask.
        Where they agree before the turn, `exif-orientation` tells.

    False alarms:
        Masks that are kept at a fraction of the image's size on purpose.

    How to mend:
        Export the masks again at the size of their images, or resize them by the nearest pixel if
        they show the same section.
    """
    found = [record for record in part.records if _differ(record)]
    if not found:
        return
    first = found[0]
    assert first.image_size is not None
    assert first.mask_size is not None
    ratios = {_ratio(record) for record in found}
    scaled = len(ratios) == 1 and abs(next(iter(ratios))[0] / next(iter(ratios))[1] - 1) < 0.02
    scale = f", {next(iter(ratios))[0]:g} times the size in all of them" if scaled else ""
    yield size_mismatch.finding(
        f"{counted(len(found), 'mask')} of {len(part.records)} "
        f"{'is' if len(found) == 1 else 'are'} of another size than the image: "
        f"{first.image_size[1]}x{first.image_size[0]} pixels against a mask of "
        f"{first.mask_size[1]}x{first.mask_size[0]}{scale} ({named(found)}).",
        where=part.where(first.where),
        remedy="Export these masks again at the size of their images.",
        evidence=part.evidence(
            masks=names(found),
            count=len(found),
            image_size=list(first.image_size),
            mask_size=list(first.mask_size),
        ),
        pictures=part.pictures(found, "image and mask of different sizes"),
    )


def _differ(record: Record) -> bool:
    """Whether the sizes disagree, and would not agree without the EXIF orientation."""
    if record.image_size is None or record.mask_size is None:
        return False
    return record.image_size != record.mask_size and record.stored != record.mask_size


def _ratio(record: Record) -> tuple[float, float]:
    assert record.image_size is not None
    assert record.mask_size is not None
    high, wide = (m / i for m, i in zip(record.mask_size, record.image_size, strict=True))
    return round(high, 2), round(wide, 2)


@rule("TM104", "exif-orientation", "error")
def exif_orientation(part: Part) -> Iterator[Finding]:
    """An image is turned by its EXIF orientation, and its mask is not.

    Why it matters:
        Phones store photographs sideways with a note on how to turn them. Viewers and some loaders
        follow the note, others do not, and a mask has no such note: the label lies across the
        image. With square or half-turned images not even the size tells.

    How it decides:
        The image has an orientation other than upright, and the mask has the size of the pixels as
        they are stored, not as they are shown. Where both sizes agree, the edges of the image
        decide: the mask must fit them better unturned, by four standard deviations over all
        displacements, and by six against chance. A warning where Truemask itself reads the files,
        as it turns such a mask along when the size tells; an error otherwise.

    False alarms:
        None known. Code that never follows the orientation reads such pairs rightly, but whoever
        looks at them in a viewer, or predicts on the image, does not.

    How to mend:
        Turn the pixels of the image once and drop the note
        (`PIL.ImageOps.exif_transpose`), then draw or turn the mask alike.
    """
    by_size = [record for record in part.records if record.orientation != 1 and _sideways(record)]
    by_fit = [record for record in part.records if record not in by_size and _fits_stored(record)]
    found = by_size + by_fit
    if not found:
        return
    mended = not by_fit and part.meanings.told and all(r.mask_stored for r in by_size)
    mended = mended and hasattr(part.samples.labels, "decode")
    kinds = sorted({record.orientation for record in found})
    yield exif_orientation.finding(
        f"{counted(len(found), 'image')} of {len(part.records)} "
        f"{'carries' if len(found) == 1 else 'carry'} the EXIF orientation "
        f"{', '.join(map(str, kinds))}, while the mask lies as the pixels are stored "
        f"({named(found)}).",
        level="warning" if mended else "error",
        where=part.where(str(found[0].image_path or found[0].name)),
        remedy="Turn the images' pixels with PIL.ImageOps.exif_transpose, save them without the "
        "orientation, and turn the masks alike.",
        evidence=part.evidence(
            masks=names(found),
            orientations=kinds,
            count=len(found),
            told_by="size" if not by_fit else "edges",
        ),
        pictures=part.pictures(found, "image turned, mask not"),
    )


def _sideways(record: Record) -> bool:
    """Whether the mask has the size of the stored pixels only."""
    if record.image_size is None or record.mask_size is None or record.stored is None:
        return False
    # A mask that was turned along has the size of the turned image.
    return record.stored != record.image_size and (
        record.mask_stored or record.mask_size == record.stored
    )


def _fits_stored(record: Record) -> bool:
    return record.fit is not None and record.fit.belongs_to_stored
