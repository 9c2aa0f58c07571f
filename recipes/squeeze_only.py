r"""Train only the SE head of an existing model; the backbone runs once over the images.

    SE_ZOO_DATA=/path/to/data python recipes/squeeze_only.py
    python recipes/squeeze_only.py --model.backbone resnet50 --model.pretrained --run.init None \
        --model.args --model.mean None --model.std None                     # another model
    python recipes/squeeze_only.py --debug                                  # seconds

Run time: most of it goes into computing the features, once. Updates on them ran at 2,301 images a
second, those of the whole model at 13 in fp32 and 22 in bf16 (medians of `python -m
benchmarks.training --head`).
Score to expect: always answering the majority scores 80.5 % on the sample's test split, and 50 %
balanced.
Data and weights: with SE_ZOO_DATA set, its celeba46k and weights/mobilenetv2_100_in1k.safetensors;
otherwise flwrlabs/celeba and timm's MobileNetV2 from the Hub.
The features lie in the run's folder (features/, 5.6 GB for the sample); delete them after the run.
"""

import os
from dataclasses import replace
from pathlib import Path

from celeba import default_data

from se_zoo.train import Config, ModelConfig, OptimConfig, RunConfig
from se_zoo.train.recipe import one_line_errors, run_recipe

ROOT = os.environ.get("SE_ZOO_DATA")

# The sample's weights come from another framework: they need its padding and pixel range.
SAMPLE = ModelConfig(args=("pad_type=same",), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
START = SAMPLE if ROOT else ModelConfig(pretrained=True)

DEFAULT = Config(
    data=default_data(),
    model=replace(START, name="timm_sehead", backbone="mobilenetv2_100", drop_rate=0.2),
    optim=OptimConfig(epochs=15, batch_size=64, lr=2e-3, ema_decay=0.995),
    run=RunConfig(
        output=Path("runs/squeeze_only"),
        init=Path(ROOT) / "weights" / "mobilenetv2_100_in1k.safetensors" if ROOT else None,
        channels_last=False,
    ),
)

if __name__ == "__main__":
    with one_line_errors():
        from se_zoo.train.head_only import HeadTrainer
    run_recipe(DEFAULT, __doc__ or "", "celeba", HeadTrainer)
