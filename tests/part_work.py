"""Work for processes that tests start; apart, as those processes import where it is."""

import os
import sys
import time


def note(given):
    """Says in a folder's notes which number was done by which process."""
    folder, number = given
    with (folder / "notes").open("a") as notes:
        notes.write(f"{number} {os.getpid()}\n")


def work(name, options, mine):
    """Stands for a part of ``benchmarks.gpu``: one figure, then as the name says."""
    mine.send((f"{name}.first", 1.0))
    if name == "hangs":
        time.sleep(60)
    sys.exit(3 if name == "dies" else 0)
