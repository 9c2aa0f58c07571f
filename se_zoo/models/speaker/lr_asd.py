"""Convert LR-ASD's published weights to ``asd_small_sehead``.

Two things differ: the names, and the classifiers. LR-ASD's have two logits and a softmax; ours have
the difference of the two, whose sigmoid is the same probability.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import timm
import torch
from safetensors.torch import load_file

from ...errors import InvalidInputError, WeightsNotFoundError
from ...files import is_taken
from ..pretrained.fetch import check_finite
from ..pretrained.manifest import cards_folder
from ..pretrained.weights_check import check_dtypes, read_header
from ..save_model import move, nearest, write_export
from .model import SpeakerModel

#: LR-ASD's name of a convolution or norm in an encoder. Of each kind there are two: in space (s),
#: of sound over the coefficients (m), and in time (t).
_ENCODER = re.compile(r"model\.(visual|audio)Encoder\.block(\d)\.([smt])_(norm_)?(\d)\.(.+)")
#: Folder of ``hub_cards`` with the facts of the converted model's card.
CARD = "asd_small_ava"
#: Of these weights, whose gate is untrained, the map that lies on the mouth most often (mouth.json
#: of the card: `python -m benchmarks.speech`).
MAP_METHOD = "activation"
_RENAMED = {
    "model.fusion.attention.": "fusion.conv.",
    "model.fusion.bn.": "fusion.norm.",
    "model.detector.attention.attention.": "detector.gate.conv.",
    "model.detector.attention.bn.": "detector.gate.norm.",
    "model.detector.gru_forward.": "detector.forward_gru.",
    "model.detector.gru_backward.": "detector.backward_gru.",
    "lossAV.FC.": "detector.classifier.",
    "lossV.FC.": "visual_classifier.",
}


def converted(weights: Dict[str, torch.Tensor]) -> Tuple[Dict[str, torch.Tensor], List[str]]:
    """Return the weights under our names, and the names that LR-ASD does not have."""
    found, unknown = {}, []
    for key, tensor in weights.items():
        name = _our_name(key)
        if name is None:
            unknown.append(key)
        elif "classifier" in name:
            found[name] = tensor[1:] - tensor[:1]
        else:
            found[name] = tensor
    return found, unknown


def _our_name(key: str) -> "str | None":
    """Return our name of one of LR-ASD's tensors; None if LR-ASD has no such tensor."""
    match = _ENCODER.fullmatch(key)
    if match:
        encoder, block, kind, norm, number, rest = match.groups()
        unit = (2 if kind == "t" else 0) + int(number) - 1
        module = "norm" if norm else "conv"
        return f"{encoder}_encoder.blocks.{int(block) - 1}.{unit}.{module}.{rest}"
    for theirs, ours in _RENAMED.items():
        if key.startswith(theirs):
            return ours + key[len(theirs) :]
    return None


def convert_lr_asd(file: Path) -> SpeakerModel:
    """Create the model with LR-ASD's weights and an untrained identity gate.

    Args:
        file: State dict of LR-ASD: safetensors, or a file of ``torch.save``, from which only
            tensors are read.

    Returns:
        The model in eval mode.

    Raises:
        WeightsNotFoundError: If the file cannot be read, or its tensors are not exactly LR-ASD's.
    """
    found, unknown = converted(_read(file))
    model: Any = timm.create_model("asd_small_sehead", map_method=MAP_METHOD).eval()
    own = model.state_dict()
    needed = {name for name in own if not name.startswith("se.")}
    missing = sorted(needed - found.keys())
    shapes = [n for n in found if n in own and own[n].shape != found[n].shape]
    strange = [*unknown, *sorted(found.keys() - needed)]
    if missing or shapes or strange:
        raise WeightsNotFoundError(
            f"{file} is not LR-ASD's: missing are {_some(missing)}, unknown are {_some(strange)}, "
            f"of other shapes are {_some(shapes)}."
        )
    check_dtypes(found, own, str(file))
    model.load_state_dict({**own, **found})
    check_finite(model, str(file))
    return model


def _read(file: Path) -> Dict[str, torch.Tensor]:
    """Read a state dict, without running any code of the file."""
    try:
        if file.suffix == ".safetensors":
            read_header(file)  # before any tensor is read
            return load_file(file)
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsNotFoundError:
        raise
    # torch.load raises nearly any error for a file that it did not write.
    except Exception as error:
        if isinstance(error, OSError):
            raise WeightsNotFoundError(f"{file} cannot be read as weights: {error}") from error
        raise WeightsNotFoundError(
            f"{file} cannot be read as weights: it is neither safetensors nor a state dict of "
            "torch.save."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsNotFoundError(f"{file} is not a state dict: names and tensors.")
    return state


def _some(names: List[str]) -> str:
    """Return how many names there are, and the first three."""
    return f"{len(names)} tensors ({', '.join(names[:3])}, ...)" if names else "nothing"


def write_converted(file: Path, folder: Path) -> None:
    """Convert LR-ASD's weights to a folder that :func:`se_zoo.create_speaker_model` loads.

    Args:
        file: As :func:`convert_lr_asd`.
        folder: A new or empty folder. Its folder ``card`` gets the facts and figures for a card.

    Raises:
        InvalidInputError: If the folder has files already.
        WeightsNotFoundError: As :func:`convert_lr_asd`; nothing is written then.
    """
    if is_taken(folder):
        raise InvalidInputError(f"{folder} exists already; name another folder.")
    model: Any = convert_lr_asd(file)
    with tempfile.TemporaryDirectory(dir=nearest(folder.absolute().parent)) as temporary:
        made = Path(temporary) / "export"
        made.mkdir()
        write_export(model, made, model._model_args, model.state_dict())
        shutil.copytree(cards_folder() / CARD, made / "card")
        move(made, folder)
