"""How good the explanations are, beside other libraries' methods: measured, not claimed.

    pip install -e ".[train,compare]"
    SE_ZOO_DATA=/path/to/data python -m benchmarks.maps faces      # the bundled model
    SE_ZOO_DATA=/path/to/data python -m benchmarks.maps objects    # mosaics of four images
    python -m benchmarks.maps own --model local-dir:runs/own_data/export --csv boxes.csv
    python -m benchmarks.maps cost
    python -m benchmarks.maps faces --debug                        # four cases a set: minutes
    python -m benchmarks.maps faces --methods contribution gate grad-cam/GradCAM
    ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 \\
        -m benchmarks.maps faces                                   # the same figures

faces: CelebA test images with attributes of known place, CelebA images with part masks, and frontal
faces with part masks, of which is not known whether the model is right.
objects: an ImageNet MobileNetV2 under an untrained gate, and one whose paper's gate and classifier
are trained on CIFAR-10 first; each mosaic is explained for each of its four classes.
own: a csv with image, label, and x0 y0 x1 y1 where the answer lies (in pixels; the columns may be
left out).
cost: time and peak memory of all methods; see benchmarks/cost.py.

Nine of the peers work on the layer after the gate, two attribute to pixels; maps are resized alike,
and cut at 0 or, where their zero says nothing, stretched from minimum to maximum. Per set it
writes tables (Markdown and csv), a plot and a page of pictures to the run's folder. Means are over
cases, attributes weighing alike; intervals are bootstrapped over images; + and - mark methods that
are better or worse than our contribution map by more than the interval of the paired difference,
each by itself: of a hundred marks some are chance.
A stopped bench goes on when the same command is given again.
Run time: objects 13 minutes on two cores, training included; faces takes longer.
Result: benchmarks/results/README.md.
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
from benchmarks.map_cases import CaseSet, limited, on_device
from benchmarks.map_presets import Bench, Faces, Objects, Own, check, check_sets, debugged
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.quality.compare import random_copies, score, score_channels
from se_zoo.explanations.quality.peers import PEERS, check_libraries
from se_zoo.files import write_json
from se_zoo.provenance import provenance
from se_zoo.train.preflight import PATIENCE, check_launched
from se_zoo.train.recipe import one_line_errors
from se_zoo.train.run_folder import full_precision, plain


def spread(count: int, of: int) -> List[int]:
    """So many of the first numbers, evenly."""
    count = min(count, of)
    return [i * of // count for i in range(count)]


def made_of(given: Bench, found: CaseSet) -> Dict[str, Any]:
    """What decides the scores of a set: options, weights, images, code, versions and device."""
    digest = hashlib.sha256()
    for tensor in (*found.model.state_dict().values(), *found.cases.tensors().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    options = plain(asdict(given))
    free = ("output", "resamples", "debug")
    return {
        **{k: v for k, v in options.items() if k not in free}, "sha256": digest.hexdigest(),
        "code": code_digest(), "torch": torch.__version__, "timm": timm.__version__,
        "device": found.cases.images.device.type, "libraries": check_libraries(
            method for method in given.methods if method in PEERS
        ),
    }  # fmt: skip


def chunk_file(folder: Path, start: int) -> Path:
    return folder / "scores" / f"{start:05d}.json"


def run_set(given: Bench, found: CaseSet, accelerator: Accelerator) -> None:
    """Score a set in pieces, each of which one process takes; what is on disk is not done again.

    Raises:
        InvalidInputError: If the folder holds the scores of another bench.
    """
    folder = given.output / found.name
    note, options = folder / "made_of.json", made_of(given, found)
    begun = any((folder / "scores").glob("*.json"))
    if begun and json.loads(note.read_text("utf-8")) != options:
        raise InvalidInputError(
            f"{folder} holds scores of another model, other images, options, code, versions or "
            "device; give another --output, or delete it."
        )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        write_json(note, options)
    accelerator.wait_for_everyone()
    total = len(found.groups)
    pixels = spread(given.pixel_cases, total)
    slow = [pixels[n] for n in spread(given.slow_cases, len(pixels))]
    broken = random_copies(found.model)
    starts = range(0, total, given.chunk)[accelerator.process_index :: accelerator.num_processes]
    for start in tqdm(starts, found.name, disable=not accelerator.is_main_process):
        if chunk_file(folder, start).is_file():
            continue
        rows = range(start, min(start + given.chunk, total))
        cases = found.cases.some(rows)
        chosen = [[n - start for n in some if n in rows] for some in (pixels, slow)]
        scores = score(found.model, cases, given.methods, given.settings, *chosen, broken=broken)
        channels = score_channels(found.model, cases)
        write_json(chunk_file(folder, start), {"maps": scores, "channels": channels})
    accelerator.wait_for_everyone()


def gathered(given: Bench, found: CaseSet, kind: str) -> report.Scores:
    """The scores of all pieces of a set."""
    scores: report.Scores = {}
    for start in range(0, len(found.groups), given.chunk):
        content = json.loads(chunk_file(given.output / found.name, start).read_text("utf-8"))
        for method, tables in content[kind].items():
            for measure, values in tables.items():
                scores.setdefault(method, {}).setdefault(measure, {}).update(values)
    return scores


def write_report(given: Bench, sets: List[CaseSet]) -> None:
    """Tables, plots and pages of all sets."""
    rows, channels, text = [], [], []
    for found in sets:
        own = report.summarise(found, gathered(given, found, "maps"), given.resamples)
        dropped = report.channel_rows(found, gathered(given, found, "channels"), given.resamples)
        rows, channels = rows + own, channels + dropped
        text += [
            f"## {found.name}: {len(found.groups)} cases of {len(set(found.images))} images",
            report.quality_table(own, given.methods),
            report.dependence_table(own, given.methods),
            report.channel_table(dropped),
        ]
        # Not the same place of every mosaic.
        total = len(found.groups)
        print(f"drawing {found.name}.png", file=sys.stderr)
        shown = sorted({min(n + i, total - 1) for i, n in enumerate(spread(4, total))})
        report.draw_page(found, given.methods, shown, given.output / f"{found.name}.png")
    report.write_csv(given.output / "table.csv", rows)
    report.write_csv(given.output / "channels.csv", channels)
    report.draw_quality(rows, given.methods, given.output / "quality.png")
    (given.output / "table.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    content = {
        **provenance(), "preset": given.name, "options": plain(asdict(given)),
        "sets": {s.name: {"cases": len(s.groups), "images": len(set(s.images))} for s in sets},
        "rows": rows, "channels": channels,
    }  # fmt: skip
    write_json(given.output / "summary.json", content)
    print("\n\n".join(text) + f"\n\nwritten to {given.output}")


def main(given: Bench) -> None:
    check(given)
    given = debugged(given) if given.debug else given
    given = replace(given, output=given.output / given.name)
    accelerator = Accelerator(kwargs_handlers=[PATIENCE])
    check_launched(accelerator)
    sets = given.sets(accelerator)
    if given.debug:
        sets = [limited(found, 4) for found in sets]
    check_sets(given, sets)
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"--output {given.output} cannot be made: {error}") from error
    with full_precision():
        for found in sets:
            run_set(given, on_device(found, accelerator.device), accelerator)
    if accelerator.is_main_process:
        write_report(given, sets)
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
