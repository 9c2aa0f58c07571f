"""Squeeze every architecture of the installed timm and check the result.

    python -m tools.walk_timm
    python -m tools.walk_timm --filter 'vit_*' --verbose

Run time: about 12 minutes on one core for timm's 1,371 architectures; models are on the meta
device, which has shapes but does no arithmetic. Result: docs/any_timm_model.md.

It prints every refusal with its reason, and the share squeezed. The exit code is 1 if less than
98 % of the architectures are squeezed, or if one fails in another way than with an
``UnsupportedBackboneError`` that names the model.
"""

import argparse
import sys
import time
import warnings
from typing import List, NamedTuple, Tuple

import timm
import torch
from torch import nn

import se_zoo

#: Smallest share of architectures that must be squeezed.
FLOOR = 0.98


class Outcome(NamedTuple):
    """The result of one architecture.

    Attributes:
        name: Name in timm.
        status: ``"squeezed"``, ``"refused"`` (with an error that says why), or ``"broken"``.
        reason: Message of the error; empty if squeezed.
    """

    name: str
    status: str
    reason: str = ""


def _device_for(name: str) -> str:
    """Return the meta device, or the CPU for models that cannot run there.

    These models switch autocast off, which torch 2.6 cannot do on the meta device.
    """
    if name.startswith("efficientvit_"):
        try:
            torch.autocast("meta", enabled=False)
        except RuntimeError:
            return "cpu"
    return "meta"


def _create(name: str) -> nn.Module:
    """Create a timm model in eval mode, on the meta device: shapes without memory."""
    with torch.device(_device_for(name)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm warns of its deprecated names
        return timm.create_model(name).eval()


def _images_for(model: nn.Module) -> torch.Tensor:
    """Return two images of the model's input size, on the model's device."""
    size = model.pretrained_cfg["input_size"]  # type: ignore[index]
    return torch.zeros(2, *size, device=next(model.parameters()).device)  # type: ignore[misc]


def shape_of(output: object) -> object:
    """Return the shapes of a tensor or of nested tensors, as some heads return."""
    if isinstance(output, torch.Tensor):
        return tuple(output.shape)
    if isinstance(output, (list, tuple)):
        return [shape_of(entry) for entry in output]
    return type(output).__name__


def check_squeezed(
    model: nn.Module, cls: type, names: List[str], shape: object, images: torch.Tensor
) -> None:
    """Assert that a squeezed model keeps its class, names and output shape, and has a grid.

    Args:
        model: The squeezed model.
        cls: Its class before.
        names: Its state-dict names before.
        shape: Shape of its output before.
        images: Input, (B, C, H, W).

    Raises:
        AssertionError: Naming what changed.
    """
    now = list(model.state_dict())
    added = sorted(set(now) - set(names))
    assert added == ["se.fc1.weight", "se.fc2.weight", "se.gate_scale"], (
        f"added to the state dict: {added}"
    )
    assert [n for n in now if n not in added] == names, "the backbone's state-dict names changed"
    assert isinstance(model, cls), f"no longer a {cls.__name__}"
    features = model.forward_features(images)  # type: ignore[operator]
    logits = model.forward_head(features)  # type: ignore[operator]
    assert shape_of(logits) == shape, f"output {shape_of(logits)}, before {shape}"
    check_gate_used(model, images)
    size = (images.shape[-2], images.shape[-1])
    check_grid(model.feature_grid(features, size), model.se.channels, size)  # type: ignore[operator, union-attr]


def check_gate_used(model: nn.Module, images: torch.Tensor) -> None:
    """Assert that a forward pass computes the gate exactly once."""
    calls: List[torch.Size] = []
    excite = model.se.excite  # type: ignore[union-attr]

    def counted(squeezed: torch.Tensor) -> torch.Tensor:
        calls.append(squeezed.shape)
        return excite(squeezed)  # type: ignore[operator]

    model.se.excite = counted  # type: ignore[union-attr, assignment]
    model(images)
    del model.se.excite  # type: ignore[union-attr]
    assert len(calls) == 1, f"forward computed the gate {len(calls)} times"


def check_grid(grid: torch.Tensor, channels: object, size: Tuple[int, int]) -> None:
    """Assert that a grid is (B, C, h, w) with about square cells on the image."""
    assert grid.dim() == 4 and grid.shape[1] == channels, f"grid {shape_of(grid)}, SE {channels}"
    cell_height, cell_width = size[0] / grid.shape[2], size[1] / grid.shape[3]
    aspect = max(cell_height, cell_width) / min(cell_height, cell_width)
    assert grid.shape[2:].numel() >= 4 and aspect < 1.5, f"grid {shape_of(grid)} on image {size}"


@torch.no_grad()
def walk_one(name: str) -> Outcome:
    """Squeeze one architecture and check the result."""
    try:
        model = _create(name)
        cls, names, images = type(model), list(model.state_dict()), _images_for(model)
        shape = shape_of(model(images))
        try:
            se_zoo.squeeze(model)
        except se_zoo.UnsupportedBackboneError as refusal:
            assert name in str(refusal), f"the refusal does not name the model: {refusal}"
            assert type(model) is cls and list(model.state_dict()) == names, "refused, yet changed"
            return Outcome(name, "refused", str(refusal))
        check_squeezed(model, cls, names, shape, images)
    except Exception as error:
        return Outcome(name, "broken", f"{type(error).__name__}: {error}")
    return Outcome(name, "squeezed")


def backbones(pattern: str = "*") -> List[str]:
    """List timm's own architectures, without the SE variants of this package."""
    return timm.list_models(pattern, exclude_filters=("*_sehead*", "se_zoo/*"))


def report(outcomes: List[Outcome]) -> bool:
    """Print refusals, errors and the share squeezed; return whether the walk passes."""
    for status in ("refused", "broken"):
        for outcome in outcomes:
            if outcome.status == status:
                print(f"{status:8}  {outcome.name:40}  {outcome.reason}")
    counts = {s: sum(o.status == s for o in outcomes) for s in ("squeezed", "refused", "broken")}
    share = counts["squeezed"] / len(outcomes)
    print(
        f"timm {timm.__version__}, torch {torch.__version__}: {len(outcomes)} architectures, "
        + ", ".join(f"{count} {status}" for status, count in counts.items())
        + f": {share:.2%} (floor {FLOOR:.0%})"
    )
    return share >= FLOOR and not counts["broken"]


def main() -> int:
    """Walk, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--filter", default="*", help="pattern of timm names, such as 'vit_*'")
    parser.add_argument("--verbose", action="store_true", help="a line for every architecture")
    args = parser.parse_args()
    names = backbones(args.filter)
    if not names:
        print(f"timm has no architecture that matches {args.filter!r}.", file=sys.stderr)
        return 1
    outcomes: List[Outcome] = []
    start = time.perf_counter()
    for name in names:
        outcomes.append(walk_one(name))
        if args.verbose:
            took = time.perf_counter() - start
            print(f"{took:7.1f} s  {name:45} {outcomes[-1].status}", flush=True)
    passed = report(outcomes)
    print(f"{time.perf_counter() - start:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
