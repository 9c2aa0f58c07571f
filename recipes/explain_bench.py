"""How good the explanations are, beside other libraries' methods: measured, not claimed.

    pip install -e ".[train,compare]"
    SE_ZOO_DATA=/path/to/data python recipes/explain_bench.py faces      # the bundled model
    SE_ZOO_DATA=/path/to/data python recipes/explain_bench.py objects    # mosaics of four images
    python recipes/explain_bench.py own --model local-dir:runs/own_data/export --csv boxes.csv
    python recipes/explain_bench.py cost
    python recipes/explain_bench.py faces --debug                        # less than a minute
    python recipes/explain_bench.py faces --methods contribution gate grad-cam/GradCAM
    ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 \\
        recipes/explain_bench.py faces                                   # the same figures

faces: CelebA test images with attributes of known place, and faces with part masks.
objects: an ImageNet MobileNetV2 under an untrained gate, and one whose paper's gate and classifier
are trained on CIFAR-10 first; each mosaic is explained for each of its four classes.
own: a csv with image, label, and x0 y0 x1 y1 where the answer lies (in pixels; may be left out).
cost: time and peak memory of all methods; see recipes/explain_cost.py.

Nine of the peers work on the layer after the gate, two attribute to pixels; maps are resized alike,
and cut at 0 or, where their zero says nothing, stretched from minimum to maximum. Per set it
writes tables (Markdown and csv), a plot and a page of pictures to the run's folder. Means are over
cases, attributes weighing alike; intervals are bootstrapped over images; + and - mark methods that
are better or worse than our contribution map by more than the interval of the paired difference,
each by itself: of a hundred marks some are chance.
A stopped bench goes on when the same command is given again.
Run time: 13 minutes each for faces and objects, on two cores (AMD EPYC), training included.
Result: recipes/results/README.md.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Dict, List, Tuple, Union

import explain_report as report
import timm
import torch
import tyro
from accelerate import Accelerator
from explain_cases import (
    CaseSet,
    celeba_cases,
    data_folder,
    face_part_cases,
    limited,
    mosaic_cases,
    on_device,
    own_cases,
    sample_mobilenet,
)
from explain_cost import Cost, code_digest, run_cost
from tqdm import tqdm

from se_zoo.errors import InvalidInputError
from se_zoo.explain import explain
from se_zoo.explain.compare import (
    CENTRE,
    METHODS,
    OURS,
    Settings,
    random_copies,
    score,
    score_channels,
)
from se_zoo.explain.peers import ANY_HEAD, BY_CHANNEL, PEERS, check_libraries
from se_zoo.models.load import load_model
from se_zoo.provenance import provenance
from se_zoo.train.output import full_precision, plain
from se_zoo.train.recipe import one_line_errors
from se_zoo.train.start import PATIENCE, check_launched
from se_zoo.train.state import write_json


@dataclass(frozen=True)
class Bench:
    """What is measured and where it goes."""

    output: Path = Path("runs/explain")
    methods: Tuple[str, ...] = METHODS
    """Of which maps."""
    pixel_cases: int = 72
    """Cases of each set that are scored by what the model needs of the map: insertion, deletion,
    ROAD; evenly spread. They take a hundred forward passes a map."""
    slow_cases: int = 24
    """Of these, so many are explained by the methods that take many passes for one map."""
    settings: Settings = field(default_factory=Settings)
    chunk: int = 8
    """Cases in one piece of work, after which the scores are on disk."""
    resamples: int = 2000
    """Of the bootstrap."""
    debug: bool = False
    """Does everything run? Four cases of each set, and few steps."""

    name: ClassVar[str] = ""

    def sets(self, accelerator: Accelerator) -> List[CaseSet]:
        """What is explained."""
        raise NotImplementedError


@dataclass(frozen=True)
class Faces(Bench):
    """Faces with boxes and part masks."""

    model: str = "se_zoo/resnet18_slim_celeba"
    images: int = 1000
    """Of CelebA's test images."""
    most: int = 20
    """Cases of each attribute."""

    name = "faces"

    def sets(self, accelerator: Accelerator) -> List[CaseSet]:
        count = 60 if self.debug else self.images
        return [celeba_cases(self.model, count, self.most), face_part_cases(self.model, 45)]


@dataclass(frozen=True)
class Objects(Bench):
    """Mosaics of four images of different classes."""

    methods: Tuple[str, ...] = tuple(m for m in METHODS if m not in BY_CHANNEL)
    """Of which maps; by default without those that take 1,280 forward passes for one."""
    pixel_cases: int = 24
    slow_cases: int = 8
    mosaics: int = 24
    cell: int = 96
    """Side of an image in the mosaic, in pixels."""
    train_images: int = 8000
    """Of CIFAR-10, for the gate and the classifier."""

    name = "objects"

    def sets(self, accelerator: Accelerator) -> List[CaseSet]:
        folder = data_folder()
        pool = 100 if self.debug else 1000
        imagenet, cifar = sample_mobilenet(), self.cifar_model(accelerator)
        return [
            mosaic_cases("imagenet", imagenet, folder / "imagenet_sample" / "train.parquet",
                         self.mosaics, self.cell, pool),
            mosaic_cases("cifar10", cifar, folder / "cifar10" / "test.parquet",
                         self.mosaics, self.cell, pool),
        ]  # fmt: skip

    def cifar_model(self, accelerator: Accelerator) -> Any:
        """The paper's gate and the classifier, trained by `recipes/squeeze_only.py`, on one process
        whatever the number here, so that it is the same model."""
        side = str(self.cell)
        given = ["--data.path", str(data_folder() / "cifar10"), "--data.label", "label",
                 "--data.splits", "train", "test", "test", "--data.attributes",
                 "--data.limit", "200" if self.debug else str(self.train_images),
                 "--data.limit-eval", "100" if self.debug else "1000",
                 "--model.input-size", side, side, "--run.best", "accuracy",
                 "--optim.epochs", "2" if self.debug else "15"]  # fmt: skip
        # Another folder for whatever makes another model.
        made_by = hashlib.sha256("\0".join([*given, code_digest()]).encode()).hexdigest()
        run = self.output / f"cifar10-model-{made_by[:12]}"
        if accelerator.is_main_process and not (run / "summary.json").is_file():
            recipe = Path(__file__).with_name("squeeze_only.py")
            launched = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "GROUP_", "ROLE_", "ACCELERATE_",
                        "TORCHELASTIC", "FSDP_")  # fmt: skip
            alone = {k: v for k, v in os.environ.items()
                     if not k.startswith(launched) or k == "ACCELERATE_USE_CPU"}  # fmt: skip
            done = subprocess.run(
                [sys.executable, str(recipe), *given, "--run.output", str(run)], env=alone
            )
            if done.returncode:
                raise InvalidInputError("the gate for CIFAR-10 could not be trained; see above.")
        accelerator.wait_for_everyone()
        model = load_model(f"local-dir:{run / 'export'}")
        return model.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Own(Bench):
    """Your model and your images."""

    model: str = tyro.MISSING
    """Any name that se-zoo explain takes."""
    csv: Path = tyro.MISSING
    """Table of the images."""

    name = "own"

    def sets(self, accelerator: Accelerator) -> List[CaseSet]:
        return [own_cases(self.model, self.csv)]


def debugged(given: Bench) -> Bench:
    """The same in seconds, in a folder of its own."""
    fast = tuple(m for m in given.methods if m not in BY_CHANNEL)
    if not fast:
        raise InvalidInputError(f"--debug leaves out {', '.join(BY_CHANNEL)}; name another method.")
    if left_out := [m for m in given.methods if m in BY_CHANNEL]:
        print(f"debug: without {', '.join(left_out)}", file=sys.stderr)
    return replace(
        given, output=given.output.with_name(f"{given.output.name}-debug"), methods=fast,
        pixel_cases=2, slow_cases=1, chunk=4, resamples=50,
        settings=replace(given.settings, steps=4, shares=(0.5,)),
    )  # fmt: skip


def check(given: Bench) -> None:
    unknown = [method for method in given.methods if method not in METHODS]
    if unknown or len(set(given.methods)) < len(given.methods) or not given.methods:
        raise InvalidInputError(
            f"--methods: {', '.join(unknown) or 'none, or one twice'}; there are "
            f"{', '.join(METHODS)}."
        )
    if given.chunk < 1 or given.slow_cases > given.pixel_cases:
        raise InvalidInputError(
            "--chunk must be at least 1, and --slow-cases no more than --pixel-cases."
        )
    settings = given.settings
    if min(given.resamples, settings.steps, settings.shift) < 1 or given.slow_cases < 0:
        raise InvalidInputError(
            "--resamples, --steps and --shift must be at least 1, --slow-cases not below 0."
        )
    if not settings.blur > 0:
        raise InvalidInputError(f"--blur is {settings.blur}; it must be above 0.")
    if not settings.shares or not all(0 < share < 1 for share in settings.shares):
        raise InvalidInputError(f"--shares lie between 0 and 1: {settings.shares}.")
    check_libraries(method for method in given.methods if method in PEERS)


def spread(count: int, of: int) -> List[int]:
    """So many of the first numbers, evenly."""
    count = min(count, of)
    return [i * of // count for i in range(count)]


def made_of(given: Bench, found: CaseSet) -> Dict[str, Any]:
    """What decides the scores of a set: options, weights, images, code, versions and device."""
    digest = hashlib.sha256()
    for tensor in (*found.model.state_dict().values(), *found.cases[:4]):
        if tensor is not None:
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


def check_sets(given: Bench, sets: List[CaseSet]) -> None:
    """Refuse before anything is scored what would fail in the middle."""
    if any(s.cases.boxes is not None for s in sets) and not importlib.util.find_spec("scipy"):
        raise InvalidInputError("boxes need SciPy: pip install 'se_zoo[compare]'.")
    for found in sets:
        without = [m for m in given.methods if m in PEERS and m not in ANY_HEAD]
        first = found.cases.some([0])
        if without and explain(found.model, first.images, first.targets).weights == "projection":
            raise InvalidInputError(
                f"{found.name}: the model's head reads class tokens alone, where "
                f"{', '.join(without)} have no map. Give the others by --methods, such as "
                f"{' '.join((*OURS, CENTRE, *ANY_HEAD))}."
            )


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
