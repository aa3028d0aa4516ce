"""When two arrays are equal to rounding."""

import numpy as np


def is_close(one, other, tolerance=1e-5):
    """Relative L2."""
    one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
    return np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)
