"""How the allocator treats freed memory, which training speed on CPUs depends on.

JAX allocates fresh outputs at every step, and XLA fresh buffers for what lies between. By default
allocators give large blocks back to the kernel when they are freed, so that every step pays for its
pages again (docs/speed.md, "Freed memory").
"""

import ctypes
import errno
import glob
import os

from jaxformer.io.environment import allocator

# Parameters of mallopt(3), and values that keep what was freed.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_MALLOPT = (
    # No block is mapped on its own, to be unmapped when it is freed.
    (_MMAP_MAX, 0),
    # One heap: in any other, blocks beyond 64 MB are mapped all the same.
    (_ARENA_MAX, 1),
    # The heap's end is given back only beyond this many bytes, an int's largest.
    (_TRIM_THRESHOLD, 2**31 - 1),
    # The heap grows in steps of this many bytes.
    (_TOP_PAD, 64 * 2**20),
)
# Milliseconds until jemalloc gives freed pages back, by their state; negative: never.
_DECAYS = ("dirty_decay_ms", "muzzy_decay_ms")
_NEVER = -1
# Files of GPUs and TPUs. With one of these, the large arrays are in memory of its own.
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")


def keep_freed_memory() -> str:
    """Tells glibc's allocator, or jemalloc, to keep freed memory, where a CPU does the computing.

    To be called before there are threads: glibc gives each a heap of its own, and those that are
    there stay. A process then holds the most that it has needed, and what lies between blocks. It
    does nothing with another allocator, or if the environment has settings for it, and never fails.

    Returns: the allocator and what was done, in a few words.
    """
    name = allocator()
    if name == "jemalloc":
        is_set = "MALLOC_CONF" in os.environ
        keep = _keep_in_jemalloc
    elif name.startswith("glibc"):
        is_set = any(each.startswith(("MALLOC_", "GLIBC_TUNABLES")) for each in os.environ)
        keep = _keep_in_glibc
    else:
        return name
    if is_set:
        return f"{name}, as the environment says"
    if not _computes_on_cpu():
        return name
    try:
        done = keep(ctypes.CDLL(None))
    except (OSError, AttributeError):
        done = False
    return f"{name}, keeping freed memory" if done else name


def _computes_on_cpu() -> bool:
    """As the environment says, or as there are no accelerators: JAX is not to be started for it."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not any(map(glob.glob, _ACCELERATORS))


def _keep_in_glibc(library: ctypes.CDLL) -> bool:
    mallopt = library.mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return all(mallopt(parameter, value) == 1 for parameter, value in _MALLOPT)


def _keep_in_jemalloc(library: ctypes.CDLL) -> bool:
    """For arenas that there are, and for those to come, such as that of the first large block."""
    never, count = ctypes.c_ssize_t(_NEVER), ctypes.c_uint()
    size = ctypes.c_size_t(ctypes.sizeof(count))
    mallctl = library.mallctl
    mallctl.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_size_t]
    mallctl.restype = ctypes.c_int
    if mallctl(b"arenas.narenas", ctypes.byref(count), ctypes.byref(size), None, 0):
        return False
    for arena in ("arenas", *(f"arena.{number}" for number in range(count.value))):
        for decay in _DECAYS:
            name = f"{arena}.{decay}".encode()
            code = mallctl(name, None, None, ctypes.byref(never), ctypes.sizeof(never))
            # EFAULT: an arena that nobody has asked for yet.
            if code not in (0, errno.EFAULT):
                return False
    return True
