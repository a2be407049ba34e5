"""The end of a process of the warm worker: with all that the process started, and with the worker."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_for_certain() -> NoReturn:
    """End this process and all its children, forked ones too; nothing can catch the signal."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def end_with_parent(life: int) -> bool:
    """End with the worker, also while C code holds the interpreter's lock and no thread can read the pipe.

    Only Linux can do so; elsewhere such a process ends once its C code returns. The end of a pipe to which nothing is
    written signals the process group, so that children end too (fcntl(2), F_SETSIG). The signal of
    prctl(2), PR_SET_PDEATHSIG, is for this process alone, and would come first.

    Args:
        life: The reading end of a pipe whose writing end only the worker has.

    Returns:
        Whether the end of the pipe signals the process group.
    """
    os.set_inheritable(life, False)
    signals = sys.platform == "linux" and _signals_at_end(life)
    if sys.platform == "linux" and not signals:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    over = select.poll()
    over.register(life, 0)
    if over.poll(0):  # the worker was gone before
        end_for_certain()
    return signals


def _signals_at_end(life: int) -> bool:
    try:
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(life, fcntl.F_GETFL)
        fcntl.fcntl(life, fcntl.F_SETFL, flags | os.O_ASYNC)
    except OSError:
        return False
    return True
