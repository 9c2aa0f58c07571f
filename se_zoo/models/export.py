"""A model as a folder that timm and transformers load: config.json and safetensors."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from safetensors.torch import save
from timm.models import save_for_hf
from torch import nn

from .pull import WEIGHTS_NAME


def write_export(
    model: nn.Module,
    folder: Path,
    model_args: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
) -> None:
    """Write ``config.json`` and ``model.safetensors`` into a folder that exists.

    Args:
        model: The model that the config describes.
        folder: Where to.
        model_args: Arguments of the architecture, which ``timm.create_model`` gets again.
        weights: Its state dict, in the precision to be stored; contiguous, on the CPU.
    """
    # A copy, because safetensors refuses tensors in channels_last.
    packed: Any = deepcopy(model)
    packed = packed.cpu().to(memory_format=torch.contiguous_format)
    save_for_hf(packed, str(folder), model_args=dict(model_args), safe_serialization=True)
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8"))
    # timm from 1.0.29 on adds every argument of create_model: drop_rate is the run's business.
    config["model_args"] = dict(model_args)
    file.write_text(json.dumps(complete_config(config), indent=2) + "\n", encoding="utf-8")
    # Anew, in the precision asked for; save_for_hf's file can be read by its owner alone.
    (folder / WEIGHTS_NAME).unlink(missing_ok=True)
    (folder / WEIGHTS_NAME).write_bytes(save(dict(weights), metadata={"format": "pt"}))


def complete_config(config: Mapping[str, Any]) -> Dict[str, Any]:
    """A timm config.json with what transformers' wrapper needs to answer as timm does.

    Without these keys transformers names the labels LABEL_0 on, computes in the precision that the
    weights are stored in, and has independent labels compete in a softmax; and it passes a
    ``num_classes`` of ``model_args`` twice, which fails.

    Args:
        config: As timm's ``save_for_hf`` writes it.
    """
    args = {k: v for k, v in (config.get("model_args") or {}).items() if k != "num_classes"}
    done = {**config, "model_args": args, "dtype": "float32"}
    labels = config.get("label_names") or config.get("pretrained_cfg", {}).get("label_names")
    if labels:
        done["label_names"] = list(labels)
    if args.get("multi_label") or config.get("num_classes") == 1:
        done["problem_type"] = "multi_label_classification"
    return done
