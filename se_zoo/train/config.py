"""Configurations of training runs: frozen, typed, every field an option of the command line.

The text below a field is its help on the command line.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Dict, Literal, Optional, Tuple

from ..data import SplitsConfig, TableConfig, TrackDataConfig
from ..errors import InvalidInputError
from ..ranges import COUNT, PIXELS, POSITIVE_SHARE, SHARE, Range

#: A rate below 1, such as that of dropout.
_RATE = Range(0, 1, below=True)
#: Alpha of mixup and cutmix.
_ALPHA = Range(0, 100)


@dataclass(frozen=True)
class AnyModelConfig:
    """Options that all models have in common."""

    name: str
    """Architecture, a name that ends in _sehead."""
    gate: Literal["sigmoid", "identity"] = "sigmoid"
    """sigmoid: the paper's block. identity: leaves a pretrained model's logits unchanged when the
    block is inserted."""
    se: bool = True
    """Use the SE block; --model.no-se trains the same backbone without it."""
    pretrained: bool = False
    """Start from the architecture's pretrained weights."""

    def check(self) -> None:
        """Refuse values that no data could make valid.

        Raises:
            InvalidInputError: If there is such a value; the message names the option.
        """

    def debug_variant(self) -> "AnyModelConfig":
        """Return a tiny model of the same kind, for ``--debug``."""
        raise NotImplementedError


@dataclass(frozen=True)
class ModelConfig(AnyModelConfig):
    """The image model, and what it starts from."""

    #: What the model takes, for messages.
    noun: ClassVar[str] = "image"
    #: The module of ``se_zoo.models`` that registers such models.
    registry: ClassVar[str] = "zoo_image"
    #: The architecture that takes any timm backbone.
    any_backbone: ClassVar[str] = "timm_sehead"

    name: str = "resnet18_slim_sehead"
    """Architecture, a name that ends in _sehead; timm_sehead needs --model.backbone."""
    backbone: Optional[str] = None
    """timm name of the backbone, for timm_sehead."""
    pretrained: bool = False
    """Start from timm's pretrained weights of the backbone."""
    input_size: Annotated[Optional[Tuple[int, int]], PIXELS] = None
    """Height and width of the input, in pixels; by default the architecture's."""
    mean: Annotated[Optional[Tuple[float, float, float]], Range(-100, 100)] = None
    """Mean of each colour channel, for normalisation; by default the architecture's."""
    std: Annotated[Optional[Tuple[float, float, float]], Range(0, 100, above=True)] = None
    """Standard deviation of each colour channel, for normalisation; by default the architecture's.
    """
    crop_pct: Annotated[Optional[float], POSITIVE_SHARE] = None
    """Size of the centre crop in evaluation, as a share of the image's shorter side; 1 keeps
    all of it. By default the architecture's."""
    args: Tuple[str, ...] = ()
    """Further arguments of the architecture, each as name=value."""
    drop_rate: Annotated[float, _RATE] = 0.0
    """Dropout rate before the classifier."""
    drop_path_rate: Annotated[float, _RATE] = 0.0
    """Stochastic depth rate, for backbones that support it."""

    def debug_variant(self) -> "ModelConfig":
        """Return timm's test_resnet at 32 px with random weights."""
        return replace(
            self, name=self.any_backbone, backbone="test_resnet", input_size=(32, 32),
            pretrained=False, args=(),
        )  # fmt: skip

    def input_args(self) -> Dict[str, Any]:
        """Return the architecture's arguments that say how its input is sampled."""
        return {}


@dataclass(frozen=True)
class ClipModelConfig(ModelConfig):
    """The clip model, and what it starts from."""

    noun = "clip"
    registry = "zoo_video"
    any_backbone = "framewise_sehead"

    name: str = "framewise_sehead"
    """Clip architecture, a name that ends in _sehead; framewise_sehead needs --model.backbone."""
    num_frames: Annotated[Optional[int], Range(1, 4096)] = None
    """Frames of a clip; by default the architecture's."""
    frame_stride: Annotated[Optional[int], COUNT] = None
    """Take every n-th frame of the video; by default the architecture's stride."""
    fps: Annotated[Optional[float], Range(0, 1000)] = None
    """Frame rate to which videos are resampled first, in frames a second; 0 keeps each video's own
    rate. By default the architecture's."""
    sampling: Literal["dense", "segments", "uniform"] = "dense"
    """How the frames of a clip are chosen. dense: frames at the stride; in training from a random
    position. segments: the video is cut into as many parts as the clip has frames, and one frame is
    taken from each; in training a random one. uniform: the middle frame of each part, in training
    too."""

    def check(self) -> None:
        """Refuse values that no data could make valid; see :meth:`AnyModelConfig.check`."""
        super().check()
        if not self.se:
            raise InvalidInputError("--model.no-se is for images and speakers, not for clips.")
        if self.sampling != "dense" and self.frame_stride is not None:
            raise InvalidInputError(
                f"--model.frame-stride is for --model.sampling dense; {self.sampling} takes its "
                "frames from the whole video."
            )

    def debug_variant(self) -> "ClipModelConfig":
        """Return timm's test_resnet on four frames of 32 px, with random weights."""
        tiny = super().debug_variant()
        assert isinstance(tiny, ClipModelConfig)
        return replace(tiny, num_frames=4)

    def input_args(self) -> Dict[str, Any]:
        """Return the architecture's arguments that say how its input is sampled."""
        names = ("num_frames", "frame_stride", "fps")
        given = {n: v for n in names if (v := getattr(self, n)) is not None}
        return {**given, "sampling": self.sampling}


@dataclass(frozen=True)
class SpeakerModelConfig(AnyModelConfig):
    """The speaker model, and what it starts from."""

    name: str = "asd_tiny_sehead"
    """asd_tiny_sehead or asd_small_sehead."""
    gate: Literal["sigmoid", "identity"] = "identity"
    """identity: the block starts without any effect, so it can be told whether it was trained.
    sigmoid: the paper's block."""
    pool: Literal["frame", "clip"] = "frame"
    """What the SE block averages over. frame: each frame has its own gate. clip: one gate for the
    whole clip, as in the paper."""
    body: bool = False
    """Add a third stream for the body; needs --data.bodies."""
    norm_momentum: Annotated[Optional[float], POSITIVE_SHARE] = None
    """Momentum of the BatchNorms: the weight of a batch in their running statistics. By default 10
    divided by the number of updates, but at least 0.01 (LR-ASD's value) and at most 0.1: with 0.01,
    the statistics of a short run would stay dominated by their initial values."""

    def debug_variant(self) -> "SpeakerModelConfig":
        """Return the small architecture with random weights."""
        return replace(self, name="asd_tiny_sehead", pretrained=False)


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training samples, by timm's transforms; for clips by torchvision's."""

    scale: Annotated[Tuple[float, float], Range(0, 1, above=True, ascending=True)] = (0.08, 1.0)
    """Smallest and largest area of the random crop, as a share of the image."""
    ratio: Annotated[Tuple[float, float], Range(0, 100, above=True, ascending=True)] = (
        0.75,
        1.3333,
    )
    """Smallest and largest width divided by height of the random crop."""
    hflip: Annotated[float, SHARE] = 0.5
    """Probability of a horizontal flip."""
    color_jitter: Annotated[Optional[float], Range(0, 10)] = 0.4
    """Strength of random changes of brightness, contrast and saturation; None: no changes."""
    auto_augment: Optional[str] = None
    """timm's policy, such as rand-m9-mstd0.5; for clips rand-m9-n2 (torchvision's RandAugment). It
    replaces the colour jitter."""
    reprob: Annotated[float, SHARE] = 0.0
    """Probability of erasing a random rectangle."""
    mixup: Annotated[float, _ALPHA] = 0.0
    """Alpha of mixup; for single-label data only."""
    cutmix: Annotated[float, _ALPHA] = 0.0
    """Alpha of cutmix; for single-label data only."""
    smoothing: Annotated[float, _RATE] = 0.0
    """Label smoothing; for single-label data only."""
    half_size_epochs: Annotated[int, Range(0, 1_000_000)] = 0
    """Train the first N epochs at half the height and width, at about a quarter of the cost. For
    images only; the model must take inputs of any size."""


@dataclass(frozen=True)
class SpeakerAugmentConfig:
    """Random changes of a face track in training; all its frames are changed alike."""

    frames: Annotated[Optional[int], COUNT] = None
    """Cut tracks to at most so many frames, from a random position; by default as many as its batch
    has room for."""
    hflip: Annotated[float, SHARE] = 0.5
    """Probability of a horizontal flip."""
    scale: Annotated[Tuple[float, float], Range(0, 1, above=True, ascending=True)] = (0.5, 1.0)
    """Smallest and largest area of the random crop, as a share of the face crop."""
    rotate: Annotated[float, Range(0, 180)] = 15.0
    """Largest random rotation, in degrees."""
    noise: Annotated[float, SHARE] = 0.5
    """Probability of mixing in another track's sound."""
    snr: Annotated[Tuple[float, float], Range(-200, 200, ascending=True)] = (-5.0, 5.0)
    """Lowest and highest ratio of the track's own sound to the sound mixed in, in dB."""
    swap: Annotated[float, SHARE] = 0.0
    """Probability of replacing the sound by another track's; the frames then count as not speaking.
    """
    mute: Annotated[float, SHARE] = 0.0
    """Probability of replacing the sound by silence; the frames then count as not speaking."""
    shift: Annotated[float, SHARE] = 0.0
    """Probability of moving the track's own sound by 0.4 seconds or more; the frames then count as
    not speaking."""
    still: Annotated[float, SHARE] = 0.0
    """Probability of showing one frame all the time; the frames then count as not speaking."""
    light: Annotated[float, SHARE] = 0.0
    """Largest change of brightness and contrast, as a share."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up and a cosine schedule, which advances every update."""

    epochs: Annotated[int, Range(1, 1_000_000)] = 20
    """Passes over the training split."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 64
    """Samples per process and forward pass: images or clips; for speakers, frames."""
    accumulate: Annotated[int, Range(1, 1_000_000)] = 1
    """Forward passes per update (optimiser step)."""
    lr: Annotated[float, Range(0, 1000, above=True)] = 2e-3
    """Highest learning rate of the schedule; it is not scaled with the batch size."""
    weight_decay: Annotated[float, Range(0, 1000)] = 0.05
    """AdamW's weight decay; norms and biases have none."""
    layer_decay: Annotated[Optional[float], POSITIVE_SHARE] = None
    """Factor between the learning rates of a layer and of the layer above, such as 0.75; None: all
    layers have the same."""
    warmup_epochs: Annotated[float, Range(0, 1_000_000)] = 1.0
    """Epochs of linear warm-up."""
    clip_grad: Annotated[Optional[float], Range(0, 1e9, above=True)] = None
    """Largest norm of an update's gradient; None: no limit."""
    ema_decay: Annotated[Optional[float], _RATE] = 0.998
    """Decay of the averaged weights (EMA), which are then evaluated and exported; None: the trained
    weights are evaluated and exported."""
    freeze_backbone: bool = False
    """Train the SE block and the classifier alone; the rest stays as it was loaded."""
    freeze_norms: bool = False
    """Keep the BatchNorms in eval mode, with the statistics that were loaded."""
    l1_classifier: Annotated[float, Range(0, 1000)] = 0.0
    """Weight of an L1 penalty on the classifier, such as 0.003, so that few channels carry the
    evidence for a class; for cached features only (squeeze_only.py). The classifier then has no
    weight decay."""
    class_balance: bool = False
    """Give rare labels more weight, at most tenfold: the positives of an attribute by the ratio of
    negatives to positives, a class by the inverse of its frequency."""


@dataclass(frozen=True)
class RunConfig:
    """Where a run is stored, and how it proceeds."""

    output: Path = Path("runs/train")
    """Folder of the run. If the run was interrupted, the same command continues it."""
    overwrite: bool = False
    """Start anew even if the folder holds a run. Where SLURM or torchrun repeats the command by
    itself, the run that the same job began goes on nevertheless."""
    resume: Optional[Path] = None
    """Folder of another run, whose last checkpoint is continued in this folder."""
    init: Optional[Path] = None
    """Weights to start from: a safetensors file, or the folder of a run or model."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of all random numbers."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of the forward pass in training and validation; fp16 needs a GPU."""
    workers: Annotated[int, Range(0, 1024)] = 0
    """Loader processes; 0 loads the data in the training process."""
    save_every: Annotated[Optional[int], COUNT] = None
    """Updates between two checkpoints. Every epoch ends with one; by default there are no others.
    """
    keep: Annotated[int, COUNT] = 2
    """Number of checkpoints to keep."""
    log_every: Annotated[int, COUNT] = 10
    """Updates between two lines of metrics.jsonl."""
    best: str = "balanced_accuracy"
    """Validation metric that selects the best weights; the highest value wins."""
    trackers: Tuple[str, ...] = ()
    """Accelerate's trackers by name, such as tensorboard."""
    channels_last: bool = True
    """Use the channels_last memory format for images and 2-D convolutions."""
    compile: bool = False
    """Compile the model with torch.compile."""
    accept_changed_data: bool = False
    """Continue an interrupted run although its data were changed since, for example to leave out
    a corrupt file."""
    dry_run: bool = False
    """Print the configuration, the parameter groups and the size of an epoch, and stop."""


@dataclass(frozen=True)
class AnyConfig:
    """A training run of any kind."""

    data: SplitsConfig
    model: AnyModelConfig
    augment: Any
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Config(AnyConfig):
    """A training run on images or clips."""

    data: TableConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class SpeakerConfig(AnyConfig):
    """A training run on face tracks and their sound."""

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
