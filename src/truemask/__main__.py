"""`python -m truemask` is `truemask`."""

import sys

from truemask.cli import main

sys.exit(main())
