"""How the C library's allocator treats freed memory, which training speed on CPUs depends on.

JAX allocates fresh outputs at every step. By default glibc gives large blocks back to the kernel
when they are freed, so that every step pays for its pages again.
"""

import ctypes
import os

from jaxformer.io.environment import allocator

# Parameters of mallopt(3), and values that keep what was freed.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_SETTINGS = (
    # No block is mapped on its own, to be unmapped when it is freed.
    (_MMAP_MAX, 0),
    # The heap's end is given back only beyond this many bytes, an int's largest.
    (_TRIM_THRESHOLD, 2**31 - 1),
    # The heap grows in steps of this many bytes.
    (_TOP_PAD, 64 * 2**20),
)


def keep_freed_memory() -> str:
    """Tells glibc to keep freed memory; elsewhere, or with another allocator, it does nothing.

    To be called before large arrays exist. It never fails.

    Returns: the allocator and what was done, in a few words.
    """
    name = allocator()
    if not name.startswith("glibc"):
        return name
    # What the user has set through the environment is left alone.
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return f"{name}, as the environment says"
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
        done = all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS)
    except (OSError, AttributeError):
        done = False
    return f"{name}, keeping freed memory" if done else name
