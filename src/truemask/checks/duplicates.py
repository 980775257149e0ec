"""Rules on images that two parts share: the same, altered copies, frames of one video.

A model that has seen an image in training, or its neighbour, is judged on what it remembers.
"""

from collections.abc import Iterator, Sequence

from truemask.checks.albums import short, side_by_side
from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.sharing import Frames, Shared, enough, masks_differ
from truemask.errors import counted

_LISTED = 20
"""Pairs that the evidence lists."""


@rule("TM201", "same-file-in-two-parts", "error")
def same_file(shared: Sequence[Shared]) -> Iterator[Finding]:
    """The same image is in two parts.

    Why it matters:
        A model is judged on an image that it has been trained on, so that the score tells how well
        it remembers. It happens where folders are merged, where a download is unpacked twice under
        other names, and where lists of files overlap. Of the five published projects `driving`
        looked for such an overlap before it trained. Where the two have different masks, one of
        them is wrong besides.

    How it decides:
        All images of both parts are compared as thumbnails. Where these are equal but for rounding,
        both images are read whole, and every pixel must be the same (up to 200 pairs of two parts;
        what is beyond them is reported as TM202). Images of one colour are left out, as there is
        nothing to tell them apart by.

    False alarms:
        None are known: the pixels are equal.

    How to mend:
        Remove the image from one of the parts, best from the one that is trained on, and train
        again. Where a split is made of a folder that holds images twice, remove the doubles first.
    """
    for one in shared:
        matches, comparison = one.equal, one.comparison
        if not matches:
            continue
        other = [place for place in matches.values() if masks_differ(*comparison.samples(place))]
        first, second = comparison.names(next(iter(matches.values())))
        have = "has another mask" if len(other) == 1 else "have other masks"
        masks = f", and {len(other)} of them {have} there" if other else ""
        yield same_file.finding(
            f"{one.how_many(matches)} {'is' if len(matches) == 1 else 'are'} also in "
            f"{comparison.first}, pixel by pixel, such as {short(second)}, which is {short(first)}"
            f"{masks}.",
            remedy=f"Remove them from {comparison.first} or from {comparison.second}, and train "
            "again.",
            where=f"{comparison.first}, {comparison.second}",
            evidence={
                **one.evidence(matches),
                "other_masks": len(other),
                "with_other_masks": [list(comparison.names(place)) for place in other[:_LISTED]],
            },
            pictures=one.pictures(matches),
        )


@rule("TM202", "near-duplicate-across-parts", "error")
def near_duplicate(shared: Sequence[Shared]) -> Iterator[Finding]:
    """An altered copy of an image is in another part: resized, recompressed, mirrored, cropped.

    Why it matters:
        As with the same file, the model has seen the answer, but no comparison of files or of
        hashes shows it. The usual ways to it: images are augmented on disk before they are split; a
        collection from the web holds one photo in several sizes; crops that overlap are split at
        random.

    How it decides:
        Every image of the one part is compared with every image of the other: as they are, mirrored
        or turned, and cropped by up to about 10 % a side. The lowest 8 x 8 cosine coefficients of
        64 x 64 thumbnails, weighted by their frequency, must correlate by 0.8 or more in one of 72
        views; as all pairs are compared, none is missed. Then the two images are laid on each other
        (the crop is refined) and their detail is compared, in 24 x 24 coefficients: it must agree
        by 0.75 over the whole image, and by 0.45 in each of 6 x 6 blocks that show anything, so
        that two images of one place with other things in it are no copies. Calibrated on BSDS500,
        CrackForest and CamVid: of copies that were resized to 0.3 to 1.5 times, saved as JPEG of
        quality 30 to 90, mirrored, cropped, and changed in brightness, contrast and gamma, all at
        once, more than 99 % are found. Of all pairs of different images of BSDS500 and CrackForest,
        whose grey roads look alike, none is reported. Where different images of the training part
        itself agree so far, as cars of one make in one studio do, only pairs that agree by 0.985
        and by 0.9 are copies. The level is error where 1 % of the part or
        more are copies, otherwise warning.

    False alarms:
        Frames of a camera that stands still, which are as good as copies, where their names do not
        tell that they are of one video. Images without any detail are never reported.

    How to mend:
        Split by the original, so that an image and all that was made of it are in one part: augment
        after the split, or give `data.split.group` or `data.split.pattern`.
    """
    for one in shared:
        matches, comparison = one.copies, one.comparison
        if not matches:
            continue
        place = next(iter(matches.values()))
        first, second = comparison.names(place)
        how = one.altered(place)
        plural = len(matches) > 1
        what = "are near-duplicates of images" if plural else "is a near-duplicate of an image"
        yield near_duplicate.finding(
            f"{one.how_many(matches)} {what} of {comparison.first}, such as {short(second)} of "
            f"{short(first)}{f' ({how})' if how else ''}.",
            remedy="Split by the original image, so that all copies of one are in one part, or "
            f"remove them from {comparison.first}; then train again.",
            where=f"{comparison.first}, {comparison.second}",
            level="error" if len(matches) >= 0.01 * one.images else "warning",
            evidence=one.evidence(matches),
            pictures=one.pictures(matches),
        )


@rule("TM203", "neighbouring-frames-across-parts", "warning")
def neighbouring_frames(shared: Sequence[Shared]) -> Iterator[Finding]:
    """Frames of one video that lie next to each other are in two parts.

    Why it matters:
        Such images show the same street, the same cars and the same light. A model that was trained
        on the one does well on the other, and worse on any other street: the score is that of
        remembering a place. In the usual division of CamVid the validation part is one clip of
        seven seconds, out of a drive that the training part holds before and after it.

    How it decides:
        By names that hold numbers: images of a series (names that differ in one number) are
        compared with each other, whatever part they are in. If pairs with near numbers are more
        alike than pairs far apart in 80 % of cases or more (and alike by 0.5 or more, measured as
        in TM202), numbers are time, and the largest distance for which that holds is their reach.
        An image is a neighbour if the other part has one within that reach. In numbered collections
        near pairs are more alike in 45 to 70 % of cases (BSDS500, CrackForest, generated VOC 2012,
        GTA5 and Cityscapes), in CamVid in 96 %.
        By content, where names tell nothing: images whose coarse structure agrees by 0.85 once they
        are laid on each other, their detail by 0.5, and their colours, in 6 x 6 cells, to 4 % of
        the range in the mean, but which are no copies. Of CamVid's frames a second apart that are
        alike so far, 19 in 20 agree in colour, of pairs of cars in one studio 1 in 30.
        Reported from 3 images and 10 % of the part on: where a video is cut in two, a few frames at
        the cut are neighbours, and that does little harm.

    False alarms:
        Photos of one object from several sides, as in Carvana, are reported as well, with reason.

    How to mend:
        Split by the video, or by the drive, place or object: `data.split.group` with an attribute,
        or `data.split.pattern` with a regular expression whose first group is its name.
    """
    for one in shared:
        frames = one.frames
        if frames is not None and enough(len(frames.second), one.images):
            yield _by_number(one, frames)
        elif enough(len(one.scenes), one.images):
            yield _by_content(one)


def _by_content(one: Shared) -> Finding:
    matches, comparison = one.scenes, one.comparison
    first, second = comparison.names(next(iter(matches.values())))
    return neighbouring_frames.finding(
        f"{one.how_many(matches)} show a scene of {comparison.first} from nearly the same place, "
        f"such as {short(second)} that of {short(first)}.",
        remedy="Split by video, place or object (data.split.group or data.split.pattern), so that "
        "images of one scene are in one part.",
        where=f"{comparison.first}, {comparison.second}",
        evidence={**one.evidence(matches), "by": "content"},
        pictures=one.pictures(matches),
    )


def _by_number(one: Shared, frames: Frames) -> Finding:
    first, second = one.comparison.first, one.comparison.second
    albums, memory = one.comparison.albums, frames.memory
    columns = (frames.first, frames.second, frames.distance)
    pairs = [
        {first: albums[0].names[ours], second: albums[1].names[theirs], "distance": int(apart)}
        for ours, theirs, apart in zip(*(column[:_LISTED] for column in columns), strict=True)
    ]
    nearest = {part: str(pairs[0][part]) for part in (first, second)}
    return neighbouring_frames.finding(
        f"{len(frames.second):,} of the {counted(one.images, 'image')} of {second} are neighbours "
        f"in time of images of {first}, such as {short(nearest[second])} of "
        f"{short(nearest[first])}: their numbers in {frames.numbered.pattern} are at most "
        f"{memory.reach} apart, up to where images are alike (similarity {memory.near:.2f}, and "
        f"{memory.far:.2f} far apart).",
        remedy="Split by video or drive (data.split.group or data.split.pattern), so that no part "
        "holds frames between or beside those of another.",
        where=f"{first}, {second}",
        evidence={
            "parts": [first, second],
            "images": {first: len(albums[0]), second: len(albums[1])},
            "count": len(frames.second),
            "pairs": pairs,
            "by": "number",
            "reach": memory.reach,
            "similarity_near": round(memory.near, 3),
            "similarity_far": round(memory.far, 3),
            "near_is_more_alike": round(memory.clear, 3),
        },
        pictures=side_by_side(
            albums[0].read(int(frames.first[0])),
            albums[1].read(int(frames.second[0])),
            f"{first}: {short(nearest[first])}; {second}: {short(nearest[second])}",
        ),
    )


RULES: tuple[Rule, ...] = (same_file, near_duplicate, neighbouring_frames)
