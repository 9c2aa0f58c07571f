"""The options of a run: which of them change its result, and how two sets of options differ."""

import json
from pathlib import PurePath
from typing import Any, Collection, Dict, Mapping

from ..provenance import options

#: Fields of ``RunConfig`` that do not change what a run computes. ``init`` is among them because an
#: interrupted run continues from its checkpoint, not from the initial weights.
FREE_OPTIONS = frozenset({"output", "overwrite", "resume", "workers", "save_every", "keep",
                          "log_every", "trackers", "dry_run", "init",
                          "accept_changed_data"})  # fmt: skip


#: Fields of the data's configuration that do not change what a run computes, beyond what the
#: fingerprints of the data tell.
_FREE_DATA = frozenset({"outside", "broken"})


def plain(value: Any) -> Any:
    """Return a value in JSON's types, paths as text, as it would be read again from a file.

    Paths have slashes on Windows, too, so that a run may go on under another system.
    """
    return json.loads(json.dumps(value, default=_text))


def _text(value: Any) -> str:
    """Return the text of a value that JSON lacks."""
    return value.as_posix() if isinstance(value, PurePath) else str(value)


#: Options of the optimiser that came later; left out where they are not used.
_LATER_OPTIONS = ("freeze_backbone", "freeze_norms", "l1_classifier")


def result_options(
    config: Dict[str, Any], processes: int, free: Collection[str] = FREE_OPTIONS
) -> Dict[str, Any]:
    """Return the options that change the result of a run.

    Args:
        config: All options, nested.
        processes: Number of processes. The batch size is multiplied by it, because two processes
            with half the batch compute the same.
        free: Fields of ``run`` to leave out.
    """
    run = {name: value for name, value in config["run"].items() if name not in free}
    optim = {**config["optim"], "batch_size": config["optim"]["batch_size"] * processes}
    for name in _LATER_OPTIONS:  # so that runs of before continue
        if not optim.get(name):
            optim.pop(name, None)
    data = {name: value for name, value in config["data"].items() if name not in _FREE_DATA}
    return {**config, "data": data, "run": run, "optim": optim}


def option_lines(config: Mapping[str, Any]) -> str:
    """Return a nested configuration as text, one option and its value a line."""
    return "\n".join(f"--{name} {value}" for name, value in options(config).items())


def option_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the options that differ, as ``--name before -> now``."""
    left, right = options(before), options(now)
    names = [n for n in {**left, **right} if left.get(n) != right.get(n)]
    return ", ".join(f"--{n} {left.get(n)} -> {right.get(n)}" for n in names)
