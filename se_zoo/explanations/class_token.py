"""Vision transformers of timm: the tokens around their blocks, and what the head makes of them."""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, cast

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from ..layers.grid import Features
from . import heads
from .classifier_rows import is_plain
from .methods import CLASSLESS_METHODS, SHARED_PARTS


class TokenTrace(NamedTuple):
    """Tokens around the blocks.

    Attributes:
        before: Patches (B, P, C) and prefix tokens that each block but the first reads; where the
            head reads the patches, of the first half of the blocks.
        after: The R tokens behind the last block that the head reads, before the norm, (B, R, C).
        ropes: Rotation of the keys by their places in each of these blocks, (P, ...), or of each
            head, (heads, P, ...); None without.
        patches: Whether the head reads the patches, not class tokens.
    """

    before: Tuple[Tuple[torch.Tensor, torch.Tensor], ...]
    after: torch.Tensor
    ropes: Optional[Tuple[torch.Tensor, ...]] = None
    patches: bool = False

    def tokens(self, number: int) -> torch.Tensor:
        """Return the tokens that a block reads, (B, prefix + P, C), by its place in ``before``."""
        patches, prefix = self.before[number]
        return torch.cat([prefix, patches], 1)

    def image(self, number: int) -> "TokenTrace":
        """Return the trace of one image of the batch."""
        return self.some(slice(number, number + 1))

    def some(self, part: slice) -> "TokenTrace":
        """Return the trace of some images of the batch."""
        before = tuple((patches[part], prefix[part]) for patches, prefix in self.before)
        return self._replace(before=before, after=self.after[part])


def reads_class_token(model: nn.Module) -> bool:
    """Return whether a model is a timm transformer whose head reads class tokens only.

    These are ViTs, also with registers or DeiT's distillation token, and EVA with or without
    rotary embeddings, of plain blocks.
    """
    vit = cast(Any, model)
    return (
        _is_plain(model, "token")
        and bool(vit.num_prefix_tokens)
        and isinstance(vit.norm, nn.LayerNorm)
        and isinstance(vit.fc_norm, nn.Identity)
        and all(isinstance(linear, nn.Linear) for linear in classifiers(model))
    )


def reads_patches(model: nn.Module) -> bool:
    """Return whether a model is such a transformer whose head reads the mean of the patches."""
    vit = cast(Any, model)
    return (
        _is_plain(model, "avg")
        and len(vit.blocks) >= 4
        and not getattr(vit, "pool_include_prefix", False)
        and isinstance(vit.norm, (nn.LayerNorm, nn.Identity))
    )


def is_traced(model: nn.Module, method: str) -> bool:
    """Return whether maps of a method need the tokens around the model's blocks."""
    if method == "class_gate" or method in CLASSLESS_METHODS:
        return False
    return reads_class_token(model) or (method in SHARED_PARTS and reads_patches(model))


def _is_plain(model: nn.Module, pool: str) -> bool:
    """Return whether a model is a timm transformer of plain blocks with this pooling."""
    kind = next((k for k in (VisionTransformer, Eva) if isinstance(model, k)), None)
    vit = cast(Any, model)
    if kind is None or vit.global_pool != pool or getattr(vit, "attn_pool", None) is not None:
        return False
    if getattr(model.forward_features, "__func__", None) is not kind.forward_features:
        return False  # replaced: what lies behind it is unknown
    return len(vit.blocks) >= 2 and all(map(_is_plain_block, vit.blocks[1:]))


def _is_plain_block(block: Any) -> bool:
    """Return whether a block adds to its tokens what a plain attention gives."""
    attention: Any = getattr(block, "attn", None)
    return (
        type(block) in (Block, EvaBlock)
        and type(attention) in (Attention, AttentionRope, EvaAttention)
        and is_linear(attention.proj)
        and isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity)
        and getattr(attention, "gate", None) is None
        and getattr(attention, "num_kv_groups", 1) == 1
    )


def is_linear(projection: Any) -> bool:
    """Return whether a layer is a plain linear layer, neither wrapped nor quantised."""
    return type(projection) is nn.Linear and is_plain(projection)


def classifiers(model: nn.Module) -> List[nn.Module]:
    """Return the classifier of each token that the head reads; logits are their mean."""
    if isinstance(model, VisionTransformerDistilled):
        return [model.head, model.head_dist]
    return [cast(nn.Module, model.head)]


def traced_features(model: nn.Module, images: torch.Tensor) -> Tuple[Features, TokenTrace]:
    """Return what ``forward_features`` returns, and the tokens around the blocks.

    Args:
        model: A model for which :func:`reads_class_token` or :func:`reads_patches` holds.
        images: Normalised images.
    """
    vit = cast(Any, model)
    patches = vit.global_pool == "avg"  # which tells these two kinds apart
    last = len(vit.blocks) - 1
    some = list(range(len(vit.blocks) // 2 - 1 if patches else last))
    found: Any = vit.forward_intermediates(
        images, indices=[*some, last], return_prefix_tokens=vit.num_prefix_tokens > 0,
        output_fmt="NLC",
    )  # fmt: skip
    native, tokens = found
    if not vit.num_prefix_tokens:
        tokens = [(grid, grid[:, :0]) for grid in tokens]
    *before, (grid, prefix) = tokens
    rope: Any = getattr(vit, "rope", None)
    ropes: Optional[Tuple[torch.Tensor, ...]] = None
    if rope is not None:
        rope = rope.get_embed(shape=vit.patch_embed.dynamic_feat_size(images.shape[-2:]))
        mixed = getattr(vit, "rope_mixed", False)  # one for each block
        ropes = tuple(rope[n + 1] if mixed else rope for n in range(len(before)))
    after = grid if patches else prefix[:, : len(classifiers(model))]
    return native, TokenTrace(tuple(before), after, ropes, patches)


def token_weights(
    model: nn.Module, trace: TokenTrace, gate: torch.Tensor, images: torch.Tensor,
    targets: torch.Tensor,
) -> Tuple[torch.Tensor, heads.Fit]:  # fmt: skip
    """Return the weights of the tokens that the head reads, and the logits that they give.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        gate: SE vectors, (B, C), float32 or double.
        images: Index of each row's image, (N,).
        targets: Class of each row, (N,).

    Returns:
        Weights of the tokens before the norm, (N, R, C), and the fit of the logits, (N,).
    """
    rows = [heads.rows_of(linear, targets, gate.dtype) for linear in classifiers(model)]
    tokens = trace.after.to(gate.dtype)[images]
    folded = fold_tokens(model, rows, gate[images], tokens)
    fits = heads.fit_of(folded, tokens.flatten(0, 1))
    parts = [values.unflatten(0, tokens.shape[:2]) for values in (folded.weight, *fits)]
    return parts[0], heads.Fit(parts[1].sum(1), torch.linalg.vector_norm(parts[2], dim=1))


def all_weights(
    model: nn.Module, trace: TokenTrace, gate: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """Return the weights of the tokens for all classes together, (B, R, C).

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        gate: SE vectors, (B, C).
        shares: How much each class counts, (B, K).
    """
    every = [heads.rows_of(linear, None, gate.dtype) for linear in classifiers(model)]
    rows = [(shares @ weight, shares @ bias) for weight, bias in every]
    folded = fold_tokens(model, rows, gate, trace.after.to(gate.dtype))
    return folded.weight.unflatten(0, trace.after.shape[:2])


def fold_tokens(
    model: nn.Module,
    rows: Sequence[Tuple[torch.Tensor, torch.Tensor]],
    gate: torch.Tensor,
    tokens: torch.Tensor,
) -> heads.ChannelWeights:
    """Fold gate, norm and the mean of tokens into classifier rows.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        rows: Weights (N, C) and biases (N,) of the classifier of each of the R tokens.
        gate: SE vector of each row, (N, C).
        tokens: The tokens before the norm, (N, R, C).

    Returns:
        Weights (N * R, C) and constants (N * R,), whose sum over R is the logit.
    """
    weights = torch.stack([weight * gate for weight, _ in rows], 1) / len(rows)
    biases = torch.stack([bias for _, bias in rows], 1) / len(rows)
    norm = cast(Any, model).norm
    return heads.fold_norm(norm, weights.flatten(0, 1), biases.flatten(), tokens.flatten(0, 1))
