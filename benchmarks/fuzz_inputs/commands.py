"""Command lines with values that no option may have, of ``se-zoo`` and of a recipe."""

import contextlib
import functools
import io
import json
import random
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from PIL import Image

from recipes import own_data
from se_zoo import SEZooError, cli
from se_zoo.cli.check import Check
from se_zoo.cli.explain import Explain
from se_zoo.cli.predict import Predict
from se_zoo.cli.report import Report
from se_zoo.cli.zoo import ListModels, Verify
from se_zoo.train.recipe import run_recipe

from .case import Case, Refused, kept_folder
from .models import saved_model

#: Words that stand where others belong.
_WORDS: Tuple[str, ...] = (
    "", " ", "-1", "0", "1", "2", "7", "99999999999999999999", "nan", "inf", "-inf", "1e400", "1.5",
    "a", "None", "True", "../../x", "/", "/dev/null", "/dev/zero", "/nothing/here", "\u202etxt",
    "a\nb", "x" * 300, "local-dir:", "local-dir:/nothing", "hf-hub:a/b", "hf-hub:../..",
    "se_zoo/none",
    "cuda:9", "cpu", "[" * 50, "%s%n", "{0}", "*.jpg", "**/*", "~", ".", "0x10", "1_0",
)  # fmt: skip
#: Words that no command accepts, by command.
_IMPOSSIBLE: Dict[str, Tuple[Tuple[str, ...], ...]] = {
    "explain": (("--batch-size", "0"), ("--alpha", "2"), ("--alpha", "nan"), ("--workers", "-1"),
                ("--crop", "9", "9", "1", "1"), ("--crop", "-20000", "-20000", "20000", "20000"),
                ("--target", "zebra"), ("--target", "99"), ("--method", "magic"), ("--top", "0"),
                ("--cmap", "magic"), ("--start", "1"), ("--device", "cuda:9"), ("--magic",),
                ("--versus", "zebra"), ("--model", "se_zoo/none"), ("--table", "x.csv")),
    "predict": (("--batch-size", "0"), ("--rows-per-file", "0"), ("--target", "zebra"),
                ("--method", "magic"), ("--top", "0"), ("--device", "magic"), ("--workers", "-1"),
                ("--model", "local-dir:/nothing"), ("--batch-size", "many")),
    "check": (("--label", "none"), ("--workers", "-1"), ("--splits", "a", "b", "c"),
              ("--csv", "/nothing.csv"), ("--crop", "1", "1", "2", "2"), ("--videos",),
              ("--attributes", "a", "a"), ("--celeba", "--label", "x"), ("--fold", "4")),
    "report": (("--labels", "0"), ("--labels", "-1"), ("--boxes", "/nothing.csv")),
    "verify": (("--magic",), ("more",)),
    "list": (("--architectures", "3"), ("more",)),
    "recipe": (("--optim.clip-grad", "-1"), ("--augment.scale", "5", "9"), ("--augment.hflip", "9"),
               ("--optim.layer-decay", "-1"), ("--optim.lr", "nan"), ("--run.workers", "100000"),
               ("--run.output", ""), ("--optim.epochs", "0"), ("--model.input-size", "0", "9"),
               ("--optim.epochs", "1e3"), ("--model.name", "none"), ("--data.path", "/nothing"),
               ("--run.mixed-precision", "fp8"), ("--run.best", "magic"), ("--data.limit", "0"),
               ("--run.seed", "-1"), ("--model.args", "magic"), ("--augment.auto-augment", "magic"),
               ("--run.init", "/nothing"), ("--data.splits", "a", "b", "c")),
}  # fmt: skip
_CLASSES: Dict[str, Any] = {
    "explain": Explain, "predict": Predict, "check": Check, "report": Report, "verify": Verify,
    "list": ListModels, "recipe": type(own_data.DEFAULT),
}  # fmt: skip
#: Options that are given already, or start many processes.
_FIXED = {"sources", "source", "data", "out", "model", "folder", "workers", "output", "dry_run"}


@functools.lru_cache(maxsize=1)
def photos() -> Path:
    """Return a folder of small photos: a folder for each of two classes in three splits."""
    folder = kept_folder() / "photos"
    for n in range(12):
        place = folder / ("train", "valid", "test")[n % 3] / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (20 * n, 100, 255 - 20 * n)).save(place / f"{n}.png")
    return folder


@functools.lru_cache(maxsize=1)
def predictions() -> Path:
    """Return a folder that ``se-zoo predict`` made of :func:`photos`."""
    out = kept_folder() / "done"
    run_command(_line("predict", out))
    return out


def _line(command: str, out: Path) -> List[str]:
    """Return a command line that works, which writes to ``out`` alone."""
    model = f"local-dir:{saved_model()}"
    data = str(photos())
    lines: Dict[str, List[str]] = {
        "explain": ["explain", f"{data}/train/a/0.png", "--model", model, "--device", "cpu",
                    "--out", f"{out}.png"],
        "predict": ["predict", data, "--out", str(out), "--model", model, "--device", "cpu",
                    "--workers", "0", "--rows-per-file", "5", "--quiet"],
        "check": ["check", data, "--workers", "0"],
        "verify": ["verify", model],
        "list": ["list"],
        "recipe": ["recipe", "--data.path", data, "--run.output", str(out), "--run.dry-run",
                   "--model.name", "timm_sehead", "--model.backbone", "test_resnet",
                   "--optim.batch-size", "2"],
    }  # fmt: skip
    if command == "report":
        return ["report", str(predictions()), "--out", f"{out}.html", "--no-photos"]
    return lines[command]


def _options(cls: Any, prefix: str = "--") -> List[str]:
    """Return the options of a dataclass, and of those in it."""
    found = []
    for field in fields(cls):
        default = getattr(own_data.DEFAULT, field.name, None) if cls is _CLASSES["recipe"] else None
        name = prefix + field.name.replace("_", "-")
        if is_dataclass(default):
            found += _options(type(default), f"{name}.")
        elif field.name not in _FIXED:
            found.append(name)
    return found


def make_command(rng: random.Random, folder: Path) -> Case:
    """Write the words of a command line, as JSON."""
    command = rng.choice([*sorted(_CLASSES), "explain", "recipe"])
    words = _line(command, folder / "out")
    kind = rng.choice(["impossible"] * 4 + ["option"] * 5 + ["word"] * 2 + ["none"])
    valid: Optional[bool] = None
    if kind == "impossible":
        words, valid = [*words, *rng.choice(_IMPOSSIBLE[command])], False
    elif kind == "option":
        for _ in range(rng.randint(1, 2)):
            values = [rng.choice(_WORDS) for _ in range(rng.choice([0, 1, 1, 1, 2, 4]))]
            words += [rng.choice(_options(_CLASSES[command]) or ["--magic"]), *values]
    elif kind == "word":
        words[rng.randrange(len(words))] = rng.choice(_WORDS)
    elif command not in ("report", "verify"):  # which need more photos, and a released model
        valid = True
    file = folder / "words.json"
    file.write_text(json.dumps(words))
    return Case(file, valid, f"{kind}: {json.dumps(words):.300}")


def read_command(file: Path) -> Any:
    """Run a command line."""
    return run_command(json.loads(file.read_text()))


def run_command(words: Sequence[str]) -> str:
    """Run a command of ``se-zoo``, or ``recipe`` for a recipe, in this process.

    Args:
        words: The command line.

    Returns:
        What it printed.

    Raises:
        SEZooError: If it refused its input.
        Exception: Any other error, though the command would print it as one line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _argv(words):
            if words and words[0] == "recipe":
                run_recipe(own_data.DEFAULT, own_data.__doc__ or "")
            else:
                cli.main(list(words))
    except SystemExit as ended:
        error = ended.__context__
        if isinstance(error, SEZooError):
            raise error from None
        known = isinstance(error, OSError) or not isinstance(ended.code, str)
        if isinstance(error, Exception) and not known:
            raise error from None  # one line for users, and yet not a refusal on purpose
        if ended.code not in (None, 0):
            text = ended.code if isinstance(ended.code, str) else said.getvalue()
            raise Refused(" ".join(text.split())[-300:]) from None
    return said.getvalue()


@contextlib.contextmanager
def _argv(words: Sequence[str]) -> Iterator[None]:
    """Let a recipe find its options, and forget the run afterwards."""
    before = sys.argv
    sys.argv = ["recipe.py", *words[1:]]
    try:
        yield
    finally:
        sys.argv = before
        forget_accelerator()


def forget_accelerator() -> None:
    """Make Accelerate forget the first run's settings, which it keeps for a whole process."""
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
