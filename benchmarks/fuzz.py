"""Give random broken inputs to the readers of configs, weights and facts, and count what happens.

    python -m benchmarks.fuzz                                 # 1,000 inputs over all readers
    python -m benchmarks.fuzz --count 50 --readers config     # 50 inputs for one of them
    python -m benchmarks.fuzz --only header/17                # one input again, with its traceback

Run time: about ten minutes on one idle core. Every input follows from the seed, the reader and its
number. A reader is right if it takes what is valid, and refuses everything else by one of the
project's errors, within 20 s and 1.5 GB. The table has one line a reader; the columns behind
"right" should be 0.

To add a reader, add a :class:`Reader` to :data:`READERS`: a function that writes an input into an
empty folder, and one that reads it.
"""

import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import tyro

from se_zoo import SEZooError

from .fuzz_inputs import READERS, Reader

#: Longest time of one input, in seconds of the processor, and largest growth of memory, in bytes.
SECONDS, BYTES = 20, 1_500_000_000
OUTCOMES = ("right", "wrongly accepted", "wrongly refused", "traceback", "hang", "memory")


@dataclass(frozen=True)
class Bench:
    """Options of the run."""

    count: int = 1000
    """Inputs in all, spread evenly over the readers."""
    seed: int = 0
    """Seed of the inputs."""
    readers: Tuple[str, ...] = tuple(READERS)
    """Names of the readers."""
    only: Optional[str] = None
    """One input, as reader/number: show what it is and what the reader says."""


class Found(NamedTuple):
    """What a reader did with an input.

    Attributes:
        outcome: One of :data:`OUTCOMES`.
        input: What was changed.
        message: What the reader raised; empty if it accepted the input.
    """

    outcome: str
    input: str
    message: str = ""


def try_input(reader: Reader, name: str, number: int, seed: int) -> Found:
    """Make an input, read it, and judge what happened, in this process.

    Args:
        reader: The reader.
        name: Its name, from which the random numbers follow.
        number: Number of the input.
        seed: Seed of the run.

    Returns:
        The outcome; never "hang", which only another process can see.
    """
    rng = random.Random(f"{seed}/{name}/{number}")
    with tempfile.TemporaryDirectory() as folder:
        case = reader.make(rng, Path(folder))
        before, started = _peak(), time.process_time()
        try:
            reader.read(case.path)
            outcome, message = ("wrongly accepted" if case.valid is False else "right"), ""
        except SEZooError as error:
            outcome = "wrongly refused" if case.valid else "right"
            message = f"{type(error).__name__}: {error}"
        except Exception as error:  # what users would see as a traceback
            outcome, message = "traceback", f"{type(error).__name__}: {error}"
            if "--only" in sys.argv:
                traceback.print_exc()
        if time.process_time() - started > SECONDS:
            outcome = "hang"
        if _peak() - before > BYTES:
            outcome = "memory"
    return Found(outcome, case.change, message)


def _peak() -> int:
    """Return the peak memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _work(pipe: Any, seed: int) -> None:
    """Try the inputs that the pipe names, until it is closed."""
    while (asked := pipe.recv()) is not None:
        name, number = asked
        pipe.send(try_input(READERS[name], name, number, seed))


class _Worker:
    """A process that tries inputs, and is replaced when it does not answer."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.seed), daemon=True)
        self.process.start()
        other.close()
        self.fresh = True

    def try_input(self, name: str, number: int) -> Found:
        """Try an input; a process that does not answer, or dies, is replaced."""
        self.pipe.send((name, number))
        # On a busy machine 20 s of work take longer, and a new process imports torch first.
        patience = SECONDS * (30 if self.fresh else 6)
        try:
            if self.pipe.poll(patience):
                found = self.pipe.recv()
                self.fresh = False
                return found
            outcome = "hang"
        except EOFError:
            outcome = "memory"  # the system kills a process for little else
        self.process.kill()
        self.process.join()
        self._start()
        return Found(outcome, f"--only {name}/{number}")

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join(10)


def table(counts: Dict[str, Dict[str, int]]) -> str:
    """Return the outcomes of each reader as a Markdown table."""
    lines = [f"| reader | tried | {' | '.join(OUTCOMES)} |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for name, found in counts.items():
        row = [name, sum(found.values()), *(found.get(outcome, 0) for outcome in OUTCOMES)]
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def main(bench: Bench) -> int:
    """Try the inputs and print the table, and every outcome that is not right."""
    if bench.only is not None:
        name, _, number = bench.only.partition("/")
        print(try_input(READERS[name], name, int(number), bench.seed))
        return 0
    counts: Dict[str, Dict[str, int]] = {}
    wrong: List[str] = []
    worker = _Worker(bench.seed)
    for name in bench.readers:
        counts[name] = {}
        for number in range(bench.count // len(bench.readers)):
            found = worker.try_input(name, number)
            counts[name][found.outcome] = counts[name].get(found.outcome, 0) + 1
            if found.outcome != "right":
                wrong.append(f"{name}/{number} {found.outcome}: {found.input}: {found.message}")
                print(wrong[-1], file=sys.stderr)
    worker.stop()
    print(table(counts))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Bench, description=__doc__)))
