"""Start-up: the command line's help and the package import.

Whole processes, warm, median of 11. ``help_s`` is `ssdtune --help`, ``import_s`` what `import ssdtune` adds to Python;
``*_heavy`` counts modules of torch, fastmri or optuna that were loaded (must be 0).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Metrics, main, median_seconds

HEAVY = "sum(name.split('.')[0] in {'torch', 'fastmri', 'optuna'} for name in sys.modules)"


def measure(options: argparse.Namespace) -> Metrics:
    repeats = 5 if options.quick else 11
    ssdtune = str(Path(sys.executable).with_name("ssdtune"))

    def run(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def python(code: str) -> str:
        return run(sys.executable, "-c", code)

    bare = median_seconds(lambda: python("pass"), repeats)
    imported = median_seconds(lambda: python("import ssdtune"), repeats)
    return {
        "help_s": median_seconds(lambda: run(ssdtune, "--help"), repeats),
        "import_s": max(imported - bare, 0.0),
        "interpreter_s": bare,
        "import_heavy": int(python(f"import ssdtune, sys; print({HEAVY})")),
        "help_heavy": int(python(f"import ssdtune.cli, sys; print({HEAVY})")),
    }


if __name__ == "__main__":
    main(__doc__ or "", measure)
