"""Kill a running ``se-zoo predict`` at random moments, let it go on, and compare the rows.

    python -m benchmarks.predict_kill photos/ --model se_zoo/resnet18_slim_celeba
    python -m benchmarks.predict_kill photos/ --processes 2 --kills 10

Run time: that of predicting the photos twice, and of starting once for each kill. Needs psutil.
Result: printed as JSON.

Every kill is SIGKILL for the command and all its processes, after a random number of result files.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import psutil
import pyarrow.parquet as pq


class Command(NamedTuple):
    """A call of ``se-zoo predict`` without ``--out``."""

    source: str
    model: str
    options: Sequence[str] = ()
    processes: int = 1

    def start(self, out: Path) -> "subprocess.Popen[str]":
        """Start the command, with one thread for each process."""
        launch = [sys.executable]
        if self.processes > 1:
            launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            launch += [str(self.processes)]
        arguments = ["predict", self.source, "--out", str(out), "--model", self.model, "--quiet"]
        return subprocess.Popen(
            [*launch, "-m", "se_zoo.cli", *arguments, *self.options],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self, out: Path) -> float:
        """Run the command to its end; return the seconds it took.

        Raises:
            RuntimeError: If it fails; with what it printed.
        """
        begun, run = time.monotonic(), self.start(out)
        printed, _ = run.communicate()
        if run.returncode:
            raise RuntimeError(printed[-3000:])
        return time.monotonic() - begun


def kill(run: "subprocess.Popen[str]") -> None:
    """Send SIGKILL to a run and all that it started."""
    launcher = psutil.Process(run.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [launcher, *launcher.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
    run.communicate()


def kill_and_go_on(command: Command, folder: Path, kills: int, seed: int = 0) -> Dict[str, Any]:
    """Compare an uninterrupted run with one that is killed several times.

    Args:
        command: The command.
        folder: Where both write.
        kills: How often the second is killed.
        seed: Seed of the moments.

    Returns:
        How often it was killed, the ids, whether all files are equal to the bit, the number of
        rows with an error, and what temporary files were left over.
    """
    whole, broken = folder / "whole", folder / "broken"
    command.finish(whole)
    expected = {file.name: file.read_bytes() for file in whole.glob("part-*")}
    moments = random.Random(seed)
    killed = 0
    for n in range(kills):
        run, before = command.start(broken), len(list(broken.glob("part-*")))
        # The rest is spread over the kills that are left, and some of it is for the last run.
        more = moments.uniform(0, 2 * (len(expected) - before) / (kills - n + 1))
        goal = min(before + more, len(expected) - 1)
        while len(list(broken.glob("part-*"))) < goal and run.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        killed += run.poll() is None
        kill(run)
    command.finish(broken)
    found = {file.name: file.read_bytes() for file in broken.glob("part-*")}
    tables = [pq.read_table(file) for file in sorted(broken.glob("part-*.parquet"))]
    ids: List[str] = [name for table in tables for name in table["id"].to_pylist()]
    return {
        "killed": killed,
        "files": len(found),
        "rows": len(ids),
        "equal_to_the_bit": found == expected,
        "errors": sum(len(t) - t["error"].null_count for t in tables),
        "left_over": [path.name for path in broken.glob("*.tmp")],
        "ids": ids,
    }


def main() -> None:
    """Read the command line, kill, and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="data set, as for se-zoo predict")
    parser.add_argument("--model", default="se_zoo/resnet18_slim_celeba", help="name of the model")
    parser.add_argument("--processes", type=int, default=1, help="processes of torchrun")
    parser.add_argument("--kills", type=int, default=10, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    args, options = parser.parse_known_args()  # the rest goes to se-zoo predict
    with tempfile.TemporaryDirectory() as folder:
        command = Command(args.source, args.model, options, args.processes)
        result = kill_and_go_on(command, Path(folder), args.kills, args.seed)
    result["unique_ids"] = len(set(result.pop("ids")))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
