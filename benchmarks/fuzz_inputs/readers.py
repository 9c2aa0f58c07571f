"""All readers, by name."""

from typing import Dict

from se_zoo.hub.facts import read_facts

from .case import Reader
from .commands import make_command, read_command
from .explanations import make_explanation, read_explanation
from .facts import make_facts
from .models import make_config, make_header, read_model
from .photos import make_photo, read_photo
from .predictions import make_predictions, read_predictions
from .runs import make_run, read_run
from .tables import make_csv, read_csv
from .videos import make_video, read_video

#: Readers by name.
READERS: Dict[str, Reader] = {
    "config": Reader(make_config, read_model),
    "header": Reader(make_header, read_model),
    "facts": Reader(make_facts, read_facts),
    "csv": Reader(make_csv, read_csv),
    "photo": Reader(make_photo, read_photo),
    "video": Reader(make_video, read_video),
    "explanation": Reader(make_explanation, read_explanation),
    "predictions": Reader(make_predictions, read_predictions),
    "run": Reader(make_run, read_run),
    "command": Reader(make_command, read_command),
}
