"""Batches of face tracks: augmented cuts for training, whole tracks for evaluation."""

from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ...data import FaceTrack, TrackTable
from ...data.faces.crops import CROP
from ..config import SpeakerAugmentConfig, SpeakerConfig
from ..resume.order import Batches, seed_cpu
from ..workers import loader_options
from .lengths import Cut, LengthPlan

#: Input of a speaker model and its targets: ``audio`` (B, 4 T, 13), ``face`` and ``body``
#: (B, T, 112, 112), ``labels`` (B, T). In training also ``face_labels`` (B, T): whether the face
#: speaks, whether or not its own sound is heard.
Inputs = Dict[str, torch.Tensor]

#: Longer tracks are scored in pieces of so many frames, to save memory. A piece has so many more
#: frames at each end, which are not scored, because a score depends on the frames around it.
LONGEST, CONTEXT = 1000, 50
#: Frames by which moved sound is apart at least: 0.4 seconds at 25 frames a second. Closer sound is
#: what badly synchronised videos have, of people who speak.
APART = 10


class Augmented(Dataset[Inputs]):
    """Cuts of training tracks, each augmented by random numbers of its own.

    So a cut is augmented alike in any process or worker, however often the run was interrupted.
    """

    table: TrackTable
    augment: SpeakerAugmentConfig
    body: bool
    seed: int
    transform: Any

    def __init__(self, table: TrackTable, augment: SpeakerAugmentConfig, body: bool, seed: int):
        self.table, self.augment, self.body, self.seed = table, augment, body, seed
        self.transform = v2.Compose(
            [
                v2.RandomRotation((-augment.rotate, augment.rotate), v2.InterpolationMode.BILINEAR),
                v2.RandomResizedCrop(CROP, augment.scale, (1, 1), antialias=True),
                v2.RandomHorizontalFlip(augment.hflip),
            ]
        )

    def __getitem__(self, cut: Cut) -> Inputs:  # type: ignore[override]
        track = self.table.sample(cut.index)
        seed_cpu(self.seed, cut.epoch, cut.index)
        first = int(torch.randint(len(track) - cut.frames + 1, ()))
        wave, own = self._sound(cut.index, track, first, cut.frames)
        pictures = [track.pictures(first, cut.frames)]
        if self.body:
            pictures.append(track.pictures(first, cut.frames, bodies=True))
        labels = track.labels[first : first + cut.frames]
        # In one call, so that face and body are transformed alike.
        seen = self.transform(torch.cat(pictures))
        # Asked for before a number is drawn: without the option, runs go on as they began.
        if self.augment.light:
            seen = relight(seen, *torch.empty(2).uniform_(-1, 1).mul(self.augment.light).tolist())
        transformed = seen.split(cut.frames)
        if self.augment.still and float(torch.rand(())) < self.augment.still:
            transformed = tuple(part[:1].expand_as(part) for part in transformed)
            labels = torch.zeros_like(labels)
        return {
            "audio": track.features(wave),
            "labels": labels * float(own),
            "face_labels": labels,  # the face does not show which sound is heard
            **dict(zip(("face", "body"), transformed, strict=False)),
        }

    def _sound(
        self, index: int, track: FaceTrack, first: int, frames: int
    ) -> Tuple[torch.Tensor, bool]:
        """Return augmented sound, and whether the track's own is still in it."""
        own, augment = track.wave(first, frames), self.augment
        chance = float(torch.rand(()))
        if chance < augment.mute:
            return torch.zeros_like(own), False
        if chance < augment.mute + augment.swap:
            return self._other_sound(index, len(own)), False
        if augment.shift and float(torch.rand(())) < augment.shift and len(track) > 2 * APART:
            return self._moved_sound(track, first, len(own)), False
        if float(torch.rand(())) < augment.noise:
            snr = float(torch.empty(()).uniform_(*augment.snr))
            return mix_in(own, self._other_sound(index, len(own)), snr), True
        return own, True

    def _moved_sound(self, track: FaceTrack, first: int, length: int) -> torch.Tensor:
        """Return so many samples of the track's own sound from another time, repeated if need be.

        In the repeated sound, the new time is ``APART`` frames or more from the old one.
        """
        wave = track.wave(0, len(track))
        apart = int(torch.randint(APART, len(track) - APART + 1, ()))
        begin = round((first + apart) / len(track) * len(wave))
        return wave.roll(-begin).repeat(-(-length // len(wave)))[:length]

    def _other_sound(self, index: int, length: int) -> torch.Tensor:
        """Return so many samples of another track, from a random position, repeated if need be."""
        number = int(torch.randint(len(self.table) - 1, ()))
        other = self.table.sample(number + (number >= index))
        wave = other.wave(0, len(other))
        begin = int(torch.randint(len(wave), ()))
        return wave.roll(-begin).repeat(-(-length // len(wave)))[:length]


def relight(pictures: torch.Tensor, brightness: float, contrast: float) -> torch.Tensor:
    """Change brightness and contrast of pictures.

    Args:
        pictures: Grey, uint8.
        brightness: Share by which all pixels get lighter; darker if it is negative.
        contrast: Share by which pixels move away from the pictures' mean, or towards it.

    Returns:
        As ``pictures``.
    """
    pixels = pictures.float() * (1 + brightness)
    mean = pixels.mean()
    return ((pixels - mean) * (1 + contrast) + mean).round().clamp(0, 255).to(torch.uint8)


def mix_in(wave: torch.Tensor, noise: torch.Tensor, snr: float) -> torch.Tensor:
    """Return a recording with another one mixed in.

    Args:
        wave: (N,) samples, float.
        noise: The other recording, (N,) samples.
        snr: Ratio of their powers, in dB.

    Returns:
        (N,). If one of them is silent, the ratio does not exist, and `wave` is returned.
    """
    powers = wave.double().square().mean(), noise.double().square().mean()
    if not min(powers) > 0:
        return wave
    factor = (powers[0] / powers[1] / 10 ** (snr / 10)).sqrt()
    return wave + noise * factor.float()


class Piece(NamedTuple):
    """Some frames of a track, of which those from ``begin`` to ``end`` are scored."""

    index: int
    """The track."""
    first: int
    """The first frame that is read."""
    frames: int
    """How many frames are read."""
    begin: int
    """The first frame of the track that is scored."""
    end: int
    """The frame after the last one that is scored."""


def pieces_of(index: int, length: int) -> List[Piece]:
    """Return the pieces in which a track is scored.

    Args:
        index: The track.
        length: Its number of frames.
    """
    if length <= LONGEST:
        return [Piece(index, 0, length, 0, length)]
    found = []
    for begin in range(0, length, LONGEST):
        end = min(begin + LONGEST, length)
        first, after = max(0, begin - CONTEXT), min(end + CONTEXT, length)
        found.append(Piece(index, first, after - first, begin, end))
    return found


class Whole(Dataset[Tuple[Piece, Inputs]]):
    """All tracks of a table without augmentation, in pieces."""

    body: bool
    pieces: List[Piece]
    table: TrackTable

    def __init__(self, table: TrackTable, body: bool):
        self.table, self.body = table, body
        self.pieces = [p for i, n in enumerate(table.lengths) for p in pieces_of(i, n)]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, number: int) -> Tuple[Piece, Inputs]:
        piece = self.pieces[number]
        return piece, self.read(piece)

    def read(self, piece: Piece) -> Inputs:
        """Return sound, pictures and labels of a piece, without a batch axis."""
        track = self.table.sample(piece.index)
        found = {
            "audio": track.features(track.wave(piece.first, piece.frames)),
            "face": track.pictures(piece.first, piece.frames),
            "labels": track.labels[piece.first : piece.first + piece.frames],
        }
        if self.body:
            found["body"] = track.pictures(piece.first, piece.frames, bodies=True)
        return found


def padded(samples: List[Tuple[Piece, Inputs]]) -> Tuple[List[Piece], Inputs]:
    """Return pieces as one batch, the shorter ones padded, with ``mask`` (B, T)."""
    pieces, inputs = zip(*samples, strict=True)
    pad = torch.nn.utils.rnn.pad_sequence
    found = {name: pad([one[name] for one in inputs], True) for name in inputs[0]}
    lengths = torch.tensor([len(one["labels"]) for one in inputs])
    found["mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
    return list(pieces), found


def training_batches(
    table: TrackTable, config: SpeakerConfig, plan: LengthPlan, process: int, start: int
) -> Iterator[Inputs]:
    """Return the batches of one process from update ``start`` to the end of the run."""
    augmented = Augmented(table, config.augment, config.model.body, config.run.seed)
    loader: Any = DataLoader(
        augmented,
        batch_sampler=Batches(plan, process, start),
        **loader_options(config.run),
    )
    return iter(loader)


def evaluation_batches(
    table: TrackTable, config: SpeakerConfig, process: int, processes: int
) -> "DataLoader[Any]":
    """Return the batches of one process's share of a split.

    Pieces are sorted by length. A batch has at least one piece, and otherwise at most
    ``--optim.batch-size`` frames, with padding.
    """
    whole = Whole(table, config.model.body)
    order = sorted(range(len(whole)), key=lambda i: whole.pieces[i].frames)[process::processes]
    batches: List[List[int]] = []
    for number in order:
        longest = whole.pieces[number].frames
        if not batches or (len(batches[-1]) + 1) * longest > config.optim.batch_size:
            batches.append([])
        batches[-1].append(number)
    return DataLoader(
        whole,
        batch_sampler=batches,
        collate_fn=padded,
        **loader_options(config.run),
    )
