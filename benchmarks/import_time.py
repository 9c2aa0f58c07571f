"""Time of ``import se_zoo`` over ``import timm``, alternating in one run.

python -m benchmarks.import_time
python -m benchmarks.import_time --runs 21
"""

import statistics
import subprocess
import sys
from dataclasses import dataclass

import tyro


@dataclass(frozen=True)
class Bench:
    """What to measure."""

    runs: int = 9
    """Alternating runs of each side, after one that is not counted."""


def import_seconds(statement: str) -> float:
    """Wall time of one import in a new process, the interpreter's start left out."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return float(output.stdout)


def main(bench: Bench) -> None:
    timm_side, both = [], []
    for _ in range(bench.runs + 1):
        timm_side.append(import_seconds("import timm"))
        both.append(import_seconds("import timm, se_zoo"))
    more = [b - t for b, t in zip(both[1:], timm_side[1:], strict=True)]
    print(f"import timm {statistics.median(timm_side[1:]):.2f} s, "
          f"se_zoo over it {statistics.median(more):.3f} s (median of {bench.runs})")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))
