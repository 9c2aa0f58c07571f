"""The result of an explanation: maps, gate and prediction of one batch, ready to draw and save.

The file is long because a user's one class lies here with all its documentation; the work is done
in :mod:`.draw`, :mod:`.regions` and :mod:`.serialize`.
"""

import math
import operator
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InvalidInputError
from ..text import counted
from .channel_selection import Selection, select_channels
from .draw.colours import ALPHA
from .maps import Placement, at_input_size, is_constant
from .methods import CLASSLESS_METHODS, SIGNED_METHODS
from .photo import Photo
from .serialize import read_fields, to_dict
from .target_classes import above_threshold, label_names_of, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from .regions import Boxes

    #: Pictures to draw on, see :meth:`Explanation.overlay`.
    Pictures = Union[torch.Tensor, np.ndarray, Sequence[Union[Image.Image, np.ndarray]]]


@dataclass(frozen=True, eq=False, repr=False)  # comparing tensors does not give one bool
class Explanation:
    """Heatmaps and prediction of a batch.

    Each row is a pair of an image and a target; the rows of an image follow each other. With one
    target per image (an index, a name, a tensor, or ``None`` on a single-label model) there are
    N = B rows, and ``heatmap[i]`` belongs to image i. ``explanation[i]`` always holds the rows of
    image i.

    Attributes:
        heatmap: (N, H, W) float32 in [0, 1] at input size, for clips (N, T, H, W). For the signed
            methods (contribution, affinity, rivals, difference) it is the evidence for the target;
            see :attr:`evidence`.
        raw: (N, *grid) float32, the map before it is normalised, at the backbone's grid.
        constant: (N,) float32. Where ``exact``, ``raw[n].mean() + constant[n]`` is the row's logit
            (for ``"difference"`` the difference of the two logits; for ``"rivals"`` the logit less
            those of the other classes, each times a third of its probability).
        logits: (B, num_classes), in the model's dtype.
        gate: SE vectors, (B, C).
        class_gate: Class gate of each row, (N, C), of class-gate maps; else None. Channels are
            selected from it as from the gate.
        image_index: Image of each row, (N,) long.
        target: Class index of each row.
        versus: Class that each row is compared with (``"difference"`` only), or its classes.
        versus_weights: Weight of each of these classes.
        method: ``"contribution"``, ``"affinity"``, ``"rivals"``, ``"support"``, ``"class_gate"``,
            ``"gate"``, ``"difference"`` or ``"activation"``.
        normalize: ``"image"``, or the raw value that is drawn as 1.
        placement: Where the cells of ``raw`` lie in the input, and the model's ``map_offset``, by
            which heatmap and evidence are moved; ``raw`` and ``constant`` are as the model has
            them.
        exact: Whether the map adds up to the logit; checked on this batch, not assumed.
        weights: Where the channel weights come from: ``"folded"`` (classifier and norm),
            ``"sources"`` (the same, and patches of a transformer gave back what they took from
            each other by attention),
            ``"gradient"`` (of the head alone), ``"attention"`` (class-token head: what each patch
            adds to the logit through the attentions; the rest is in ``constant``),
            ``"projection"`` (other class-token heads: the class token's weights on the patch
            tokens), ``"gate"``, ``"mean"``, or ``"mixed"``.
        label_names: Label names of all classes, if the model has any.
        multi_label: Whether probabilities are sigmoids (else softmax).
        thresholds: Probability above which each label of a multi-label model holds; None: one half.
        images: The given images, (B, 3, H, W), or clips, (B, 3, T, H, W); not copied.
        mean: Channel means that the images were normalised with.
        std: Channel standard deviations that the images were normalised with.
        photos: The photo of each image and the region that the model saw; None if a tensor was
            explained.
        selection: Selected channels and rules, if they are known otherwise than from the gates, as
            of an explanation that was read from a file.
    """

    heatmap: torch.Tensor
    raw: torch.Tensor
    constant: torch.Tensor
    logits: torch.Tensor
    gate: torch.Tensor
    class_gate: Optional[torch.Tensor]
    image_index: torch.Tensor
    target: Tuple[int, ...]
    versus: Optional[Tuple[Union[int, Tuple[int, ...]], ...]]
    versus_weights: Tuple[float, ...]
    method: str
    normalize: Union[str, float]
    placement: Placement
    exact: bool
    weights: str
    label_names: Optional[Tuple[str, ...]]
    multi_label: bool
    thresholds: Optional[Tuple[float, ...]]
    images: torch.Tensor
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    photos: Optional[Tuple[Photo, ...]] = None
    selection: Optional[Selection] = None

    def __repr__(self) -> str:
        size = f"{counted(len(self), 'image')}, {counted(len(self.target), 'row')}"
        return (
            f"Explanation({size}: {', '.join(self.labels[:4])}"
            f"{', ...' if len(self.target) > 4 else ''}; {self.method}, {self.weights}, "
            f"{'exact' if self.exact else 'not exact'}, grid {self.native_grid})"
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return self.logits.shape[0]

    def __getitem__(self, index: int) -> "Explanation":
        """Return the explanation of one image, as a batch of one.

        Args:
            index: Number of the image; negative numbers count from the end.

        Raises:
            IndexError: If there is no such image.
            TypeError: If the index is not an integer.
        """
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no image {index}; the explanation has {len(self)}.")
        image = index % len(self)
        rows = [n for n, i in enumerate(self.image_index.tolist()) if i == image]
        one = slice(image, image + 1)
        selection = self.selection
        if selection is not None:
            chosen = rows if self.method == "class_gate" else [image]
            rule = tuple(selection.rule[n] for n in chosen)
            selection = Selection(selection.mask[chosen], rule)
        return replace(
            self,
            heatmap=self.heatmap[rows],
            raw=self.raw[rows],
            constant=self.constant[rows],
            logits=self.logits[one],
            gate=self.gate[one],
            class_gate=None if self.class_gate is None else self.class_gate[rows],
            image_index=torch.zeros_like(self.image_index[rows]),
            target=tuple(self.target[n] for n in rows),
            versus=None if self.versus is None else tuple(self.versus[n] for n in rows),
            images=self.images[one],
            photos=None if self.photos is None else self.photos[one],
            selection=selection,
        )

    @cached_property
    def _selection(self) -> Selection:
        if self.selection is not None:
            return self.selection
        return select_channels(self.gate if self.class_gate is None else self.class_gate)

    @property
    def selected(self) -> torch.Tensor:
        """Channels that the gate selects, (B, C) bool; with a class gate those of each row, (N, C).

        :func:`se_zoo.channel_logits` keeps or drops them.
        """
        return self._selection.mask

    @property
    def rule(self) -> Tuple[str, ...]:
        """The rule that selected the channels: ``"threshold"`` or ``"rank"``.

        Of each image; with a class gate, of each row.
        """
        return self._selection.rule

    @property
    def native_grid(self) -> Tuple[int, ...]:
        """Size of the raw map, (rows, columns), for clips (time steps, rows, columns).

        The heatmap is interpolated from it.
        """
        return tuple(self.raw.shape[1:])

    @property
    def is_clip(self) -> bool:
        """Whether the explained inputs are clips, whose maps have a time axis."""
        return self.heatmap.dim() == 4

    @property
    def frame_weights(self) -> torch.Tensor:
        """Mean of the raw map over each frame of a clip, (N, T).

        Where the backbone has fewer time steps than the clip has frames, it is interpolated
        linearly. For an exact map, its mean over the frames plus ``constant`` is what the map
        explains (see ``constant``), up to the error of the interpolation.

        Raises:
            InvalidInputError: If the explained inputs are images.
        """
        if not self.is_clip:
            raise InvalidInputError("The explained inputs are images; only clips have frames.")
        steps = self.raw.flatten(2).mean(2)  # (N, T'), one mean per time step of the backbone
        frames = self.heatmap.shape[1]
        return F.interpolate(steps[:, None], frames, mode="linear", align_corners=False)[:, 0]

    def temporal(self) -> "Figure":
        """Plot the frame weights over the frames.

        Returns:
            A matplotlib figure with one line per row.

        Raises:
            InvalidInputError: If the explained inputs are images.
        """
        from .draw.clips import draw_temporal

        return draw_temporal(self)

    @property
    def signed(self) -> bool:
        """Whether the map also holds evidence against its target (negative values)."""
        return self.method in SIGNED_METHODS

    @property
    def evidence(self) -> torch.Tensor:
        """Signed map: evidence for (> 0) and against (< 0) the target, in [-1, 1].

        (N, H, W) float32 at input size, for clips (N, T, H, W). With ``normalize="image"`` the
        largest absolute value of each row is 1; otherwise the raw value ``normalize`` is 1. For
        methods that are not signed, this is the heatmap.
        """
        if not self.signed:
            return self.heatmap
        if self.normalize == "image":
            scale = self.raw.abs().flatten(1).amax(1)
            scale = torch.where(is_constant(self.raw), torch.full_like(scale, math.inf), scale)
        else:
            scale = torch.full_like(self.constant, float(self.normalize))
        maps = self.raw / scale.view((-1,) + (1,) * (self.raw.dim() - 1))
        return at_input_size(maps, tuple(self.heatmap.shape[1:]), self.placement).clamp(-1, 1)

    @property
    def empty(self) -> Tuple[bool, ...]:
        """Whether the heatmap of each row is 0 everywhere; of a clip, in all its frames.

        In the picture of such a row nothing is red. An empty map says that its method found no
        place to mark. It does not say that nothing speaks for the label, nor that the label is
        improbable: a class-gate map is empty where the selected channels nowhere exceed the mean of
        all channels, and the contribution map of the same logit may hold much for the label. An
        empty contribution map says that no cell speaks for the label; :attr:`evidence` may still
        hold what speaks against it.
        """
        return tuple((self.heatmap.flatten(1).amax(1) <= 0).tolist())

    @property
    def labels(self) -> Tuple[str, ...]:
        """Label name of each row's target; the class index as text if the model has no names."""
        return label_names_of(self.target, self.label_names)

    @property
    def versus_labels(self) -> Tuple[str, ...]:
        """Label name of the class that each row is compared with; empty without ``versus``.

        Several classes are joined by ``" + "``.
        """
        return tuple(
            " + ".join(label_names_of(row, self.label_names)) for row in self._versus_rows()
        )

    def _versus_rows(self) -> List[Tuple[int, ...]]:
        """Return the classes that each row is compared with; empty without ``versus``."""
        return [(row,) if isinstance(row, int) else row for row in self.versus or ()]

    @property
    def probabilities(self) -> torch.Tensor:
        """(B, num_classes) float32: sigmoid for multi-label models, softmax otherwise."""
        logits = self.logits.float()
        return logits.sigmoid() if self.multi_label else logits.softmax(1)

    @property
    def predicted(self) -> torch.Tensor:
        """Predicted classes, (B, num_classes) bool.

        For a multi-label model these are all labels whose probability exceeds their threshold,
        possibly none; for other models it is the top-1 class.
        """
        if self.multi_label:
            return above_threshold(self.logits.float(), self.thresholds) > 0
        top = torch.zeros_like(self.logits, dtype=torch.bool)
        return top.scatter_(1, self.logits.argmax(1, keepdim=True), True)

    @property
    def row_probability(self) -> torch.Tensor:
        """Probability of each row's target, (N,)."""
        targets = torch.tensor(self.target, device=self.logits.device, dtype=torch.long)
        return self.probabilities[self.image_index, targets]

    def captions(self) -> List[Tuple[str, str]]:
        """Return what each row is of, and its probability.

        Returns:
            For each row its label (with the label it is compared with) and the label's
            probability, such as ``("Wearing Hat", "71 %")``. Underscores of a name are spaces, of
            synonyms ("tench, Tinca tinca") the first is taken where it is no other label's, and a
            label without a name is ``"class 3"``. For methods that are the same for every class
            there is only the method's name.
        """
        if self.method in CLASSLESS_METHODS:
            return [(f"{self.method} map", "")] * len(self.target)
        names = [self._readable((target,)) for target in self.target]
        if self.versus is not None:
            others = [self._readable(row) for row in self._versus_rows()]
            names = [f"{a} (not {b})" for a, b in zip(names, others, strict=True)]
        if self.weights == "projection":
            names = [f"{name}, projected" for name in names]
        values = [f"{100 * p:.0f} %" for p in self.row_probability.tolist()]
        return list(zip(names, values, strict=True))

    def _readable(self, classes: Sequence[int]) -> str:
        """Return the short names of classes, joined by ``" + "``; captions are short."""
        if not self.label_names:
            return f"class {' + '.join(map(str, classes))}"
        return " + ".join(self._short_names[index] for index in classes)

    @cached_property
    def _short_names(self) -> List[str]:
        return short_names(self.label_names or ())

    def titles(self) -> List[str]:
        """Return a short title for each row.

        Returns:
            Label and probability as in :meth:`captions`, such as ``"Wearing Hat: 71 %"``.
        """
        return [f"{name}: {value}" if value else name for name, value in self.captions()]

    def overlay(
        self, images: "Optional[Pictures]" = None, alpha: float = ALPHA, cmap: Optional[str] = None
    ) -> "Union[np.ndarray, List[np.ndarray]]":
        """Draw the maps over their images.

        The images are drawn in grey, so that colour means evidence: red speaks for the target,
        blue against it. Maps without a sign are red. What the model did not see is pale.

        Args:
            images: Pictures to draw on; by default the explained photos or images. They show what
                the model saw, at any size with the input's aspect ratio: a normalised
                (B, 3, H, W) tensor, a uint8 (B, H, W, 3) array, or a list of PIL images or arrays.
                For explained photos they may also be the photos at another size. Clips have T in
                front of H.
            alpha: Opacity of the strongest spots, in [0, 1]; 0 leaves the images as they are.
            cmap: Name of a matplotlib colour map to use instead; for signed maps its middle is
                zero.

        Returns:
            (N, H, W, 3) uint8, for clips (N, T, H, W, 3); for photos of different sizes a list of
            N arrays. Photos have their own size, but at most 2,048 pixels on the longer side.

        Raises:
            InvalidInputError: If the pictures do not fit the explanation, or ``alpha`` is outside
                [0, 1].
        """
        from .draw.images import overlay

        return overlay(self, images, alpha, cmap)

    def grid(
        self,
        images: "Optional[Pictures]" = None,
        alpha: float = ALPHA,
        cmap: Optional[str] = None,
        names: Optional[Sequence[str]] = None,
    ) -> "Image.Image":
        """Draw each image and its overlays side by side, with captions and a legend.

        Of a photo whose face was found, the overlays show the framed face, unless it fills the
        photo.

        Args:
            images: Pictures to draw on, as in :meth:`overlay`.
            alpha: Opacity of the strongest spots, in [0, 1].
            cmap: Name of a matplotlib colour map, as in :meth:`overlay`.
            names: Caption of each image; by default the photo's file name or its number.

        Returns:
            A picture with one line per image, and another one for every six maps more; for clips
            one line of frames per clip and map. Its tiles are as large as the photos, but at most
            1,024 pixels on the longer side, and less where there are many.

        Raises:
            InvalidInputError: As :meth:`overlay`.
        """
        from .draw.save import grid

        return grid(self, images, alpha, cmap, names)

    def save(
        self,
        path: Union[str, "os.PathLike[str]"],
        images: "Optional[Pictures]" = None,
        facts: Optional[Dict[str, Any]] = None,
        fps: float = 25.0,
        alpha: float = ALPHA,
        cmap: Optional[str] = None,
        names: Optional[Sequence[str]] = None,
    ) -> None:
        """Write the picture, and :meth:`to_dict` as JSON beside it.

        Both files are written, or neither.

        Args:
            path: Picture to write: ``.png`` for :meth:`grid`; for clips also ``.mp4``, a video of
                the overlays. The JSON has the same name with the ending ``.json``.
            images: Pictures to draw on, as in :meth:`overlay`.
            facts: Further JSON entries, such as the model's name.
            fps: Frames per second of a video.
            alpha: Opacity of the strongest spots, in [0, 1].
            cmap: Name of a matplotlib colour map, as in :meth:`overlay`.
            names: Caption of each image; by default the photo's file name or its number.

        Raises:
            InvalidInputError: If the path has another ending, its folder does not exist, the
                pictures do not fit, or PyAV is not installed for a video.
        """
        from .draw.save import save

        save(self, path, images, facts, fps, alpha, cmap, names)

    def show(self) -> None:
        """Show :meth:`grid`: in a notebook below the cell, else in the system's image viewer.

        In a notebook it is enough to name an explanation on a cell's last line.

        Raises:
            InvalidInputError: If the explanation was loaded from a file, which keeps no pixels.
        """
        from .draw.save import show

        show(self)

    def _repr_png_(self) -> Optional[bytes]:
        """Return the picture that a notebook shows; None if there are no pixels to draw on."""
        from .draw.save import as_png

        return as_png(self)

    def boxes(self, threshold: float = 0.5) -> "Boxes":
        """Return a box around each spot of strong evidence for a row's target.

        With supervision: ``Detections(found.xyxy, class_id=found.class_id,
        confidence=found.confidence)``.

        Args:
            threshold: Value of the heatmap from which evidence is strong, in (0, 1].

        Returns:
            M boxes in pixels of the photos, of tensors in pixels of the input, in the order of the
            rows: ``xyxy``, (M, 4) float32, and ``row``, ``class_id`` and ``confidence``, (M,). A
            row without strong evidence has none.

        Raises:
            InvalidInputError: If the explained inputs are clips, or the threshold is out of range.
        """
        from .regions import boxes

        return boxes(self, threshold)

    def to_masks(self, threshold: float = 0.5) -> "Union[np.ndarray, List[np.ndarray]]":
        """Return where the evidence for each row's target is strong.

        Args:
            threshold: Value of the heatmap from which evidence is strong, in (0, 1].

        Returns:
            (N, H, W) bool, of the size of the photos, of tensors of the input's; for photos of
            different sizes a list of N masks.

        Raises:
            InvalidInputError: If the explained inputs are clips, or the threshold is out of range.
        """
        from .regions import masks

        return masks(self, threshold)

    @staticmethod
    def load(path: Union[str, "os.PathLike[str]"]) -> "Explanation":
        """Read an explanation that :meth:`save` wrote.

        Pixels are not kept: ``images`` is empty, so give the pictures to draw on to
        :meth:`overlay`, :meth:`grid` or :meth:`save`: ``images=[...]``. Numbers have six decimals;
        the heatmap is computed again from the map.

        Args:
            path: The ``.json`` file, or the picture beside it.

        Returns:
            The explanation, on the CPU.

        Raises:
            InvalidInputError: If the file does not exist, or holds no explanation.
        """
        return Explanation(**read_fields(path))

    def to_dict(self) -> Dict[str, Any]:
        """Return everything but pixels, ready for JSON.

        Returns:
            Method and options; for each row its target, probability, raw map, and whether its
            heatmap is :attr:`empty`; for each image its probabilities, logits, gate and selected
            channels. Numbers have six decimals. ``format_version`` is 1; :meth:`load` refuses
            files with another one.
        """
        return to_dict(self)
