"""What the figures of a profile ask for, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a training was set to: all that the advice depends on.

    Attributes:
        batch_size: images of a forward pass.
        num_workers: loading processes.
        precision: "bf16", 16 or 32 bits.
        gpu: whether it computes on a CUDA device.
        fused: whether the optimiser is fused.
    """

    batch_size: int
    num_workers: int
    precision: Literal["bf16", 16, 32]
    gpu: bool
    fused: bool


def advise(
    settings: Settings, sections: Mapping[str, float], *, share_of_peak: float | None
) -> list[str]:
    """What to change, the largest gain first.

    Args:
        settings: of the training.
        sections: section -> seconds of a step, all that a step takes.
        share_of_peak: what the step reaches of the machine's measured peak.
    """
    total = sum(sections.values())
    shares = {name: seconds / total for name, seconds in sections.items()}

    def takes(name: str, limit: float) -> bool:
        return shares.get(name, 0.0) > limit

    found: list[tuple[float, str]] = []

    def add(name: str, what: str, remedy: str) -> None:
        found.append((shares[name], f"{what} takes {shares[name]:.0%}: {remedy}"))

    if takes("data", 0.1):
        workers = f"data.num_workers (now {settings.num_workers})"
        # On the CPU the loading processes take the cores that compute.
        first, second = (workers, "data.cache") if settings.gpu else ("data.cache", workers)
        add("data", "loading", f"raise {first} or {second}, or lower data.resize or data.crop")
    if takes("transfer", 0.1):
        add("transfer", "moving batches to the device", "lower data.crop or data.resize")
    if takes("optimizer", 0.15):
        remedy = "raise data.batch_size or trainer.accumulate"
        add("optimizer", "the optimiser", remedy if settings.fused else "give optimizer.fused=true")
    if takes("average", 0.05):
        add("average", "the average of the weights", "raise data.batch_size")
    for name, what in (("metrics", "counting"), ("logging", "logging")):
        if takes(name, 0.05):
            add(name, what, "raise data.batch_size, so that there are fewer steps")
    advice = [sentence for _, sentence in sorted(found, reverse=True)]
    if settings.precision == 32:
        advice.append("it computes in 32 bits: trainer.tune=true tries what fewer bits bring")
    if share_of_peak is not None and share_of_peak < 0.4 and settings.batch_size < 16:
        advice.append(
            f"batch {settings.batch_size} reaches {share_of_peak:.0%} of the peak: "
            "raise data.batch_size"
        )
    return advice or ["nothing stands out: the time is the network's own"]
