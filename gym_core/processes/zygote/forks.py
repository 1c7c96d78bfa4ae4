"""Forks of this process, which must not use the threads, locks and zygotes of the original."""

import os
import weakref
from typing import Protocol


class Owner(Protocol):
    """An object that a forked process has to start anew."""

    def forget(self) -> None:
        """Leave threads, locks and processes to the process from which this one was forked."""


def forget_in_forks(owner: Owner) -> None:
    """Call `owner.forget()` in every process that is forked from this one."""
    _owners.add(owner)


def _forget_all() -> None:
    for owner in list(_owners):
        owner.forget()


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forget_all)
