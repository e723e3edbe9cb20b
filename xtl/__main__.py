"""`python -m xtl` is the command line."""

import sys

from xtl.cli import main

sys.exit(main())
