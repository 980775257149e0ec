"""Whether the output of a model fits the masks: TM501."""

from collections.abc import Iterator

from jaxtyping import Shaped
from torch import Tensor

from truemask.checks.finding import Finding, Level, Rule, rule
from truemask.checks.model_probe import ModelProbe


@rule("TM501", "wrong-output-shape", "error")
def wrong_output_shape(probe: ModelProbe) -> Iterator[Finding]:
    """The output has another size or another number of channels than the masks ask for.

    Why it matters:
        A loss that flattens, broadcasts or resizes takes such an output without a word, and
        compares pixels with the labels of other pixels. Published code has trained on masks that
        were shrunk to fit a network's output, and then reported scores at that size.

    How it decides:
        The whole example batch goes through the model in evaluation mode, and a crop of another
        size after it. Among the tensors that come out (in tuples, mappings, objects), the one that
        fits best must be floating point, have the batch's number of samples, one channel a class
        (two classes may share one), and the height and width of the masks. Where another size
        comes out, the second input tells how it follows from the input's: a constant margin
        (convolutions without padding), a constant ratio (logits at a quarter, as SegFormer has
        them), or neither. A margin is a note. A ratio is a note where the output is named `logits`,
        as the models of Hugging Face do, or nothing at all where the given loss takes output and
        masks as they are; else a warning, and an error where the given loss refuses them.

    False alarms:
        Training code that resizes the logits between model and loss: wrap both steps in one
        module, or give the loss that does it.

    How to mend:
        Give the last layer `num_classes` output channels, and bring the logits to the size of the
        masks with `torch.nn.functional.interpolate(logits, size=masks.shape[-2:],
        mode="bilinear")` before loss and metric. Never resize the masks to fit.
    """
    main = probe.main
    if main is None:
        yield wrong_output_shape.finding(
            f"forward gives {_shapes(probe)}, where a tensor with {len(probe.images)} samples and "
            "the axes (B, L, H, W) is wanted.",
            remedy="Return logits of the shape (B, num_classes, H, W).",
            evidence={"outputs": [list(output.tensor.shape) for output in probe.full]},
        )
        return
    shape = list(main.tensor.shape)
    where, evidence = main.place, {"output": shape, "input": list(probe.images.shape)}
    if not main.tensor.is_floating_point():
        yield wrong_output_shape.finding(
            f"{main.name} is of {_dtype(main.tensor)} and has no gradient: it holds class ids, not "
            "logits.",
            remedy="Return the logits, and take the argmax outside of forward.",
            where=where,
            evidence=evidence | {"dtype": _dtype(main.tensor)},
        )
        return
    yield from _channels(probe, main.name, main.logits, where)
    if not _channels_last(probe, main.logits):
        yield from _size(probe, main.name, main.logits, where)


def _channels(
    probe: ModelProbe, name: str, logits: Shaped[Tensor, "B L H W"], where: str
) -> Iterator[Finding]:
    channels = logits.shape[1]
    if channels in probe.channels:
        return
    evidence = {"output": list(logits.shape), "channels": channels, "wanted": list(probe.channels)}
    if _channels_last(probe, logits):
        yield wrong_output_shape.finding(
            f"{name} has the shape {tuple(logits.shape)}: its channels stand last, so that losses "
            "take image rows for classes.",
            remedy="Return output.permute(0, 3, 1, 2).",
            where=where,
            evidence=evidence,
        )
        return
    wanted = " or ".join(map(str, probe.channels))
    yield wrong_output_shape.finding(
        f"{name} has {channels} channel{'s' * (channels != 1)} for {probe.num_classes} "
        f"class{'es' * (probe.num_classes != 1)}.",
        remedy=f"Give the last convolution out_channels={wanted}.",
        where=where,
        evidence=evidence,
    )


def _channels_last(probe: ModelProbe, logits: Shaped[Tensor, "B L H W"]) -> bool:
    return (
        logits.shape[1] not in probe.channels
        and logits.shape[-1] in probe.channels
        and tuple(logits.shape[1:3]) == probe.mask_size
    )


def _size(
    probe: ModelProbe, name: str, logits: Shaped[Tensor, "B L H W"], where: str
) -> Iterator[Finding]:
    height, width = logits.shape[-2:]
    rows, columns = probe.mask_size
    if (height, width) == (rows, columns):
        if probe.geometry.kind == "other":
            yield from _turned_crop(probe, name, where)
        return
    evidence = {"output": list(logits.shape), "masks": [rows, columns]}
    stated = f"{name} has {height}x{width} pixels, the masks have {rows}x{columns}"
    upsample = (
        f"Enlarge the logits: torch.nn.functional.interpolate(logits, size=({rows}, {columns}), "
        'mode="bilinear"), before the loss, the metric and the argmax.'
    )
    geometry = probe.geometry
    if (height, width) == (columns, rows) and geometry.kind == "other":
        yield wrong_output_shape.finding(
            f"{stated}: height and width are exchanged.",
            remedy="Return output.transpose(-1, -2), or mend the reshape that turns it.",
            where=where,
            evidence=evidence,
        )
    elif geometry.kind == "valid":
        top, left = geometry.margin
        yield wrong_output_shape.finding(
            f"{stated}: convolutions without padding take {top} rows and {left} columns off each "
            "side, so that the output belongs to the centre of the image.",
            remedy=f"Crop the masks to their centre, masks[..., {top}:-{top}, {left}:-{left}], or "
            f"mirror {top} pixels around the images.",
            where=where,
            level="note",
            evidence=evidence | {"margin": [top, left]},
        )
    elif geometry.kind == "scaled" and (level := _level_of_scaled(probe, where)) is not None:
        relation = _relation(geometry.ratio)
        yield wrong_output_shape.finding(
            f"{stated}: exactly {relation} on each side, for every size, a design that needs "
            f"{'enlarging' if geometry.ratio < 1 else 'shrinking'} afterwards.",
            remedy=upsample,
            where=where,
            level=level,
            evidence=evidence | {"ratio": geometry.ratio},
        )
    elif geometry.kind in ("other", "same"):
        yield wrong_output_shape.finding(
            f"{stated}, and the difference is not the same for every size: rows and columns get "
            "lost or added, such as where pooling rounds an odd size down.",
            remedy="Pad the images to a multiple of the network's stride and crop the logits back, "
            "or resize each decoder level to its skip's size.",
            where=where,
            evidence=evidence,
        )


def _turned_crop(probe: ModelProbe, name: str, where: str) -> Iterator[Finding]:
    """A square batch does not show what a crop that is no square shows."""
    rows, columns = probe.small.shape[-2:]
    height, width = probe.small_output.shape[-2:]
    if (height, width) == (columns, rows) and rows != columns:
        yield wrong_output_shape.finding(
            f"{name} has {height}x{width} pixels for an image of {rows}x{columns}: height and "
            "width are exchanged, which square images hide.",
            remedy="Return output.transpose(-1, -2), or mend the reshape that turns it.",
            where=where,
            evidence={"output": [height, width], "input": [rows, columns]},
        )


def _level_of_scaled(probe: ModelProbe, place: str) -> Level | None:
    if probe.accepted_by_loss is True:
        return None
    if place.endswith((".logits", '["logits"]')):
        return "note"
    return "warning" if probe.accepted_by_loss is None else "error"


def _relation(ratio: float) -> str:
    names = {0.5: "half", 0.25: "a quarter", 0.125: "an eighth"}
    return names.get(ratio, f"1/{round(1 / ratio)}" if ratio < 1 else f"{ratio:g} times as much")


def _shapes(probe: ModelProbe) -> str:
    shapes = [str(tuple(output.tensor.shape)) for output in probe.full[:4]]
    return f"tensors of the shapes {', '.join(shapes)}" if shapes else "no tensor"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


RULES: tuple[Rule, ...] = (wrong_output_shape,)
