r"""Train a model that says who speaks, frame by frame, from face tracks and their sound.

    python recipes/speaker.py --data.path ava --data.splits train val val --run.workers 16
    python recipes/speaker.py --data.path wasd --data.splits train val val \
        --data.bodies clips_bodies --model.body --model.name asd_small_sehead
    se-zoo tracks videos --boxes train.csv --out tracks --split train    # your own videos
    se-zoo tracks videos --boxes test.csv --out tracks --split test      # your test videos; then
    python recipes/speaker.py --data.path tracks --data.splits train test test \
        --run.init lr_asd --model.name asd_small_sehead --optim.lr 2e-4  # few: start from weights
    python recipes/speaker.py --data.path tracks --data.splits train test test --debug    # seconds

Run time and score to expect: these depend on your data. `recipes/grid_speaker.py` trains the same
way on a small set and states its figures. The same command continues an interrupted run.
Data: AVA-ActiveSpeaker or WASD as their usual preparation leaves them (`csv/train_orig.csv`,
`clips_videos/train/<video>/<entity>/<seconds>.jpg`, `clips_audios/train/<video>/<entity>.wav`), or
what `se-zoo tracks` makes of videos and a table of face boxes.
The loss is the binary cross-entropy of face and sound together, plus half of that of the face alone
(Light-ASD, LR-ASD). A batch holds tracks of about one length, cut to the shortest;
--optim.batch-size counts their frames. The score is AVA's average precision. `predictions.csv` in
the run's folder, with log-odds, is the input of AVA's official script. Published figures count all
frames: add --data.fps None.
"""

from se_zoo.data import TrackDataConfig
from se_zoo.train.speaker_recipe import SpeakerOptions, run_speaker_recipe

DEFAULT = SpeakerOptions(TrackDataConfig("tracks"))

if __name__ == "__main__":
    run_speaker_recipe(DEFAULT, __doc__ or "")
