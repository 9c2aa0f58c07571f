r"""Train a clip model with an SE head on videos: your own, UCF101 or Kinetics.

    python recipes/clips.py --data.path actions                    # actions/train/run/*.mp4, ...
    python recipes/clips.py --data.path videos --data.csv videos/clips.csv --data.label action
    python recipes/clips.py --data.path ucf --data.splits train test test --data.fold 1 \
        --model.name r2plus1d_18_sehead --model.backbone None --model.pretrained \
        --model.input-size 112 112
    python recipes/clips.py --data.path kinetics --data.splits train val val --data.broken skip \
        --model.name swin3d_t_sehead --model.backbone None --run.workers 16
    python recipes/clips.py --data.path actions --debug            # seconds

Run time and score to expect: these depend on your data. `recipes/grid_clips.py` trains the same way
on a small set and states its figures. The same command continues an interrupted run.
Data, one of:
  a folder per class in each of `train`, `valid` and `test`;
  a csv with a column `video` of file names (relative to the folder), one of labels, one called
  `split` and, for parts of videos, `start` and `end` in seconds;
  a Hub data set or parquet files with a column of videos;
  UCF101 as it is unpacked (`ucfTrainTestlist` beside the videos, three official folds);
  Kinetics by its official csv.
`se-zoo check actions --videos` checks all of it first. By default a clip is the model's number of
frames at its stride, from a random place; evaluation takes the middle of the video. Published
figures usually average the probabilities of --data.clips 10 --data.crops 3 (SlowFast, arXiv
1812.03982, section 4).
"""

from pathlib import Path

from se_zoo.data import ClipDataConfig
from se_zoo.data.tables.layout import layout_of
from se_zoo.train import AugmentConfig, ClipModelConfig, Config, OptimConfig, RunConfig
from se_zoo.train.recipe import run_recipe

#: Tags of the zoo by the layout of the data.
TAGS = {"ucf101": "ucf101", "kinetics": "k400"}

DEFAULT = Config(
    data=ClipDataConfig("data"),
    model=ClipModelConfig("framewise_sehead", backbone="resnet18"),
    augment=AugmentConfig(scale=(0.35, 1.0)),
    optim=OptimConfig(epochs=30, batch_size=8, lr=5e-4),
    run=RunConfig(output=Path("runs/clips")),
)


def tag_of(config: Config) -> str:
    """Return the tag that a model of this data has in the zoo; empty for your own data."""
    return TAGS.get(layout_of(config.data), "")


if __name__ == "__main__":
    run_recipe(DEFAULT, __doc__ or "", tag_of)
