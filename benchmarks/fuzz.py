"""Give random broken inputs to everything that reads files or options, and count what happens.

    python -m benchmarks.fuzz                                 # 1,000 inputs over ten readers
    python -m benchmarks.fuzz --count 50 --readers config     # 50 inputs for one of them
    python -m benchmarks.fuzz --only header/17                # one input again, with its traceback

Run time: two minutes on one idle core. Every input follows from the seed, the reader and its
number. A reader is right if it takes what is valid, and refuses everything else by one of the
project's errors, within 20 s of work and 1.5 GB, Python and torch included. The table has one line
a reader; the columns from "wrongly accepted" to "memory" should be 0. The last two are the longest
time and the largest memory of its refused inputs.

To add a reader, add a :class:`Reader` to :data:`READERS`: a function that writes an input into an
empty folder, and one that reads it.
"""

import io
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
import tyro

from se_zoo import SEZooError

from .fuzz_inputs.case import Reader, WrongAnswerError
from .fuzz_inputs.readers import READERS

#: Longest time of one input, in seconds of the processor, and largest memory of the process that
#: reads it, in bytes.
SECONDS, BYTES = 20, 1_500_000_000
#: Memory that a process may take at all, in bytes, so that no input takes that of the machine.
_LIMIT = 8_000_000_000
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
        seconds: How long it took.
        bytes: Peak memory of the process meanwhile.
    """

    outcome: str
    input: str
    message: str = ""
    seconds: float = 0.0
    bytes: int = 0


def try_input(name: str, number: int, seed: int, reader: Optional[Reader] = None) -> Found:
    """Make an input, read it, and judge what happened, in this process.

    Args:
        name: Name of the reader, from which the random numbers follow.
        number: Number of the input.
        seed: Seed of the run.
        reader: The reader; by default that of the name.

    Returns:
        The outcome; never "hang" for waiting, which only another process can see.
    """
    reader = reader or READERS[name]
    rng = random.Random(f"{seed}/{name}/{number}")
    with _new_folder() as folder:
        case = reader.make(rng, folder)
        _forget_peak()
        worked, started, message = time.process_time(), time.perf_counter(), ""
        try:
            reader.read(case.path)
            outcome = "wrongly accepted" if case.valid is False else "right"
        except SEZooError as error:
            outcome = "wrongly refused" if case.valid else "right"
            message = _described(error)
        except WrongAnswerError as error:
            outcome, message = "wrongly accepted", _described(error)
        except MemoryError as error:
            outcome, message = "memory", _described(error)
        except (Exception, SystemExit) as error:  # what users would see as a traceback
            outcome, message = "traceback", _described(error)
            if "--only" in sys.argv:
                traceback.print_exc()
        seconds, peak = time.perf_counter() - started, _peak()
        if time.process_time() - worked > SECONDS:
            outcome = "hang"
        if peak > BYTES:
            outcome = "memory"
    return Found(outcome, case.change, message, seconds, peak)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


@contextmanager
def _new_folder() -> Iterator[Path]:
    """Work in a new folder, where a reader may write without harm."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        (folder := Path(place) / "input").mkdir()
        os.chdir(place)
        try:
            yield folder
        finally:
            os.chdir(before)


def _forget_peak() -> None:
    """Start anew with the peak memory of this process, where the system can do so (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the peak memory of this process, in bytes."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _work(pipe: Any, seed: int) -> None:
    """Try the inputs that the pipe names, until it is closed."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of Pillow, torch, ...; they are no outcome
    resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT, _LIMIT))
    while (asked := pipe.recv()) is not None:
        name, number = asked
        with redirect_stdout(io.StringIO()):  # training tells how far it is
            found = try_input(name, number, seed)
        pipe.send(found)


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


def table(found: Dict[str, List[Found]]) -> str:
    """Return the outcomes of each reader as a Markdown table."""
    head = ["reader", "tried", *OUTCOMES, "longest refusal", "its memory at most"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, each in found.items():
        counts = [sum(one.outcome == outcome for one in each) for outcome in OUTCOMES]
        refused = [one for one in each if one.message]
        longest = max((one.seconds for one in refused), default=0.0)
        peak = max((one.bytes for one in refused), default=0) / 1e6
        row = [name, len(each), *counts, f"{longest:.1f} s", f"{peak:.0f} MB"]
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def main(bench: Bench) -> int:
    """Try the inputs and print the table, and every outcome that is not right."""
    if bench.only is not None:
        name, _, number = bench.only.partition("/")
        print(try_input(name, int(number), bench.seed))
        return 0
    found: Dict[str, List[Found]] = {}
    worker, wrong = _Worker(bench.seed), 0
    each, more = divmod(bench.count, len(bench.readers))
    for place, name in enumerate(bench.readers):
        found[name] = []
        for number in range(each + (place < more)):
            found[name].append(one := worker.try_input(name, number))
            if one.outcome != "right":
                wrong += 1
                print(f"{name}/{number} {one.outcome}: {one.input}: {one.message}", file=sys.stderr)
    worker.stop()
    print(table(found))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Bench, description=__doc__)))
