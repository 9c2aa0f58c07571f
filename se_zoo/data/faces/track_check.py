"""Looking at face tracks before training on them."""

from typing import Dict, List, Optional, Set, Tuple

from ...errors import DataError
from ..check import decode_all, processes_of
from ..config import TrackDataConfig
from ..report import aligned
from ..tables.table import Table
from .ava import SPEAKING
from .track_table import read_tracks


def check_tracks(
    config: TrackDataConfig,
    workers: Optional[int] = None,
    fast: bool = False,
    progress: bool = True,
) -> Tuple[str, List[str]]:
    """Decode all crops and sound of every split.

    Args:
        config: The data; all of it, whatever it limits or skips.
        workers: Processes that decode; by default as many as CPUs, or 0 for the fast form.
        fast: Look at 64 evenly spaced tracks of every split.
        progress: Show a bar on stderr, where that is a terminal.

    Returns:
        A table of the splits, and what is wrong.

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
    nothing: Dict[str, Set[int]] = {split: set() for split in tables}
    findings = decode_all(opened, nothing, processes_of(workers, fast), fast, progress, "track")
    rows = [["split", "tracks", "decoded", "rows", "speech", "frames a track"]]
    for split, table in tables.items():
        speaking, lengths = table.speaking, table.lengths
        rows.append(
            [
                split, f"{len(table):,}", f"{len(findings[split]):,}", f"{len(speaking):,}",
                f"{speaking.mean():.1%}", f"{min(lengths)} to {max(lengths)}",
            ]
        )  # fmt: skip
        errors += [finding.error for finding in findings[split] if finding.error]
        if speaking.all() or not speaking.any():
            errors.append(
                f"{table.name}: {'all' if speaking.all() else 'none'} of its rows are {SPEAKING}: "
                "set the labels."
            )
    return aligned(rows), errors
