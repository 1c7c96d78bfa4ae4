"""An environment that one rollout of a run breaks in; a module of its own, since verl's processes find it by name."""

import os
from pathlib import Path

from examples.calculator import Calculator


class Unlucky(Calculator):
    """The calculator, which is gone for whoever is the first to open it."""

    def setup(self) -> None:
        try:
            Path(os.environ["UNLUCKY_FILE"]).touch(exist_ok=False)
        except FileExistsError:
            return
        raise RuntimeError("the calculator is gone")
