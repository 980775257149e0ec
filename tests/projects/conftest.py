"""The fixtures of this folder; what tests import stands in `analysis_material`."""

from analysis_material import make_run as make_run
from analysis_material import tiny as tiny
