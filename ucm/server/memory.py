"""How the C library keeps memory, and how forked processes share it."""

from __future__ import annotations

import ctypes
import gc

LARGE = 4 * 1024 * 1024
"""Bytes from which a block goes back to the system as soon as it is freed."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_large_blocks() -> bool:
    """Give freed large blocks back to the system; False where the C library is not glibc.

    glibc keeps blocks of the largest size that was freed so far: the 19 MiB of one password hash
    stay with the process, and those of every thread that hashed. Getting them anew costs 15 ms
    of the 40 of a sign-in.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE) and mallopt(_M_TRIM_THRESHOLD, LARGE))


def settle_before_fork() -> None:
    """Take all that exists out of the collector's sight, and let it run again.

    A collection in a child would write to every shared page, and so copy it. Called by a parent
    that kept the collector off while it built: nearly all of that stays, so collections would only
    walk through it, and what they free would leave gaps that children fill and so copy pages.
    """
    gc.freeze()
    gc.enable()
