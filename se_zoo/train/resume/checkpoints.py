"""The states of a run: which it goes on from, and how all processes write one together."""

from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast
from torch import nn

from ..ema import Scored
from ..run_folder import difference
from . import state


class Checkpoints:
    """Saves and loads the states of one run.

    Args:
        folder: Where they lie.
        accelerator: It saves and loads model, optimiser and scaler.
        model: As Accelerate prepared it.
        scored: The averaged weights.
        computes: What the run computes; a state of a run that computes something else is refused.
        keep: States that are kept.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        model: nn.Module,
        scored: Scored,
        computes: Dict[str, Any],
        keep: int,
    ):
        self.folder, self.accelerator, self.keep = folder, accelerator, keep
        self.model, self.scored, self.computes = model, scored, computes

    def load(self, resume: Optional[Path]) -> Optional[Tuple[state.Progress, str]]:
        """Go on from the run's own last whole state, or else from that of another folder.

        Args:
            resume: The other run's folder.

        Returns:
            How far the run is, and which state that was; None if there is none.

        Raises:
            StateError: If there are states and none is whole, if ``resume`` has none, or if the
                state is of a run that computes something else.
        """
        places = [("its own last state", self.folder)]
        if resume is not None:
            places.append(("--run.resume", resume / "state"))
        for name, place in places:
            step, problems = state.latest(place)
            if problems and step is None:
                raise state.StateError(
                    f"no state in {place} is whole: {'; '.join(problems)}. --run.overwrite starts "
                    "anew."
                )
            for problem in problems:
                self.accelerator.print(f"damaged state, an older one is used: {problem}")
            if step is not None:
                return self._load(step), f"{name}, {step}"
        if resume is not None:
            raise state.StateError(f"--run.resume {resume} holds no whole state.")
        return None

    def _load(self, step: Path) -> state.Progress:
        progress = state.read_progress(step)
        if progress.config != self.computes:
            raise state.StateError(
                f"{step} belongs to a run with other options: "
                f"{difference(progress.config, self.computes)} (batches of all processes). Give "
                "the same, or another --run.output; --run.init starts another run from its weights."
            )
        self.accelerator.load_state(str(step))
        self.scored.load(step)
        return progress

    def save(self, progress: state.Progress) -> None:
        """Write a state; all processes take part."""
        temporary = state.unfinished(self.folder, progress.update)
        if self.accelerator.is_main_process:
            state.begin(temporary)
        self.accelerator.wait_for_everyone()
        if self.accelerator.distributed_type == DistributedType.FSDP:
            # It keeps the batch statistics of one process: let them be those that are scored.
            for tensor in self.model.buffers():
                broadcast(tensor)
        self.accelerator.save_state(str(temporary))
        self.scored.save(temporary, self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state.finish(temporary, progress, self.keep)
        self.accelerator.wait_for_everyone()
