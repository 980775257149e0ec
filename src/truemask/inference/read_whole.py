"""An image file for those who give every pixel a class, as the server and `truemask.load` do."""

from jaxtyping import Shaped
from torch import Tensor

from truemask.datasets.decoding import Content, ImageSource
from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.tiff_tags import BITS, NODATA, UNREADABLE, tags_in


def read_whole(source: ImageSource, spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    """`read_image`, but for files that say that some of their pixels are no data.

    Raises:
        UsageError: as `read_image`, or the file is a TIFF with such pixels.
    """
    image: Tensor = read_image(source, spec).as_subclass(Tensor)
    value = _nodata(source)
    if value is None:
        return image
    number, plain = value
    # Scaled values cannot be told apart from their neighbours.
    if plain and spec.dtype == "uint8" and not bool((image == number).all(0).any()):
        return image
    raise UsageError(
        f"{source.name if isinstance(source, Content) else source} has pixels without data (its "
        f"nodata value is {number:g}), which would get a class: `truemask predict` leaves them out"
    )


def _nodata(source: ImageSource) -> tuple[float, bool] | None:
    """The value of pixels without data, and whether all channels have 8 bits."""
    try:
        with source.open("rb") as file:
            if file.read(2) not in (b"II", b"MM"):
                return None
            file.seek(0)
            tags = tags_in(file)
        return float(str(tags[NODATA]).strip("\0 ")), set(tags.get(BITS, (1,))) == {8}
    except UNREADABLE:
        return None
