"""Show what a model looks at over a data set: ``se-zoo report``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional

import tyro

from ..errors import InvalidInputError
from ..text import counted, printable


@dataclass(frozen=True)
class Report:
    """Show what a model looks at over a whole data set, as one HTML page.

    For every label: the mean map, the share of evidence in corners, border and centre, clusters of
    maps, and the photos that are explained most unlike the others. A label that is explained by
    one corner, as by a watermark, is named first.
    """

    folder: tyro.conf.Positional[Path]
    """A folder of se-zoo predict."""
    out: Optional[Path] = None
    """The page; by default report.html in the folder. An existing one is replaced."""
    labels: int = 12
    """Labels with pictures: the suspicious ones, then the most frequent."""
    boxes: Optional[Path] = None
    """A csv with the columns id, region, x0, y0, x1, y1 in pixels: regions of each photo."""
    masks: Optional[Path] = None
    """A folder of PNGs of class indices, named like the photos: regions of each photo."""
    photos: bool = True
    """Show photos and compare their corners; they are read from where the data set was."""


def _alike(suspect: Any) -> str:
    """Return how many of the photos show the same thing in a suspicious corner."""
    if suspect.alike is None:
        return ""
    return f"; {suspect.alike[0]:.0%} of its strongest photos show the same thing there"


def _outcome(found: Any) -> str:
    """Return what the last line says where no corner is suspicious."""
    if found.suspects:
        return ""
    if not found.judged:
        return (
            "; nothing could be judged, because leads are compared among labels and there is one: "
            "leave out --no-photos, so that the photos are compared"
        )
    return "; no label is explained by one corner"


def run_report(args: Report) -> None:
    """Run ``se-zoo report``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If there are no predictions, boxes or masks do not fit the photos, or
            the page cannot be written.
    """
    from ..inference.predict.manifest import read_manifest
    from ..inference.report.regions import Boxes, Masks

    if args.labels < 0:
        raise InvalidInputError(f"--labels must be 0 or more, not {args.labels}.")
    read_manifest(args.folder)
    regions: List[Any] = []
    if args.boxes is not None:
        regions.append(Boxes(args.boxes))
    if args.masks is not None:
        regions.append(Masks(args.masks))
    out = args.out or args.folder / "report.html"
    if not out.parent.is_dir():
        raise InvalidInputError(f"--out {out} must be in an existing folder.")
    if out.is_dir():
        raise InvalidInputError(f"--out {out} is a folder; name a file: {out / 'report.html'}")
    from ..inference.report.page import write_report  # it imports torch

    found = write_report(args.folder, out, args.labels, regions, args.photos)
    for suspect in found.suspects:
        spreads = f", {suspect.spreads:.0f} times the spread" if found.labels > 1 else ""
        print(
            f"suspicious: {printable(suspect.label)}, {suspect.corner} corner "
            f"({suspect.lead:.1%} of the evidence more than usual{spreads}{_alike(suspect)})"
        )
    size = f"{counted(found.photos, 'photo')}, {counted(found.labels, 'label')}"
    print(f"{out}: {size}{_outcome(found)}")
