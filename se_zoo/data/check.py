"""A preflight of a data set: everything that would fail, or quietly mislead, in mid-training."""

import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

import torch

from ..errors import DataError
from .config import ClipDataConfig, TableConfig
from .report import Report, SplitCounts
from .tables.content import StoredFiles
from .tables.decode import available_processes, decode
from .tables.folder import is_sample
from .tables.open import open_split
from .tables.table import Finding, Table
from .tables.validate import listed

#: The fast form decodes this many samples of every split, evenly spaced.
FAST_SAMPLES = 64
#: A message names this many examples.
EXAMPLES = 5

Tables = Dict[str, Table]


def check(
    config: TableConfig,
    workers: Optional[int] = None,
    fast: bool = False,
    progress: bool = True,
) -> Report:
    """Open every split and decode its samples, all of them whatever `limit` is.

    Errors are splits, columns and classes that are not as declared, missing and corrupt files,
    and classes that only an evaluation split has. Warnings are labels that never or always occur,
    files that no row names, samples of one split that are also in another (the same bytes), and a
    split that serves two purposes.

    Args:
        workers: Processes that decode, started as loader processes are; 0 decodes in this one.
            By default as many as there are CPUs, or 0 for the fast form.
        fast: Decode 64 evenly spaced samples of every split, and look for no doubles.
        progress: Show a bar on stderr, where that is a terminal.

    Raises:
        DataError: For settings that cannot be, and if the training split cannot be opened.
    """
    if workers is not None and workers < 0:
        raise DataError(f"workers is {workers}; it must be 0 or more.")
    leaves_out = isinstance(config, ClipDataConfig) and config.broken == "skip"
    tables, errors = _open_all(config)
    warnings = _shared_splits(config)
    missing, unused = _compare_files(tables, config)
    findings = decode_all(tables, missing, processes_of(workers, fast), fast, progress, config.noun)
    unusable: List[str] = []
    for split, table in tables.items():
        bad = [finding for finding in findings[split] if finding.error]
        unusable += [f"{table.where(row)}: no such file" for row in sorted(missing[split])]
        unusable += [finding.error for finding in bad]
        if leaves_out:
            gone = missing[split].union(finding.row for finding in bad)
            tables[split] = table.of_rows([row for row in range(len(table)) if row not in gone])
    label_errors, label_warnings = _label_problems(tables)
    errors += label_errors
    if leaves_out:
        warnings += [f"left out: {reason}" for reason in unusable]
    else:
        errors += unusable
    warnings += label_warnings + unused + ([] if fast else _doubles(tables, findings))
    train = tables[config.splits[0]]
    counts = {split: _counts(table, findings[split]) for split, table in tables.items()}
    return Report(
        name=config.path,
        labels=train.labels,
        multi_label=train.multi_label,
        fast=fast,
        noun=config.noun,
        counts=counts,
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def _open_all(config: TableConfig) -> Tuple[Tables, List[str]]:
    """The splits that can be opened, and why others cannot."""
    train, *others = dict.fromkeys(config.splits)
    tables, errors = {train: open_split(config, train)}, []
    classes = None if config.attributes else tables[train].labels
    for split in others:
        try:
            tables[split] = open_split(config, split, classes)
        except DataError as error:
            errors.append(" ".join(str(error).split()))
    return tables, errors


def _shared_splits(config: TableConfig) -> List[str]:
    purposes: Dict[str, List[str]] = {}
    for split, purpose in zip(config.splits, ("training", "validation", "test"), strict=True):
        purposes.setdefault(split, []).append(purpose)
    return [
        f"the split {split} serves as {' and '.join(names)}: scores on it are not independent"
        for split, names in purposes.items()
        if len(names) > 1
    ]


def _label_counts(table: Table) -> List[int]:
    if table.multi_label:
        return table.targets.sum(0, dtype=torch.float64).long().tolist()
    return torch.bincount(table.targets, minlength=len(table.labels)).tolist()


def _label_problems(tables: Tables) -> Tuple[List[str], List[str]]:
    """Labels that never or always occur; an error where training never sees what is tested."""
    errors, warnings = [], []
    train = next(iter(tables.values()))
    untrained = {
        n for n, count in zip(train.labels, _label_counts(train), strict=True) if not count
    }
    for table in tables.values():
        if not len(table):
            errors.append(f"{table.name} has nothing that can be used")
            continue
        counts = dict(zip(table.labels, _label_counts(table), strict=True))
        kind = "attributes" if table.multi_label else "classes"
        never = [name for name, count in counts.items() if not count]
        always = [name for name, count in counts.items() if count == len(table)]
        if never:
            warnings.append(f"{table.name}: {len(never)} {kind} never occur: {listed(never, 10)}")
        if always:
            warnings.append(
                f"{table.name}: {len(always)} {kind} always occur: {listed(always, 10)}"
            )
        only_here = [name for name, count in counts.items() if count and name in untrained]
        if only_here and not table.multi_label:
            errors.append(
                f"{table.name} has {table.noun}s of classes without any in the training split: "
                f"{listed(only_here, 10)}"
            )
    return errors, warnings


def _compare_files(tables: Tables, config: TableConfig) -> Tuple[Dict[str, Set[int]], List[str]]:
    """Rows by split whose file is missing, and what is said of files that no row names."""
    missing: Dict[str, Set[int]] = {split: set() for split in tables}
    sources = {s: t.stored for s, t in tables.items() if isinstance(t.stored, StoredFiles)}
    if not sources:
        return missing, []
    root = next(iter(sources.values())).root
    present, used = _files(root), set()
    for split, source in sources.items():
        for row, name in enumerate(source.names):
            path = os.path.normpath(name)
            used.add(path)
            # Names that lead out of the folder, or through a link, are looked up one by one.
            if path not in present and not (root / name).is_file():
                missing[split].add(row)
    unused = sorted(path for path in present - used if is_sample(Path(path).name, config))
    if not unused:
        return missing, []
    text = f"{len(unused):,} {config.noun}s in {root} belong to no row and are not used"
    return missing, [f"{text}: {listed(unused, EXAMPLES)}"]


def _files(root: Path) -> Set[str]:
    """All files in a folder, relative to it; hidden folders are left out."""
    found = set()
    for folder, inside, files in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(".")]
        found.update(os.path.normpath(os.path.relpath(folder, root) + "/" + f) for f in files)
    return found


def processes_of(workers: Optional[int], fast: bool) -> int:
    if workers is not None:
        return workers
    return 0 if fast else available_processes()


def decode_all(
    tables: Tables,
    missing: Dict[str, Set[int]],
    workers: int,
    fast: bool,
    progress: bool,
    noun: str,
) -> Dict[str, List[Finding]]:
    """Findings of every split, in the order of the rows."""
    from tqdm import tqdm

    rows = {split: _rows(table, missing[split], fast) for split, table in tables.items()}
    findings: Dict[str, List[Finding]] = {split: [] for split in tables}
    total = sum(map(len, rows.values()))
    with tqdm(total=total, unit=f" {noun}s", disable=None if progress else True) as bar:
        for split, table in tables.items():
            bar.set_description(f"check {split}")
            for chunk in decode(table, rows[split], workers):
                findings[split] += chunk
                bar.update(len(chunk))
    return findings


def _rows(table: Table, missing: Set[int], fast: bool) -> List[int]:
    count = len(table)
    rows: Sequence[int] = range(count)
    if fast and count > FAST_SAMPLES:
        rows = [i * (count - 1) // (FAST_SAMPLES - 1) for i in range(FAST_SAMPLES)]
    return [row for row in rows if row not in missing]


def _counts(table: Table, findings: List[Finding]) -> SplitCounts:
    sizes = [finding.size for finding in findings if finding.size]
    frames = [finding.frames for finding in findings if finding.size]
    widths, heights = [width for width, _ in sizes], [height for _, height in sizes]
    return SplitCounts(
        samples=len(table),
        decoded=len(sizes),
        labels=tuple(_label_counts(table)),
        width=(min(widths), max(widths)) if widths else None,
        height=(min(heights), max(heights)) if heights else None,
        frames=(min(frames), max(frames)) if frames else None,
    )


def _doubles(tables: Tables, findings: Dict[str, List[Finding]]) -> List[str]:
    """Samples of a split that an earlier one has too; trained on and tested with, they flatter."""
    first: Dict[bytes, Tuple[str, int]] = {}
    pairs: Dict[Tuple[str, str], List[str]] = {}
    for split in tables:
        for finding in findings[split]:
            if finding.error:
                continue
            earlier, row = first.setdefault(finding.digest, (split, finding.row))
            if earlier != split:
                other = f"row {finding.row} = row {row}"
                pairs.setdefault((split, earlier), []).append(other)
    return [
        f"{len(rows):,} {tables[split].noun}s of {tables[split].name} are in {earlier} too (same "
        f"bytes): {listed(rows, EXAMPLES)}"
        for (split, earlier), rows in pairs.items()
    ]
