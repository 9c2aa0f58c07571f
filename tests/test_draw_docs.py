"""The pictures that show our maps beside those of other libraries."""

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from PIL import Image

from se_zoo.explanations.methods import default_method
from se_zoo.explanations.quality.peers import PEERS
from se_zoo.models.load_model import load_model
from se_zoo.models.pretrained.manifest import manifest
from tools import draw_docs

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def test_every_image_model_with_recorded_peers_is_compared() -> None:
    contents = [json.loads(file.read_text("utf-8")) for file in RESULTS.glob("*.json")]
    measured = {content["options"]["model"] for content in contents if "margins" in content}
    zoo = {f"se_zoo/{name}" for name in manifest()}
    drawn = {model for rows in draw_docs.COMPARED.values() for model, _, _ in rows}
    assert drawn == measured & zoo


def test_the_strongest_peer_exceeds_every_other_on_the_first_set() -> None:
    content = json.loads((RESULTS / "faces.json").read_text("utf-8"))
    name = content["options"]["model"]
    first = next(iter(content["sets"]))
    best = draw_docs.strongest_peer(name)
    assert best in PEERS and best.split("/")[1] not in draw_docs.LIKE_GRAD_CAM
    mean: Dict[str, float] = {
        row["method"]: row["mean"] for row in content["rows"]
        if row["set"] == first and row["measure"] == "pixel_ap"
    }  # fmt: skip
    # ScoreCAM and AblationCAM were measured on a few cases only.
    few = {"grad-cam/ScoreCAM", "grad-cam/AblationCAM", "captum/Occlusion"}
    others = set(PEERS) & set(mean) - few
    assert mean[best] == max(mean[other] for other in others)


def test_the_peers_are_drawn_in_the_columns_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pytorch_grad_cam", "torchcam"):
        pytest.importorskip(package, reason=f"{package} is not installed: extra compare")
    seen: List[Any] = []
    draw = draw_docs.draw_tiles

    def keep(lines: Any, legends: Any, headings: Any) -> Image.Image:
        seen.extend([lines, headings])
        return draw(lines, legends, headings)

    monkeypatch.setattr(draw_docs, "draw_tiles", keep)
    monkeypatch.setattr(draw_docs, "PICTURES", tmp_path)
    monkeypatch.setitem(draw_docs.COMPARED, "peers", draw_docs.COMPARED["peers"][:1])
    draw_docs.draw_peers("peers")
    (line,), headings = seen
    name = draw_docs.FACES
    assert headings == {0: name}
    assert [tile.caption for tile in line] == [
        "Eyeglasses", f"default: {default_method(load_model(name))}", "grad-cam/GradCAM",
        draw_docs.strongest_peer(name), "plain mean",
    ]  # fmt: skip
    assert len({tile.pixels.tobytes() for tile in line}) == 5
    with Image.open(tmp_path / "peers.jpg") as picture:
        assert 5 * draw_docs.TILE[0] < picture.width <= 1400 and picture.height > 200
