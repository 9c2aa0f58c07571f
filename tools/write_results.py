"""Write what docs/ shows of the measurements in benchmarks/results/; a test compares.

python -m tools.write_results                              # tables and pictures from those files
python -m tools.write_results --take runs/explain/faces    # after copying a bench's figures there
python -m tools.write_results --portrait                   # draw the portrait of all methods, too

benchmarks/results/{faces,objects}.json are summary.json of `benchmarks/maps.py`, cost.json is that
of its preset cost, support.json is written by `benchmarks/support_weight.py`. The accuracy with and
without the block is hub_cards/resnet18_slim_celeba/parity.json, of `recipes/parity.py`.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
import tyro
from PIL import Image

from benchmarks import cost_report, map_cases
from benchmarks import map_report as report
from se_zoo.explanations.quality.compare import METHODS, Cases
from se_zoo.explanations.quality.peers import BY_CHANNEL
from se_zoo.inference.images import demo_photo, load_photo
from se_zoo.models.pretrained.load import load_model
from se_zoo.train.repeat import shown

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OVERVIEW = RESULTS / "README.md"
#: Documents with marked blocks, and the blocks that each holds.
DOCUMENTS = {"evidence.md": ("quality", "cost"), "train.md": ("parity",)}
PRESETS = ("faces", "objects")
PARITY = ROOT / "hub_cards" / "resnet18_slim_celeba" / "parity.json"
#: The box of the portrait, as in the card of the bundled model.
PORTRAIT = (100, 0, 429, 403)
#: What the documents show of all that was measured.
SHOWN = ("pointing", "pixel_ap", "energy", "insertion", "deletion", "road")
#: What the sets are, for headings.
TITLES = {
    "celeba": "Faces: CelebA test images, attributes whose place is known",
    "celeba_parts": "CelebA images with part masks (CelebAMask-HQ)",
    "face_parts": "Faces with part masks (FASSEG)",
    "imagenet": "Mosaics of four ImageNet photographs, MobileNetV2 squeezed, its gate untrained",
    "cifar10": "Mosaics of four CIFAR-10 images, MobileNetV2 with a trained gate and classifier",
}


@dataclass(frozen=True)
class Write:
    """What to write."""

    take: Tuple[Path, ...] = ()
    """Folders of benches whose figures are copied here first."""
    portrait: bool = False
    """Explain the portrait by all methods again; needs the extra compare, and a minute."""


def load(name: str) -> Dict[str, Any]:
    content: Dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return content


def take(folder: Path) -> None:
    """Copy the figures of a bench; what is not one of those shown ends the program."""
    found = [folder / name for name in ("summary.json", "cost.json") if (folder / name).is_file()]
    if not found:
        sys.exit(f"{folder} has neither summary.json nor cost.json: no finished bench.")
    content = json.loads(found[0].read_text("utf-8"))
    preset = content.get("preset", "cost")
    if preset not in (*PRESETS, "cost"):
        sys.exit(f"{folder} is of the preset {preset}, which is not shown.")
    if content["options"]["debug"] or len(content["commit"] or "") != 40:
        sys.exit(f"{folder} is a --debug run, or of code that is not committed.")
    shutil.copyfile(found[0], RESULTS / f"{preset}.json")


def origin(content: Dict[str, Any]) -> str:
    """How figures were made."""
    machine = content["environment"]
    return (
        f"`{content['command']}` at commit `{content['commit'][:12]}`; {machine['cpu']}, "
        f"{machine['threads']} threads, Python {machine['python']}, torch {machine['torch']}, timm "
        f"{machine['timm']}."
    )


def methods_of(content: Dict[str, Any]) -> List[str]:
    return list(dict.fromkeys(row["method"] for row in content["rows"]))


def rows_of(content: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    return [row for row in content["rows"] if row["set"] == name]


def quality_block(name: str) -> str:
    """One set's table for the documents."""
    content = load(next(p for p in PRESETS if name in load(p)["sets"]))
    rows = [row for row in rows_of(content, name) if row["measure"] in SHOWN]
    count = content["sets"][name]
    return (
        f"{TITLES[name]} ({count['cases']} cases of {count['images']} images):\n\n"
        f"{report.quality_table(rows, methods_of(content))}"
    )


def cost_block() -> str:
    """The table of time and memory, and what it says of the models with images."""
    rows = load("cost")["rows"]
    return f"{cost_report.cost_table(rows)}\n\n{cost_summary(rows)}"


def cost_summary(rows: List[Dict[str, Any]]) -> str:
    """The ratios that are claimed, from the figures."""

    def of(side: str, key: str, over: str, batch: Optional[int] = None) -> str:
        sides = [row["sides"] for row in rows if batch in (None, row["batch"])]
        found = [s[side][key] / s[over][key] for s in sides if key in s.get(side, {})]
        low, high = (f"{value:.{2 if value < 3 else 1 if value < 20 else 0}f}"
                     for value in (min(found), max(found)))  # fmt: skip
        return low if low == high else f"{low} to {high}"

    memory = of("contribution", "mb", "plain")
    text = (
        "Predict + contribution map over the plain forward: "
        f"{of('contribution', 'ratio', 'plain', 8)} times the time at batch 8 and "
        f"{of('contribution', 'ratio', 'plain', 1)} at batch 1, {memory} times the memory. "
        "Over predict + contribution map: "
    )
    peers = []
    for peer in ("grad-cam/GradCAM", "grad-cam/ScoreCAM", "captum/LayerGradCam",
                 "torch-cam/GradCAM"):  # fmt: skip
        peers.append(f"{peer} {of(peer, 'ratio', 'contribution')} times the time")
        if peer not in BY_CHANNEL:
            peers[-1] += f" and {of(peer, 'mb', 'contribution')} times the memory"
    return f"{text}{', '.join(peers)}."


def parity_block() -> str:
    """Accuracy with and without the block."""
    figures = json.loads(PARITY.read_text("utf-8"))["figures"]
    lines = ["| % | with the SE block | without | difference, seed by seed |", "|---|---|---|---|"]
    for name, row in figures.items():
        cells = [shown(row[side], row[f"{side}_deviation"], "+" if side == "difference" else "")
                 for side in ("with", "without", "difference")]  # fmt: skip
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def blocks() -> Dict[str, str]:
    """What stands between the marks of the documents, by their names."""
    return {
        "quality": "\n\n".join(quality_block(name) for name in ("imagenet", "celeba")),
        "cost": cost_block(),
        "parity": parity_block(),
    }


def document_texts() -> Dict[Path, str]:
    """Return the documents as they have to be, by their files."""
    made, found = blocks(), {}
    for file, names in DOCUMENTS.items():
        text = (ROOT / "docs" / file).read_text("utf-8")
        for name in names:
            start = f"<!-- {name}: python -m tools.write_results -->\n"
            end = f"<!-- end of {name} -->"
            before, rest = text.split(start)
            text = f"{before}{start}{made[name]}\n{end}{rest.split(end)[1]}"
        found[ROOT / "docs" / file] = text
    return found


def overview_text() -> str:
    """All tables, for benchmarks/results/README.md."""
    parts = [
        "# Measured explanations",
        "Written by `python -m tools.write_results` from the files beside it. Means over cases, "
        "attributes weighing alike; + and - mark methods that are better or worse than our "
        "contribution map by more than the 95 % interval of the paired difference, bootstrapped "
        "over images, and by what three decimals can show; each mark is by itself, so that of a "
        "hundred some are chance. (n): the method was measured on n cases only, and the mark is of "
        "those. The intervals are in the files.",
        "Pointing allows no pixel of error (published figures: 15 pixels). MaxBoxAccV2 takes 99 "
        "thresholds of the heatmaps as they are shown (published: about a thousand). Maps are "
        "resized alike; those of methods that know evidence against a class are cut at 0, the "
        "others stretched from minimum to maximum. IntegratedGradients and Occlusion attribute to "
        "pixels, the other peers to the layer after the gate. EigenCAM, whose sign is arbitrary, "
        "is turned so that its strongest value is positive.",
    ]
    for preset in PRESETS:
        content = load(preset)
        for name, count in content["sets"].items():
            rows, methods = rows_of(content, name), methods_of(content)
            dropped = [row for row in content["channels"] if row["set"] == name]
            parts += [
                f"## {TITLES[name]}",
                f"{count['cases']} cases of {count['images']} images; insertion, deletion, ROAD, "
                f"drop, increase and gain on {content['options']['pixel_cases']} of them.",
                report.quality_table(rows, methods),
                "Rank correlation of each map with our contribution map, with itself when the "
                "image is moved by a few pixels, and with the maps of copies of the model whose "
                "classifier, or all of which, is random (maps that are the same everywhere have "
                "none, and are left out):",
                report.dependence_table(rows, methods),
                "What the logit loses without some channels, and without as many random ones:",
                report.channel_table(dropped),
            ]
        parts.append(origin(content))
    content = load("support")
    ((name, count),) = content["sets"].items()
    parts += [
        "## How much evidence against a class counts in a support map",
        f"CelebA's validation images, {count['cases']} cases of {count['images']} images, "
        f"insertion, deletion and ROAD on {content['options']['pixel_cases']} of them; + and - "
        'mark what is better or worse than Grad-CAM++. `method="support"` takes 1/2.',
        report.quality_table(rows_of(content, name), methods_of(content)),
        origin(content),
    ]
    content = load("cost")
    what = "Time over the plain forward, and growth of the peak memory; model, batch."
    parts += ["## Cost", what, cost_block(), origin(content)]
    return "\n\n".join(parts) + "\n"


def draw_parity(file: Path) -> None:
    """Every seed's figures with and without the block."""
    from matplotlib.figure import Figure

    content = json.loads(PARITY.read_text("utf-8"))
    names = list(content["figures"])
    figure = Figure((2.6 * len(names), 2.2))
    for axis, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for seed, pair in enumerate(zip(*content["runs"].values(), strict=True)):
            values = [100 * run[name] for run in pair]
            axis.plot([0, 1], values, "o-", alpha=0.8, label=f"seed {content['seeds'][seed]}")
        axis.set_xticks([0, 1], ["with", "without"])
        axis.set_xlim(-0.4, 1.4)
        axis.set_title(f"{name.replace('_', ' ')}, %", fontsize=9)
        axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def draw_portrait(file: Path) -> None:
    """All methods on the portrait that comes with matplotlib (US Navy, public domain)."""
    model = load_model("se_zoo/resnet18_slim_celeba")
    photo = load_photo(demo_photo(), PORTRAIT)
    image = map_cases.transform_of(model)(photo)
    labels = list(model.class_labels())
    targets = torch.tensor([labels.index(name) for name in ("Eyeglasses", "Smiling")])
    cases = Cases(image.expand(2, -1, -1, -1), targets, None, None, (0, 1))
    found = map_cases.CaseSet("portrait", model, cases, [""] * 2, [0, 0])
    report.draw_page(found, METHODS, (0, 1), file)
    # A photograph twenty times over: in 128 colours it is a quarter of the size.
    picture = Image.open(file).convert("RGB")
    picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).quantize(128).save(file)


def main(options: Write) -> None:
    RESULTS.mkdir(exist_ok=True)
    for folder in options.take:
        take(folder)
    contents = [load(preset) for preset in PRESETS]
    rows = [row for content in contents for row in content["rows"]]
    methods = list(dict.fromkeys(m for content in contents for m in methods_of(content)))
    report.draw_quality(rows, methods, RESULTS / "quality.png")
    cost_report.draw_cost(load("cost")["rows"], RESULTS / "cost.png")
    draw_parity(RESULTS / "parity.png")
    if options.portrait:
        draw_portrait(RESULTS / "portrait.png")
    OVERVIEW.write_text(overview_text(), encoding="utf-8")
    for file, text in document_texts().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Write, description=__doc__))
