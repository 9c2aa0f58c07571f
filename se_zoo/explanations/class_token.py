"""What each patch adds to a class token through attention, without a backward pass.

A head that reads the class token only has no weights for the patches. But the class token is a sum:
of what it was before the last block, of what that block's attention adds, and of what its MLP adds.
The attention part is a sum over patches, linear in their values: patch j adds ``A_0j V_j W_O``.
Projected on the classifier row, with gate and norm folded in, this is the patch's direct part of
the logit. Everything else is left out of the map and stands in ``Explanation.constant``: earlier
layers, the MLP, the class token and registers themselves, and biases.
"""

from typing import Any, NamedTuple, Optional, Sequence, Tuple, cast

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from ..layers.grid import Features
from . import heads


class TokenTrace(NamedTuple):
    """Tokens around the last block.

    Attributes:
        before: Tokens that the last block reads, (B, prefix + patches, C).
        after: Class token behind it, before the norm, (B, C).
    """

    before: torch.Tensor
    after: torch.Tensor


def reads_class_token(model: nn.Module) -> bool:
    """Return whether a model is a timm ViT of plain blocks whose head reads the class token."""
    if not isinstance(model, VisionTransformer) or model.global_pool != "token":
        return False
    if getattr(model.forward_features, "__func__", None) is not VisionTransformer.forward_features:
        return False  # replaced: what lies behind it is unknown
    blocks = list(model.blocks)
    if len(blocks) < 2 or not model.num_prefix_tokens or model.attn_pool is not None:
        return False
    block, norms = blocks[-1], (model.norm, model.fc_norm)
    attention: Any = getattr(block, "attn", None)
    return (
        type(block) is Block
        and type(attention) is Attention
        and isinstance(attention.norm, nn.Identity)
        and getattr(attention, "gate", None) is None
        and isinstance(norms[0], nn.LayerNorm)
        and isinstance(norms[1], nn.Identity)
        and isinstance(model.head, nn.Linear)
    )


def traced_features(model: nn.Module, images: torch.Tensor) -> Tuple[Features, TokenTrace]:
    """Return what ``forward_features`` returns, and the tokens around the last block."""
    vit = cast(VisionTransformer, model)
    last = len(vit.blocks) - 1
    found: Any = vit.forward_intermediates(
        images, indices=[last - 1, last], return_prefix_tokens=True, output_fmt="NLC"
    )
    native, ((patches, prefix), (_, after)) = found
    return native, TokenTrace(torch.cat([prefix, patches], 1), after[:, 0])


def token_weights(
    model: nn.Module, trace: TokenTrace, gate: torch.Tensor, images: torch.Tensor,
    targets: torch.Tensor, rivals: Optional[torch.Tensor] = None,
) -> Tuple[heads.ChannelWeights, heads.Fit]:  # fmt: skip
    """Return the weights of the class token before the norm, and the logits that they give.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        gate: SE vectors, (B, C), float32 or double.
        images: Index of each row's image, (N,).
        targets: Class of each row, (N,).
        rivals: Shares of the rivals of each row, (N, K).
    """
    vit = cast(VisionTransformer, model)
    weight, bias = heads.rows_of(cast(nn.Module, vit.head), targets, gate.dtype, rivals)
    token = trace.after.to(gate.dtype)[images]
    folded = heads.fold_norm(vit.norm, weight * gate[images], bias, token)
    return folded, heads.fit_of(folded, token)


class Attended(NamedTuple):
    """What the class token takes in the last attention.

    Attributes:
        share: Attention to each patch, (B, heads, P).
        values: Values of the patches, (B, heads, P, D).
    """

    share: torch.Tensor
    values: torch.Tensor


def attended(model: nn.Module, trace: TokenTrace, dtype: torch.dtype) -> Attended:
    """Return attention to and values of the patches in the last block; prefix tokens left out."""
    vit = cast(VisionTransformer, model)
    block: Any = vit.blocks[-1]
    attention, prefix = block.attn, vit.num_prefix_tokens
    qkv = attention.qkv(block.norm1(trace.before)).unflatten(2, (3, attention.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
    share = (q @ k.transpose(-2, -1) * attention.scale).softmax(-1)[:, :, 0]
    return Attended(share[:, :, prefix:].to(dtype), v[:, :, prefix:].to(dtype))


def value_weights(model: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Return weights of the class token (..., C) as weights of the values, (..., heads, D)."""
    block: Any = cast(VisionTransformer, model).blocks[-1]
    scale: Optional[torch.Tensor] = getattr(block.ls1, "gamma", None)
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
        weight: Weights of :func:`token_weights`, (N, C).
        counts: Number of rows of each image.

    Returns:
        The part of each attention head and patch, (N, heads, P).
    """
    share, values = attended(model, trace, weight.dtype)
    weights = value_weights(model, weight).split(list(counts))
    parts = [
        torch.einsum("rhd,htd,ht->rht", rows, of_image, shares)
        for rows, of_image, shares in zip(weights, values, share, strict=True)
    ]
    return torch.cat(parts)
