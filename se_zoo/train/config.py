"""What a training run is: frozen, typed, and every field an option of the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Tuple

from ..data import SplitsConfig, TableConfig, TrackDataConfig


@dataclass(frozen=True)
class AnyModelConfig:
    """What all models have in common."""

    name: str
    """Architecture *_sehead."""
    gate: Literal["sigmoid", "identity"] = "sigmoid"
    """sigmoid: the paper's block. identity: leaves a pretrained model's logits as they were."""
    se: bool = True
    """--model.no-se trains the same backbone without the block."""
    pretrained: bool = False
    """Start from weights that the architecture has."""


@dataclass(frozen=True)
class ModelConfig(AnyModelConfig):
    """Which model, and what it starts from."""

    name: str = "resnet18_slim_sehead"
    """Architecture *_sehead; timm_sehead together with --model.backbone."""
    backbone: Optional[str] = None
    """timm name of the backbone, for timm_sehead."""
    pretrained: bool = False
    """Start from timm's own weights of the backbone."""
    input_size: Optional[Tuple[int, int]] = None
    """Height and width of the images, in pixels; by default the architecture's."""
    mean: Optional[Tuple[float, float, float]] = None
    """Channel means that images are normalised with; by default the architecture's."""
    std: Optional[Tuple[float, float, float]] = None
    """Channel standard deviations, likewise."""
    crop_pct: Optional[float] = None
    """Share of a test image's shorter side that the model sees, 1 for all of it; by default the
    architecture's."""
    args: Tuple[str, ...] = ()
    """Further arguments of the architecture, as name=value."""
    drop_rate: float = 0.0
    """Dropout in front of the classifier."""
    drop_path_rate: float = 0.0
    """Stochastic depth, for backbones that know it."""


@dataclass(frozen=True)
class ClipModelConfig(ModelConfig):
    """Which clip model, and what it starts from."""

    name: str = "framewise_sehead"
    """Clip architecture *_sehead; framewise_sehead together with --model.backbone."""
    num_frames: Optional[int] = None
    """Frames of a clip; by default the architecture's."""
    frame_stride: Optional[int] = None
    """Of so many frames of a video one is taken into a clip; by default the architecture's."""
    fps: Optional[float] = None
    """Frames a second that videos are brought to before; 0: their own. By default the
    architecture's."""
    sampling: Literal["dense", "segments", "uniform"] = "dense"
    """dense: frames at the stride, in training from a random place. segments: the video in as many
    parts as the clip has frames, one frame of each, in training a random one. uniform: the middle
    frame of each, in training too."""


@dataclass(frozen=True)
class SpeakerModelConfig(AnyModelConfig):
    """Which speaker model."""

    name: str = "asd_tiny_sehead"
    """asd_tiny_sehead or asd_small_sehead."""
    gate: Literal["sigmoid", "identity"] = "identity"
    """identity: begins as no gate at all, so that it can be told whether it was trained. sigmoid:
    the paper's block."""
    pool: Literal["frame", "clip"] = "frame"
    """What the SE block squeezes over: one gate a frame, or the paper's one gate a clip."""
    body: bool = False
    """A third stream for the body; needs --data.bodies."""
    norm_momentum: Optional[float] = None
    """Share of a batch in the running statistics of the BatchNorms; by default LR-ASD's 0.01, and
    in runs of less than a thousand updates 10 over their number, 0.1 at most, as with 0.01 they
    would not have forgotten where they began."""


@dataclass(frozen=True)
class AugmentConfig:
    """What timm's transforms, or for clips torchvision's, do to a training sample."""

    scale: Tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a crop keeps."""
    ratio: Tuple[float, float] = (0.75, 1.3333)
    """Width over height of a crop."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    color_jitter: Optional[float] = 0.4
    auto_augment: Optional[str] = None
    """timm's policy, such as rand-m9-mstd0.5, or for clips rand-m9-n2 (torchvision's RandAugment);
    it takes the place of the colour jitter."""
    reprob: float = 0.0
    """Probability of erasing a rectangle."""
    mixup: float = 0.0
    """Alpha of mixup; single label only."""
    cutmix: float = 0.0
    """Alpha of cutmix; single label only."""
    smoothing: float = 0.0
    """Label smoothing; single label only."""
    half_size_epochs: int = 0
    """Train the first N epochs on images of half the height and width, at about a quarter of the
    cost. Images only; the model must take inputs of any size."""


@dataclass(frozen=True)
class SpeakerAugmentConfig:
    """What becomes of a face track in training: all its frames alike."""

    frames: Optional[int] = None
    """So many frames of a track at most, from a random place; by default as many as its batch
    has room for."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    scale: Tuple[float, float] = (0.5, 1.0)
    """Share of the crop's area that is looked at."""
    rotate: float = 15.0
    """Rotated by so many degrees at most."""
    noise: float = 0.5
    """Probability that another track's sound is mixed in."""
    snr: Tuple[float, float] = (-5.0, 5.0)
    """How much louder the track's own sound is than that, in dB."""
    swap: float = 0.0
    """Probability that another track's sound takes the place of the own: nobody speaks then."""
    mute: float = 0.0
    """Probability that the sound is silence: nobody speaks then."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW on a cosine with linear warm-up, counted in optimiser steps (updates)."""

    epochs: int = 20
    batch_size: int = 64
    """Images, or of face tracks frames, per process and forward pass."""
    accumulate: int = 1
    """Forward passes per update."""
    lr: float = 2e-3
    """Peak of the schedule; it is not scaled with the batch."""
    weight_decay: float = 0.05
    layer_decay: Optional[float] = None
    """Factor of the learning rate from each layer to the one below, such as 0.75."""
    warmup_epochs: float = 1.0
    clip_grad: Optional[float] = None
    """Largest norm of an update's gradient."""
    ema_decay: Optional[float] = 0.998
    """Decay of the averaged weights, which are evaluated and exported; None: the weights."""
    class_balance: bool = False
    """Weigh rare labels up: an attribute's yes by how much rarer it is than its no, a class by the
    inverse of its frequency; at most tenfold."""


@dataclass(frozen=True)
class RunConfig:
    """Where a run is kept and how it goes."""

    output: Path = Path("runs/train")
    """The run's folder; a run that was interrupted goes on when it is started again."""
    overwrite: bool = False
    """Start anew although the folder holds a run."""
    resume: Optional[Path] = None
    """Another run's folder, whose last state is gone on with here."""
    init: Optional[Path] = None
    """Safetensors file, or run folder, with weights to start from."""
    seed: int = 0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = 0
    """Loader processes; 0 decodes in the training process."""
    save_every: Optional[int] = None
    """Updates between two states; by default one an epoch. The end of an epoch always has one."""
    keep: int = 2
    """States that are kept."""
    log_every: int = 10
    """Updates between two lines of metrics.jsonl."""
    best: str = "balanced_accuracy"
    """Validation metric by which the best weights are kept, largest first."""
    trackers: Tuple[str, ...] = ()
    """Accelerate's trackers by name, such as tensorboard."""
    channels_last: bool = True
    compile: bool = False
    """torch.compile the model."""
    dry_run: bool = False
    """Print the configuration, the parameter groups and the size of an epoch, and stop."""


@dataclass(frozen=True)
class AnyConfig:
    """A whole run, of whatever kind."""

    data: SplitsConfig
    model: AnyModelConfig
    augment: Any
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Config(AnyConfig):
    """A whole run of images or clips."""

    data: TableConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class SpeakerConfig(AnyConfig):
    """A whole run of face tracks and their sound."""

    data: TrackDataConfig
    model: SpeakerModelConfig = field(default_factory=SpeakerModelConfig)
    augment: SpeakerAugmentConfig = field(default_factory=SpeakerAugmentConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            epochs=30, batch_size=2000, lr=1e-3, weight_decay=0.01, warmup_epochs=1.0
        )
    )
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            output=Path("runs/speaker"), best="average_precision", channels_last=False
        )
    )
