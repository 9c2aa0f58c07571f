"""Write the weights that the training of the zoo's ViT starts from.

    python -m tools.vit_start runs/zoo/vit_start.safetensors

They are timm's random weights, but for the position embeddings: those are sines and cosines of the
row and the column (Beyer et al., Better plain ViT baselines, arXiv 2205.01580, section 3). timm's
have a deviation of 0.02. Mean training loss on CelebA of updates 310 to 400, in batches of 64:
0.404 from these weights (learning rate 5e-4), 0.417 from timm's (3e-4). Each was one run, and their
rates and drop path differ, so how much of it the start has was not measured.
"""

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

import se_zoo  # noqa: F401  registers the models
from se_zoo.files import replacing

#: Waves of 1 to 10 cells in 2 pi. The grid has 8 x 7 cells; with timm's 10,000 most waves are flat.
TEMPERATURE = 10.0


def main() -> None:
    """Write the weights to the file that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tools.vit_start FILE")
    torch.manual_seed(0)
    model: Any = timm.create_model(
        "vit_tiny_patch16_224_sehead", img_size=(128, 112), global_pool="avg", fc_norm=False,
        num_classes=40, gate="sigmoid",
    )  # fmt: skip
    state = model.state_dict()
    rows, columns = model.patch_embed.grid_size
    waves = build_sincos2d_pos_embed([rows, columns], model.embed_dim, temperature=TEMPERATURE)
    state["pos_embed"][0, model.num_prefix_tokens :] = waves
    state["pos_embed"][0, : model.num_prefix_tokens] = 0
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)


if __name__ == "__main__":
    main()
