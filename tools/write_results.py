"""Write the results that docs/ and benchmarks/results/README.md show; a test compares.

    python -m tools.write_results                              # tables and plots from the figures
    python -m tools.write_results --take runs/explain/faces    # copy a run's figures first
    python -m tools.write_results --add runs/more/faces        # add a run's further methods
    python -m tools.write_results --portrait                   # draw the portrait of all methods

Run time: seconds; a minute with --portrait.

The figures are files in benchmarks/results/. faces.json and objects.json are summary.json of
`python -m benchmarks.maps`, faces_<model>.json is that of another model, tokens.json that of a
transformer whose head reads its class token, cost.json is that of its preset cost, and support.json
is written by `python -m benchmarks.support_weight`. The accuracy with and without the block is
benchmarks/results/parity.json, of `recipes/parity.py`. What a model's card shows of them is
hub_cards/<model>/maps.json: package the model again where it changes.
"""

import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
import tyro
from PIL import Image

from benchmarks import cost_report, map_cases
from benchmarks import map_report as report
from benchmarks.map_margins import margin_table
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.methods import COMPETING_METHODS
from se_zoo.explanations.quality.cases import AVERAGE, METHODS, Cases
from se_zoo.explanations.quality.token_peers import TOKEN_PEERS
from se_zoo.files import write_json, write_text
from se_zoo.inference.images import demo_photo, load_photo
from se_zoo.models.load_model import load_model
from se_zoo.models.pretrained.manifest import cards_folder, manifest
from se_zoo.train.repeat import shown
from tools.card_maps import card_maps, maps_file

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OVERVIEW = RESULTS / "README.md"
#: Documents with generated blocks, and the names of their blocks.
DOCUMENTS = {
    "evidence.md": ("quality", "families", "tokens", "displacement", "cost"),
    "train.md": ("parity",),
}
#: Files of the quality of maps: those that the text of the evidence is about, and other models'.
PRESETS = ("faces", "objects")
PARITY = RESULTS / "parity.json"
#: The model whose head reads its class token; its results are tokens.json.
CLASS_TOKENS = "vit_tiny_patch16_224_cls_celeba"
#: Figures of --take by their names in benchmarks/results. They are stored after everything that is
#: made of them: figures that cannot be shown would make every later call fail, too.
TAKEN: Dict[str, Dict[str, Any]] = {}
#: Crop of the portrait, as in the card of the bundled model.
PORTRAIT = (100, 0, 429, 403)
#: Measures by which a run that adds methods is compared with the stored one, and how close they
#: have to be: kernels differ in the last digits.
COMPARED, SAME = ("pixel_ap", "pointing", "energy"), 1e-3
#: Measures that the documents show.
SHOWN = (
    "pixel_ap", "pixel_ap_registered", "pointing", "insertion", "deletion", "road", "energy",
    "energy_squared",
)  # fmt: skip
#: Those of class-token maps, which no `map_offset` moves.
SHOWN_OF_TOKENS = tuple(name for name in SHOWN if name != "pixel_ap_registered")
#: Headings of the sets.
TITLES = {
    "celeba": "Faces: CelebA test images, attributes whose place is known",
    "celeba_parts": "CelebA images with part masks (CelebAMask-HQ)",
    "face_parts": "Faces with part masks (FASSEG)",
    "mosaics": "Mosaics of nine ImageNet photos",
    "like_classes": "Mosaics of four ImageNet photos of like classes",
    "single": "One ImageNet photo on a blurred other one",
}
#: Their names in a table of several models.
SHORT_TITLES = {"celeba": "boxes", "celeba_parts": "part masks", "face_parts": "FASSEG"}
#: A method that only models whose head reads a class token have.
ROLLOUT = "torch/rollout"
#: What stands above a table of margins.
MARGINS = (
    "Pixel AP of our maps less that of each CAM method as its library draws it, with the 95 % "
    "interval of the paired difference:"
)
#: Beginning of benchmarks/results/README.md, by paragraphs.
INTRODUCTION = (
    "# Measured explanations",
    "`python -m tools.write_results` writes this page from the JSON files beside it, which "
    "also hold the intervals. [The evidence](../../docs/evidence.md) says what follows from "
    "the figures.",
    "- A figure is the mean over cases; every attribute has the same weight.\n"
    "- + and - mark methods that are better or worse than our contribution map: the 95 % "
    "interval of the paired difference, bootstrapped over images, excludes 0, and three "
    "decimals show the difference. Marks are not corrected for their number: of a hundred, "
    "some are chance.\n"
    "- (n): the method was measured on n cases only, and the mark compares these.\n"
    "- Pointing allows no pixel of error (published figures: 15 pixels).\n"
    "- MaxBoxAccV2 takes 99 thresholds of the heatmaps as shown (published: about a "
    "thousand).\n"
    "- All maps are resized alike. Maps of methods that know evidence against a class are cut "
    "at 0; the others are stretched from minimum to maximum.\n"
    "- IntegratedGradients and Occlusion attribute to pixels, the other peers to the layer "
    "after the gate.\n"
    "- Pixel AP is the average precision of the pixels against the region; no monotone change of "
    "a map alters it. Ours lie where the model's `map_offset` says, other maps where their "
    "libraries draw them; registered: theirs are moved by `map_offset`, too.\n"
    "- Sharpening alone raises the energy, so it stands beside that of the same map squared.\n"
    "- EigenCAM's sign is arbitrary; its strongest value is made positive.\n"
    "- Commands are shown as recorded. Files moved since: `recipes/explain_bench.py` is now "
    "`python -m benchmarks.maps`, and `tests.measure_support` is now "
    "`benchmarks.support_weight`.",
)


@dataclass(frozen=True)
class Write:
    """Options."""

    take: Tuple[Path, ...] = ()
    """Folders of benchmark runs whose figures are copied to benchmarks/results first."""
    add: Tuple[Path, ...] = ()
    """Folders of runs of the same model and cases, whose further methods are added to the figures
    in benchmarks/results."""
    portrait: bool = False
    """Draw the portrait by all methods again; takes a minute and needs the extra compare."""


def load(name: str) -> Dict[str, Any]:
    """Read a file of figures by its name."""
    if name in TAKEN:
        return TAKEN[name]
    content: Dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return content


def _read_run(folder: Path) -> Tuple[str, Dict[str, Any]]:
    """Return the name and the figures of a benchmark run; exit if it is not one that is shown."""
    found = [folder / name for name in ("summary.json", "cost.json") if (folder / name).is_file()]
    if not found:
        sys.exit(
            f"{folder} has neither summary.json nor cost.json: give the folder of a finished run."
        )
    content = json.loads(found[0].read_text("utf-8"))
    preset = "cost" if found[0].name == "cost.json" else content.get("preset")
    if preset not in (*PRESETS, "cost") or "options" not in content:
        sys.exit(
            f"{found[0]} holds no figures that are shown: give a run of python -m benchmarks.maps "
            f"with the preset {', '.join(PRESETS)} or cost."
        )
    if content["options"]["debug"] or len(content["commit"] or "") != 40:
        sys.exit(
            f"{folder} is a --debug run or one of uncommitted code: run the benchmark again in a "
            "clean checkout, without --debug."
        )
    name = preset
    if content["options"].get("model") == f"local-dir:hub_cards/{CLASS_TOKENS}":
        name = "tokens"
    elif preset != "cost":
        model = content["options"]["model"].removeprefix("se_zoo/")
        if model not in manifest():
            sys.exit(
                f"{folder} is of the model {model}, which the zoo does not have: run the benchmark "
                "again with --model se_zoo/<name>."
            )
        if model != load(preset)["options"]["model"].removeprefix("se_zoo/"):
            name = f"{preset}_{model}"
    return name, content


def _take(folder: Path) -> None:
    """Take the figures of a benchmark run; exit if the run is not one that is shown."""
    name, content = _read_run(folder)
    TAKEN[name] = content


def _add(folder: Path) -> None:
    """Add the methods that the stored figures of the same model lack; exit if the cases differ."""
    name, content = _read_run(folder)
    stored = load(name)
    found, known = methods_of(content), methods_of(stored)
    means = {_key(row): row["mean"] for row in content["rows"]}
    same = [abs(means[_key(row)] - row["mean"]) < SAME for row in stored["rows"]
            if row["measure"] in COMPARED and _key(row) in means]  # fmt: skip
    other_cases = any(content["sets"].get(n) != count for n, count in stored["sets"].items())
    if other_cases or content["weights_sha256"] != stored["weights_sha256"] or not all(same):
        sys.exit(
            f"{folder} has other weights, cases or figures than benchmarks/results/{name}.json; "
            "use --take."
        )
    new = [method for method in found if method not in known]
    if not same or not new:
        sys.exit(f"{folder} needs methods that {name}.json has, to compare, and others, to add.")
    rows = [row for row in content["rows"] if row["method"] in new and row["set"] in stored["sets"]]
    margins = [row for row in content["margins"]
               if row["peer"] in new and row["set"] in stored["sets"]]  # fmt: skip
    made = {key: content[key] for key in ("command", "commit", "environment")}
    TAKEN[name] = {
        **stored,
        "options": {**stored["options"], "methods": [*stored["options"]["methods"], *new]},
        "rows": stored["rows"] + rows,
        "margins": stored["margins"] + margins,
        "added": [*stored.get("added", []), {**made, "methods": new}],
    }


def _key(row: Dict[str, Any]) -> Tuple[str, str, str]:
    return row["set"], row["method"], row["measure"]


def _card_maps() -> Dict[Path, Dict[str, Any]]:
    """Return what the models' cards say of their maps, by file; exit if figures lack any of it."""
    made = {}
    for name in (*PRESETS, *_others()):
        content = load(name)
        try:
            made[maps_file(content)] = card_maps(content, TITLES)
        except (InvalidInputError, KeyError) as error:
            sys.exit(f"{name}.json lacks what the model's card shows: {error}")
    return made


def _origin(content: Dict[str, Any]) -> str:
    """Return the commands, commits, machines and versions of a file of figures."""
    added = [
        f"Added ({', '.join(run['methods'])}): {_origin(run)}" for run in content.get("added", [])
    ]
    machine = content["environment"]
    own = (
        f"`{content['command']}` at commit `{content['commit'][:12]}`; {machine['cpu']}, "
        f"{machine['threads']} threads, Python {machine['python']}, torch {machine['torch']}, timm "
        f"{machine['timm']}."
    )
    return "\n\n".join([own, *added])


def methods_of(content: Dict[str, Any]) -> List[str]:
    """Return the methods in a file of figures."""
    return list(dict.fromkeys(row["method"] for row in content["rows"]))


def rows_of(content: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    """Return the rows of a set."""
    return [row for row in content["rows"] if row["set"] == name]


def _quality_block(name: str) -> str:
    """Return the table of a set for the documents."""
    return _table(load(next(p for p in PRESETS if name in load(p)["sets"])), name, SHOWN)


def _table(content: Dict[str, Any], name: str, shown: Tuple[str, ...]) -> str:
    """Return the table of a set with the measures that are shown, below its title."""
    rows = [row for row in rows_of(content, name) if row["measure"] in shown]
    count = content["sets"][name]
    return (
        f"{TITLES[name]} ({count['cases']} cases of {count['images']} images):\n\n"
        f"{report.quality_table(rows, methods_of(content))}"
    )


def _cost_block() -> str:
    """Return the table of time and memory, and the table of the ratios that are claimed."""
    rows = load("cost")["rows"]
    return f"{cost_report.cost_table(rows)}\n\n{_ratio_table(rows)}"


def _families_block() -> str:
    """Return the table of the face models' default maps, beside the best other CAM method."""
    lines = [
        "| model | set | cases | default | Grad-CAM | best other CAM method | default less best |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("faces", *(other for other in _others() if other.startswith("faces_"))):
        content = load(name)
        made = card_maps(content, TITLES)
        model = content["options"]["model"].removeprefix("se_zoo/")
        for found, figures in zip(content["sets"], made["sets"], strict=True):
            means = {row["method"]: row["pixel_ap"] for row in figures["rows"]}
            margin = figures["margin"]
            cells = [
                f"`{model}`", SHORT_TITLES[found], str(figures["cases"]),
                f"{means[made['method']]:.3f} ({made['method']})",
                f"{means['grad-cam/GradCAM']:.3f}",
                f"{means[margin['peer']]:.3f} ({margin['peer']})",
                f"{margin['mean']:+.3f} ({margin['low']:+.3f} to {margin['high']:+.3f})",
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def displacements() -> Dict[str, Dict[str, Tuple[float, float]]]:
    """Return how far the maps of mirrored photos lie from the mirrored maps, in pixels.

    It is twice the offset that is left, measured on photos that did not choose ``map_offset``.

    Returns:
        Unmoved and moved by ``map_offset`` in whole pixels, as it is drawn; by model, and by axis.
    """
    found: Dict[str, Dict[str, Tuple[float, float]]] = {}
    for name in sorted(manifest()):
        file = cards_folder() / name / "offset.json"
        if not file.is_file():
            continue
        content = json.loads(file.read_text("utf-8"))
        for axis, stored in zip(("horizontal", "vertical"), content["offset"], strict=True):
            other = content["other_images"][axis]
            if other is not None:  # a face cannot be mirrored upside down
                pixels = other["pixels"]
                pair = (2 * pixels, 2 * (pixels - round(stored)))
                found.setdefault(name, {})[axis] = pair
    return found


def _displacement_block() -> str:
    """Return the table of displacements."""
    lines = ["| model | axis | unmoved, px | moved, px |", "|---|---|---|---|"]
    for name, axes in displacements().items():
        for axis, (before, after) in axes.items():
            lines.append(f"| `{name}` | {axis} | {before:+.1f} | {after:+.1f} |")
    return "\n".join(lines)


def _tokens_block() -> str:
    """Return the tables of the transformer whose head reads its class token."""
    content = load("tokens")
    return "\n\n".join(_table(content, name, SHOWN_OF_TOKENS) for name in content["sets"])


def _ratio_table(rows: List[Dict[str, Any]]) -> str:
    """Return the ratios that are claimed as a table: the smallest and the largest of all models."""

    def ratio(found: List[Dict[str, Any]], side: str, key: str, over: str) -> str:
        values = [row["sides"][side][key] / row["sides"][over][key] for row in found
                  if side in row["sides"] and key in row["sides"][side]]  # fmt: skip
        if not values:
            return "not measured"
        low, high = (f"{value:.{2 if value < 3 else 1 if value < 20 else 0}f}"
                     for value in (min(values), max(values)))  # fmt: skip
        return low if low == high else f"{low} to {high}"

    tokens = [row for row in rows if ROLLOUT in row["sides"]]  # of heads that read a class token
    others = [row for row in rows if ROLLOUT not in row["sides"]]
    lines = ["| ratio | time | memory |", "|---|---|---|"]
    for kind, some, methods in (
        ("", others, ("contribution", "class_gate", "affinity")),
        (", class token", tokens, ("contribution", "affinity")),
    ):
        for method, batch in product(methods, (8, 1)):
            found = [row for row in some if row["batch"] == batch]
            if not any(method in row["sides"] for row in found):
                continue
            cells = [ratio(found, method, key, "plain") for key in ("ratio", "mb")]
            name = f"predict + {method} map over the plain forward{kind}, batch {batch}"
            lines.append(f"| {name} | {' | '.join(cells)} |")
    for peer in ("grad-cam/GradCAM", "grad-cam/ScoreCAM", "captum/LayerGradCam",
                 "torch-cam/GradCAM", *TOKEN_PEERS):  # fmt: skip
        if not any(peer in row["sides"] for row in rows):
            continue
        cells = [ratio(rows, peer, key, "contribution") for key in ("ratio", "mb")]
        lines.append(f"| {peer} over predict + contribution map | {' | '.join(cells)} |")
    return "\n".join(lines)


def _parity_block() -> str:
    """Return the table of accuracy with and without the block."""
    figures = json.loads(PARITY.read_text("utf-8"))["figures"]
    lines = ["| % | with the SE block | without | difference, seed by seed |", "|---|---|---|---|"]
    for name, row in figures.items():
        cells = [shown(row[side], row[f"{side}_deviation"], "+" if side == "difference" else "")
                 for side in ("with", "without", "difference")]  # fmt: skip
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _blocks() -> Dict[str, str]:
    """Return the generated blocks of the documents by their names."""
    return {
        "quality": "\n\n".join(_quality_block(name) for name in ("mosaics", "celeba")),
        "families": _families_block(),
        "tokens": _tokens_block(),
        "displacement": _displacement_block(),
        "cost": _cost_block(),
        "parity": _parity_block(),
    }


def document_texts() -> Dict[Path, str]:
    """Return the documents with their generated blocks up to date, by their files."""
    made, found = _blocks(), {}
    for file, names in DOCUMENTS.items():
        text = (ROOT / "docs" / file).read_text("utf-8")
        for name in names:
            start = f"<!-- {name}: python -m tools.write_results -->\n"
            end = f"<!-- end of {name} -->"
            before, rest = text.split(start)
            text = f"{before}{start}{made[name]}\n{end}{rest.split(end)[1]}"
        found[ROOT / "docs" / file] = text
    return found


def _set_parts(content: Dict[str, Any], name: str) -> List[str]:
    """Return the section of a set for the overview, by paragraphs."""
    rows, methods, count = rows_of(content, name), methods_of(content), content["sets"][name]
    dropped = [row for row in content["channels"] if row["set"] == name]
    # Figures that were recorded before margins were computed have none.
    margins = [row for row in content.get("margins", []) if row["set"] == name]
    return [
        f"## {TITLES[name]}",
        f"{count['cases']} cases of {count['images']} images. Insertion, deletion, ROAD, drop, "
        f"increase and gain: {content['options']['pixel_cases']} of these cases.",
        report.quality_table(rows, methods),
        *([MARGINS, margin_table(margins)] if margins else []),
        "Rank correlation of each map with our contribution map, with itself when the image is "
        "moved by a few pixels, and with the maps of copies of the model in which the classifier, "
        "or everything, is random (constant maps have no rank correlation and are left out):",
        report.dependence_table(rows, methods),
        "How much the logit falls without the selected channels, and without as many random ones:",
        report.channel_table(dropped),
    ]


def overview_text() -> str:
    """Return the text of benchmarks/results/README.md: all tables."""
    parts: List[str] = list(INTRODUCTION)
    for preset in (*PRESETS, *_others(), "tokens"):
        content = load(preset)
        parts.append(f"# Maps of `{content['options']['model']}`")
        for name in content["sets"]:
            parts += _set_parts(content, name)
        parts.append(_origin(content))
    content = load("support")
    ((name, count),) = content["sets"].items()
    parts += [
        "## How much evidence against a class counts in a support map",
        f"CelebA's validation images: {count['cases']} cases of {count['images']} images. "
        f"Insertion, deletion and ROAD: {content['options']['pixel_cases']} of these cases. + and "
        '- mark what is better or worse than Grad-CAM++. `method="support"` uses the share 0.5.',
        report.quality_table(rows_of(content, name), methods_of(content)),
        _origin(content),
        "## Cost",
        "Columns are model and batch size. Cells are the time over the plain forward, and the "
        "growth of peak memory. The second table has the smallest and the largest ratio of all "
        "models.",
        _cost_block(),
        _origin(load("cost")),
    ]
    return "\n\n".join(parts) + "\n"


def _draw_parity(file: Path) -> None:
    """Plot the figures of every seed with and without the block."""
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


def _draw_portrait(file: Path) -> None:
    """Draw the maps of all methods on matplotlib's portrait (US Navy, public domain)."""
    model = load_model("se_zoo/resnet18_slim_celeba")
    photo = load_photo(demo_photo(), PORTRAIT)
    image = map_cases.transform_of(model)(photo)
    labels = list(model.class_labels())
    targets = torch.tensor([labels.index(name) for name in ("Eyeglasses", "Smiling")])
    cases = Cases(image.expand(2, -1, -1, -1), targets, None, None, (0, 1))
    found = map_cases.CaseSet("portrait", model, cases, [""] * 2, [0, 0])
    methods = [m for m in METHODS if m not in (*COMPETING_METHODS, AVERAGE, *TOKEN_PEERS)]
    report.draw_page(found, methods, (0, 1), file)
    # In 128 colours the file, twenty copies of a photograph, is a quarter of the size.
    picture = Image.open(file).convert("RGB")
    picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).quantize(128).save(file)


def _others() -> List[str]:
    """Return the names of the files of other models."""
    stored = {file.stem for name in PRESETS for file in RESULTS.glob(f"{name}_*.json")}
    return sorted((stored | set(TAKEN)) - {*PRESETS, "cost", "tokens"})


def main(options: Write) -> None:
    """Copy new figures if asked, then write the plots and the documents."""
    for folder in options.take:
        _take(folder)
    for folder in options.add:
        _add(folder)
    maps, texts = _card_maps(), {OVERVIEW: overview_text(), **document_texts()}
    for name, taken in TAKEN.items():
        write_json(RESULTS / f"{name}.json", taken)
    contents = [load(preset) for preset in PRESETS]
    rows = [row for content in contents for row in content["rows"]]
    methods = list(dict.fromkeys(m for content in contents for m in methods_of(content)))
    report.draw_quality(rows, methods, RESULTS / "quality.png")
    # A plot has few colours: this makes the file much smaller.
    Image.open(RESULTS / "quality.png").convert("RGB").quantize(64).save(RESULTS / "quality.png")
    cost_report.draw_cost(load("cost")["rows"], RESULTS / "cost.png")
    _draw_parity(RESULTS / "parity.png")
    if options.portrait:
        _draw_portrait(RESULTS / "portrait.png")
    for file, content in maps.items():
        write_json(file, content)
    for file, text in texts.items():
        write_text(file, text)


if __name__ == "__main__":
    main(tyro.cli(Write, description=__doc__))
