"""Check of images or videos before training: what would fail or mislead during a run."""

import os
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple, Union

import torch

from ...errors import DataError
from ..config import TableConfig
from ..tables.content import StoredFiles
from ..tables.folder import is_sample
from ..tables.open import open_split
from ..tables.parallel_check import available_processes, decode, most_processes
from ..tables.table import Finding, Table
from ..tables.validate import format_names
from .report import Report, SplitCounts

#: Samples of every split that a fast check decodes, evenly spaced.
_FAST_SAMPLES = 64
#: Most examples in a message.
_EXAMPLES = 5

#: Endings of texts and tables, which lie beside many data sets.
_TEXT_SUFFIXES = frozenset(
    (".csv", ".tsv", ".txt", ".md", ".rst", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".html",
     ".pdf", ".log", ".parquet")
)  # fmt: skip

#: Tables by split.
_Tables = Dict[str, Table]


def check(
    config: TableConfig,
    workers: Optional[int] = None,
    fast: bool = False,
    progress: bool = True,
) -> Report:
    """Open every split and decode its samples, without limits.

    Errors are splits, columns and classes that are not as declared, missing and corrupt files,
    and classes that occur in an evaluation split only. Warnings are labels that never or always
    occur, files without a row or with other endings, samples that occur in two splits or under two
    labels (the same bytes), and a split that is used for two purposes.

    Args:
        config: The data set.
        workers: Number of loader processes that decode; 0 decodes in this process. By default one
            per CPU, or 0 if ``fast``.
        fast: Decode only 64 evenly spaced samples of every split, and do not look for duplicates.
        progress: Show a progress bar on stderr, if that is a terminal.

    Returns:
        The report.

    Raises:
        DataError: If settings contradict each other, or the training split cannot be opened.
    """
    worker_count(workers, fast)  # refuses a wrong number before anything is read
    skips = getattr(config, "broken", "error") == "skip"
    tables, errors = _open_all(config)
    whole, warnings = dict(tables), _shared_splits(config)
    missing, unused = _compare_files(tables, config)
    findings = decode_all(tables, missing, worker_count(workers, fast), fast, progress, config.noun)
    unusable: List[str] = []
    for split, table in tables.items():
        bad = [finding for finding in findings[split] if finding.error]
        unusable += [f"{table.where(row)}: no such file" for row in sorted(missing[split])]
        unusable += [finding.error for finding in bad]
        if skips:
            skipped = missing[split].union(finding.row for finding in bad)
            tables[split] = table.of_rows([i for i in range(len(table)) if i not in skipped])
    label_errors, label_warnings = _label_problems(tables)
    errors += label_errors
    if skips:
        warnings += [f"skipped: {reason}" for reason in unusable]
    else:
        errors += unusable
    warnings += label_warnings + unused + ([] if fast else _duplicates(whole, findings))
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


def _open_all(config: TableConfig) -> Tuple[_Tables, List[str]]:
    """Return the splits that can be opened, and the errors of the others."""
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
    """Return a warning for each split that is used for two purposes."""
    purposes: Dict[str, List[str]] = {}
    for split, purpose in zip(config.splits, ("training", "validation", "test"), strict=True):
        purposes.setdefault(split, []).append(purpose)
    return [
        f"the split {split} is used for {' and '.join(names)}; scores on it are not independent"
        for split, names in purposes.items()
        if len(names) > 1
    ]


def _label_counts(table: Table) -> List[int]:
    if table.multi_label:
        return table.targets.sum(0, dtype=torch.float64).long().tolist()
    return torch.bincount(table.targets, minlength=len(table.labels)).tolist()


def _label_problems(tables: _Tables) -> Tuple[List[str], List[str]]:
    """Return errors and warnings about labels that are missing, or never or always occur."""
    errors, warnings = [], []
    train = next(iter(tables.values()))
    not_in_train = {
        name for name, count in zip(train.labels, _label_counts(train), strict=True) if not count
    }
    for table in tables.values():
        if not len(table):
            errors.append(f"{table.name} has no usable {table.noun}s")
            continue
        counts = dict(zip(table.labels, _label_counts(table), strict=True))
        kind = "attributes" if table.multi_label else "classes"
        never = [name for name, count in counts.items() if not count]
        always = [name for name, count in counts.items() if count == len(table)]
        for names, how in ((never, "never"), (always, "always")):
            if names:
                warnings.append(
                    f"{table.name}: {len(names)} {kind} {how} occur: {format_names(names, 10)}"
                )
        not_trained = [name for name, count in counts.items() if count and name in not_in_train]
        if not_trained and not table.multi_label:
            errors.append(
                f"{table.name} has {table.noun}s of classes without any in the training split: "
                f"{format_names(not_trained, 10)}"
            )
    return errors, warnings


def _compare_files(tables: _Tables, config: TableConfig) -> Tuple[Dict[str, Set[int]], List[str]]:
    """Return the rows of each split whose file is missing, and warnings about unused files."""
    missing: Dict[str, Set[int]] = {split: set() for split in tables}
    sources = {s: t.stored for s, t in tables.items() if isinstance(t.stored, StoredFiles)}
    if not sources:
        return missing, []
    root = next(iter(sources.values())).root
    present, used = _files(root), set()
    for split, source in sources.items():
        for row, name in enumerate(source.names):
            path = os.path.normpath(name)
            if os.path.isabs(path):
                path = _relative(os.path.realpath(path), os.path.realpath(root))
            used.add(path)
            # Names that lead out of the folder or through a link are not in the listing.
            if path not in present and not (root / name).is_file():
                missing[split].add(row)
    table = "" if config.csv is None else _relative(config.csv, root)
    unused = [
        path for path in sorted(present - used - {table}) if not Path(path).name.startswith(".")
    ]
    return missing, _unused_files(root, unused, config)


def _relative(path: Union[str, Path], root: Union[str, Path]) -> str:
    """Return a path relative to a folder; on Windows, none leads to another drive."""
    try:
        return os.path.relpath(path, root)
    except ValueError:
        return os.path.abspath(path)


def _unused_files(root: Path, unused: Sequence[str], config: TableConfig) -> List[str]:
    """Return warnings about samples without a row, and about files with other endings."""
    samples = [path for path in unused if is_sample(path, config)]
    endings = Counter(
        Path(path).suffix.lower() or "no ending"
        for path in unused
        if not (is_sample(path, config) or Path(path).suffix.lower() in _TEXT_SUFFIXES)
    )
    warnings = []
    if samples:
        text = f"{len(samples):,} {config.noun}s in {root} belong to no row and are not used"
        warnings.append(f"{text}: {format_names(samples, _EXAMPLES)}")
    if endings:
        counts = [f"{ending} ({count:,})" for ending, count in endings.most_common()]
        others = f"{sum(endings.values()):,} files in {root} are not used, because of their endings"
        warnings.append(
            f"{others}: {format_names(counts, 10)}. Endings of {config.noun}s are "
            f"{' '.join(sorted(config.suffixes))}; rename or convert those that are {config.noun}s."
        )
    return warnings


def _files(root: Path) -> Set[str]:
    """Return all files below a folder, relative to it; hidden folders are left out."""
    found = set()
    for folder, inside, files in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(".")]
        found.update(os.path.normpath(os.path.relpath(folder, root) + "/" + f) for f in files)
    return found


def worker_count(workers: Optional[int], fast: bool) -> int:
    """Return the number of processes that decode; the default (None) depends on ``fast``.

    Raises:
        DataError: If the number is negative, or too large for the machine.
    """
    if workers is not None:
        if not 0 <= workers <= most_processes():
            raise DataError(
                f"workers is {workers}; it must be 0 or more, and at most {most_processes()} on "
                "this machine."
            )
        return workers
    return 0 if fast else available_processes()


def decode_all(
    tables: Dict[str, Table],
    missing: Dict[str, Set[int]],
    workers: int,
    fast: bool,
    progress: bool,
    noun: str,
) -> Dict[str, List[Finding]]:
    """Decode the samples of every split.

    Args:
        tables: Tables by split.
        missing: Rows of each split that are left out, because their file is missing.
        workers: Number of loader processes; 0 decodes in this process.
        fast: Decode only 64 evenly spaced samples of every split.
        progress: Show a progress bar on stderr, if that is a terminal.
        noun: What a sample is called.

    Returns:
        Findings by split, in the order of the rows.
    """
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
    if fast and count > _FAST_SAMPLES:
        rows = [i * (count - 1) // (_FAST_SAMPLES - 1) for i in range(_FAST_SAMPLES)]
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


def _duplicates(tables: _Tables, findings: Dict[str, List[Finding]]) -> List[str]:
    """Return warnings about samples that are stored twice.

    In two splits they make scores too high, and under two labels one of these is wrong.
    """
    first: Dict[bytes, Tuple[str, int]] = {}
    first_of_split: Dict[Tuple[str, bytes], int] = {}
    shared: Dict[Tuple[str, str], List[str]] = {}
    relabelled: Dict[Tuple[str, str], List[str]] = {}
    for split in tables:
        for finding in (f for f in findings[split] if not f.error):
            earlier = first.setdefault(finding.digest, (split, finding.row))
            own = split, first_of_split.setdefault((split, finding.digest), finding.row)
            for pairs, other in ((shared, earlier), (relabelled, own)):
                if other == (split, finding.row) or (pairs is shared and earlier[0] == split):
                    continue
                labels = _differing_labels(tables, (split, finding.row), other)
                if labels or pairs is shared:
                    pair = f"row {finding.row} = row {other[1]}{labels}"
                    pairs.setdefault((split, other[0]), []).append(pair)
    return [
        *(
            f"{len(rows):,} {tables[split].noun}s of {tables[split].name} are in {other} too (same "
            f"bytes{_relabelled(rows)}): {format_names(rows, _EXAMPLES)}"
            for (split, other), rows in shared.items()
        ),
        *(
            f"{len(rows):,} {tables[split].noun}s of {tables[split].name} are in it under another "
            f"label, too (same bytes): {format_names(rows, _EXAMPLES)}"
            for (split, _), rows in relabelled.items()
        ),
    ]


def _differing_labels(tables: _Tables, one: Tuple[str, int], other: Tuple[str, int]) -> str:
    """Return the labels of two samples as text; "" if they are the same."""
    targets = [tables[split].targets[row] for split, row in (one, other)]
    if torch.equal(*targets):
        return ""
    if tables[one[0]].multi_label:
        return ", other labels"
    mine, others = (
        tables[split].labels[int(targets[i])] for i, (split, _) in enumerate((one, other))
    )
    return f", {mine} and {others}"


def _relabelled(rows: Sequence[str]) -> str:
    count = sum("," in row for row in rows)
    return f", {count:,} of them under other labels" if count else ""
