"""Check of face tracks before training."""

from typing import Dict, List, Optional, Set, Tuple

from ...errors import DataError
from ..config import TrackDataConfig
from ..faces.ava import SPEAKING
from ..faces.track_table import read_tracks
from ..tables.table import Table
from .report import format_table
from .table_check import decode_all, worker_count


def check_tracks(
    config: TrackDataConfig,
    workers: Optional[int] = None,
    fast: bool = False,
    progress: bool = True,
) -> Tuple[str, List[str]]:
    """Decode all crops and sound of every split.

    Args:
        config: The data set; its limits and ``broken`` do not matter here.
        workers: Number of processes that decode; by default one per CPU, or 0 if ``fast``.
        fast: Decode only 64 evenly spaced tracks of every split.
        progress: Show a progress bar on stderr, if that is a terminal.

    Returns:
        A table of the splits as text, and the errors.

    Raises:
        DataError: If no split can be opened.
    """
    tables, errors = {}, []
    for split in dict.fromkeys(config.splits):
        try:
            tables[split] = read_tracks(config, split)
        except DataError as error:
            errors.append(str(error))
    if not tables:
        raise DataError(errors[0])
    opened: Dict[str, Table] = {**tables}
    missing: Dict[str, Set[int]] = {split: set() for split in tables}  # found by decoding
    findings = decode_all(opened, missing, worker_count(workers, fast), fast, progress, "track")
    rows = [["split", "tracks", "decoded", "rows", "speech", "frames a track"]]
    for split, table in tables.items():
        speaking, lengths = table.speaking, table.lengths
        decoded = sum(not finding.error for finding in findings[split])
        rows.append(
            [
                split, f"{len(table):,}", f"{decoded:,}", f"{len(speaking):,}",
                f"{speaking.mean():.1%}", f"{min(lengths)} to {max(lengths)}",
            ]
        )  # fmt: skip
        errors += [finding.error for finding in findings[split] if finding.error]
        if speaking.all() or not speaking.any():
            errors.append(
                f"{table.name}: {'all' if speaking.all() else 'none'} of its rows are {SPEAKING}; "
                "set the labels."
            )
    return format_table(rows), errors
