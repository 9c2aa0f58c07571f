"""Load a model onto the device of a command."""

from typing import Any, Optional

import torch

from ..errors import InvalidInputError
from ..models.load_model import load_model


def load_on(name: str, device: Optional[str]) -> Any:
    """Load an image or clip model in eval mode, on a device.

    Args:
        name: As for :func:`~se_zoo.models.load_model.load_model`.
        device: torch's name of it, such as ``cuda:1``; by default ``cuda`` where torch has one,
            else ``cpu``.

    Raises:
        InvalidInputError: If torch cannot use the device.
        UnknownModelError: If there is no such model.
        WeightsNotFoundError: If its weights cannot be fetched or do not fit.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInputError(
            f"--device {chosen} cannot be used ({reason}); leave it out, or name cpu"
        ) from error
    return load_model(name).to(chosen)
