"""Train a timm model with an SE head on CelebA's 40 face attributes (multi-label).

    SE_ZOO_DATA=/path/to/data python recipes/celeba.py            # the sample, 36,775 images
    python recipes/celeba.py --model.name resnet50_sehead --model.pretrained --optim.lr 5e-4
    python recipes/celeba.py --data.name None --data.path faces --data.csv faces.csv  # your files
    python recipes/celeba.py --model.no-se --run.output runs/plain      # the same without the block
    python recipes/celeba.py --debug            # seconds on a CPU
    torchrun --standalone --nproc-per-node 2 recipes/celeba.py    # two GPUs; README.md has CPUs

Run time and score to expect: the model cards in hub_cards/ have both. Always answering the majority
scores 80.5 % on the sample's test split, and 50 % balanced. Most attributes are rare, so read the
balanced figure too. recipes/parity.py compares with the same model without the block.
Data: `$SE_ZOO_DATA/celeba46k` (train, valid and test.parquet) where that variable is set, otherwise
`flwrlabs/celeba` from the Hub; for research only. Both have the official split, in which nobody is
in two parts. The sample has 44,975 of the 202,599 images, at 104 x 128 pixels.
All figures are those of the averaged (EMA) weights of the last epoch; no epoch is chosen on the
validation split. The same command continues an interrupted run.
"""

import os
from pathlib import Path

from se_zoo.data import DataConfig
from se_zoo.data.celeba import CELEBA_HUB, CELEBA_HUB_CONFIG, CELEBA_IGNORE
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES
from se_zoo.train import AugmentConfig, Config, ModelConfig, OptimConfig, RunConfig
from se_zoo.train.recipe import run_recipe


def default_data() -> DataConfig:
    """Return the sample of CelebA where SE_ZOO_DATA is set, otherwise CelebA from the Hub."""
    root = os.environ.get("SE_ZOO_DATA")
    return DataConfig(
        path=str(Path(root) / "celeba46k") if root else CELEBA_HUB,
        name=None if root else CELEBA_HUB_CONFIG,
        attributes=CELEBA_ATTRIBUTES,
        ignore=CELEBA_IGNORE,
    )


DEFAULT = Config(
    data=default_data(),
    model=ModelConfig("resnet18_slim_sehead", drop_rate=0.1),
    augment=AugmentConfig(scale=(0.6, 1.0), ratio=(0.7, 0.95), color_jitter=0.3, reprob=0.1),
    optim=OptimConfig(epochs=20, batch_size=64, lr=2e-3, ema_decay=0.998),
    run=RunConfig(output=Path("runs/celeba"), mixed_precision="bf16"),
)

if __name__ == "__main__":
    run_recipe(DEFAULT, __doc__ or "", "celeba")
