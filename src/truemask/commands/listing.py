"""`truemask list`: what can be named on the command line."""

import argparse

from truemask.commands.output import print_json

HELP = "Experiments, models, losses, the other choices of `train`, and the checks."
EXAMPLES = "truemask list"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(options: argparse.Namespace) -> int:
    """Do it, print, and give the exit code."""
    from truemask.checks.catalogue import rules
    from truemask.compose import options as choices
    from truemask.config_checks import GROUPS
    from truemask.miniatures.writing import MINIATURES

    found = {group: choices(group) for group in GROUPS if group != "trainer"}
    found["sample"] = list(MINIATURES)
    found["check"] = [f"{rule.code} {rule.name} ({rule.level})" for rule in rules()]
    if options.json:
        print_json(found)
        return 0
    for group, names in found.items():
        print(f"truemask {group}" if group in ("sample", "check") else f"{group}=")
        for name in names:
            print(f"  {name}")
    return 0
