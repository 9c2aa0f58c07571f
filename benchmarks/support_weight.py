r"""Measure how much evidence against a class should count in a support map.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.support_weight \
        --out benchmarks/results/support.json
    SE_ZOO_DATA=/path/to/data python -m benchmarks.support_weight --shares 0.5 --pixel-cases 20

Run time: 15 minutes on two cores.
Result: benchmarks/results/support.json, shown in benchmarks/results/README.md.

The cases are CelebA's validation images, explained by the bundled model. A share of 1 is the
contribution map; marks compare with Grad-CAM++. The share that the package uses,
`se_zoo.explanations.maps.AGAINST`, was chosen by this measurement.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional, Tuple

import torch
import tyro

from benchmarks import map_report as report
from benchmarks.face_cases import celeba_cases
from benchmarks.maps import evenly_spaced
from se_zoo.explanations import maps
from se_zoo.explanations.quality.compare import Settings, score
from se_zoo.files import write_json
from se_zoo.provenance import provenance
from se_zoo.train.options import plain

RIVAL = "grad-cam/GradCAM++"
SHOWN = ("pointing", "pixel_ap", "energy", "insertion", "deletion", "road")


@dataclass(frozen=True)
class Measure:
    """Options of the measurement."""

    shares: Tuple[float, ...] = (0.75, 0.5, 0.25, 0.0)
    """Shares by which evidence against the class may count."""
    model: str = "se_zoo/resnet18_slim_celeba"
    """A model that was trained on CelebA."""
    most: int = 12
    """Most cases of each attribute."""
    pixel_cases: int = 100
    """Number of these cases that are also scored by insertion, deletion and ROAD."""
    out: Optional[Path] = None
    """Write the figures to this JSON file."""


@torch.no_grad()
def main(given: Measure) -> None:
    """Score support maps of every share, Grad-CAM++ and the contribution map; print the table."""
    found = celeba_cases(given.model, 1000, given.most, "valid")
    total = len(found.groups)
    pixels = evenly_spaced(given.pixel_cases, total)
    sides = [(RIVAL, RIVAL, 1.0), (report.REFERENCE, report.REFERENCE, 1.0)]
    sides += [(f"support, {share:g}", "support", share) for share in given.shares]
    scores: report.Scores = {}
    for start in range(0, total, 8):
        rows = range(start, min(start + 8, total))
        cases, few = found.cases.some(rows), [n - start for n in pixels if n in rows]
        for name, method, share in sides:
            maps.AGAINST = share
            # No random copies of the model: randomisation tests are not part of this measurement.
            tables = score(found.model, cases, [method], Settings(), few, [], {})[method]
            for measure, values in tables.items():
                scores.setdefault(name, {}).setdefault(measure, {}).update(values)
    summary = report.summarise(found, scores, 2000, reference=RIVAL)
    summary = [row for row in summary if row["measure"] in SHOWN]
    content = {
        **provenance(), "options": plain(asdict(given)), "rows": summary,
        "sets": {found.name: {"cases": total, "images": len(set(found.images))}},
    }  # fmt: skip
    if given.out is not None:
        write_json(given.out, content)
    print(report.quality_table(summary, list(scores)))


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
