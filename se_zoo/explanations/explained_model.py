"""Prediction and explanation as one module, which can be compiled and exported."""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union, cast

import torch
from torch import nn

from ..errors import InvalidInputError
from . import heads, maps
from .affinity import share_each
from .class_token import (
    TokenTrace,
    classifiers,
    fold_tokens,
    is_traced,
    reads_class_token,
    traced_features,
)
from .classifier_rows import LinearRows
from .explainer import warn_untrained
from .methods import (
    CLASSLESS_METHODS,
    COMPETING_METHODS,
    FROM_ZERO_METHODS,
    SHARED_PARTS,
    default_method,
    offered_methods,
)
from .rivals import shares_of
from .se_model import (
    SEModel,
    backbone_features,
    check_float32,
    check_images,
    check_model,
    label_names,
    placement_of,
    uncompiled,
)
from .target_classes import Target, classes_asked, label_index
from .token_attention import give_back, is_taken_apart, patch_parts


class ExplainedModel(nn.Module):
    """A module that returns logits, heatmaps and gate of images in one forward pass.

    It computes the maps of :func:`se_zoo.explain` for a fixed list of classes. No operation
    depends on the values of tensors, so ``torch.compile``, ``torch.export`` and ONNX take the whole
    module. Maps that need a gradient cannot be exported; the contribution map of a head of average
    pooling, norm and linear layer needs none, nor that of a plain class-token ViT. The classifier's
    rows are copied, so create the module again after further training.

    Args:
        model: Model with an SE head, in float32; it is put into eval mode.
        method: ``"contribution"``, ``"affinity"``, ``"rivals"``, ``"support"``, ``"class_gate"``,
            ``"gate"`` or ``"activation"``; by default the model's ``map_method``, or else
            ``"contribution"``.
        targets: Class of the maps, by index or label; or several in a list, tensor or array; by
            default all. Gate and activation maps are the same for every class.
        normalize: As in :func:`se_zoo.explain`.
        raw: Return the maps before they are normalised and resized, at the backbone's own grid.

    Attributes:
        targets: Class index of each map; empty for maps that are the same for every class.
        inputs: Name of the tensor that it takes.
        outputs: Names of the three tensors that it returns.

    Raises:
        InvalidInputError: For options that cannot be used, and for a head whose contribution map is
            not exact, because it would need the head's gradient.
    """

    inputs: Tuple[str, ...] = ("images",)
    outputs: tuple[str, str, str]
    normalize: Union[str, float]

    def __init__(
        self,
        model: nn.Module,
        method: Optional[str] = None,
        targets: Target = None,
        normalize: Union[str, float] = "image",
        raw: bool = False,
    ):
        super().__init__()
        model = uncompiled(model)
        wanted = classes_asked(targets)
        method = default_method(model) if method is None else method
        multi_label = check_model(model).is_multi_label()
        offered = offered_methods(multi_label, getattr(model, "num_classes", 0))
        if method not in offered:
            raise InvalidInputError(
                f"Unknown method {method!r}; the methods of this model here are "
                f"{', '.join(offered)}."
            )
        if wanted is not None and (method in CLASSLESS_METHODS or not wanted):
            raise InvalidInputError(
                "targets must name at least one class, and are for maps of a class only, because "
                f"gate and activation maps know no class; got {targets!r} for {method!r}."
            )
        check_float32(model)
        self.model = model
        # Before the first forward pass, which would change BatchNorm's statistics in train mode.
        self.eval()
        self.method = method
        self.normalize = maps.check_normalize(normalize)
        if method == "gate" and not getattr(model, "gate_trained", True):
            warn_untrained()
        self.raw = raw
        self.outputs = ("logits", "raw" if raw else "heatmap", "gate")
        self.targets: Tuple[int, ...] = ()
        self._traced = False  # whether the map needs the tokens around a transformer's blocks
        # Path of the norm in the model; as a submodule of this module it would be saved twice.
        self._norm_path: Tuple[str, ...] = ()
        if method not in CLASSLESS_METHODS:
            # The rows that are kept are float32 wherever the module is created.
            with torch.autocast(next(model.parameters()).device.type, enabled=False):
                self._fold(wanted)

    @property
    def se_model(self) -> SEModel:
        """The model, typed by its interface."""
        return cast(SEModel, self.model)

    @torch.no_grad()
    def _fold(self, targets: Optional[Sequence[Union[int, str]]]) -> None:
        """Find the norm and the classifier rows that give the channel weights."""
        se_model, shape = self.se_model, self.model.input_shape()  # type: ignore[operator]
        # Any image will do, because it only serves to check the form of the head.
        noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        images = check_images(self.model, noise)
        native = backbone_features(se_model, images)
        logits = se_model.forward_head(native)
        count = logits.shape[1]
        labels = label_names(se_model, count)
        wanted = range(count) if targets is None else targets
        self.targets = tuple(label_index(target, labels, count) for target in wanted)
        classes = torch.tensor(self.targets, device=images.device)
        grid, gate = se_model.feature_grid(native, shape[-2:]), se_model.gate(native)
        pooled = (grid.flatten(2).mean(2) * gate).expand(len(classes), -1)
        form = heads.find_form(
            self.model, grid.shape[1], pooled.dtype,
            lambda: heads.probe_head(
                self.model, native, lambda view: se_model.feature_grid(view, shape[-2:])
            ),
        )  # fmt: skip
        if form is not None:
            folded = heads.fold_norm(
                form.norm, *heads.rows_of(form.classifier, classes, pooled.dtype), pooled
            )
            fit = [t.cpu().numpy() for t in (*heads.fit_of(folded, pooled), logits[0, classes])]
            form = form if heads.agrees(fit, logits.dtype) else None
        if form is None and self.method != "class_gate" and reads_class_token(self.model):
            self._traced = is_taken_apart(self.model, traced_features(self.model, images)[1])
        if self._traced:
            self._copy_rows(classifiers(self.model), classes, pooled.dtype)
            return
        if form is None:
            pooled_by = getattr(self.model, "global_pool", None)
            more = ', or create the model with global_pool="avg"' if pooled_by == "token" else ""
            raise InvalidInputError(
                f"The head of {type(self.model).__name__} is not average pooling, norm and a "
                f"linear layer, so its {self.method} map would need a gradient; use the method "
                f'"gate" or "activation"{more}.'
            )
        if is_traced(self.model, self.method):
            self._traced = is_taken_apart(self.model, traced_features(self.model, images)[1])
        if form.norm is not None:
            name = next(n for n, m in self.model.named_modules() if m is form.norm)
            self._norm_path = tuple(name.split("."))
        self._copy_rows([form.classifier], classes, pooled.dtype)

    def _copy_rows(
        self,
        linears: Sequence[Union[nn.Module, LinearRows]],
        classes: torch.Tensor,
        dtype: torch.dtype,
    ) -> None:
        """Keep the rows of one classifier, or of each token's, (R, N, C) and (R, N)."""
        wanted: Dict[str, Optional[torch.Tensor]] = {"": classes}
        if self.method in COMPETING_METHODS:
            wanted["all_"] = None
            self.register_buffer("chosen", classes, persistent=False)
        for prefix, targets in wanted.items():
            rows = [heads.rows_of(linear, targets, dtype) for linear in linears]
            for name, values in zip(("weight", "bias"), zip(*rows, strict=True), strict=True):
                self.register_buffer(prefix + name, torch.stack(values), persistent=False)

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict and explain.

        Args:
            images: Normalised, (B, C, H, W), or of clip models (B, C, T, H, W).

        Returns:
            Logits, (B, num_classes); heatmaps in [0, 1], (B, N, *size) for N targets, with N = 1
            for maps that are the same for every class, or raw maps, (B, N, *grid); gate,
            (B, channels).
        """
        trace: Optional[TokenTrace] = None
        if self._traced:
            native, trace = traced_features(self.model, images)
        else:
            native = self.se_model.forward_features(images)
        logits = self.se_model.forward_head(native)
        gate = self.se_model.gate(native)
        grid = self.se_model.feature_grid(native, (images.shape[-2], images.shape[-1]))
        if trace is None or trace.patches:
            raw = self._weighted(grid, gate, logits, trace)
        else:
            raw = self._attended(trace, gate, logits)
        raw = raw.unflatten(2, grid.shape[2:])
        if part := SHARED_PARTS.get(self.method):
            raw = share_each(raw, grid, part)
        if self.raw:
            return logits, raw, gate
        count = raw.shape[1]
        raw = raw.flatten(0, 1)
        from_zero, size = self.method in FROM_ZERO_METHODS, tuple(images.shape[2:])
        placement = placement_of(self.model, tuple(grid.shape[2:]), size)
        heatmap = maps.to_heatmap(raw, from_zero, self.normalize, size, placement)
        return logits, heatmap.unflatten(0, (-1, count)), gate

    def _weighted(
        self, grid: torch.Tensor, gate: torch.Tensor, logits: torch.Tensor,
        trace: Optional[TokenTrace],
    ) -> torch.Tensor:  # fmt: skip
        """Return weighted sums of the channels, (B, N, P)."""
        weights, places = self._weights(grid, gate, logits), grid.flatten(2)  # (B, N, C), (B, C, P)
        raw = torch.einsum("bnc,bcp->bnp", weights, places)
        if self.method == "support":
            raw = maps.support(raw, torch.einsum("bnc,bcp->bnp", weights.abs(), places.abs()))
        return raw if trace is None else give_back(self.model, trace, weights, raw)

    def _rows(self, logits: torch.Tensor) -> List[Tuple[torch.Tensor, torch.Tensor]]:
        """Return the rows of each classifier, less those of rivals, (B * N, C) and (B * N).

        Args:
            logits: (B, K).
        """
        weight, bias = cast(torch.Tensor, self.weight), cast(torch.Tensor, self.bias)
        # expand, not repeat, which would write the batch size into the graph as a constant.
        found = [[t[None].expand(logits.shape[0], *t.shape) for t in each]
                 for each in zip(weight, bias, strict=True)]  # fmt: skip
        if self.method in COMPETING_METHODS:
            shares = shares_of(logits)
            # A class is no rival of its own.
            part = 1 + shares[:, cast(torch.Tensor, self.chosen)]  # (B, N)
            every = zip(
                cast(torch.Tensor, self.all_weight), cast(torch.Tensor, self.all_bias), strict=True
            )
            found = [
                [part[..., None] * own[0] - (shares @ all_[0])[:, None],
                 part * own[1] - (shares @ all_[1])[:, None]]
                for own, all_ in zip(found, every, strict=True)
            ]  # fmt: skip
        return [(rows[0].flatten(0, 1), rows[1].flatten()) for rows in found]

    def _attended(
        self, trace: TokenTrace, gate: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor:
        """Return what each patch adds through the attentions, (B, N, P)."""
        count, rows = len(self.targets), self._rows(logits)
        gates = gate[:, None].expand(-1, count, -1).flatten(0, 1)
        tokens = trace.after[:, None].expand(-1, count, -1, -1).flatten(0, 1)
        folded = fold_tokens(self.model, rows, gates, tokens)
        weight = folded.weight.unflatten(0, (-1, count, len(rows)))
        net, both = patch_parts(self.model, trace, weight)
        net = maps.support(net, both) if self.method == "support" else net
        return net.shape[2] * net

    def _weights(
        self, grid: torch.Tensor, gate: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor:
        """Return the channel weights of each map, gate included, (B, N, C)."""
        if self.method == "activation":
            return torch.full_like(gate, 1 / gate.shape[1])[:, None]
        if self.method == "gate":
            return maps.gate_weights(gate)[:, None]
        count = len(self.targets)
        pooled = grid.flatten(2).mean(2) * gate
        weight, bias = self._rows(logits)[0]
        spread = pooled[:, None].expand(-1, count, -1).flatten(0, 1)
        norm = self.model if self._norm_path else None
        for name in self._norm_path:  # torch 2.6 cannot export get_submodule
            norm = getattr(norm, name)
        folded = heads.fold_norm(norm, weight, bias, spread)
        weights = folded.weight.unflatten(0, (-1, count)) * gate[:, None]
        if self.method != "class_gate":
            return weights
        of_rows = [t[:, None].expand(-1, count, -1).flatten(0, 1) for t in maps.channel_scale(grid)]
        scale = maps.ChannelScale(*of_rows)
        drawn, _ = maps.class_gate_weights(weights.flatten(0, 1), scale)
        return drawn.unflatten(0, (-1, count))

    def sample_inputs(self, count: int) -> Tuple[torch.Tensor, ...]:
        """Return smooth random images, ``count`` of them."""
        shape = (count, *self.model.input_shape())  # type: ignore[operator]
        return (smooth_images(shape, torch.Generator().manual_seed(count)),)

    def free_axes(self) -> Tuple[Dict[int, Any], ...]:
        """Return the axes of each input that may have any length."""
        return ({0: torch.export.Dim("batch")},)

    def facts(self) -> Dict[str, Any]:
        """Return what a user of the graph needs to know, for the metadata of its file."""
        labels, (mean, std) = self.se_model.class_labels(), self.se_model.image_stats()
        config = getattr(self.model, "pretrained_cfg", {})
        thresholds = getattr(self.model, "thresholds", None)
        resizing = ("interpolation", "crop_pct", "crop_mode")
        return {
            "method": self.method,
            "targets": self.targets,
            "normalize": self.normalize,
            "map_offset": list(getattr(self.model, "map_offset", (0.0, 0.0))),
            "labels": None if labels is None else list(labels),
            "multi_label": self.se_model.is_multi_label(),
            "thresholds": None if thresholds is None else [float(t) for t in thresholds],
            "mean": mean,
            "std": std,
            "input_size": list(self.model.input_shape()),  # type: ignore[operator]
            **{name: config[name] for name in resizing if name in config},
        }


def smooth_images(shape: Tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return smooth normal noise, (B, C, *size).

    Maps of white noise are almost flat. Stretching them to [0, 1] would magnify their rounding.
    """
    small = torch.randn(*shape[:2], *(max(2, n // 32) for n in shape[2:]), generator=generator)
    mode = "bilinear" if len(shape) == 4 else "trilinear"
    return torch.nn.functional.interpolate(small, size=shape[2:], mode=mode, align_corners=False)
