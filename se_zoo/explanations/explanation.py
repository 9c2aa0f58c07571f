"""The result of an explanation: maps, gate and prediction of one batch, ready to draw and save."""

import math
import operator
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch

from .maps import CLASSLESS_METHODS, SIGNED_METHODS, is_constant, upsample
from .targets import above_threshold, label_names_of


@dataclass(frozen=True, eq=False, repr=False)  # equality of tensors is no yes or no
class Explanation:
    """Heatmaps and prediction of a batch; rows are (image, target) pairs, image by image.

    With one target per image (an index, a name, a tensor, or ``None`` on a single-label model)
    there are N = B rows and ``heatmap[i]`` belongs to image i. ``explanation[i]`` is the part that
    belongs to image i in any case.

    Attributes:
        heatmap: (N, H, W) float32 in [0, 1] at input size, (N, T, H, W) of clips. For the signed
            methods (contribution, difference) it is the evidence for the target; see
            :attr:`evidence`.
        raw: (N, *grid) float32, the map itself: signed, unnormalised, at the backbone's grid.
        constant: (N,) float32. Where ``exact``, ``raw[n].mean() + constant[n]`` is the row's logit
            (for ``"difference"`` the difference of the two logits).
        logits: (B, num_classes) as the model gave them.
        gate: SE vectors, (B, C).
        selected: Selected channels, (B, C) bool.
        rule: Per image which rule selected them, ``"threshold"`` or ``"rank"``.
        image_index: Image of each row, (N,) long.
        target: Class index of each row.
        versus: The other class of each row (``"difference"`` only).
        method: ``"gate"``, ``"contribution"``, ``"support"``, ``"difference"`` or
            ``"activation"``.
        normalize: ``"image"``, or the raw value that is drawn as 1.
        exact: Whether the map adds up to the logit; checked on this batch, not assumed.
        weights: Where the channel weights come from: ``"folded"`` (classifier and norm),
            ``"gradient"`` (of the head alone), ``"projection"`` (class-token head: the class
            token's weights on the patch tokens), ``"gate"``, ``"mean"``, or ``"mixed"``.
        label_names: Label names of all classes, if the model has any.
        multi_label: Whether probabilities are sigmoids (else softmax).
        thresholds: Probability above which each label of a multi-label model holds; None: one half.
        images: The images as they were given, (B, 3, H, W), or clips, (B, 3, T, H, W); not copied.
        mean: Channel means that the images were normalised with.
        std: Channel standard deviations that the images were normalised with.
    """

    heatmap: torch.Tensor
    raw: torch.Tensor
    constant: torch.Tensor
    logits: torch.Tensor
    gate: torch.Tensor
    selected: torch.Tensor
    rule: Tuple[str, ...]
    image_index: torch.Tensor
    target: Tuple[int, ...]
    versus: Optional[Tuple[int, ...]]
    method: str
    normalize: Union[str, float]
    exact: bool
    weights: str
    label_names: Optional[Tuple[str, ...]]
    multi_label: bool
    thresholds: Optional[Tuple[float, ...]]
    images: torch.Tensor
    mean: Tuple[float, ...]
    std: Tuple[float, ...]

    def __repr__(self) -> str:
        return (
            f"Explanation({len(self)} images, {len(self.target)} rows: {', '.join(self.labels[:4])}"
            f"{', ...' if len(self.target) > 4 else ''}; {self.method}, {self.weights}, "
            f"{'exact' if self.exact else 'not exact'}, grid {self.native_grid})"
        )

    def __len__(self) -> int:
        """Number of images."""
        return self.logits.shape[0]

    def __getitem__(self, index: int) -> "Explanation":
        """The explanation of one image, as a batch of one.

        Raises:
            IndexError: If there is no such image.
            TypeError: If the index is no integer.
        """
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"Image {index} of {len(self)}.")
        image = index % len(self)
        rows = [n for n, i in enumerate(self.image_index.tolist()) if i == image]
        one = slice(image, image + 1)
        return replace(
            self,
            heatmap=self.heatmap[rows],
            raw=self.raw[rows],
            constant=self.constant[rows],
            logits=self.logits[one],
            gate=self.gate[one],
            selected=self.selected[one],
            rule=self.rule[one],
            image_index=torch.zeros_like(self.image_index[rows]),
            target=tuple(self.target[n] for n in rows),
            versus=None if self.versus is None else tuple(self.versus[n] for n in rows),
            images=self.images[one],
        )

    @property
    def native_grid(self) -> Tuple[int, ...]:
        """Resolution that the map truly has, (rows, columns), for clips (time steps, rows,
        columns); the heatmap is interpolated."""
        return tuple(self.raw.shape[1:])

    @property
    def is_clip(self) -> bool:
        """Whether the explained inputs are clips, whose maps have a time axis."""
        return self.heatmap.dim() == 4

    @property
    def frame_weights(self) -> torch.Tensor:
        """What each frame of a clip adds to the map, (N, T): the mean of the raw map over the
        frame, interpolated linearly where the backbone has fewer time steps. Of an exact map its
        mean over the frames plus ``constant`` is the logit, as far as the interpolation keeps it.

        Raises:
            InvalidInputError: If the explained inputs are images.
        """
        from .draw.clips import frame_weights

        return frame_weights(self)

    def temporal(self) -> Any:
        """The frame weights as a plot, a matplotlib ``Figure``: one line a row.

        Raises:
            InvalidInputError: If the explained inputs are images.
        """
        from .draw.clips import draw_temporal

        return draw_temporal(self)

    @property
    def signed(self) -> bool:
        """Whether the map has evidence against its target too."""
        return self.method in SIGNED_METHODS

    @property
    def evidence(self) -> torch.Tensor:
        """(N, H, W) float32 in [-1, 1] at input size: the signed map, for (> 0) and against (< 0).

        On the scale of ``normalize``: per image the strongest absolute value is 1. For maps that
        have no sign this is the heatmap.
        """
        if not self.signed:
            return self.heatmap
        if self.normalize == "image":
            scale = self.raw.abs().flatten(1).amax(1)
            scale = torch.where(is_constant(self.raw), torch.full_like(scale, math.inf), scale)
        else:
            scale = torch.full_like(self.constant, float(self.normalize))
        maps = self.raw / scale.view((-1,) + (1,) * (self.raw.dim() - 1))
        return upsample(maps, tuple(self.heatmap.shape[1:])).clamp(-1, 1)

    @property
    def labels(self) -> Tuple[str, ...]:
        """Label name of each row's target (the index as text without names)."""
        return label_names_of(self.target, self.label_names)

    @property
    def versus_labels(self) -> Tuple[str, ...]:
        """Label name of the class that each row is compared with; empty but for "difference"."""
        return label_names_of(self.versus or (), self.label_names)

    @property
    def probabilities(self) -> torch.Tensor:
        """(B, num_classes) float32: sigmoid for multi-label models, softmax otherwise."""
        logits = self.logits.float()
        return logits.sigmoid() if self.multi_label else logits.softmax(1)

    @property
    def predicted(self) -> torch.Tensor:
        """What the model answers, (B, num_classes) bool: of a multi-label model each label whose
        probability exceeds its threshold, which may be none; of others the top-1 class."""
        if self.multi_label:
            return above_threshold(self.logits.float(), self.thresholds) > 0
        top = torch.zeros_like(self.logits, dtype=torch.bool)
        return top.scatter_(1, self.logits.argmax(1, keepdim=True), True)

    @property
    def row_probability(self) -> torch.Tensor:
        """Probability of each row's target, (N,)."""
        targets = torch.tensor(self.target, device=self.logits.device, dtype=torch.long)
        return self.probabilities[self.image_index, targets]

    def titles(self) -> List[str]:
        """One short caption per row: label, what it is compared with, and the label's probability;
        of the maps that know no class only their name."""
        if self.method in CLASSLESS_METHODS:
            return [f"{self.method} map"] * len(self.target)
        names = [_first_name(name) for name in self.labels]
        if self.versus is not None:
            others = [_first_name(name) for name in self.versus_labels]
            names = [f"{a} (not {b})" for a, b in zip(names, others, strict=True)]
        if self.weights == "projection":
            names = [f"{name}, projected" for name in names]
        return [f"{n} {p:.0%}" for n, p in zip(names, self.row_probability.tolist(), strict=True)]

    def overlay(self, images: Any = None, alpha: float = 0.6, cmap: Optional[str] = None) -> Any:
        """Maps over their images, (N, H, W, 3) uint8 numpy array; clips have T in front of H.

        Signed maps are drawn with their sign: red speaks for the target, blue against it.

        Args:
            images: What to draw on: a normalised (B, 3, H, W) tensor, a uint8 (B, H, W, 3) array
                or a list of PIL images of one size, which may be larger than the model's input;
                the explained images themselves if None.
            alpha: Opacity of the strongest spots, in [0, 1].
            cmap: Name of a matplotlib colour map; ``"bwr"`` for signed maps (its middle is
                zero), ``"turbo"`` for others if None.
        """
        from .draw.images import overlay

        return overlay(self, images, alpha, cmap)

    def grid(self, images: Any = None, alpha: float = 0.6, cmap: Optional[str] = None) -> Any:
        """A PIL image: each image followed by its overlays, with captions."""
        from .draw.images import grid

        return grid(self, images, alpha, cmap)

    def save(
        self,
        path: Any,
        images: Any = None,
        facts: Optional[Dict[str, Any]] = None,
        fps: float = 25.0,
    ) -> None:
        """Write the grid as PNG, or overlaid clips as MP4, and :meth:`to_dict` as JSON beside it;
        both or neither.

        Args:
            path: Where the picture goes, ``.png``; of clips, ``.png`` is a strip of frames and
                ``.mp4`` a video. The JSON has the same name and ``.json``.
            images: What to draw on, as in :meth:`overlay`.
            facts: What else the JSON is to say, such as the model's name.
            fps: Frames a second of a video.

        Raises:
            InvalidInputError: If the path ends in something else, its folder does not exist, or
                PyAV is not installed for a video.
        """
        from .draw.images import save

        save(self, path, images, facts, fps)

    def to_dict(self) -> Dict[str, Any]:
        """Everything but pixels, as JSON-ready Python: predictions, maps, gates and rules."""
        return {
            "method": self.method,
            "normalize": self.normalize,
            "exact": self.exact,
            "weights": self.weights,
            "native_grid": list(self.native_grid),
            "image_size": list(self.heatmap.shape[-2:]),
            "multi_label": self.multi_label,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "rows": self._row_dicts(),
            "images": [
                {
                    "probabilities": _rounded(self.probabilities[i]),
                    "logits": _rounded(self.logits[i]),
                    "predicted": self.predicted[i].nonzero()[:, 0].tolist(),
                    "gate": _rounded(self.gate[i]),
                    "selected_channels": self.selected[i].nonzero()[:, 0].tolist(),
                    "rule": self.rule[i],
                }
                for i in range(len(self))
            ],
            "label_names": None if self.label_names is None else list(self.label_names),
        }

    def _row_dicts(self) -> List[Dict[str, Any]]:
        probability = self.row_probability.tolist()
        rows: List[Dict[str, Any]] = []
        for n, image in enumerate(self.image_index.tolist()):
            row = {
                "image": image,
                "target": self.target[n],
                "label": self.labels[n],
                "probability": round(probability[n], 6),
                "constant": round(float(self.constant[n]), 6),
                "map": _rounded(self.raw[n]),
            }
            if self.versus is not None:
                row["versus"] = self.versus[n]
            rows.append(row)
        return rows


def _first_name(label: str) -> str:
    """The first of a label's synonyms ("tench, Tinca tinca"), which a caption has room for."""
    return label.split(",")[0]


def _rounded(values: torch.Tensor) -> Union[List[Any], Sequence[Any]]:
    """Six decimals are more than a reader of the JSON can use."""
    array = values.detach().float().cpu().double()
    return ((array * 1e6).round() / 1e6).tolist()
