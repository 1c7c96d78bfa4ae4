"""`python -m gym_adapters.unsloth doctor` shows what is installed, and whether it fits together."""

import sys

from gym_adapters.unsloth.doctor import main

if sys.argv[1:] != ["doctor"]:
    sys.exit("usage: python -m gym_adapters.unsloth doctor")
sys.exit(main())
