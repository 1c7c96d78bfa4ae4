"""`python -m gym_core.cli`."""

import sys

from gym_core.cli.commands import main

sys.exit(main())
