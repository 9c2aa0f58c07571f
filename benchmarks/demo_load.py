"""Load the demo's server with many users at once, on loopback, and count what gets lost.

    python -m benchmarks.demo_load
    python -m benchmarks.demo_load --users 50 --photos 2

Every user sends photos of its own, each after the answer to the one before, and compares every
answer with the model's. Run time: a minute or two on two cores. Result: docs/demo.md. Needs the
extra demo.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import tyro
from PIL import Image

from se_zoo.inference.images import demo_photo
from se_zoo.models.load_model import load_model


@dataclass(frozen=True)
class Load:
    """Options of the load test."""

    model: str = "se_zoo/resnet18_slim_celeba"
    """Model that explains the photos."""
    users: int = 20
    """Users at the same time."""
    photos: int = 3
    """Photos of each user."""


class Counted(NamedTuple):
    """What came of all photos.

    Attributes:
        seconds: Time that each answer took, as its user saw it.
        lost: What went wrong, for each photo without an answer.
        wrong: Number of answers that are not those of the user's own photo.
        total: Seconds of the whole test.
    """

    seconds: List[float]
    lost: List[str]
    wrong: int
    total: float


def _write_photos(folder: Path, load: Load) -> List[List[Path]]:
    """Write other photos for every user: the portrait, cut differently."""
    portrait = Image.open(demo_photo())
    written: List[List[Path]] = []
    for user in range(load.users):
        written.append([])
        for number in range(load.photos):
            margin = 1 + user * load.photos + number
            file = folder / f"{user}_{number}.png"
            portrait.crop((margin, margin, 512 - margin, 600 - margin)).save(file)
            written[-1].append(file)
    return written


def measure(load: Load) -> Counted:
    """Serve the demo, let all users ask at once, and compare their answers.

    Args:
        load: The options.

    Returns:
        Times, losses and wrong answers.
    """
    from gradio_client import Client, handle_file

    seconds: List[float] = []
    lost: List[str] = []
    answers: List[Tuple[Path, Any]] = []
    start = threading.Barrier(load.users + 1)

    def use(client: Any, files: List[Path]) -> None:
        start.wait()
        for file in files:
            begin = time.perf_counter()
            try:
                answer = client.predict(
                    handle_file(str(file)), load.model, None, None, api_name="/explain"
                )
            except Exception as error:
                lost.append(f"{file.name}: {error}")
                continue
            seconds.append(time.perf_counter() - begin)
            answers.append((file, answer[0]["confidences"]))

    with served_demo(load.model) as address, tempfile.TemporaryDirectory() as folder:
        photos = _write_photos(Path(folder), load)
        # A busy server answers late; httpx would give up after five seconds.
        patient = {"timeout": 600}
        clients = [Client(address, verbose=False, httpx_kwargs=patient) for _ in range(load.users)]
        pairs = zip(clients, photos, strict=True)
        users = [threading.Thread(target=use, args=pair) for pair in pairs]
        for user in users:
            user.start()
        start.wait()
        begin = time.perf_counter()
        for user in users:
            user.join()
        total = time.perf_counter() - begin
        for client in clients:
            client.close()
        model: Any = load_model(load.model)
        wrong = sum(not _is_of(model, *answer) for answer in answers)
    return Counted(seconds, lost, wrong, total)


@contextmanager
def served_demo(*models: str) -> Iterator[str]:
    """Serve the demo in a process of its own.

    Args:
        models: Models that it offers.

    Yields:
        Its address.

    Raises:
        RuntimeError: If it ends before it serves.
    """
    command = [sys.executable, "-m", "se_zoo.cli", "demo", *models]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"runs at (\S+);", line):
                break
        else:
            raise RuntimeError("The demo ended before it served; its message is above.")
        try:
            yield found[1]
        finally:
            process.terminate()


def _is_of(model: Any, file: Path, confidences: List[Dict[str, Any]]) -> bool:
    """Return whether the probabilities of an answer are those of a photo."""
    shares = model.explain(file, method="activation").probabilities[0]
    labels = list(model.class_labels())
    return all(
        abs(float(shares[labels.index(entry["label"])]) - entry["confidence"]) < 1e-4
        for entry in confidences
    )


def main(load: Load) -> None:
    """Run the load test and print what came of it."""
    found = measure(load)
    asked = load.users * load.photos
    for line in found.lost:
        print(line)
    print(f"{load.users} users, {asked} photos in {found.total:.0f} s: {len(found.lost)} lost, "
          f"{found.wrong} wrong; median answer {statistics.median(found.seconds):.1f} s, "
          f"slowest {max(found.seconds):.1f} s")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Load, description=__doc__))
