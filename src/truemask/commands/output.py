"""What commands print for programs."""

import json
from typing import Any


def print_json(value: Any) -> None:
    """A typed result as JSON on standard output; a number that is none is an error."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # File names that are no UTF-8: an escape is JSON, too.
    print(text.encode("utf-8", "backslashreplace").decode())
