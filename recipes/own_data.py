r"""Train a timm model with an SE head on your own images.

    python recipes/own_data.py --data.path pets                      # pets/train/cat/*.jpg, ...
    python recipes/own_data.py --data.path faces --data.csv faces.csv --data.attributes Hat Smile
    python recipes/own_data.py --data.path pets --model.name timm_sehead \
        --model.backbone convnext_atto --model.pretrained --model.gate identity
    python recipes/own_data.py --data.path pets --debug            # seconds

Run time: two cores train resnet18 at 128 px with about 75 images a second.
Score to expect: this depends on your data. majority_accuracy in summary.json is the score of always
answering the most frequent label.
Data: a folder with `train`, `valid` and `test`, and in each a folder per class. For a set without a
validation split give `--data.splits train test test`. Or a csv with a column `image` of file names
(relative to the folder), a column `split`, and either a column `label` (`--data.label label`) or
one column of true or false per attribute (`--data.attributes ...`). `se-zoo check pets` checks all
of it first.
The same command continues an interrupted run.
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
