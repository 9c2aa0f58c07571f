"""Train a timm model with an SE head on your own images.

    python recipes/own_data.py --data.path pets                      # pets/train/cat/*.jpg, ...
    python recipes/own_data.py --data.path faces --data.csv faces.csv --data.attributes Hat Smile
    python recipes/own_data.py --data.path pets --model.name timm_sehead \\
        --model.backbone convnext_atto --model.pretrained --model.gate identity
    python recipes/own_data.py --data.path pets --debug            # seconds

A folder per class holds `train`, `valid` and `test`, and in each a folder per class; a set without
a validation split says `--data.splits train test test`. A csv has a column `image` with file names
(relative to the folder), a column `split`, and either a column `label` (`--data.label label`) or
one column of true or false per attribute (`--data.attributes ...`). `se-zoo check pets` looks at
all of it first.

Run time: two cores train resnet18 at 128 px with about 75 images a second. The score to expect is
that of your data; majority_accuracy in summary.json is what always answering the most frequent
label would score. An interrupted run goes on when the same command is given again.
"""

from pathlib import Path

from se_zoo.data import DataConfig
from se_zoo.train import AugmentConfig, Config, ModelConfig, OptimConfig, RunConfig
from se_zoo.train.recipe import run_recipe

DEFAULT = Config(
    data=DataConfig("data"),
    model=ModelConfig("resnet18_sehead", drop_rate=0.1),
    augment=AugmentConfig(scale=(0.35, 1.0), reprob=0.1),
    optim=OptimConfig(epochs=30, batch_size=32, lr=1e-3),
    run=RunConfig(output=Path("runs/own_data")),
)

if __name__ == "__main__":
    run_recipe(DEFAULT, __doc__ or "")
