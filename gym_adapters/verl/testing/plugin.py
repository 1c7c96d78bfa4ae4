"""What `import verl` loads in every process, by the entry point `verl.plugins`: the kit, where VERL_PLATFORM=cpu."""

import importlib
import os

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    importlib.import_module("gym_adapters.verl.testing.cpu_platform")  # first: the others ask for the platform
    importlib.import_module("gym_adapters.verl.testing.registration")
