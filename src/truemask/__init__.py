"""Train, check, explain and ship semantic-segmentation U-Nets, with numbers you can trust."""

__version__ = "0.1.0"
