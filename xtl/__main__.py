"""`python -m xtl` is the command line."""

import sys

from xtl.cli.main import main

sys.exit(main())
