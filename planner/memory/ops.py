"""Integer arithmetic that serves one request and a whole table of them.

Every helper takes ints or int64 arrays (anything with ``dtype``) and imports numpy only when it meets an array,
so one formula answers scalar and vectorised calls and both agree to the byte.
"""

from __future__ import annotations

from typing import Any

# An int, or an int64 array of any shape. Formulas are written for ints; arrays pass through them unchanged.
Int = Any


def is_array(value: object) -> bool:
    """True for a numpy array (or scalar), False for a Python number."""
    return hasattr(value, "dtype")


def ceil_div(numerator: Int, denominator: Int) -> Int:
    """Smallest integer not below numerator / denominator."""
    return -(-numerator // denominator)


def round_up(value: Int, multiple: Int) -> Int:
    """Smallest multiple of ``multiple`` not below ``value``."""
    return ceil_div(value, multiple) * multiple


def maximum(first: Int, *others: Int) -> Int:
    """Largest of the values, element by element."""
    largest = first
    for other in others:
        if is_array(largest) or is_array(other):
            import numpy as np

            largest = np.maximum(largest, other)
        else:
            largest = max(largest, other)
    return largest


def minimum(first: Int, *others: Int) -> Int:
    """Smallest of the values, element by element."""
    smallest = first
    for other in others:
        if is_array(smallest) or is_array(other):
            import numpy as np

            smallest = np.minimum(smallest, other)
        else:
            smallest = min(smallest, other)
    return smallest


def where(condition: Any, if_true: Int, if_false: Int) -> Int:
    """``if_true`` where the condition holds, else ``if_false``, element by element."""
    if is_array(condition):
        import numpy as np

        return np.where(condition, if_true, if_false)
    return if_true if condition else if_false
