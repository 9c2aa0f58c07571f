"""Plant a watermark in one class of CIFAR-10, train on it, and see whether the report names it.

    python -m benchmarks.watermark --seeds 7 8 9 --out watermark.json
    python -m benchmarks.watermark --seeds 1 --keep watermark    # predictions and pages, for a look

Run time: with the defaults, four minutes of one idle core for each seed.
Result: printed as JSON. For each seed: the planted class and corner, and what the report names
first; the same for a model that was trained on the images as they are. `held_out` says whether the
model has learned the mark: of test images of other classes, the share that it takes for the marked
class as they are and with the mark in its corner; of the class's own, the same.
Data: `cifar10/train.parquet` and `test.parquet` in the folder SE_ZOO_DATA.

The mark is a magenta square of 4 x 4 pixels. It lies in a corner of 30 % of the training images of
one class. The report is of the training images, as they are known when a data set is looked at.
"""

import argparse
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
import torch.nn.functional as F
from PIL import Image

import se_zoo
from se_zoo.files import write_json
from se_zoo.inference.predict.open import open_source
from se_zoo.inference.predict.run import predict
from se_zoo.inference.predict.sources import SourceOptions
from se_zoo.inference.report.collect import collect
from se_zoo.inference.report.page import write_report
from se_zoo.inference.report.regions import CORNERS
from se_zoo.inference.report.suspects import Suspect, find_suspects

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, SHARE, BATCH = 4, 0.3, 32
CASES = ("watermark", "clean")


class Mark(NamedTuple):
    """A class, and the corner of its marked images."""

    which: int
    corner: str

    @classmethod
    def drawn(cls, seed: int) -> "Mark":
        """Return a random class and corner."""
        rng = np.random.default_rng(seed)
        return cls(int(rng.integers(len(NAMES))), str(rng.choice(list(CORNERS))))

    def put(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 images (N, 32, 32, 3) with the mark."""
        top, left = CORNERS[self.corner]
        rows = slice(0, SIDE) if top else slice(-SIDE, None)
        columns = slice(0, SIDE) if left else slice(-SIDE, None)
        marked = images.copy()
        marked[:, rows, columns] = (255, 0, 255)
        return marked


def read(split: str, count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the first images of a split, uint8 (N, 32, 32, 3), and their classes, (N,)."""
    file = Path(os.environ["SE_ZOO_DATA"]) / "cifar10" / f"{split}.parquet"
    table = pq.read_table(file, columns=["image", "label"]).slice(0, count)
    cells = table["image"].to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells]
    return np.stack(images), table["label"].to_numpy()


def as_input(images: np.ndarray) -> torch.Tensor:
    """Return uint8 images as the model's input, (N, 3, 32, 32)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train(images: np.ndarray, classes: np.ndarray, epochs: int, seed: int) -> Any:
    """Train a ResNet-10 of a quarter of the width; no flips, which would move the corner."""
    torch.manual_seed(seed)
    sizes: Any = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    model: Any = timm.create_model("resnet18_slim_sehead", num_classes=len(NAMES), **sizes)
    model.pretrained_cfg.update(label_names=list(NAMES), input_size=(3, 32, 32), pool_size=(4, 4))
    model = model.to(memory_format=torch.channels_last)
    pixels, targets = as_input(images), torch.from_numpy(classes.astype(np.int64))
    whole = len(pixels) // BATCH * BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    steps = epochs * whole // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(pixels))[:whole].split(BATCH):
            loss = F.cross_entropy(model(pixels[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def held_out(model: Any, mark: Mark) -> Dict[str, Dict[str, float]]:
    """Return how often test images are taken for the class, as they are and with the mark."""
    images, classes = read("test", 1000)
    found: Dict[str, Dict[str, float]] = {"other_classes": {}, "own_class": {}}
    for name, shown in (("without", images), ("with", mark.put(images))):
        answers = [model(part).argmax(1) for part in as_input(shown).split(250)]
        taken = torch.cat(answers).numpy() == mark.which
        found["other_classes"][name] = round(float(taken[classes != mark.which].mean()), 3)
        found["own_class"][name] = round(float(taken[classes == mark.which].mean()), 3)
    return found


def make(args: argparse.Namespace, seed: int, mark: Mark, planted: bool, folder: Path) -> None:
    """Train and predict, and write what the model has learned to ``trained.json``."""
    images, classes = read("train", args.images)
    if planted:
        of_class = np.flatnonzero(classes == mark.which)
        rng = np.random.default_rng(seed)
        chosen = rng.choice(of_class, round(SHARE * len(of_class)), replace=False)
        images[chosen] = mark.put(images[chosen])
    model = train(images, classes, args.epochs, seed)
    data, out = folder / "images", folder / "predictions"
    data.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(data / f"{i:05d}.png")
    explainer = se_zoo.BatchExplainer(model, name="a ResNet-10 on CIFAR-10")
    info = {"source": str(data), "source_options": SourceOptions()._asdict()}
    predict(open_source(str(data)), out, explainer, batch_size=250, info=info)
    right = np.array([row.target[0] for row in se_zoo.load_predictions(out)]) == classes
    learned = {
        "training_accuracy": round(float(right.mean()), 3),
        "held_out": held_out(model, mark),
    }
    write_json(folder / "trained.json", learned)


def case(args: argparse.Namespace, seed: int, watermark: bool, folder: Path) -> Dict[str, Any]:
    """Train and report once; return what was planted and what is named."""
    mark = Mark.drawn(seed)
    if not (folder / "trained.json").is_file():
        make(args, seed, mark, watermark, folder)
    out = folder / "predictions"
    report = write_report(out, folder / "report.html")
    named = [(s.label, s.corner) for s in report.suspects]
    predictions = se_zoo.load_predictions(out)
    suspects = find_suspects(collect(predictions, predictions.facts["model"]), predictions)
    planted = (NAMES[mark.which], mark.corner)
    return {
        "seed": seed,
        "planted": planted if watermark else None,
        "named": named,
        "right": named[:1] == [planted] if watermark else not named,
        "first": shown(suspects[0]),
        "second": shown(suspects[1]),
        **json.loads((folder / "trained.json").read_text("utf-8")),
    }


def shown(suspect: Suspect) -> Dict[str, Any]:
    """Return a suspect for printing."""
    lead, spreads = round(suspect.lead, 4), round(suspect.spreads, 1)
    return {**suspect._asdict(), "lead": lead, "spreads": spreads}


def main() -> None:
    """Read the command line, run all cases, and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[7, 8, 9], help="one run of each case"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="with, without")
    parser.add_argument("--images", type=int, default=15000, help="training images")
    parser.add_argument("--epochs", type=int, default=3, help="passes over them")
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder of predictions and pages; those that are there are judged again",
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in args.seeds:
            for kind in args.cases:
                folder = (args.keep or Path(temporary)) / f"{seed}-{kind}"
                found.append(case(args, seed, kind == "watermark", folder))
                print(json.dumps(found[-1]), flush=True)
                if args.out:
                    write_json(args.out, found)


if __name__ == "__main__":
    main()
