"""The checkpoints of a run: which one it continues from, and how all processes write one."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, broadcast_object_list
from safetensors import safe_open
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...text import one_line, printable
from ..ema import EvalWeights
from ..nodes import nodes_without
from ..options import option_differences
from . import state

#: Options of the data that say where they lie. Data that were moved are known by their contents.
_PLACES = ("path", "csv")


class Checkpoints:
    """Saves and loads the checkpoints of one run.

    Args:
        folder: The folder of the checkpoints.
        accelerator: Saves and loads model, optimizer and scaler.
        model: The model as Accelerate prepared it.
        eval_weights: The averaged weights.
        identity: What identifies the run; checkpoints with another identity are refused.
        keep: Number of checkpoints to keep.
    """

    folder: Path
    accelerator: Accelerator
    keep: int
    model: nn.Module
    eval_weights: EvalWeights
    identity: Dict[str, Any]

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        model: nn.Module,
        eval_weights: EvalWeights,
        identity: Dict[str, Any],
        keep: int,
    ):
        self.folder, self.accelerator, self.keep = folder, accelerator, keep
        self.model, self.eval_weights, self.identity = model, eval_weights, identity

    def load(
        self, resume: Optional[Path], data: Dict[str, Dict[str, str]], accept_changed_data: bool
    ) -> Optional[Tuple[state.Progress, str]]:
        """Load the run's own last complete checkpoint; if it has none, that of another folder.

        Args:
            resume: The other run's folder.
            data: The fingerprint of each split.
            accept_changed_data: Continue even if the checkpoint is of other data.

        Returns:
            The progress, and which checkpoint it is from; None if there is no checkpoint.

        Raises:
            StateError: If there are checkpoints and none is complete, if ``resume`` has none, or if
                the checkpoint is of a run with another identity or with other data, or its files
                are not those of a run.
        """
        places = [("its own last checkpoint", self.folder)]
        if resume is not None:
            places.append(("--run.resume", resume / "state"))
        for name, place in places:
            step, problems = self._latest(place)
            if problems and step is None:
                raise state.StateError(
                    f"no checkpoint in {place} is complete: {'; '.join(problems)}. "
                    "--run.overwrite starts anew."
                )
            for problem in problems:
                problem = printable(problem)
                self.accelerator.print(f"damaged checkpoint, an older one is used: {problem}")
            if step is not None:
                return self._load(step, data, accept_changed_data), f"{name}, {step}"
        if resume is not None:
            raise state.StateError(f"--run.resume {resume} holds no complete checkpoint.")
        return None

    def _latest(self, place: Path) -> Tuple[Optional[Path], List[str]]:
        """Return what :func:`state.latest` finds in the main process, to all processes.

        On a network file system another node may still see an older checkpoint as the newest.
        """
        found: Any = [state.latest(place) if self.accelerator.is_main_process else None]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(found)
        return found[0]

    def _load(
        self, step: Path, data: Dict[str, Dict[str, str]], accept_changed_data: bool
    ) -> state.Progress:
        """Load one checkpoint; refuse one of a run with another identity, or with other data."""
        if blind := nodes_without(step / state.MANIFEST, self.accelerator):
            raise state.StateError(
                f"{step} does not exist on {', '.join(blind)}; it must lie on a file system that "
                "all nodes share."
            )
        progress = state.read_progress(step)
        # The number of samples is a property of the data, not an option.
        before = {**progress.config, "samples": self.identity.get("samples")}
        if progress.data:
            before = _moved(before, self.identity)
        if before != self.identity:
            raise state.StateError(
                f"{step} belongs to a run with other options: "
                f"{option_differences(before, self.identity)} (the batch size is that of "
                "all processes). Give the same options, or another --run.output; --run.init starts "
                "another run from these weights."
            )
        changes = ", ".join(self._changes_of_data(progress, data))
        if changes and not accept_changed_data:
            raise state.StateError(
                f"the data were changed since {step} was written: {changes}. Restore them, or add "
                "--run.accept-changed-data to continue with them as they are, or --run.overwrite "
                "to start anew."
            )
        if changes:
            self.accelerator.print(f"continues with changed data: {changes}")
        elif not progress.data:
            self.accelerator.print(f"{step} does not say on which data it was trained")
        hook = self.accelerator.register_load_state_pre_hook(_match_names)
        try:
            self.accelerator.load_state(str(step))
            self.eval_weights.load(step)
        # Its files are as they were written, so somebody wrote others. torch, Accelerate and
        # safetensors raise many kinds of errors, of pickles too, which they do not execute. FSDP's
        # sharded checkpoints are the exception: torch unpickles their .metadata.
        except Exception as error:
            raise state.StateError(
                f"{step} cannot be loaded: {type(error).__name__}: {one_line(error)}. Remove this "
                "folder to continue from the checkpoint before, or add --run.overwrite to start "
                "anew."
            ) from error
        finally:
            hook.remove()
        return replace(progress, config=self.identity, data=data)

    def _changes_of_data(
        self, progress: state.Progress, data: Dict[str, Dict[str, str]]
    ) -> Iterator[str]:
        """Yield what differs between the data of a checkpoint and those of this run."""
        samples = progress.config.get("samples"), self.identity.get("samples")
        if samples[0] != samples[1]:
            yield f"{samples[0]} training samples have become {samples[1]}"
        for split, now in data.items():
            before = progress.data.get(split, now)
            for name in now:
                if before.get(name) != now[name]:
                    yield f"{name} of {split}"

    def save(self, progress: state.Progress) -> None:
        """Write a checkpoint; all processes must call it."""
        temporary = state.unfinished(self.folder, progress.update)
        if self.accelerator.is_main_process:
            state.begin(temporary)
        self.accelerator.wait_for_everyone()
        if self.accelerator.distributed_type == DistributedType.FSDP:
            # FSDP stores the buffers of one process: make them those that were evaluated.
            for tensor in self.model.buffers():
                broadcast(tensor)
        self.accelerator.save_state(str(temporary))
        self.eval_weights.save(temporary, self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state.finish(temporary, progress, self.keep)
        self.accelerator.wait_for_everyone()


def _moved(before: Dict[str, Any], now: Dict[str, Any]) -> Dict[str, Any]:
    """Return the options of a checkpoint as if its data had lain where they lie now."""
    old, new = before.get("data"), now.get("data")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return before
    places = {name: new[name] for name in _PLACES if old.get(name) and new.get(name)}
    return {**before, "data": {**old, **places}}


class _Wrapped(nn.Module):
    """A model whose tensors have the names that DistributedDataParallel gives them."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module


def _match_names(models: List[Any], folder: str) -> None:
    """Let one process load what several wrote, and several what one wrote.

    Several wrap the model, and its names in their checkpoint begin with ``module.``.

    Args:
        models: The models to load, as Accelerate prepared them; changed in place.
        folder: The checkpoint.
    """
    for place, model in enumerate(models):  # there is one, and none where FSDP has loaded it
        with safe_open(Path(folder) / "model.safetensors", "pt") as stored:
            names = set(stored.keys())
        if not names <= set(model.state_dict()):
            wrapped = isinstance(model, DistributedDataParallel)
            models[place] = model.module if wrapped else _Wrapped(model)
