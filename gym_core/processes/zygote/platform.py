"""The features that a zygote needs and that this system may lack."""

import os
import socket


def missing() -> str:
    """The names of the features that this system lacks; "" if nothing is missing."""
    needs = {
        "fork": hasattr(os, "fork"),
        "pidfd_open": hasattr(os, "pidfd_open"),
        "memfd_create": hasattr(os, "memfd_create"),
        "SOCK_SEQPACKET": _has_packets(),
        "/proc": os.path.exists("/proc/self/task"),
    }
    return ", ".join(name for name, is_there in needs.items() if not is_there)


def _has_packets() -> bool:
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (AttributeError, OSError):
        return False
    ours.close()
    theirs.close()
    return True
