"""The environment variables that a process gets: only those on a list, since any other may be a secret."""

import os
from collections.abc import Sequence

_ALLOWED = (
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "PYTHONHASHSEED",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
    "SYSTEMROOT",  # without which Windows starts no interpreter
    "TEMP",
    "TMP",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
)
_ONE_THREAD = {"MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def allowed_environment(more: Sequence[str] = ()) -> dict[str, str]:
    """The variables of this process that trusted code in a child process gets.

    Args:
        more: Names of further variables.
    """
    names = {name for name in os.environ if name in (*_ALLOWED, *more) or name.startswith("LC_")}
    # Idle threads of BLAS reserve address space.
    return _ONE_THREAD | {name: os.environ[name] for name in sorted(names)}
