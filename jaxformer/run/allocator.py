"""How the allocator treats freed memory, which training speed on CPUs depends on.

JAX allocates fresh outputs at every step, and XLA fresh room for what is between. By default
allocators give large blocks back to the kernel when they are freed, so that every step pays for its
pages again: a quarter of the processors' time and more.
"""

import ctypes
import os

from jaxformer.io.environment import allocator

# Parameters of mallopt(3), and values that keep what was freed.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_GLIBC = (
    # No block is mapped on its own, to be unmapped when it is freed.
    (_MMAP_MAX, 0),
    # But large blocks of all heaps except the first are, whatever the line above says.
    (_ARENA_MAX, 1),
    # The heap's end is given back only beyond this many bytes, an int's largest.
    (_TRIM_THRESHOLD, 2**31 - 1),
    # The heap grows in steps of this many bytes.
    (_TOP_PAD, 64 * 2**20),
)
# Milliseconds until jemalloc gives freed pages back, by their state; negative: never.
_JEMALLOC = ("dirty_decay_ms", "muzzy_decay_ms")
_NEVER = -1


def keep_freed_memory() -> str:
    """Tells glibc's allocator, or jemalloc, to keep freed memory; it does nothing with another.

    To be called before JAX's devices are asked for, whose threads get a heap each from glibc. The
    process then holds what it once had: up to three times as much memory. It never fails.

    Returns: the allocator and what was done, in a few words.
    """
    name = allocator()
    if name == "jemalloc":
        of_the_user, keep = "MALLOC_CONF" in os.environ, _keep_in_jemalloc
    elif name.startswith("glibc"):
        settings = (each for each in os.environ if each.startswith("MALLOC_"))
        of_the_user = any(settings) or "GLIBC_TUNABLES" in os.environ
        keep = _keep_in_glibc
    else:
        return name
    # What the user has set through the environment is left alone.
    if of_the_user:
        return f"{name}, as the environment says"
    try:
        done = keep(ctypes.CDLL(None))
    except (OSError, AttributeError):
        done = False
    return f"{name}, keeping freed memory" if done else name


def _keep_in_glibc(library: ctypes.CDLL) -> bool:
    mallopt = library.mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return all(mallopt(parameter, value) == 1 for parameter, value in _GLIBC)


def _keep_in_jemalloc(library: ctypes.CDLL) -> bool:
    """Arenas that there are, and those to come: that of large blocks comes with the first."""
    never, count = ctypes.c_ssize_t(_NEVER), ctypes.c_uint()
    size = ctypes.c_size_t(ctypes.sizeof(count))
    mallctl = library.mallctl
    mallctl.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_size_t]
    mallctl.restype = ctypes.c_int

    def sets(name: str) -> bool:
        return mallctl(name.encode(), None, None, ctypes.byref(never), ctypes.sizeof(never)) == 0

    done = all(sets(f"arenas.{name}") for name in _JEMALLOC)
    if mallctl(b"arenas.narenas", ctypes.byref(count), ctypes.byref(size), None, 0) == 0:
        for arena in range(count.value):
            # One that no thread has asked for yet refuses, and will have the setting of the others.
            for name in _JEMALLOC:
                sets(f"arena.{arena}.{name}")
    return done
