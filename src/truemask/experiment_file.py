"""An experiment that is a file of the user's: `experiment=mine.yaml`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from truemask.errors import UsageError
from truemask.untrusted import one_line

OWN_EXPERIMENT = "own_file"
"""Under which Hydra finds an experiment that is given as a file."""


def is_experiment_file(word: str) -> bool:
    """Whether a word names a file of the user's as the experiment."""
    key, _, value = word.partition("=")
    return key == "experiment" and value.endswith((".yaml", ".yml"))


def own_experiment(words: list[str]) -> tuple[list[str], Mapping[str, Any] | None]:
    """The other words, and what the file holds that one of them names.

    Raises:
        UsageError: the file cannot be read, or holds no settings; several are named.
    """
    given = [word for word in words if is_experiment_file(word)]
    if len(given) > 1:
        raise UsageError(f"give one experiment, not {len(given)}: {', '.join(given)}")
    if not given:
        return words, None
    file = Path(given[0].partition("=")[2])
    try:
        # By OmegaConf as Hydra does it, so that 1e-3 is a number.
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', error)}") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UsageError(f"{file} is not plain YAML: {one_line(error)}") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{file} must hold a mapping of settings, as an experiment does")
    if not content:
        raise UsageError(
            f"{file} holds no setting, and the defaults would be trained with: leave it out, or "
            "write one with `truemask plan DATA --out FILE.yaml`"
        )
    return (
        [word for word in words if word not in given],
        {str(key): value for key, value in content.items()},
    )


def store_experiment(content: Mapping[str, Any], *, exchanged: Collection[str]) -> None:
    """Let Hydra find an experiment under `OWN_EXPERIMENT`.

    Args:
        content: what its file holds.
        exchanged: groups that a word exchanges, of which the experiment says nothing then.
    """
    kept = {key: value for key, value in content.items() if key not in exchanged}
    ConfigStore.instance().store(
        group="experiment", name=OWN_EXPERIMENT, node=kept, package="_global_"
    )
