"""Compute other libraries' maps of transformers whose head reads the class token only.

Such a head has no gradient on the patches behind the last block. These methods read the attention,
or the first norm of the last block, which is the layer that grad-cam's documentation names for
vision transformers.
"""

import contextlib
from functools import partial
from typing import Any, Callable, Dict, Iterator, List

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from ...errors import InvalidInputError
from ..class_token import reads_class_token
from .peer_methods import AfterGate, finer_cam, grad_cam

#: Blocks that LeGrad reads, as in torch-cam's documentation.
LEGRAD_BLOCKS = 4


class _TorchBlock(nn.Module):
    """Compute a block of timm's with torch's attention, which torch-cam needs.

    Attributes:
        self_attention: The block's attention, with its parameters.
        attention: Attention of the last call, mean over the heads, (B, tokens, tokens).
    """

    def __init__(self, block: Any):
        super().__init__()
        self.block = block
        own = block.attn
        width, bias = own.proj.in_features, own.qkv.bias is not None
        attention = nn.MultiheadAttention(width, own.num_heads, bias=bias, batch_first=True)
        attention.in_proj_weight, attention.in_proj_bias = own.qkv.weight, own.qkv.bias
        attention.out_proj.weight, attention.out_proj.bias = own.proj.weight, own.proj.bias
        self.self_attention = attention
        self.attention = torch.empty(0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the block's output, (B, tokens, C)."""
        block = self.block
        normed = block.norm1(tokens)
        mixed, self.attention = self.self_attention(normed, normed, normed)
        tokens = tokens + block.ls1(mixed)
        return tokens + block.ls2(block.mlp(block.norm2(tokens)))


def has_token_maps(model: nn.Module) -> bool:
    """Return whether a model is a ViT of plain blocks whose head reads its class token only."""
    return (
        isinstance(model, VisionTransformer)
        and reads_class_token(model)
        and model.get_classifier() is model.head
        and all(
            type(block) is Block
            and type(block.attn) is Attention
            and isinstance(block.attn.q_norm, nn.Identity)
            and isinstance(block.attn.k_norm, nn.Identity)
            for block in model.blocks
        )
    )


def _plain_vit(model: AfterGate) -> Any:
    """Return the transformer behind a model.

    Raises:
        InvalidInputError: If :func:`has_token_maps` does not hold.
    """
    vit: Any = model.model
    if not has_token_maps(vit):
        raise InvalidInputError(
            "This method needs a timm VisionTransformer of plain blocks whose head reads its class "
            'token only (global_pool="token").'
        )
    return vit


@contextlib.contextmanager
def _torch_blocks(vit: Any) -> Iterator[List[_TorchBlock]]:
    """Replace the blocks of a transformer for the time of the context."""
    own, replaced = vit.blocks, [_TorchBlock(block) for block in vit.blocks]
    vit.blocks = nn.Sequential(*replaced).eval()
    try:
        yield replaced
    finally:
        vit.blocks = own


def _to_grid(vit: Any, images: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Return values of the patches (..., P) on their grid, (..., H, W)."""
    return patches.unflatten(-1, vit.patch_embed.dynamic_feat_size(images.shape[-2:]))


def _legrad(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    from torchcam.methods import LeGrad

    vit = _plain_vit(model)

    def scores(tokens: torch.Tensor) -> torch.Tensor:
        return vit.classify(vit.gated(vit.norm(tokens)))  # type: ignore[no-any-return]

    with _torch_blocks(vit) as blocks:
        shape = tuple(vit.patch_embed.dynamic_feat_size(images.shape[-2:]))
        with LeGrad(
            vit, list(blocks[-LEGRAD_BLOCKS:]), score_projection=scores,
            prefix_tokens=vit.num_prefix_tokens, grid_shape=shape,
        ) as cam:  # fmt: skip
            logits = vit(images)
            return cam(targets.tolist(), logits, normalized=False)[0].detach()


def _rollout(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return attention rollout (Abnar and Zuidema, arXiv 2005.00928), the same for all classes."""
    vit = _plain_vit(model)
    with torch.no_grad(), _torch_blocks(vit) as blocks:
        vit(images)
        identity = torch.eye(blocks[0].attention.shape[-1], device=images.device)
        flow = identity.expand(len(images), -1, -1)
        for block in blocks:
            flow = (block.attention + identity) / 2 @ flow
    return _to_grid(vit, images, flow[:, 0, vit.num_prefix_tokens :])


def _projection(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the patches' products with the classifier's row, as if they were class tokens."""
    vit = _plain_vit(model)
    with torch.no_grad():
        tokens = vit.gated(vit.forward_features(images))[:, vit.num_prefix_tokens :]
        row = vit.get_classifier().weight[targets]
        return _to_grid(vit, images, (tokens @ row[:, :, None])[..., 0])


def _first_norm(vit: Any, images: torch.Tensor) -> Dict[str, Any]:
    """Return what tells grad-cam to work on the first norm of the last block."""

    def patches(tokens: torch.Tensor) -> torch.Tensor:
        return _to_grid(vit, images, tokens[:, vit.num_prefix_tokens :].transpose(1, 2))

    # A frozen model has a gradient at the layer only if its input asks for one.
    images.requires_grad_()
    return {"target_layers": [vit.blocks[-1].norm1], "reshape_transform": patches}


def _grad_cam(
    name: str, module: str, model: AfterGate, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    vit = _plain_vit(model)
    return grad_cam(name, module, vit, images, targets, **_first_norm(vit, images))


def _finer_cam(model: AfterGate, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    vit = _plain_vit(model)
    return finer_cam(vit, images, targets, **_first_norm(vit, images))


#: Functions that return the maps, (B, *grid), of images and one class each. Grad-cam's ShapleyCAM
#: is not among them: version 1.5.7 fails when it releases the gradients of a transformer.
TOKEN_PEERS: Dict[str, Callable[[AfterGate, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "torch-cam/LeGrad": _legrad,
    "torch/rollout": _rollout,
    "se_zoo/projection": _projection,
    "grad-cam/GradCAM-tokens": partial(_grad_cam, "GradCAM", "grad_cam"),
    "grad-cam/GradCAM++-tokens": partial(_grad_cam, "GradCAMPlusPlus", "grad_cam_plusplus"),
    "grad-cam/HiResCAM-tokens": partial(_grad_cam, "HiResCAM", "hirescam"),
    "grad-cam/LayerCAM-tokens": partial(_grad_cam, "LayerCAM", "layer_cam"),
    "grad-cam/XGradCAM-tokens": partial(_grad_cam, "XGradCAM", "xgrad_cam"),
    "grad-cam/FinerCAM-tokens": _finer_cam,
}
#: Those whose zero has no meaning, see :data:`.peer_methods.STRETCHED`.
TOKEN_STRETCHED = (
    "torch-cam/LeGrad", "torch/rollout", "grad-cam/GradCAM++-tokens", "grad-cam/LayerCAM-tokens",
)  # fmt: skip
