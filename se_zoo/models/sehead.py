"""Define the SE head as a mixin for timm classes; :mod:`.attach` puts it on a model.

The block acts in ``forward_head``, so ``forward_features`` and ``forward_intermediates`` are the
backbone's own. The model stays an instance of its timm class, and its state dict has the same names
plus ``se.*``.

The file is long because a user's one class lies here with all its documentation.
"""

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from ..errors import InvalidInputError
from ..explanations import Explanation
from ..explanations import channel_logits as _channel_logits
from ..explanations import explain as _explain
from ..explanations.photo import Photo
from ..explanations.target_classes import Target, Versus
from ..layers import FrameLayout, Layout
from ..layers.grid import Features
from ._timm import TimmModel
from .classifiers import classes_of
from .head_options import check_head_options
from .input_size import input_channels, input_size
from .label_lists import imagenet_labels
from .pretrained.config_check import check_label_names

if TYPE_CHECKING:
    from ..data.photos import Photos
    from ..explanations.se_model import Face, Images

#: Arguments of the SE head and their defaults.
SE_DEFAULTS: Dict[str, Any] = {
    "reduction": 16, "gate": "identity", "multi_label": False, "thresholds": None,
    "map_offset": (0.0, 0.0), "map_method": None,
}  # fmt: skip


#: Attributes that an SE model has in addition to its modules and layout.
SE_ATTRIBUTES = ("se_args", "multi_label", "thresholds", "map_offset", "map_method")


class NoGate(nn.Module):
    """Take the place of a pruned SE block and pass every channel unchanged."""

    trained = False

    def excite(self, squeezed: torch.Tensor) -> torch.Tensor:
        """Return a gate of ones, (B, C)."""
        return torch.ones_like(squeezed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features unchanged."""
        return x


class SEHeadMixin(TimmModel):
    """Add an SE head to a timm class: gate, labels and explanations.

    Attributes:
        se: The SE block; its parameters are the state dict's ``se.*``.
        se_layout: How ``forward_features`` lays out its result.
        se_args: ``reduction`` and ``gate``, as ``timm_sehead`` takes them.
        multi_label: Whether the classes are independent yes/no labels.
        thresholds: Probability above which each label of a multi-label model is answered with
            yes, (num_classes,); None: one half.
        map_offset: Offset (x, y) of this model's maps from the evidence, in pixels; (0, 0) until
            it is measured.
        map_method: Default method of ``explain``; None: contribution maps.
        explains: Whether the model has an SE head, so that it can be explained and saved.
        takes_clips: Whether inputs are clips (B, C, T, H, W), with a time axis.
        noun: What one sample is called.
        map_input: Name of the input that heatmaps lie on; see :meth:`example_inputs`.
        fixed_labels: Labels that belong to the architecture; None: any labels.
        class_prefix: Beginning of the names of classes that are made from this one.
    """

    if TYPE_CHECKING:  # TorchScript reads the annotations that are there at run time
        explains: bool
        takes_clips: bool
        noun: str
        map_input: str
        fixed_labels: Optional[Tuple[str, ...]]
        class_prefix: str
        se: Any
        se_layout: Union[Layout, FrameLayout]
        se_args: Dict[str, Any]
        multi_label: bool
        thresholds: Optional[Tuple[float, ...]]
        map_offset: Tuple[float, float]
        map_method: Optional[str]
    __jit_unused_properties__: Tuple[str, ...] = ("gate_trained",)
    explains = True
    takes_clips = False
    noun = "image"
    map_input = "x"
    fixed_labels = None
    class_prefix = ""

    def gate(self, features: Features) -> torch.Tensor:
        """Return the gate (SE vector) of each image.

        Args:
            features: Result of ``forward_features``.

        Returns:
            Gates, (B, C), in the dtype of the block's linear layers (half precision under
            autocast).
        """
        return self.se.excite(self.se_layout.squeeze(features))

    def gated(self, features: Features, gate: Optional[torch.Tensor] = None) -> Features:
        """Return the features multiplied by the gate.

        Args:
            features: Result of ``forward_features``.
            gate: Gates to use instead of the model's own, (B, C).

        Returns:
            Gated features in the backbone's own layout.
        """
        return self.se_layout.scale(features, self.gate(features) if gate is None else gate)

    def classify(self, gated: Any, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features.

        Args:
            gated: Result of :meth:`gated`.
            pre_logits: Return what the classifier would read.

        Returns:
            Logits, (B, num_classes), or with ``pre_logits`` the classifier's input.
        """
        return super().forward_head(gated, pre_logits=pre_logits)

    def feature_grid(
        self, features: Features, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """Return the features with the channels second and the grid behind them.

        Args:
            features: Result of ``forward_features``, or gated features.
            image_size: (H, W) of the images in pixels; needed for tokens.

        Returns:
            Features, (B, C, H', W'), of clips (B, C, T', H', W').

        Raises:
            ValueError: If the features do not fit the layout.
        """
        return self.se_layout.to_grid(features, image_size)

    def class_labels(self) -> Optional[Sequence[str]]:
        """Return the label names of the classes in order, or None.

        They are those of the config, if it is of as many classes as the classifier has. A model
        with 1,000 classes and without names has ImageNet-1k's if its config names that as the
        training set (tag ``*in1k``).

        Raises:
            InvalidInputError: If the config's names are not one text for each class.
        """
        cfg, classes = self._config(), classes_of(self)
        names = cfg.get("label_names")
        if names is not None and cfg.get("num_classes") == classes:
            try:
                check_label_names(names, classes)
            except ValueError as error:
                raise InvalidInputError(f"model.pretrained_cfg is wrong: {error}") from None
        if isinstance(names, (list, tuple)) and 0 < len(names) == classes:
            return tuple(names)
        tag = cfg.get("tag") or ""
        return imagenet_labels() if tag.endswith("in1k") and classes == 1000 else None

    def image_stats(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        """Return mean and standard deviation of the normalisation, of each channel.

        They are those of the config, or ImageNet's, as in timm's ``resolve_data_config``. A model
        that was made for another number of channels has their mean for each channel.
        """
        cfg, channels = self._config(), input_channels(self)[0]
        mean, std = cfg.get("mean"), cfg.get("std")
        stats = (tuple(mean or IMAGENET_DEFAULT_MEAN), tuple(std or IMAGENET_DEFAULT_STD))
        fit = (v if len(v) == channels else (sum(v) / len(v),) * channels for v in stats)
        return next(fit), next(fit)

    def input_shape(self) -> Tuple[int, ...]:
        """Return the shape of one input of the model as it is: (C, H, W), of clips (C, T, H, W)."""
        return (input_channels(self)[0], *input_size(self))

    @property
    def gate_trained(self) -> bool:
        """Whether the gate can say anything: False for an identity gate that was never trained."""
        return self.se.trained

    def example_inputs(self, count: int = 1, seed: int = 0) -> Dict[str, torch.Tensor]:
        """Return random inputs of the size that the model is made for.

        Args:
            count: Number of inputs, B.
            seed: Seed of the random numbers.

        Returns:
            ``x``, (B, C, H, W) or (B, C, T, H, W), float32, on the CPU, from a normal distribution.
        """
        generator = torch.Generator().manual_seed(seed)
        return {"x": torch.randn(count, *self.input_shape(), generator=generator)}

    def _config(self) -> Dict[str, Any]:
        # A model that was made by hand, not by timm's factory, has no config.
        return getattr(self, "pretrained_cfg", None) or {}

    def head_args(self) -> Dict[str, Any]:
        """Return the arguments that make this SE head again, as ``config.json`` keeps them."""
        found = {**self.se_args, "multi_label": self.multi_label, "thresholds": self.thresholds,
                 "map_offset": self.map_offset, "map_method": self.map_method}  # fmt: skip
        return {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in found.items()
            if k in ("gate", "reduction") or v != SE_DEFAULTS[k]
        }

    def save_args(self) -> Dict[str, Any]:
        """Return the arguments of the architecture that make the model again, as it is now."""
        made_with = getattr(self, "_model_args", {})
        return {
            **{k: v for k, v in made_with.items() if k not in SE_DEFAULTS},
            **self.head_args(),
        }

    def check_options(self) -> None:
        """Check the options of the head, which may have been set since it was made.

        Raises:
            InvalidInputError: If ``thresholds``, ``map_offset`` or ``map_method`` cannot be.
        """
        given = self.thresholds, self.map_offset, self.map_method
        check_head_options(self.num_classes, bool(self.multi_label), *given)

    def is_multi_label(self) -> bool:
        """Return whether the classes are independent labels (sigmoid) or exclusive (softmax)."""
        return bool(self.multi_label) or self.num_classes == 1

    def read_photos(
        self, photos: "Photos", face: "Face" = False
    ) -> Tuple[torch.Tensor, Tuple[Photo, ...]]:
        """Read and preprocess photos as the model's config says.

        Args:
            photos: A path, a PIL image, a uint8 array (H, W, 3), RGB, or a list of these.
            face: Whether to find the face in each photo first, and how; see :meth:`explain`.

        Returns:
            Normalised images, (B, 3, H, W) float32 on the CPU, and what each shows of its photo.

        Raises:
            InvalidInputError: If a photo cannot be read or has no face, or the model takes none.
        """
        from .photos import prepare_photos

        return prepare_photos(self, photos, face)

    def explain(
        self,
        images: "Images",
        target: Target = None,
        method: Optional[str] = None,
        *,
        versus: Versus = None,
        normalize: Union[str, float] = "image",
        face: "Face" = False,
    ) -> Explanation:
        """Predict and explain photos or a batch; see :func:`se_zoo.explain`.

        Args:
            images: A photo (a path, a PIL image, a uint8 array (H, W, 3)) or a list of photos of
                any size; or normalised images, (B, C, H, W), or clips, (B, C, T, H, W).
            target: Class index, label name, several of them, or None for the predicted ones.
            method: Which map; the model's ``map_method`` by default.
            versus: The other class of a difference map, or several; see :func:`se_zoo.explain`.
            normalize: ``"image"``, or the raw value that is drawn as 1.
            face: Whether to find and frame the face in each photo: True, the path of a YuNet ONNX
                file, or a :class:`~se_zoo.FaceFinder`.

        Returns:
            The explanation.

        Raises:
            InvalidInputError: If images, method or options cannot be used.
            UnknownLabelError: If the model does not have a target.
        """
        return _explain(self, images, target, method, versus=versus, normalize=normalize, face=face)

    def has_exact_maps(self) -> bool:
        """Return whether contribution maps add up to the logits; it explains one random input."""
        if not self.num_classes:
            return False
        generator = torch.Generator().manual_seed(0)  # the caller's random numbers stay as they are
        image = torch.randn(1, *self.input_shape(), generator=generator)
        return self.explain(image, method="contribution").exact

    def output_differences(
        self, other: "SEHeadMixin", inputs: Dict[str, torch.Tensor]
    ) -> List[str]:
        """Compare the outputs of two models, bit by bit.

        Args:
            other: A model that takes the same inputs; both models are in eval mode.
            inputs: What :meth:`example_inputs` returns.

        Returns:
            Those of "logits", "heatmap" and "gate" that differ.
        """
        mine, theirs = (model.explain(inputs["x"], target=0) for model in (self, other))
        names = ("logits", "heatmap", "gate")
        return [n for n in names if not torch.equal(getattr(mine, n), getattr(theirs, n))]

    def channel_logits(
        self, images: torch.Tensor, keep: Any = None, drop: Any = None
    ) -> torch.Tensor:
        """Predict with some gate channels only; see :func:`se_zoo.channel_logits`.

        Args:
            images: Normalised images, (B, C, H, W), or clips, (B, C, T, H, W).
            keep: Channels to keep; all others are dropped.
            drop: Channels to drop.

        Returns:
            Logits, (B, num_classes).
        """
        return _channel_logits(self, images, keep, drop)

    def reset_classifier(
        self, num_classes: int, *args: Any, multi_label: Optional[bool] = None, **kwargs: Any
    ) -> None:
        """Replace the classifier, as in timm.

        Args:
            num_classes: Number of classes. Another number than before means other labels.
            *args: As timm takes them.
            multi_label: Whether the new classes are independent labels; False by default if there
                are others than before. Thresholds are dropped with the old labels.
            **kwargs: As timm takes them.
        """
        self.forget_labels(num_classes, multi_label)
        super().reset_classifier(num_classes, *args, **kwargs)
        pool = kwargs.get("global_pool", args[0] if args else None)
        if pool is not None:  # saving needs it; not all versions of timm record it
            self._model_args = {**getattr(self, "_model_args", {}), "global_pool": pool}

    def forget_labels(self, num_classes: int, multi_label: Optional[bool]) -> None:
        """Drop what holds for the old labels only, if the classifier is to have others.

        Args:
            num_classes: Number of classes of the new classifier.
            multi_label: Whether they are independent labels; None: as they were.
        """
        if multi_label is not None or num_classes not in (0, self.num_classes):
            self.multi_label, self.thresholds, self.map_method = bool(multi_label), None, None

    def prune_intermediate_layers(self, *args: Any, **kwargs: Any) -> List[int]:
        """Prune layers as in timm; the SE block is removed where the head is.

        Args:
            *args: As timm takes them.
            **kwargs: As timm takes them.

        Returns:
            Indices of the layers that were kept.
        """
        classes = self.num_classes
        kept = super().prune_intermediate_layers(*args, **kwargs)
        # timm's signature is (indices, prune_norm, prune_head), with the head pruned by default.
        prune_head = kwargs.get("prune_head", args[2] if len(args) > 2 else True)
        # Later versions of timm prune it with the last layers, too: it does not fit those before.
        if prune_head or (classes and not self.num_classes):
            self.se = NoGate()
        return kept


class GenericSEHead(SEHeadMixin):
    """Add an SE head to any timm class: the gate, then the class's own ``forward_head``."""

    def forward_head(self, x: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the logits of ungated features; see timm.

        Raises:
            InvalidInputError: If the features are of patches with padding, as timm's NaFlex loader
                makes them: the gate is the mean over all places.
        """
        if kwargs.get("patch_valid") is not None:
            raise InvalidInputError(
                f"{type(self).__name__} takes images of one size, (B, C, H, W), and no patches "
                "with patch_valid: the gate would average their padding, too."
            )
        return super().forward_head(self.gated(x), *args, **kwargs)

    def classify(self, gated: Any, pre_logits: bool = False) -> torch.Tensor:
        """Run the backbone's own head on gated features; see :meth:`SEHeadMixin.classify`."""
        kwargs = {"pre_logits": True} if pre_logits else {}  # some timm heads lack the argument
        return super().forward_head(gated, **kwargs)
