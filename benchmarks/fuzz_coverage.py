"""Fuzz the readers of configs, weights, tables and facts, guided by which lines an input reaches.

    pip install atheris
    python -m benchmarks.fuzz_coverage                          # thirty minutes, four readers
    python -m benchmarks.fuzz_coverage csv --minutes 2 --seed 7

Run time: ``--minutes``. atheris (libFuzzer) changes inputs, and keeps those that reach new lines of
this package or of PyYAML. The inputs start from a valid one. Anything that is raised and is not one
of the project's errors is printed with its input, once for each line of code; so is an input that
takes more than 20 s or 1.5 GB, which ends its reader. The table should have 0 in its last column.
"""

import importlib.util
import json
import random
import re
import shutil
import struct
import subprocess
import sys
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Tuple

import tyro

#: Packages whose lines guide the search.
_WATCHED = ("se_zoo", "yaml")
_READERS = ("config", "header", "csv", "facts")
#: Longest time of an input in seconds, and largest memory of the process in MB.
_SECONDS, _MEGABYTES = 20, 1500
#: Words that the fuzzer puts into inputs.
_JSON = ("null", "true", "NaN", "1e999", "-1", "[]", "{}", '"\\ud800"', "9" * 30)
_HEADER = ("F64", "BF16", "F8_E4M3", "BOOL", "__metadata__")
_CSV = ("true", "nan", "1e999", "../", '"', '""', ",", "\r\n", "split")
_YAML = ("like: facts.yaml\n", "&a ", "*a", "!!python/object:", "? ", "<<: ", "|\n", "---\n",
         "2024-01-01", "gallery:", "crop:", "hub_id:", "citation:", "base_model:",
         "%YAML 1.1\n")  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Options of the run."""

    readers: tyro.conf.Positional[Tuple[str, ...]] = _READERS
    """Names of the readers: config, header, csv, facts."""
    minutes: float = 30.0
    """Time in all, spread evenly over the readers."""
    seed: int = 0
    """Seed of the changes."""
    keep: Path = Path("runs/fuzz")
    """Folder of the inputs that reached new lines, from which the next run starts, and of those
    that were not refused as they should be."""


class Target(NamedTuple):
    """A reader of bytes.

    Attributes:
        seeds: Valid inputs.
        words: What an input may hold, to be put in by the fuzzer.
        read: Reads an input, in an empty folder.
    """

    seeds: Tuple[bytes, ...]
    words: Tuple[str, ...]
    read: Callable[[bytes, Path], Any]


def make_target(name: str) -> Target:
    """Return a reader by its name."""
    from se_zoo.hub.facts import read_facts

    from .fuzz_inputs import models, tables
    from .fuzz_inputs.case import kept_folder
    from .fuzz_inputs.facts import FACTS

    good = models.saved_model()

    def read_model(file: str, data: bytes, folder: Path) -> Any:
        other = {"config.json": "model.safetensors", "model.safetensors": "config.json"}[file]
        place = folder / ("by_timm" if len(data) % 2 else "by_command")
        place.mkdir()
        (place / other).symlink_to(good / other)
        (place / file).write_bytes(data)
        return models.read_model(place)

    def read_config(data: bytes, folder: Path) -> Any:
        return read_model("config.json", data, folder)

    def read_weights(data: bytes, folder: Path) -> Any:
        packed = struct.pack("<Q", len(data)) + data + weights[8 + length :]
        return read_model("model.safetensors", packed, folder)

    def read_table(data: bytes, folder: Path) -> Any:
        kinds = sorted(tables.HEADERS)
        file = folder / f"{kinds[data[0] % len(kinds)] if data else kinds[0]}.csv"
        file.write_bytes(data[1:])
        for image in images.iterdir():
            (folder / image.name).hardlink_to(image)
        return tables.read_csv(file)

    def read_card(data: bytes, folder: Path) -> Any:
        (folder / "facts.yaml").write_bytes(data)
        return read_facts(folder / "facts.yaml")

    if name == "csv":
        tables.write_images(images := kept_folder())
    config = (good / "config.json").read_bytes()
    weights = (good / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", weights[:8])
    rows = [bytes([n]) + tables.text_of(kind) for n, kind in enumerate(sorted(tables.HEADERS))]
    targets = {
        "config": Target((config,), (*_JSON, *_strings(config)), read_config),
        "header": Target((weights[8 : 8 + length],), (*_JSON, *_HEADER), read_weights),
        "csv": Target(tuple(rows), _CSV, read_table),
        "facts": Target((FACTS.encode(),), _YAML, read_card),
    }
    return targets[name]


def _strings(data: bytes) -> Tuple[str, ...]:
    """Return the strings of a JSON text, which are short."""
    found = re.findall(rb'"[^"]{1,40}"', data)
    return tuple(sorted({text.decode() for text in found}))


def fuzz(name: str, seconds: int, seed: int, keep: Path) -> None:
    """Fuzz a reader in this process, which ends when the time is over.

    Args:
        name: Name of the reader.
        seconds: For how long.
        seed: Seed of the changes.
        keep: Folder for what is kept.
    """
    atheris: Any = importlib.import_module("atheris")

    with atheris.instrument_imports(include=list(_WATCHED)):
        from se_zoo import SEZooError

        target = make_target(name)
        target.read(target.seeds[0], _empty(keep / "work"))  # what is imported late is watched too
    warnings.simplefilter("ignore")
    seen = set()

    def try_one(data: bytes) -> None:
        folder = _empty(keep / "work")
        try:
            target.read(data, folder)
        except SEZooError:
            pass
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = (type(error).__name__, frames[-1].filename, frames[-1].lineno)
            if place in seen:
                return
            seen.add(place)
            file = keep / f"foreign-{len(seen)}"
            file.write_bytes(data)
            print(f"FOREIGN {type(error).__name__}: {error!s:.200} ({file})", flush=True)
            traceback.print_exception(error)

    corpus, words = keep / "corpus", keep / "words"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds):
        (corpus / f"seed{number}").write_bytes(data)
    words.write_text("".join(f"{_quoted(word)}\n" for word in target.words))
    atheris.Setup(
        [name, str(corpus), f"-dict={words}", f"-max_total_time={seconds}", f"-seed={seed}",
         f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEGABYTES}", f"-artifact_prefix={keep}/",
         "-max_len=16384", "-print_final_stats=1"],
        try_one,
        **({"custom_mutator": _change} if name in ("config", "header") else {}),
    )  # fmt: skip
    atheris.Fuzz()


def _change(data: bytes, most: int, number: int) -> bytes:
    """Change a valid JSON text as such, every other time: changed bytes are mostly no JSON."""
    atheris: Any = importlib.import_module("atheris")

    from .fuzz_inputs.case import change_json

    rng = random.Random(number)
    if rng.random() < 0.5:
        with suppress(ValueError, IndexError, TypeError, RecursionError):
            content = json.loads(data)
            change_json(rng, content)
            return json.dumps(content).encode()[:most]
    return atheris.Mutate(data, most)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _quoted(word: str) -> str:
    """Return a word as libFuzzer's dictionaries write it."""
    safe = [chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word.encode()]
    return f'"{"".join(safe)}"'


def summary(log: str) -> Dict[str, int]:
    """Return executions, lines and kept inputs at the start and the end, and what was found.

    Args:
        log: What libFuzzer and :func:`fuzz` printed.
    """
    states = re.findall(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: \d+ corp: (\d+)", log, re.MULTILINE)
    first = next((state for state in states if state[1] == "INITED"), ("0", "", "0", "0"))
    last = states[-1] if states else first
    ended = len(re.findall(r"^(==\d+== ?ERROR|ALARM|SUMMARY)", log, re.MULTILINE)) > 0
    return {
        "executions": int(last[0]), "lines at first": int(first[2]), "lines": int(last[2]),
        "inputs kept": int(last[3]),
        "not refused by the project's errors": log.count("\nFOREIGN ") + ended,
    }  # fmt: skip


def main(bench: Bench) -> int:
    """Fuzz each reader in a process of its own; print a table, and everything that is foreign."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install atheris (Linux and macOS).", file=sys.stderr)
        return 1
    seconds = max(1, round(60 * bench.minutes / len(bench.readers)))
    found: Dict[str, Dict[str, int]] = {}
    for name in bench.readers:
        keep = bench.keep / name
        keep.mkdir(parents=True, exist_ok=True)
        call = (
            f"from benchmarks.fuzz_coverage import fuzz; from pathlib import Path; "
            f"fuzz({name!r}, {seconds}, {bench.seed}, Path({str(keep)!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", call],
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        (keep / "log.txt").write_text(done.stdout)
        found[name] = summary("\n" + done.stdout)
        if done.returncode or not found[name]["executions"]:
            print(done.stdout[-3000:], file=sys.stderr)
    head = list(next(iter(found.values())))
    print(f"| reader | {' | '.join(head)} |\n{'|---' * (len(head) + 1)}|")
    for name, each in found.items():
        print(f"| {name} | {' | '.join(str(each[key]) for key in head)} |")
    return int(any(each[head[-1]] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Bench, description=__doc__)))
