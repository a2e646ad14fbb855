"""Stands for a part of ``benchmarks.gpu`` in a process of its own; apart, as that process imports where it is."""

import sys
import time


def work(name, options, mine):
    """One figure, then as the name says."""
    mine.send((f"{name}.first", 1.0))
    if name == "hangs":
        time.sleep(60)
    sys.exit(3 if name == "dies" else 0)
