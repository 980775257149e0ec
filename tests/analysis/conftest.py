"""The fixtures of this folder; what tests import stands in `analysis_material`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from analysis_material import make_run as make_run
from analysis_material import tiny as tiny
