"""README's lines and their neighbours, with the types that editors and type checkers must see.

Nothing here runs: pyright and mypy check it in .ci/run.
"""

from pathlib import Path
from typing import List, Union

import numpy as np
import torch
from PIL import Image
from torch import nn
from typing_extensions import assert_type

import se_zoo
from se_zoo.models import SpeakerModel

images = torch.zeros(1, 3, 128, 104)

model = se_zoo.create_model("se_zoo/resnet18_slim_celeba", pretrained=True).eval()
assert_type(model, se_zoo.SEHeadMixin)
explanation = model.explain(images, target=["Smiling", "Eyeglasses"])
assert_type(explanation, se_zoo.Explanation)
assert_type(explanation.heatmap, torch.Tensor)
assert_type(explanation.probabilities, torch.Tensor)
explanation.save("why.png")
assert_type(se_zoo.explain(model, images, target="Smiling"), se_zoo.Explanation)
assert_type(model.explain("face.jpg", target="Smiling", face=True), se_zoo.Explanation)
several: List[Union[Path, Image.Image, np.ndarray]] = [
    Path("face.jpg"), Image.open("group.jpg"), np.zeros((100, 80, 3), np.uint8)
]  # fmt: skip
assert_type(model.explain(several, face="yunet.onnx"), se_zoo.Explanation)
assert_type(model.explain(["a.jpg", "b.jpg"]), se_zoo.Explanation)
assert_type(se_zoo.explain(model, several, face=se_zoo.FaceFinder(each=True)), se_zoo.Explanation)
assert_type(explanation.grid(), Image.Image)
assert_type(explanation.boxes(0.5).xyxy, np.ndarray)
assert_type(se_zoo.Explanation.load("why.json"), se_zoo.Explanation)
assert_type(model.channel_logits(images, keep=[0]), torch.Tensor)
assert_type(se_zoo.ExplainedModel(model).targets, "tuple[int, ...]")

squeezed = se_zoo.squeeze("efficientnet_b0", pretrained=True, num_classes=2)
assert_type(squeezed, se_zoo.SEHeadMixin)
assert_type(squeezed.train().to("cpu"), se_zoo.SEHeadMixin)
module: nn.Module = squeezed
torch.optim.AdamW(squeezed.parameters())
assert_type(squeezed.gate(squeezed.forward_features(images)), torch.Tensor)
assert_type(se_zoo.save(squeezed, "pets", labels=["cat", "dog"]), Path)
assert_type(se_zoo.unsqueeze(squeezed), nn.Module)

speaker = se_zoo.create_speaker_model("se_zoo/asd_tiny_grid", pretrained=True)
assert_type(speaker, SpeakerModel)
inputs = speaker.example_inputs()
reasons = speaker.explain(inputs["audio"], inputs["face"])
assert_type(reasons, se_zoo.SpeakerExplanation)
assert_type(reasons.scores, torch.Tensor)

assert_type(se_zoo.load_clip(model, "waving.mp4"), torch.Tensor)
assert_type(se_zoo.resolve_clip_config(model), se_zoo.ClipConfig)
assert_type(se_zoo.list_models(pretrained=True), List[str])
