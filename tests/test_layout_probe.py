"""How squeeze reads layouts of features that no architecture of timm has by now; a later may."""

from typing import Any, Callable, Dict

import pytest
import torch
from torch import nn

import se_zoo
from se_zoo import UnsupportedBackboneError
from se_zoo.layers import Layout

CHANNELS, CLASSES = 24, 3
#: From a feature map (B, C, h, w) to each layout.
ARRANGED: Dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NCHW": lambda x: x,
    "NHWC": lambda x: x.movedim(1, -1),
    "NCL": lambda x: x.flatten(2),
    "NLC": lambda x: x.flatten(2).transpose(1, 2),
}


class Net(nn.Module):
    """A convolution, its result in some layout, average pooling and a linear layer."""

    def __init__(self, kind: str, num_features: int = CHANNELS, output_fmt: str = "NCHW") -> None:
        super().__init__()
        self.kind, self.output_fmt = kind, output_fmt
        self.stem = nn.Conv2d(3, CHANNELS, 8, 8)
        self.head = nn.Linear(CHANNELS, CLASSES)
        self.num_features, self.num_classes = num_features, CLASSES
        self.pretrained_cfg = {"input_size": (3, 32, 40)}

    def forward_features(self, x: torch.Tensor) -> Any:
        return ARRANGED[self.kind](self.stem(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = x.mean([axis for axis in range(1, x.dim()) if axis != self.kind.index("C")])
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def squeezed(kind: str, *declared: Any) -> Any:
    torch.manual_seed(0)
    return se_zoo.squeeze(Net(kind, *declared)).eval()


@pytest.mark.parametrize("kind", ["NHWC", "NCL", "NLC"])
def test_map_is_that_of_the_feature_map_in_every_layout(kind: str) -> None:
    check_layout(kind)


@pytest.mark.parametrize("kind", ["NCHW", "NHWC"])
def test_num_features_of_another_layer_mislead_nobody(kind: str) -> None:
    """Then the layout is the one that the model declares."""
    check_layout(kind, 7, kind)


def test_layout_that_nothing_tells_is_the_usual_one() -> None:
    check_layout("NCHW", 7, "")


def check_layout(kind: str, *declared: Any) -> None:
    model, plain = squeezed(kind, *declared), squeezed("NCHW")
    assert model.se_layout == Layout(kind) and model.se.channels == CHANNELS  # type: ignore[arg-type]
    images = torch.randn(2, 3, 32, 40)
    found, expected = model.explain(images, 1), plain.explain(images, 1)
    assert found.exact and found.native_grid == (4, 5)
    torch.testing.assert_close(found.raw, expected.raw, rtol=1e-4, atol=1e-5)


class WithClassPlace(Net):
    def forward_features(self, x: torch.Tensor) -> Any:
        x = super().forward_features(x)
        return torch.cat([x.mean(2, keepdim=True), x], 2)


def test_flattened_grid_with_one_place_more_is_refused() -> None:
    """Read as 24 tokens of 21 channels, it would have a map of 4 x 6 cells."""
    with pytest.raises(UnsupportedBackboneError, match="its 21 tokens do not form a grid"):
        se_zoo.squeeze(WithClassPlace("NCL"))


class CoaT(Net):
    """A class with the name of one whose list of features is known."""

    def forward_features(self, x: torch.Tensor) -> Any:
        return {"last": super().forward_features(x)}


def test_dictionary_of_features_is_refused() -> None:
    with pytest.raises(UnsupportedBackboneError, match="its features are a dict without one"):
        se_zoo.squeeze(CoaT("NCHW"))
