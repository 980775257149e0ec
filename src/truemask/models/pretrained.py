"""Networks with an encoder of the field's libraries, which may start from trained weights.

Encoders and decoders are those of segmentation_models_pytorch (smp, https://smp.readthedocs.io),
and as "tu-NAME" the encoders of timm. They come with the extra `encoders` and are imported where
they are used, so that everything else works without them.

Names of encoders may stand in a file that somebody else made. Only names that the two libraries
list are taken: timm would read others, such as "hf-hub:...", as an address to load from.
"""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from truemask.build import nearest
from truemask.errors import UsageError
from truemask.geometry import round_up
from truemask.models.blocks import require_positive
from truemask.untrusted import one_line

Architecture = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "deeplabv3plus", "upernet", "segformer"
]

_WITH_DECODER_CHANNELS = ("unet", "unetplusplus", "manet")
_WITH_ATTENTION = ("unet", "unetplusplus")
_LEVELS = 5


class EncoderUNet(nn.Module):
    """A U-Net, or a kin of it, around an encoder that classifies images elsewhere.

    It takes the sizes that `input_size` gives, multiples of the encoder's stride; `Segmenter` pads
    any image to one of them. Logits have the size of the input.

    Args:
        in_channels: channels of the images. Trained weights are fitted to other numbers than 3.
        out_channels: logit channels, one for a task of two classes, else one a class.
        encoder: a name that smp lists ("resnet34", "mit_b0"), or "tu-NAME" for one of timm's that
            takes images of any size ("tu-convnext_tiny").
        weights: trained weights that the encoder starts from, "imagenet" or another name that smp
            has for it; they are downloaded at the first use. Of timm's encoders "imagenet" takes
            the weights that the name's tag says ("tu-resnet18.a1_in1k"), without a tag timm's
            default. `None` draws all weights at random. On the meta device none are read.
        architecture: the decoder, by smp's name; "unet", "unetplusplus", "manet" and "linknet" end
            at the full resolution, the others at a quarter of it, and are enlarged.
        decoder_channels: channels of the decoder's five levels, from the deepest up; `None` takes
            smp's (256, 128, 64, 32, 16). For "unet", "unetplusplus" and "manet".
        attention: "scse" weighs channels and pixels in each level of the decoder (Roy et al.,
            https://arxiv.org/abs/1808.08127). For "unet" and "unetplusplus".
        dropout: probability with which a channel that the decoder puts out is dropped before the
            last convolution (Dropout2d), from 0 to below 1. What dropout the decoders of "fpn" and
            "deeplabv3plus" have inside comes on top.

    Raises:
        UsageError: the extra is not installed, an option has a value that makes no network, or the
            weights cannot be had.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        encoder: str = "resnet34",
        weights: str | None = None,
        architecture: Architecture = "unet",
        decoder_channels: Sequence[int] | None = None,
        attention: Literal["scse"] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout is {dropout}; it must be from 0 to below 1")
        options = _decoder_options(architecture, decoder_channels, attention)
        smp = _import_library()
        _require_encoder(smp, encoder, weights)

        def create(given: str | bool | None) -> Any:
            return smp.create_model(
                architecture,
                encoder_name=encoder,
                encoder_weights=given,
                in_channels=in_channels,
                classes=out_channels,
                **options,
            )

        model = _create_shapes(create, in_channels, encoder=encoder, architecture=architecture)
        if torch.get_default_device().type != "meta":
            model = create(None) if weights is None else _create_trained(create, encoder, weights)
        self.in_channels = in_channels
        self.encoder_name = encoder
        self.weights = weights
        self.stride = int(model.encoder.output_stride)
        self.encoder: nn.Module = model.encoder
        self.decoder: nn.Module = model.decoder
        self.dropout = nn.Dropout2d(dropout)
        self.head: nn.Module = model.segmentation_head

    @classmethod
    def saved_settings(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with which a saved network is built again: nothing is downloaded then."""
        return {name: value for name, value in settings.items() if name != "weights"}

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation with which the trained weights saw images.

        One value a channel, in units of images scaled to [0, 1]. `None` without trained weights,
        and for channels that those weights never saw: the data's own statistics are better then.

        Raises:
            UsageError: the weights' description cannot be had, or asks for other images than RGB.
        """
        if self.weights is None or self.in_channels not in (1, 3):
            return None
        smp = _import_library()
        with _fetching(self.encoder_name, self.weights):
            said = smp.encoders.get_preprocessing_params(self.encoder_name, self.weights)
            white = float(said["input_range"][1])
            mean, std = ([float(v) / white for v in said[key]] for key in ("mean", "std"))
        if said["input_space"] != "RGB":
            raise UsageError(
                f"the weights {self.weights!r} of {self.encoder_name!r} were trained on "
                f"{said['input_space']} images, but Truemask gives RGB: take other weights"
            )
        if self.in_channels == 1:
            # The first convolution's weights for the three colours were added up.
            mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
        return tuple(mean), tuple(std)

    @property
    def reach(self) -> int:
        """How far it looks to speak of: in theory further, and without end where it has attention.

        Measured (docs/predict.md): with tiles that follow from this, a ResNet-34 gives the class of
        the whole image to 999 pixels in 1,000 with random weights, and nearly to all once trained.
        """
        return 280

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L H W"]:
        """Logits of normalised images.

        Args:
            images: of a size that `input_size` gives.

        Returns:
            Logits of the same height and width.

        Raises:
            UsageError: another size, or a batch with which a batch norm cannot be trained.
        """
        height, width = images.shape[-2:]
        if self.input_size(height, width) != (height, width):
            raise UsageError(
                f"this network takes no images of {height}x{width} pixels; the next size is "
                f"{self.input_size(height, width)}: wrap it in a Segmenter, which pads any size"
            )
        try:
            features = self.decoder(self.encoder(images))
        except ValueError as error:
            if not str(error).startswith("Expected more than 1 value per channel"):
                raise
            raise UsageError(
                f"a batch of one image of {height}x{width} pixels is too small to train this "
                "network on, as its batch norms see one value a channel: raise data.batch_size"
            ) from error
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The smallest input size whose output covers height x width."""
        return round_up(height, self.stride), round_up(width, self.stride)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The size of the output for an input of an accepted size: the same."""
        return height, width


def _import_library() -> ModuleType:
    try:
        return importlib.import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise UsageError(
            f"EncoderUNet needs segmentation_models_pytorch and timm ({one_line(error)}): "
            "install them with `pip install 'truemask[encoders]'`"
        ) from error


def _decoder_options(
    architecture: str, channels: Sequence[int] | None, attention: str | None
) -> dict[str, Any]:
    """What smp's class takes besides the encoder; options that it would not heed are refused."""
    if architecture not in get_args(Architecture):
        raise UsageError(
            f"architecture is {architecture!r}; allowed are {', '.join(get_args(Architecture))}"
        )
    options: dict[str, Any] = {}
    if channels is not None:
        if architecture not in _WITH_DECODER_CHANNELS or len(channels) != _LEVELS:
            raise UsageError(
                f"decoder_channels has {len(channels)} values: give {_LEVELS}, for the "
                f"architectures {', '.join(_WITH_DECODER_CHANNELS)} only (here {architecture})"
            )
        require_positive(**{f"decoder_channels[{i}]": value for i, value in enumerate(channels)})
        options["decoder_channels"] = tuple(channels)
    if attention is not None:
        if architecture not in _WITH_ATTENTION or attention != "scse":
            raise UsageError(
                f"attention is {attention!r}; allowed are null and scse, the latter for the "
                f"architectures {', '.join(_WITH_ATTENTION)} only (here {architecture})"
            )
        if min(channels or (16,)) < 16:
            raise UsageError(
                "attention=scse needs decoder_channels of 16 or more, as it narrows them to 1/16"
            )
        options["decoder_attention_type"] = attention
    return options


def _require_encoder(smp: ModuleType, encoder: str, weights: str | None) -> None:
    """Refuse names that the libraries do not list, whatever they would make of them."""
    if encoder.startswith("tu-"):
        models = importlib.import_module("timm.models")
        name, dot, _ = encoder.removeprefix("tu-").partition(".")
        names = [f"tu-{known}" for known in models.list_models()]
        known = f"tu-{name}" in names
        tagged = [f"tu-{tagged}" for tagged in models.list_pretrained(f"{name}.*")] if known else []
        if known and dot and encoder not in tagged:
            raise UsageError(
                f"timm has no {encoder!r}{nearest(encoder, tagged)}; its trained {name} are "
                f"{', '.join(tagged) or 'none'}"
            )
        choices = ["imagenet"] if tagged else []
    else:
        # smp itself warns that its own copies of timm's encoders will go.
        listed = smp.encoders.encoders
        names = [name for name in listed if not name.startswith("timm-")]
        known = encoder in names
        choices = list(listed[encoder]["pretrained_settings"]) if known else []
    if not known:
        raise UsageError(
            f"encoder {encoder[:80]!r} is none of smp's, nor 'tu-' and a name of timm's"
            f"{nearest(encoder, names)}"
        )
    if weights is not None and weights not in choices:
        raise UsageError(
            f"weights is {weights!r}, but for the encoder {encoder!r} allowed are "
            f"{', '.join(['null', *choices])}"
        )


def _create_shapes(
    create: Callable[[None], Any], in_channels: int, *, encoder: str, architecture: str
) -> Any:
    """The network without memory, once it was seen to take images of a size that is not its own."""
    try:
        with torch.device("meta"), _LinspaceInMemory(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what then fails
            model = create(None)
            # What computes in windows, at a fixed size, or without padding takes no such image.
            height, width = 32, 96
            logits = model.eval()(torch.empty(1, in_channels, height, width))
        if logits.shape[2:] != (height, width):
            raise ValueError(f"its logits have {tuple(logits.shape[2:])} pixels")
    except UsageError:
        raise
    except Exception as error:  # libraries of many authors refuse in many ways
        raise UsageError(
            f"encoder {encoder!r} does not fit the architecture {architecture!r}, which needs "
            f"features at strides 2 or 4 to 32 of images of any size ({one_line(error)[:200]}): "
            "take another encoder, such as 'resnet34' or 'tu-convnext_tiny'"
        ) from error
    return model.train()


class _LinspaceInMemory(TorchFunctionMode):
    """Encoders read the numbers of a `linspace` while they are built; the meta device has none."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "cpu"} if func is torch.linspace else {}))


def _create_trained(create: Callable[[str | bool], Any], encoder: str, weights: str) -> Any:
    with _fetching(encoder, weights):
        # timm's names say which weights they mean: smp wants a mere yes.
        return create(True if encoder.startswith("tu-") else weights)


@contextmanager
def _fetching(encoder: str, weights: str) -> Iterator[None]:
    """One line instead of the many ways in which a download fails, and of its repeated attempts."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:
        raise UsageError(
            f"cannot get the weights {weights!r} of the encoder {encoder!r} "
            f"({one_line(error)[:300]}): go online for their first use, copy the cache of Hugging "
            "Face (~/.cache/huggingface) from a machine that has them, or start from random "
            "weights with model.weights=null"
        ) from error
    finally:
        logger.setLevel(level)
