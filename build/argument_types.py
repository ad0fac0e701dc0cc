"""Values of flags that several command lines share; argparse tells the message to whoever gave another."""

import argparse
import math


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("give a number above 0")
    return value
