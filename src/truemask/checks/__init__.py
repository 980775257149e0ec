"""Checks that find silent bugs in segmentation experiments, in any PyTorch code."""
