"""What each patch adds to a class token through attention, without a backward pass.

A head that reads the class token only has no weights for the patches. But the class token is a sum:
of what it was before the last block, of what that block's attention adds, and of what its MLP adds.
The attention part is a sum over patches, linear in their values: patch j adds ``A_0j V_j W_O``.
Projected on the classifier row, with gate and norm folded in, this is the patch's direct part of
the logit. Everything else is left out of the map and stands in ``Explanation.constant``: earlier
layers, the MLP, the class token and registers themselves, and biases.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, cast

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from ..layers.grid import Features
from . import heads
from .classifier_rows import is_plain

#: What :func:`is_taken_apart` has found of each class of attention.
_TAKEN_APART: Dict[type, bool] = {}


class TokenTrace(NamedTuple):
    """Tokens around the last block.

    Attributes:
        before: Tokens that the last block reads, (B, prefix + patches, C).
        after: The R tokens behind it that the head reads, before the norm, (B, R, C).
        rope: Rotation of the last block's keys by their places, (patches, ...); None without.
    """

    before: torch.Tensor
    after: torch.Tensor
    rope: Optional[torch.Tensor] = None


def reads_class_token(model: nn.Module) -> bool:
    """Return whether a model is a timm transformer whose head reads class tokens only.

    These are ViTs, also with registers or DeiT's distillation token, and EVA with or without
    rotary embeddings, of plain blocks.
    """
    kind = next((k for k in (VisionTransformer, Eva) if isinstance(model, k)), None)
    vit = cast(Any, model)
    if kind is None or vit.global_pool != "token":
        return False
    if getattr(model.forward_features, "__func__", None) is not kind.forward_features:
        return False  # replaced: what lies behind it is unknown
    if (
        len(vit.blocks) < 2
        or not vit.num_prefix_tokens
        or getattr(vit, "attn_pool", None) is not None
    ):
        return False
    block = vit.blocks[-1]
    attention: Any = getattr(block, "attn", None)
    return (
        type(block) in (Block, EvaBlock)
        and type(attention) in (Attention, AttentionRope, EvaAttention)
        and _is_linear(attention.proj)
        and isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity)
        and getattr(attention, "gate", None) is None
        and getattr(attention, "num_kv_groups", 1) == 1
        and isinstance(vit.norm, nn.LayerNorm)
        and isinstance(vit.fc_norm, nn.Identity)
        and all(isinstance(linear, nn.Linear) for linear in classifiers(model))
    )


def _is_linear(projection: Any) -> bool:
    """Return whether a layer is a plain linear layer, neither wrapped nor quantised."""
    return type(projection) is nn.Linear and is_plain(projection)


def classifiers(model: nn.Module) -> List[nn.Module]:
    """Return the classifier of each token that the head reads; logits are their mean."""
    if isinstance(model, VisionTransformerDistilled):
        return [model.head, model.head_dist]
    return [cast(nn.Module, model.head)]


def traced_features(model: nn.Module, images: torch.Tensor) -> Tuple[Features, TokenTrace]:
    """Return what ``forward_features`` returns, and the tokens around the last block."""
    vit = cast(Any, model)
    last = len(vit.blocks) - 1
    found: Any = vit.forward_intermediates(
        images, indices=[last - 1, last], return_prefix_tokens=True, output_fmt="NLC"
    )
    native, ((patches, prefix), (_, after)) = found
    rope: Any = getattr(vit, "rope", None)
    if rope is not None:
        rope = rope.get_embed(shape=vit.patch_embed.dynamic_feat_size(images.shape[-2:]))
        rope = rope[-1] if getattr(vit, "rope_mixed", False) else rope  # one for each block
    read = after[:, : len(classifiers(model))]
    return native, TokenTrace(torch.cat([prefix, patches], 1), read, rope)


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


class Attended(NamedTuple):
    """What the R tokens that the head reads take in the last attention.

    Attributes:
        share: Attention to each patch, (B, heads, R, P).
        values: Values of the patches, (B, heads, P, D).
    """

    share: torch.Tensor
    values: torch.Tensor


def attended(model: nn.Module, trace: TokenTrace, dtype: torch.dtype) -> Attended:
    """Return attention to and values of the patches in the last block; prefix tokens left out."""
    share, values = _attended_tokens(model, trace)
    prefix = cast(Any, model).num_prefix_tokens
    return Attended(share[..., prefix:].to(dtype), values[:, :, prefix:].to(dtype))


def _attended_tokens(model: nn.Module, trace: TokenTrace) -> Attended:
    """Return attention to and values of all tokens in the last block."""
    vit = cast(Any, model)
    block, prefix, read = vit.blocks[-1], vit.num_prefix_tokens, trace.after.shape[1]
    attention = block.attn
    q, k, v = _queries_keys_values(attention, block.norm1(trace.before))
    q, k = attention.q_norm(q[:, :, :read]), attention.k_norm(k)  # prefix tokens have no rotation
    if trace.rope is not None:
        half = getattr(attention, "rotate_half", False)
        turned = apply_rot_embed_cat(k[:, :, prefix:], trace.rope, half=half)
        k = torch.cat([k[:, :, :prefix], turned.to(k.dtype)], 2)
    return Attended((q @ k.transpose(-2, -1) * attention.scale).softmax(-1), v)


@torch.no_grad()
def is_taken_apart(model: nn.Module, trace: TokenTrace) -> bool:
    """Return whether the parts of :func:`attended` add up to what timm's attention gives.

    A later version of timm may compute more in it than its parts here. This is measured once for
    each class of attention, on the first model that has one.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
    """
    block: Any = cast(Any, model).blocks[-1]
    attention: nn.Module = block.attn
    kind = type(attention)
    if kind not in _TAKEN_APART:
        share, values = _attended_tokens(model, trace)
        ours = block.attn.proj((share @ values).transpose(1, 2).flatten(2))
        options = {} if trace.rope is None else {"rope": trace.rope}
        theirs = attention(block.norm1(trace.before), **options)[:, : ours.shape[1]]
        # Rounding errors grow like the largest value.
        pair = [t.float().cpu().numpy() for t in (ours, theirs.abs().amax(), theirs)]
        if not theirs.isfinite().all():  # broken weights say nothing of the class
            return False
        _TAKEN_APART[kind] = heads.agrees(pair, theirs.dtype)
    return _TAKEN_APART[kind]


def _queries_keys_values(attention: Any, tokens: torch.Tensor) -> Tuple[torch.Tensor, ...]:
    """Return queries, keys and values of an attention layer, (B, heads, tokens, D) each."""
    if attention.qkv is None:
        parts = [project(tokens) for project in
                 (attention.q_proj, attention.k_proj, attention.v_proj)]  # fmt: skip
    else:
        whole = attention.qkv(tokens)
        if getattr(attention, "q_bias", None) is not None:  # EVA keeps the bias apart
            whole = whole + torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
        parts = list(whole.chunk(3, 2))
    return tuple(part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in parts)


def value_weights(model: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Return weights of tokens (..., C) as weights of the values, (..., heads, D)."""
    block: Any = cast(Any, model).blocks[-1]
    scale: Optional[torch.Tensor] = getattr(block, "gamma_1", None)  # EVA's layer scale
    scale = getattr(getattr(block, "ls1", None), "gamma", scale)
    weight = weight if scale is None else weight * scale.to(weight.dtype)
    return (weight @ block.attn.proj.weight.to(weight.dtype)).unflatten(
        -1, (block.attn.num_heads, -1)
    )


def patch_parts(
    model: nn.Module, trace: TokenTrace, weight: torch.Tensor, counts: Sequence[int]
) -> torch.Tensor:
    """Return what each patch adds to the logit of each row through the last attention.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        weight: Weights of :func:`token_weights`, (N, R, C).
        counts: Number of rows of each image.

    Returns:
        The part of each attention head and patch, (N, heads, P).
    """
    share, values = attended(model, trace, weight.dtype)
    weights = value_weights(model, weight).split(list(counts))
    parts = [
        torch.einsum("nrhd,hpd,hrp->nhp", rows, of_image, shares)
        for rows, of_image, shares in zip(weights, values, share, strict=True)
    ]
    return torch.cat(parts)
