"""Plant a watermark in one class of CIFAR-10, train on it, and see whether the report names it.

    python -m benchmarks.watermark --seeds 0 1 2
    python -m benchmarks.watermark --images 20000 --epochs 4 --out watermark.json

Run time: with the defaults, about ten minutes of one core for each seed.
Result: printed as JSON. For each seed: the planted class and corner, and what the report names
first; the same for a model that was trained on the images as they are. `recall` says whether the
model uses the watermark at all: how much of the class it finds with and without it.
Data: `cifar10/train.parquet` in the folder SE_ZOO_DATA.

A fixed pattern of 4 x 4 magenta and green pixels lies in a corner of 30 % of the training images of
one class. The report is of the training images, as they are known when a data set is looked at.
"""

import argparse
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
import torch.nn.functional as F
from PIL import Image

import se_zoo
from se_zoo.inference.predict import open_source, predict
from se_zoo.inference.predict.sources import SourceOptions
from se_zoo.inference.report.collect import collect
from se_zoo.inference.report.regions import CORNERS
from se_zoo.inference.report.suspects import find_suspects

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, SHARE, BATCH = 4, 0.3, 32


def read(count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the first images, uint8 (N, 32, 32, 3), and their classes, (N,)."""
    file = Path(os.environ["SE_ZOO_DATA"]) / "cifar10" / "train.parquet"
    table = pq.read_table(file, columns=["image", "label"]).slice(0, count)
    cells = table["image"].to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells]
    return np.stack(images), table["label"].to_numpy()


def plant(
    images: np.ndarray, classes: np.ndarray, which: int, corner: str, seed: int
) -> np.ndarray:
    """Put the pattern into a corner of a share of a class's images; return their numbers."""
    rng = np.random.default_rng(seed)
    colours = np.array([[255, 0, 255], [0, 255, 0]], np.uint8)
    pattern = colours[rng.integers(0, 2, (SIDE, SIDE))]
    of_class = np.flatnonzero(classes == which)
    chosen = rng.choice(of_class, round(SHARE * len(of_class)), replace=False)
    top, left = CORNERS[corner]
    rows = slice(0, SIDE) if top else slice(-SIDE, None)
    columns = slice(0, SIDE) if left else slice(-SIDE, None)
    images[chosen, rows, columns] = pattern
    return chosen


def train(images: np.ndarray, classes: np.ndarray, epochs: int, seed: int) -> Any:
    """Train a small model; no flips, which would move the corner."""
    torch.manual_seed(seed)
    model: Any = timm.create_model("resnet18_slim_sehead", num_classes=len(NAMES))
    model.pretrained_cfg.update(
        label_names=list(NAMES), input_size=(3, 32, 32), crop_pct=1.0, mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )  # fmt: skip
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    targets = torch.from_numpy(classes.astype(np.int64))
    whole = len(pixels) // BATCH * BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
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


def case(args: argparse.Namespace, seed: int, watermark: bool, folder: Path) -> Dict[str, Any]:
    """Train and report once; return what was planted and what is named."""
    images, classes = read(args.images)
    rng = np.random.default_rng(seed)
    which, corner = int(rng.integers(len(NAMES))), str(rng.choice(list(CORNERS)))
    none = np.array([], np.int64)
    chosen = plant(images, classes, which, corner, seed) if watermark else none
    model = train(images, classes, args.epochs, seed)
    data = folder / "images"
    data.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(data / f"{i:05d}.png")
    explainer = se_zoo.BatchExplainer(model)
    info = {"source": str(data), "source_options": SourceOptions()._asdict()}
    predict(open_source(str(data)), folder / "out", explainer, batch_size=128, info=info)
    predictions = se_zoo.load_predictions(folder / "out")
    rows = list(predictions)
    right = np.array([row.target[0] for row in rows]) == classes
    without = np.setdiff1d(np.flatnonzero(classes == which), chosen)
    recall = {"without": round(float(right[without].mean()), 3)}
    if watermark:
        recall["with"] = round(float(right[chosen].mean()), 3)
    suspects = find_suspects(collect(rows, predictions.facts["model"]))
    named = [s for s in suspects if s.suspicious]
    first = suspects[0]
    planted: Optional[List[str]] = [NAMES[which], corner] if watermark else None
    return {
        "seed": seed,
        "planted": planted,
        "named": [[s.label, s.corner] for s in named],
        "first": {**first._asdict(), "lead": round(first.lead, 4)},
        "second": suspects[1]._asdict(),
        "right": bool(named and [named[0].label, named[0].corner] == planted)
        if watermark
        else not named,
        "recall": recall,
        "training_accuracy": round(float(right.mean()), 3),
    }


def main() -> None:
    """Read the command line, run all cases, and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run each")
    parser.add_argument("--images", type=int, default=10000, help="training images")
    parser.add_argument("--epochs", type=int, default=8, help="passes over them")
    parser.add_argument("--keep", type=Path, help="folder to keep the predictions in, for a look")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in args.seeds:
            for watermark in (True, False):
                name = f"{seed}-{'watermark' if watermark else 'clean'}"
                found.append(case(args, seed, watermark, (args.keep or Path(temporary)) / name))
                print(json.dumps(found[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
