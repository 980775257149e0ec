"""A choice of a plan."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A setting and why it is so.

    Attributes:
        key: dotted, such as "data.crop".
        value: plain.
        reason: a sentence with the figure that it rests on.
    """

    key: str
    value: Any
    reason: str
