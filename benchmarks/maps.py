r"""Measure how good the explanations are, beside the methods of other libraries.

    pip install -e ".[train,compare]"
    SE_ZOO_DATA=/path/to/data python -m benchmarks.maps faces      # the bundled model
    SE_ZOO_DATA=/path/to/data python -m benchmarks.maps objects    # mosaics of photos
    python -m benchmarks.maps own --model local-dir:runs/own_data/export --csv boxes.csv
    python -m benchmarks.maps cost
    python -m benchmarks.maps faces --debug                        # four cases a set: minutes
    python -m benchmarks.maps faces --methods contribution gate grad-cam/GradCAM
    ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 \
        -m benchmarks.maps faces                                   # the same figures

Run time: faces 100 minutes on one core, objects about half an hour on one, cost an hour. The
same command continues a stopped run.
Results: benchmarks/results/README.md.

faces: CelebA test images with attributes whose place is known, CelebA images with part masks, and
frontal faces with part masks. Of the last, no labels say whether the model is right.
objects: photos of ImageNet-1k that se_zoo/tf_efficientnet_lite0_in1k classifies correctly. Mosaics
of nine photos, each explained for three of its classes; mosaics of four photos whose classes are
like each other by the classifier's weights, explained for all four; one photo on a blurred other.
own: a csv with the columns image, label, and x0 y0 x1 y1 of the box in which the answer lies, in
pixels; the four columns may be left out.
cost: time and peak memory of all methods; see benchmarks/cost.py.

Peers work on the layer after the gate; two attribute to pixels. All maps are resized alike.
They are cut at 0; maps whose zero has no meaning are stretched from minimum to maximum.
Each run writes, for every set, tables (Markdown and csv), a plot and a page of pictures. Means are
over cases, and every attribute has the same weight. Intervals are bootstrapped over images. + and -
mark methods that are better or worse than our contribution map by more than the 95 % interval of
the paired difference. Marks are not corrected for their number: of a hundred, some are chance.
"""

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Dict, List, Union

import timm
import torch
import tyro
from accelerate import Accelerator
from tqdm import tqdm

from benchmarks import map_report as report
from benchmarks.cost import Cost, code_digest, run_cost
from benchmarks.map_cases import (
    CaseSet,
    limited,
    on_device,
    remembered_features,
    with_averages,
)
from benchmarks.map_margins import margin_rows, margin_table
from benchmarks.map_presets import Bench, Faces, Objects, Own, check, check_sets, debugged, offered
from benchmarks.weights import weights_of
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.quality.cases import AVERAGE
from se_zoo.explanations.quality.compare import random_copies, score, score_channels
from se_zoo.explanations.quality.peers import PEERS, check_libraries
from se_zoo.files import write_json
from se_zoo.provenance import provenance
from se_zoo.train.evaluate import full_precision
from se_zoo.train.options import plain
from se_zoo.train.preflight import PATIENCE, check_launched
from se_zoo.train.recipe import one_line_errors


def evenly_spaced(count: int, total: int) -> List[int]:
    """Return up to `count` of the indices below `total`, evenly spaced."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


def _identity(given: Bench, found: CaseSet) -> Dict[str, Any]:
    """Return what determines the scores of a set.

    These are options, weights, images, code, versions and device. Scores on disk are reused only if
    all of them are the same.
    """
    digest = hashlib.sha256()
    cases = found.cases._replace(average=None)  # it follows from the rest
    for tensor in (*found.model.state_dict().values(), *cases.tensors().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    options = plain(asdict(given))
    irrelevant = ("output", "resamples", "debug")
    return {
        **{k: v for k, v in options.items() if k not in irrelevant}, "sha256": digest.hexdigest(),
        "code": code_digest(), "torch": torch.__version__, "timm": timm.__version__,
        "device": found.cases.images.device.type, "libraries": check_libraries(
            method for method in given.methods if method in PEERS
        ),
    }  # fmt: skip


def _chunk_file(folder: Path, start: int) -> Path:
    """Return the file of the scores of the chunk that begins at case `start`."""
    return folder / "scores" / f"{start:05d}.json"


def _score_set(given: Bench, found: CaseSet, accelerator: Accelerator) -> None:
    """Score a set in chunks, shared among the processes; chunks on disk are not scored again.

    Raises:
        InvalidInputError: If the folder holds scores of other options, weights or images.
    """
    folder = given.output / found.name
    note, identity = folder / "made_of.json", _identity(given, found)
    started = any((folder / "scores").glob("*.json"))
    if started and json.loads(note.read_text("utf-8")) != identity:
        raise InvalidInputError(
            f"{folder} holds scores of another model, or of other images, options, code, versions "
            "or device; give another --output, or delete the folder."
        )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        write_json(note, identity)
    accelerator.wait_for_everyone()
    total = len(found.groups)
    pixels = evenly_spaced(given.pixel_cases, total)
    slow = [pixels[n] for n in evenly_spaced(given.slow_cases, len(pixels))]
    random_models = random_copies(found.model)
    starts = range(0, total, given.chunk)[accelerator.process_index :: accelerator.num_processes]
    for start in tqdm(starts, found.name, disable=not accelerator.is_main_process):
        if _chunk_file(folder, start).is_file():
            continue
        rows = range(start, min(start + given.chunk, total))
        cases = found.cases.some(rows)
        chosen = [[n - start for n in some if n in rows] for some in (pixels, slow)]
        # Not around the random copies: a copy would remember the features of this model.
        with remembered_features(found.model):
            scores = score(
                found.model, cases, given.methods, given.settings, *chosen,
                random_models=random_models,
            )  # fmt: skip
            channels = score_channels(found.model, cases)
        write_json(_chunk_file(folder, start), {"maps": scores, "channels": channels})
    accelerator.wait_for_everyone()


def _read_scores(given: Bench, found: CaseSet, kind: str) -> report.Scores:
    """Read the scores of all chunks of a set.

    Args:
        given: The options.
        found: The set.
        kind: `"maps"` or `"channels"`.
    """
    scores: report.Scores = {}
    for start in range(0, len(found.groups), given.chunk):
        content = json.loads(_chunk_file(given.output / found.name, start).read_text("utf-8"))
        for method, tables in content[kind].items():
            for measure, values in tables.items():
                scores.setdefault(method, {}).setdefault(measure, {}).update(values)
    return scores


def _write_report(given: Bench, sets: List[CaseSet]) -> None:
    """Write the tables, plots and pages of pictures of all sets."""
    rows, channels, margins, text = [], [], [], []
    for found in sets:
        scores = _read_scores(given, found, "maps")
        own = report.summarise(found, scores, given.resamples)
        over = margin_rows(found, scores, given.resamples)
        dropped = report.channel_rows(
            found, _read_scores(given, found, "channels"), given.resamples
        )
        rows, channels, margins = rows + own, channels + dropped, margins + over
        text += [
            f"## {found.name}: {len(found.groups)} cases of {len(set(found.images))} images",
            report.quality_table(own, given.methods),
            *([margin_table(over)] if over else []),
            report.dependence_table(own, given.methods),
            report.channel_table(dropped),
        ]
        # Cases come several a mosaic: the shift takes another cell of each.
        total = len(found.groups)
        print(f"drawing {found.name}.png", file=sys.stderr)
        shown = sorted({min(n + i, total - 1) for i, n in enumerate(evenly_spaced(4, total))})
        report.draw_page(found, given.methods, shown, given.output / f"{found.name}.png")
    report.write_csv(given.output / "table.csv", rows)
    report.write_csv(given.output / "channels.csv", channels)
    report.draw_quality(rows, given.methods, given.output / "quality.png")
    (given.output / "table.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    content = {
        **provenance(), **weights_of(given.model), "preset": given.name,
        "options": plain(asdict(given)),
        "sets": {s.name: {"cases": len(s.groups), "images": len(set(s.images))} for s in sets},
        "rows": rows, "channels": channels, "margins": margins,
    }  # fmt: skip
    write_json(given.output / "summary.json", content)
    print("\n\n".join(text) + f"\n\nwritten to {given.output}")


def main(given: Bench) -> None:
    """Score all sets of a preset and write the report.

    Raises:
        SEZooError: If options, data or output folder cannot be used.
    """
    check(given)
    given = debugged(given) if given.debug else given
    given = replace(given, output=given.output / given.name)
    accelerator = Accelerator(kwargs_handlers=[PATIENCE])
    check_launched(accelerator)
    sets = given.sets()
    if given.debug:
        sets = [limited(found, 4) for found in sets]
    given = offered(given, sets)
    check_sets(given, sets)
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"the folder --output {given.output} cannot be created: {error}"
        ) from error
    with full_precision():
        sets = [on_device(found, accelerator.device) for found in sets]
        if AVERAGE in given.methods:
            sets = [with_averages(found) for found in sets]
        for found in sets:
            _score_set(given, found, accelerator)
    if accelerator.is_main_process:
        _write_report(given, sets)
    accelerator.end_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    options = tyro.cli(
        Union[  # type: ignore[arg-type]
            Annotated[Faces, tyro.conf.subcommand("faces")],
            Annotated[Objects, tyro.conf.subcommand("objects")],
            Annotated[Own, tyro.conf.subcommand("own")],
            Annotated[Cost, tyro.conf.subcommand("cost")],
        ],
        description=__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    with one_line_errors():
        run_cost(options) if isinstance(options, Cost) else main(options)
