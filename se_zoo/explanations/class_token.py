"""What each patch adds to a class token through attention, without a backward pass.

A head that reads the class token only has no weights for the patches. But the class token is a sum:
of its embedding, and of what attention and MLP of each block add. The attention part is a sum over
patches, linear in their values: patch j adds ``A_0j V_j W_O``. Projected on the classifier row,
with gate and norm folded in, this is the patch's direct part of the logit, in every block.
Everything else is left out of the map and stands in ``Explanation.constant``: the MLPs, and with
them what attention adds by way of later blocks; the first block, whose tokens timm does not return;
the class token and registers themselves; and biases.

Keys and values of the patches are not computed again where they are linear in the tokens: the query
and the classifier row are taken through the weights of keys and values instead. For one class this
adds less than a hundredth of the multiply-adds of the forward pass. Keys that are rotated or
normalised, and values where there are many classes, are computed again: up to a twelfth each.
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
#: Most rows of an image for which values are not made.
_FEW = 16


class TokenTrace(NamedTuple):
    """Tokens around the blocks.

    Attributes:
        before: Patches (B, P, C) and prefix tokens that each block but the first reads.
        after: The R tokens behind the last block that the head reads, before the norm, (B, R, C).
        ropes: Rotation of the keys by their places in each of these blocks, (P, ...), or of each
            head, (heads, P, ...); None without.
    """

    before: Tuple[Tuple[torch.Tensor, torch.Tensor], ...]
    after: torch.Tensor
    ropes: Optional[Tuple[torch.Tensor, ...]] = None

    def tokens(self, number: int) -> torch.Tensor:
        """Return the tokens that a block reads, (B, prefix + P, C), by its place in ``before``."""
        patches, prefix = self.before[number]
        return torch.cat([prefix, patches], 1)

    def image(self, number: int) -> "TokenTrace":
        """Return the trace of one image of the batch."""
        part = slice(number, number + 1)
        before = tuple((patches[part], prefix[part]) for patches, prefix in self.before)
        return TokenTrace(before, self.after[part], self.ropes)


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
    return (
        all(map(_is_plain_block, vit.blocks[1:]))
        and isinstance(vit.norm, nn.LayerNorm)
        and isinstance(vit.fc_norm, nn.Identity)
        and all(isinstance(linear, nn.Linear) for linear in classifiers(model))
    )


def _is_plain_block(block: Any) -> bool:
    """Return whether a block adds to its tokens what a plain attention gives."""
    attention: Any = getattr(block, "attn", None)
    return (
        type(block) in (Block, EvaBlock)
        and type(attention) in (Attention, AttentionRope, EvaAttention)
        and _is_linear(attention.proj)
        and isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity)
        and getattr(attention, "gate", None) is None
        and getattr(attention, "num_kv_groups", 1) == 1
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
    """Return what ``forward_features`` returns, and the tokens around the blocks."""
    vit = cast(Any, model)
    found: Any = vit.forward_intermediates(
        images, indices=list(range(len(vit.blocks))), return_prefix_tokens=True, output_fmt="NLC"
    )
    native, (*before, (_, after)) = found
    rope: Any = getattr(vit, "rope", None)
    ropes: Optional[Tuple[torch.Tensor, ...]] = None
    if rope is not None:
        rope = rope.get_embed(shape=vit.patch_embed.dynamic_feat_size(images.shape[-2:]))
        mixed = getattr(vit, "rope_mixed", False)  # one for each block
        ropes = tuple(rope[n + 1] if mixed else rope for n in range(len(before)))
    return native, TokenTrace(tuple(before), after[:, : len(classifiers(model))], ropes)


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


class _Linear(NamedTuple):
    """Weight (heads, D, C) and bias (heads, D) of a projection of the tokens."""

    weight: torch.Tensor
    bias: Optional[torch.Tensor]

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the projection of tokens (B, T, C), (B, heads, T, D)."""
        found = torch.einsum("btc,hdc->bhtd", tokens, self.weight.to(tokens.dtype))
        return found if self.bias is None else found + self.bias[:, None].to(tokens.dtype)


def _projections(attention: Any) -> Optional[Tuple[_Linear, _Linear, _Linear]]:
    """Return the projections to queries, keys and values; None if one is no plain linear layer."""
    own = attention.qkv
    layers = (attention.q_proj, attention.k_proj, attention.v_proj) if own is None else (own,)
    if not all(map(_is_linear, layers)):
        return None
    if own is None:
        weights, biases = [m.weight for m in layers], [m.bias for m in layers]
    else:
        weights = list(own.weight.chunk(3))
        biases = [None] * 3 if own.bias is None else list(own.bias.chunk(3))
        if getattr(attention, "q_bias", None) is not None:  # EVA keeps the bias apart
            biases = [attention.q_bias, attention.k_bias, attention.v_bias]
    shape = attention.num_heads, -1
    parts = [_Linear(weight.unflatten(0, shape), None if bias is None else bias.unflatten(0, shape))
             for weight, bias in zip(weights, biases, strict=True)]  # fmt: skip
    return parts[0], parts[1], parts[2]


class _Attended(NamedTuple):
    """What the R tokens that the head reads take in the attention of a block.

    Attributes:
        share: Attention to each token, (B, heads, R, T).
        values: Values of the tokens, (B, heads, T, D); or the tokens, (B, T, C), of which
            ``projection`` makes them.
        projection: See ``values``.
    """

    share: torch.Tensor
    values: torch.Tensor
    projection: Optional[_Linear] = None

    def taken(self) -> torch.Tensor:
        """Return what the R tokens take, before the last projection, (B, R, heads * D)."""
        values = self.values if self.projection is None else self.projection(self.values)
        return (self.share @ values).transpose(1, 2).flatten(2)

    def parts(self, weights: torch.Tensor, prefix: int) -> torch.Tensor:
        """Return what each patch adds, (B, N, heads, P).

        Args:
            weights: Weights of the values, (B, N, R, heads, D).
            prefix: Number of tokens that are no patches.
        """
        dtype, values = weights.dtype, self.values[..., prefix:, :].to(weights.dtype)
        if self.projection is None:
            added = torch.einsum("bnrhd,bhpd->bnrhp", weights, values)
        else:
            through = torch.einsum("bnrhd,hdc->bnrhc", weights, self.projection.weight.to(dtype))
            added = torch.einsum("bnrhc,bpc->bnrhp", through, values)
            if self.projection.bias is not None:
                added = added + (weights * self.projection.bias.to(dtype)).sum(-1, keepdim=True)
        share = self.share[..., prefix:].to(dtype).transpose(1, 2)[:, None]  # (B, 1, R, heads, P)
        return (added * share).sum(2)


def _attended(model: nn.Module, trace: TokenTrace, number: int, fold: bool = True) -> _Attended:
    """Return attention to and values of all tokens in a block.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        number: Place of the block in ``trace.before``.
        fold: Whether values are left to be made of the tokens.
    """
    vit = cast(Any, model)
    block, prefix, read = vit.blocks[number + 1], vit.num_prefix_tokens, trace.after.shape[1]
    attention, tokens = block.attn, block.norm1(trace.tokens(number))
    linears = _projections(attention)
    rope = None if trace.ropes is None else trace.ropes[number]
    if linears is None:  # an adapter, such as LoRA's
        q, k, v = _queries_keys_values(attention, tokens)
        q, kept = q[:, :, :read], _Attended(q, v)
    else:
        to_q, to_k, to_v = linears
        q, k = to_q(tokens[:, :read]), None
        kept = _Attended(q, tokens, to_v) if fold else _Attended(q, to_v(tokens))
        if rope is None and isinstance(attention.k_norm, nn.Identity):
            # A bias of the keys adds the same to all tokens, which softmax takes out.
            q = attention.q_norm(q)
            through = torch.einsum("bhrd,hdc->bhrc", q, to_k.weight.to(q.dtype))
            share = through @ tokens[:, None].transpose(-2, -1)
            return kept._replace(share=(share * attention.scale).softmax(-1))
        k = to_k(tokens)
    q, k = attention.q_norm(q), attention.k_norm(k)  # prefix tokens have no rotation
    if rope is not None:
        half = getattr(attention, "rotate_half", False)
        turned = apply_rot_embed_cat(k[:, :, prefix:], rope, half=half)
        k = torch.cat([k[:, :, :prefix], turned.to(k.dtype)], 2)
    return kept._replace(share=(q @ k.transpose(-2, -1) * attention.scale).softmax(-1))


@torch.no_grad()
def is_taken_apart(model: nn.Module, trace: TokenTrace) -> bool:
    """Return whether the parts that are known add up to what timm's attention gives.

    A later version of timm may compute more in it than its parts here. This is measured once for
    each class of attention, on the first model that has one; and each time of an attention with
    hooks, a ``forward`` of its own or an adapter, which may change what it gives.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
    """
    return all(_agrees(model, trace, number) for number in range(len(trace.before)))


def _agrees(model: nn.Module, trace: TokenTrace, number: int) -> bool:
    """Return whether the parts of a block's attention add up to it."""
    block: Any = cast(Any, model).blocks[number + 1]
    attention: nn.Module = block.attn
    kind = type(attention)
    changed = any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks
                  for m in attention.modules())  # fmt: skip
    # timm's EVA reads the weight of its projection and does not call it: an adapter is left out.
    changed = changed or _projections(attention) is None
    if not changed and kind in _TAKEN_APART:
        return _TAKEN_APART[kind]
    ours = block.attn.proj(_attended(model, trace, number).taken())
    options = {} if trace.ropes is None else {"rope": trace.ropes[number]}
    theirs = attention(block.norm1(trace.tokens(number)), **options)[:, : ours.shape[1]]
    # Rounding errors grow like the largest value.
    pair = [t.float().cpu().numpy() for t in (ours, theirs.abs().amax(), theirs)]
    if not theirs.isfinite().all():  # broken weights say nothing of the class
        return False
    agrees = heads.agrees(pair, theirs.dtype)
    if not changed:
        _TAKEN_APART[kind] = agrees
    return agrees


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


def _value_weights(block: Any, weight: torch.Tensor) -> torch.Tensor:
    """Return weights of tokens (..., C) as weights of a block's values, (..., heads, D)."""
    scale: Optional[torch.Tensor] = getattr(block, "gamma_1", None)  # EVA's layer scale
    scale = getattr(getattr(block, "ls1", None), "gamma", scale)
    weight = weight if scale is None else weight * scale.to(weight.dtype)
    return (weight @ block.attn.proj.weight.to(weight.dtype)).unflatten(
        -1, (block.attn.num_heads, -1)
    )


def patch_parts(
    model: nn.Module, trace: TokenTrace, weight: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return what each patch adds to the logits through the attentions, directly.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        weight: Weights of :func:`token_weights` for N rows of each image, (B, N, R, C).

    Returns:
        The sum over blocks and heads, and that of its parts' absolute values, (B, N, P) each.
    """
    vit, net, both = cast(Any, model), [], []
    # For many rows it is less work to make the values.
    fold = weight.shape[1] * weight.shape[2] <= _FEW
    for number, block in enumerate(vit.blocks[1:]):
        found = _attended(model, trace, number, fold)
        parts = found.parts(_value_weights(block, weight), vit.num_prefix_tokens)
        net.append(parts.sum(2))
        both.append(parts.abs().sum(2))
    return torch.stack(net).sum(0), torch.stack(both).sum(0)


def patch_parts_of_rows(
    model: nn.Module, trace: TokenTrace, weight: torch.Tensor, counts: Sequence[int]
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return the parts of :func:`patch_parts` for rows that follow each other, (N, P) each.

    Args:
        model: A model for which :func:`reads_class_token` holds.
        trace: Its tokens.
        weight: Weights of the rows, (N, R, C).
        counts: Number of rows of each image.
    """
    if len(set(counts)) == 1:
        pair = patch_parts(model, trace, weight.unflatten(0, (len(counts), -1)))
        return pair[0].flatten(0, 1), pair[1].flatten(0, 1)
    images = enumerate(weight.split(list(counts)))
    found = [patch_parts(model, trace.image(n), rows[None]) for n, rows in images]
    nets, boths = zip(*found, strict=True)
    return torch.cat(nets, 1)[0], torch.cat(boths, 1)[0]
