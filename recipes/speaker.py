"""Train a model that says who speaks: face tracks and their sound, one answer a frame.

    python recipes/speaker.py --data.path ava --data.splits train val val --run.workers 16
    python recipes/speaker.py --data.path wasd --data.splits train val val \\
        --data.bodies clips_bodies --model.body --model.name asd_small_sehead
    se-zoo tracks videos --boxes train.csv --out tracks --split train    # your own videos; likewise
    se-zoo tracks videos --boxes test.csv --out tracks --split test      # those to test on; then
    python recipes/speaker.py --data.path tracks --data.splits train test test \\
        --run.init lr_asd --model.name asd_small_sehead --optim.lr 2e-4  # few: start from weights
    python recipes/speaker.py --data.path tracks --data.splits train test test --debug    # seconds

Data: AVA-ActiveSpeaker or WASD as their usual preparation leaves them (`csv/train_orig.csv`,
`clips_videos/train/<video>/<entity>/<seconds>.jpg`, `clips_audios/train/<video>/<entity>.wav`), or
what `se-zoo tracks` makes of videos and a table of face boxes.
The loss is the binary cross-entropy of face and sound together plus half of that of the face alone
(Light-ASD, LR-ASD). Batches are tracks of about one length, cut to the shortest, so many frames
(--optim.batch-size). The figure is AVA's average precision; `predictions.csv` in the run's folder,
with log-odds, is what its official script takes. For the frames of published figures add
--data.fps None.
Run time and score to expect: those of your data; `recipes/grid_speaker.py` is this recipe on a
small set, with its figures. An interrupted run goes on when the same command is given again.
"""

from se_zoo.data import TrackDataConfig
from se_zoo.train.speaker.speaker_recipe import SpeakerOptions, run_speaker_recipe

DEFAULT = SpeakerOptions(TrackDataConfig("tracks"))

if __name__ == "__main__":
    run_speaker_recipe(DEFAULT, __doc__ or "")
