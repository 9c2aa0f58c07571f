"""Photos of a data set of the Hub, streamed."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ...errors import InvalidInputError
from .sources import Records, SourceOptions

#: Rows that are asked for at a time.
_ROWS = 64


class HubSource:
    """The rows of a data set of the Hub, streamed by ``datasets``; none are stored.

    A part is one of the data set's files. The order is that of the files, and within a file that
    of its rows; ids are ``split/<file>#<row>``, or the values of a column. The data set's commit
    is recorded, so that a run that goes on reads the same rows.

    Args:
        name: Name of the data set.
        options: Split, subset, columns and commit.

    Raises:
        InvalidInputError: If ``datasets`` is not installed, the data set cannot be loaded, or it
            has not the columns.
    """

    revision: str | None
    options: "SourceOptions"
    name: str
    image: "str | Any"

    def __init__(self, name: str, options: SourceOptions):
        try:
            import datasets
        except ImportError:
            raise InvalidInputError(
                'datasets, which reads the Hub, is not installed: pip install "se_zoo[predict]"'
            ) from None
        self.name, self.options = name, options
        self.revision = options.revision or latest_revision(name)
        try:
            rows: Any = datasets.load_dataset(
                name, options.subset, split=options.split, streaming=True, revision=self.revision
            )
            rows = rows._resolve_features() if rows.features is None else rows
        # datasets also raises errors of the Hub client, pyarrow and fsspec.
        except Exception as error:
            raise InvalidInputError(
                f"cannot load split {options.split!r} of the data set {name} from the Hub: "
                f"{type(error).__name__}: {error}"
            ) from error
        found = [n for n, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        wanted = [options.image] if options.image else found
        if len(wanted) != 1 or wanted[0] not in found:
            raise InvalidInputError(
                f"{name} has the columns {', '.join(rows.features)}, of which "
                f"{', '.join(found) or 'none'} hold images; name one with --image."
            )
        self.image = wanted[0]
        if options.id is not None and options.id not in rows.features:
            raise InvalidInputError(
                f"{name} has no column {options.id!r}; it has {', '.join(rows.features)}."
            )
        columns = [self.image, *([options.id] if options.id else [])]
        rows = rows.select_columns(columns).cast_column(self.image, datasets.Image(decode=False))
        self.rows = rows
        self.counts: List[Optional[int]] = [None] * rows.num_shards
        self.left_out: Dict[str, int] = {}
        self.first: Optional[Path] = None

    def read(self, part: int, start: int, stop: int) -> Records:
        """Return ids and encoded images; see :class:`Source`."""
        found = self.stream(part, start)
        return [next(found) for _ in range(start, stop)]

    def stream(self, part: int, start: int) -> Iterator[Tuple[str, Any]]:
        """Read a part from a row on, to its end.

        Args:
            part: Number of the file.
            start: Number of the first row.

        Yields:
            Ids and encoded images.

        Raises:
            InvalidInputError: If the Hub does not answer any more.
        """
        rows = self.rows.shard(num_shards=len(self.counts), index=part).skip(start)
        chunks = iter(rows.iter(batch_size=_ROWS))
        row = start
        while True:
            try:
                chunk = next(chunks, None)
            except Exception as error:  # of datasets, the Hub client, pyarrow or the network
                raise self._stopped(part, row, error) from error
            if chunk is None:
                return
            cells = chunk[self.image]
            names = chunk[self.options.id] if self.options.id else [None] * len(cells)
            for name, cell in zip(names, cells, strict=True):
                place = f"{self.options.split}/{part}#{row}"
                yield place if name is None else str(name), self._content(cell, part, row)
                row += 1

    def _content(self, cell: Any, part: int, row: int) -> Any:
        """Return the encoded image of a cell, or the error that its row gets.

        A cell may name a file of the data set, also inside an archive; no other file is read.

        Raises:
            InvalidInputError: If the Hub does not answer any more.
        """
        from ...data.tables.content import hub_reach, read_cell  # imports torch

        try:
            return read_cell(cell, hub_reach(self.name))
        except (ValueError, PermissionError, FileNotFoundError) as error:
            return ValueError(str(error))
        except Exception as error:  # of the Hub client, fsspec or the network
            raise self._stopped(part, row, error) from error

    def _stopped(self, part: int, row: int, error: Exception) -> InvalidInputError:
        return InvalidInputError(
            f"reading {self.name} stopped at row {row} of file {part}: "
            f"{type(error).__name__}: {error}. The same command goes on."
        )

    def facts(self) -> Dict[str, Any]:
        """Return name, commit, split and columns; see :class:`Source`."""
        return {"kind": "hub", "data_set": self.name, "revision": self.revision,
                "split": self.options.split, "subset": self.options.subset,
                "files": len(self.counts), "image": self.image, "id": self.options.id}  # fmt: skip


def latest_revision(name: str) -> Optional[str]:
    """Return the newest commit of a data set of the Hub.

    Raises:
        InvalidInputError: If the Hub has no such data set, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    from ...models.pretrained.hub_errors import CONNECTION_ERROR, unreachable

    try:
        return HfApi().dataset_info(name).sha
    except (CONNECTION_ERROR, OSError) as error:
        hint = "" if isinstance(error, OfflineModeIsEnabled) else unreachable(error)
        raise InvalidInputError(
            f"cannot find the data set {name} on the Hub: {hint or error}"
        ) from error
