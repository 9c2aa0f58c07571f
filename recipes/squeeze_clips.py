r"""Train only the SE head of an image or clip model on videos; the backbone runs once over them.

    python recipes/squeeze_clips.py --data.path actions            # actions/train/run/*.mp4, ...
    python recipes/squeeze_clips.py --data.path actions --model.backbone None --run.init None \
        --model.name r2plus1d_18_sehead --model.pretrained --model.mean None --model.std None
    python recipes/squeeze_clips.py --data.path actions --debug    # seconds

Run time: decoding the videos and computing the features, once; after that an epoch of 200 clips
takes about a second. `python -m benchmarks.clip_head` states figures on two sets, beside a logistic
regression on the same features.
Score to expect: it depends on your data. With few videos this is often better than training the
whole model, and much cheaper.
Data: as for `recipes/clips.py`. With `--data.clips 3` three views of each video are cached.
Training draws one of them each time, evaluation averages all. The backbone is by default the
packaged ImageNet model, frame by frame. The features lie in the run's folder (features/); delete
them after the run.
"""

from pathlib import Path

from se_zoo.data import ClipDataConfig
from se_zoo.models.pretrained.manifest import hub_folder
from se_zoo.train import AugmentConfig, ClipModelConfig, Config, OptimConfig, RunConfig
from se_zoo.train.recipe import one_line_errors, run_recipe

DEFAULT = Config(
    data=ClipDataConfig("data"),
    # The packaged ImageNet model's gate and range of pixels.
    model=ClipModelConfig(
        "framewise_sehead", backbone="tf_efficientnet_lite0", gate="identity", drop_rate=0.2,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    ),
    augment=AugmentConfig(),
    optim=OptimConfig(epochs=30, batch_size=32, lr=2e-3, ema_decay=0.95),
    run=RunConfig(
        output=Path("runs/squeeze_clips"), init=hub_folder("tf_efficientnet_lite0_in1k"),
        channels_last=False,
    ),
)  # fmt: skip

if __name__ == "__main__":
    with one_line_errors():
        from se_zoo.train.head_only import ClipHeadTrainer
    run_recipe(DEFAULT, __doc__ or "", "", ClipHeadTrainer)
