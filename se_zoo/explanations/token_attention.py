"""What patches add to other tokens through attention, without a backward pass.

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

A head that reads the mean of the patches has a weight for each. But a patch's token holds what it
took from other patches by attention, and the evidence in it may be theirs. In the same way it is
given back to them (:func:`give_back`), in the first half of the blocks; the second half added
nothing on the transformer that was measured. This computes queries, keys and attention of these
blocks again: of images of 224 pixels less than a tenth of the multiply-adds of the forward pass.
"""

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, cast

import torch
import torch.nn.functional as F
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from torch import nn

from . import heads
from .class_token import TokenTrace, is_linear

#: What :func:`is_taken_apart` has found of each class of attention.
_TAKEN_APART: Dict[Tuple[type, bool], bool] = {}
#: Most rows of an image for which values are not made.
_FEW = 16
#: Most numbers of what patches take from each other that are held at a time.
_MOST = 2**24


class _Linear(NamedTuple):
    """Weight (heads * D, C) and bias (heads * D,) of a projection of the tokens.

    It is not called and has no copies made: torch 2.6 can trace neither of a named tuple.
    """

    heads: int
    weight: torch.Tensor
    bias: Optional[torch.Tensor]

    def of(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the projection of tokens (B, T, C), (B, heads, T, D)."""
        bias = None if self.bias is None else self.bias.to(tokens.dtype)
        found = F.linear(tokens, self.weight.to(tokens.dtype), bias)
        return found.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def through(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of weights of the projection as weights of the tokens.

        Args:
            rows: (heads, M, D).

        Returns:
            (heads, M, C).
        """
        return torch.bmm(rows, self.weight.to(rows.dtype).unflatten(0, (self.heads, -1)))


def _projections(attention: Any) -> Optional[Tuple[_Linear, _Linear, _Linear]]:
    """Return the projections to queries, keys and values; None if one is no plain linear layer."""
    own = attention.qkv
    layers = (attention.q_proj, attention.k_proj, attention.v_proj) if own is None else (own,)
    if not all(map(is_linear, layers)):
        return None
    if own is None:
        weights, biases = [m.weight for m in layers], [m.bias for m in layers]
    else:
        weights = list(own.weight.chunk(3))
        biases = [None] * 3 if own.bias is None else list(own.bias.chunk(3))
        if getattr(attention, "q_bias", None) is not None:  # EVA keeps the bias apart
            biases = [attention.q_bias, attention.k_bias, attention.v_bias]
    pairs = zip(weights, biases, strict=True)
    parts = [_Linear(attention.num_heads, weight, bias) for weight, bias in pairs]
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
        values = self.values if self.projection is None else self.projection.of(self.values)
        return (self.share @ values).transpose(1, 2).flatten(2)

    def weighted(self, weights: torch.Tensor, prefix: int) -> torch.Tensor:
        """Return the patches' values, weighted, (B, N, R, heads, P).

        Args:
            weights: Weights of the values, (B, N, R, heads, D).
            prefix: Number of tokens that are no patches.
        """
        dtype, values = weights.dtype, self.values[..., prefix:, :].to(weights.dtype)
        if self.projection is None:
            return torch.einsum("bnrhd,bhpd->bnrhp", weights, values)
        batch, count, read, heads_, _ = weights.shape
        through = self.projection.through(weights.flatten(0, 2).transpose(0, 1))
        rows = through.transpose(0, 1).reshape(batch, count * read * heads_, -1)
        added = torch.bmm(rows, values.transpose(1, 2)).view(batch, count, read, heads_, -1)
        if self.projection.bias is not None:
            bias = self.projection.bias.to(dtype).view(heads_, -1)
            added = added + (weights * bias).sum(-1, keepdim=True)
        return added

    def parts(self, weights: torch.Tensor, prefix: int) -> torch.Tensor:
        """Return what each patch adds, (B, N, heads, P); see :meth:`weighted`."""
        share = self.share[..., prefix:].to(weights.dtype).transpose(1, 2)
        return (self.weighted(weights, prefix) * share[:, None]).sum(2)


def _attended(
    model: nn.Module, trace: TokenTrace, number: int, fold: bool = True, bias: bool = True
) -> _Attended:
    """Return attention of the tokens that the head reads, and values of all tokens, in a block.

    Args:
        model: A model for which :func:`.class_token.reads_class_token` or ``reads_patches`` holds.
        trace: Its tokens.
        number: Place of the block in ``trace.before``.
        fold: Whether values are left to be made of the tokens.
        bias: Whether values have their bias.
    """
    vit, patches = cast(Any, model), trace.patches
    block, prefix = vit.blocks[number + 1], vit.num_prefix_tokens
    read = slice(prefix, None) if patches else slice(trace.after.shape[1])
    attention, tokens = block.attn, block.norm1(trace.tokens(number))
    linears = _projections(attention)
    rope = None if trace.ropes is None else trace.ropes[number]
    if linears is None:  # an adapter, such as LoRA's
        q, k, v = _queries_keys_values(attention, tokens)
        q = q[:, :, read]
        if not bias:  # what the projection gives of nothing
            v = v - _queries_keys_values(attention, torch.zeros_like(tokens[:, :1]))[2]
        values, projection = v, None
    else:
        to_q, to_k, to_v = linears
        to_v = to_v if bias else _Linear(to_v.heads, to_v.weight, None)
        q = to_q.of(tokens[:, read])
        values, projection = (tokens, to_v) if fold else (to_v.of(tokens), None)
        if rope is None and not patches and isinstance(attention.k_norm, nn.Identity):
            # A bias of the keys adds the same to all tokens, which softmax takes out.
            q = attention.q_norm(q) * attention.scale
            batch, heads_, count, _ = q.shape
            through = to_k.through(q.transpose(0, 1).flatten(1, 2)).unflatten(1, (batch, count))
            rows = through.transpose(0, 1).flatten(1, 2)  # (B, heads * R, C)
            share = torch.bmm(rows, tokens.transpose(1, 2)).unflatten(1, (heads_, count))
            return _Attended(share.softmax(-1), values, projection)
        k = to_k.of(tokens)
    # The product alone may be beyond the range of half precision.
    q, k = attention.q_norm(q) * attention.scale, attention.k_norm(k)
    if rope is not None:  # prefix tokens have no rotation
        half = getattr(attention, "rotate_half", False)
        turned = apply_rot_embed_cat(k[:, :, prefix:], rope, half=half)
        k = torch.cat([k[:, :, :prefix], turned.to(k.dtype)], 2)
        q = apply_rot_embed_cat(q, rope, half=half).to(k.dtype) if patches else q
    return _Attended((q @ k.transpose(-2, -1)).softmax(-1), values, projection)


@torch.no_grad()
def is_taken_apart(model: nn.Module, trace: TokenTrace) -> bool:
    """Return whether the parts that are known add up to what timm's attention gives.

    A later version of timm may compute more in it than its parts here. This is measured once for
    each class of attention, on the first model that has one; and each time of an attention with
    hooks, a ``forward`` of its own or an adapter, which may change what it gives.

    Args:
        model: A model for which :func:`.class_token.reads_class_token` or ``reads_patches`` holds.
        trace: Its tokens.
    """
    return all(_agrees(model, trace, number) for number in range(len(trace.before)))


def _agrees(model: nn.Module, trace: TokenTrace, number: int) -> bool:
    """Return whether the parts of a block's attention add up to it."""
    vit, patches = cast(Any, model), trace.patches
    block: Any = vit.blocks[number + 1]
    attention: nn.Module = block.attn
    kind = type(attention), patches
    changed = any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks
                  for m in attention.modules())  # fmt: skip
    # timm's EVA reads the weight of its projection and does not call it: an adapter is left out.
    changed = changed or _projections(attention) is None
    if not changed and kind in _TAKEN_APART:
        return _TAKEN_APART[kind]
    if patches:
        trace = trace.some(slice(_at_once(model, trace)))
    ours = block.attn.proj(_attended(model, trace, number).taken())
    options = {} if trace.ropes is None else {"rope": trace.ropes[number]}
    theirs = attention(block.norm1(trace.tokens(number)), **options)
    theirs = theirs[:, vit.num_prefix_tokens :] if patches else theirs[:, : ours.shape[1]]
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
        model: A model for which :func:`.class_token.reads_class_token` holds.
        trace: Its tokens.
        weight: Weights of :func:`.class_token.token_weights`, N rows of each image, (B, N, R, C).

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
        model: A model for which :func:`.class_token.reads_class_token` holds.
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


def give_back(
    model: nn.Module, trace: TokenTrace, weights: torch.Tensor, raw: torch.Tensor
) -> torch.Tensor:
    """Return maps in which patches have given back what they took from others by attention.

    Args:
        model: A model for which :func:`.class_token.reads_patches` holds.
        trace: Its tokens.
        weights: Channel weights of N maps of each image, gate included, (B, N, C).
        raw: The maps, (B, N, P).

    Returns:
        (B, N, P). Each map adds up to what it did before: what was taken from the class token or
        registers stays where it is.
    """
    vit = cast(Any, model)
    scale = torch.ones_like(raw[:, 0])  # of the norm of each token, (B, P)
    if isinstance(vit.norm, nn.LayerNorm):
        tokens = trace.after.to(raw.dtype)
        scale = (tokens.var(2, correction=0) + vit.norm.eps).rsqrt()
        weights = weights if vit.norm.weight is None else weights * vit.norm.weight.to(raw.dtype)
        weights = weights - weights.mean(2, keepdim=True)
    prefix = vit.num_prefix_tokens
    for number, block in enumerate(vit.blocks[1 : len(trace.before) + 1]):
        found = _attended(model, trace, number, weights.shape[1] <= _FEW, bias=False)
        values = found.weighted(_value_weights(block, weights[:, :, None]), prefix)
        share = found.share[..., prefix:].to(raw.dtype) * scale[:, None, :, None]
        values = values[:, :, 0]  # (B, N, heads, P)
        given = (values * share.sum(2)[:, None]).sum(2)
        # What each patch took, of all heads: (B, heads, P, P) times (B, heads, P, N).
        taken = (share @ values.permute(0, 2, 3, 1)).sum(1).transpose(1, 2)
        raw = raw + given - taken
    return raw


def _at_once(model: nn.Module, trace: TokenTrace, rows: int = 1) -> int:
    """Return of how many images it is held at a time what patches take from each other.

    Args:
        model: A model for which :func:`.class_token.reads_patches` holds.
        trace: Its tokens.
        rows: Rows of each image.
    """
    vit, count = cast(Any, model), trace.after.shape[1]
    tokens: int = count + vit.num_prefix_tokens
    return max(1, _MOST // (vit.blocks[1].attn.num_heads * count * max(tokens, rows)))


def give_back_of_rows(
    model: nn.Module, trace: TokenTrace, weights: torch.Tensor, raw: torch.Tensor,
    counts: Sequence[int],
) -> torch.Tensor:  # fmt: skip
    """Return the maps of :func:`give_back` for rows that follow each other, (N, *grid).

    Args:
        model: A model for which :func:`.class_token.reads_patches` holds.
        trace: Its tokens.
        weights: Channel weights of the rows, gate included, (N, C).
        raw: Their maps, (N, *grid).
        counts: Number of rows of each image.
    """
    flat = raw.flatten(1)
    if len(set(counts)) == 1:
        both = weights.unflatten(0, (len(counts), -1)), flat.unflatten(0, (len(counts), -1))
        most = _at_once(model, trace, counts[0])
        if most >= len(counts):
            return give_back(model, trace, *both).flatten(0, 1).view_as(raw)
        parts = zip(*(each.split(most) for each in both), strict=True)
        found = [give_back(model, trace.some(slice(most * n, most * (n + 1))), *part)
                 for n, part in enumerate(parts)]  # fmt: skip
        return torch.cat(found).flatten(0, 1).view_as(raw)
    pairs = zip(weights.split(list(counts)), flat.split(list(counts)), strict=True)
    found = [give_back(model, trace.image(n), rows[None], maps[None])[0]
             for n, (rows, maps) in enumerate(pairs)]  # fmt: skip
    return torch.cat(found).view_as(raw)
