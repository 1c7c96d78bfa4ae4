"""`python -m gym_core.cli`."""

import sys

from gym_core.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
