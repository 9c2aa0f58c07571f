"""Measure how much longer `import se_zoo` takes than `import timm`.

    python -m benchmarks.import_time
    python -m benchmarks.import_time --runs 21

Run time: a minute or two; each run is two fresh processes, in turns. Result: docs/evidence.md.
"""

import statistics
import subprocess
import sys
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Bench:
    """Options of the measurement."""

    runs: int = 9
    """Runs of each side, after one that is not counted."""


def _import_seconds(statement: str) -> float:
    """Return the seconds of an import in a new process, without the interpreter's start."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return float(output.stdout)


def main(bench: Bench) -> None:
    """Time both imports in turns and print the medians."""
    timm_side, both = [], []
    for _ in range(bench.runs + 1):
        timm_side.append(_import_seconds("import timm"))
        both.append(_import_seconds("import timm, se_zoo"))
    more = [b - t for b, t in zip(both[1:], timm_side[1:], strict=True)]
    print(f"import timm {statistics.median(timm_side[1:]):.2f} s, "
          f"se_zoo over it {statistics.median(more):.3f} s (median of {bench.runs})")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
