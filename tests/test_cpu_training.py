"""The faster gradients of tools/cpu_training.py are the gradients of convolutions."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
import torch.nn.functional as F

from tools import cpu_training

ROOT = Path(__file__).resolve().parents[1]
CASES: Dict[str, Dict[str, Any]] = {
    "1x1": dict(kernel=1),
    "1x1 with a stride": dict(kernel=1, stride=2),
    "3x3": dict(kernel=3, padding=1),
    "3x3 with a stride and dilation": dict(kernel=3, padding=2, stride=2, dilation=2),
    "large grid": dict(kernel=3, padding=1, size=(20, 15)),
    "oblong": dict(kernel=(3, 1), padding=(1, 0), stride=(2, 1)),
    "depthwise": dict(kernel=7, padding=3, groups=16),
    "depthwise with a stride": dict(kernel=5, stride=2, groups=16),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **CASES[case]}
    kernel, size = options.pop("kernel"), options.pop("size", (9, 7))
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    torch.manual_seed(0)
    values = {
        "x": torch.randn(2, 16, *size).to(memory_format=torch.channels_last),
        "weight": torch.randn(16, 16 // options["groups"], *kernel),
        "bias": torch.randn(16),
    }
    applied = []
    apply = cpu_training._Convolution.apply
    monkeypatch.setattr(
        cpu_training._Convolution, "apply", lambda *a: applied.append(1) or apply(*a)
    )

    def gradients(conv2d: Any, autocast: bool) -> Dict[str, torch.Tensor]:
        given = {name: value.clone().requires_grad_() for name, value in values.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = conv2d(given["x"], given["weight"], given["bias"], **options)
        weight = torch.linspace(-1, 1, found.numel()).view_as(found)
        (found.float() * weight).sum().backward()
        return {"result": found, **{name: value.grad for name, value in given.items()}}  # type: ignore

    exact, ours = gradients(F.conv2d, False), gradients(cpu_training.conv2d, True)
    assert applied == [1]
    for name, value in ours.items():
        # bf16 has eight bits.
        assert (value - exact[name]).norm() < 0.01 * exact[name].norm(), name


def test_other_convolutions_are_left_alone() -> None:
    x, weight = torch.randn(1, 32, 5, 5), torch.randn(32, 8, 3, 3, requires_grad=True)
    for autocast, groups in ((False, 1), (True, 4)):
        kernel = weight if groups == 4 else torch.randn(32, 32, 3, 3, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = cpu_training.conv2d(x, kernel, groups=groups, padding="same")
        assert "Convolution" in type(found.grad_fn).__name__
        assert type(found.grad_fn).__name__ != "_ConvolutionBackward"


def test_it_runs_a_recipe_as_python_would(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    (tmp_path / "beside.py").write_text("value = 3")
    recipe.write_text(
        "import sys, os, beside, torch\n"
        "from se_zoo.hub.formatting import command\n"
        "from se_zoo.provenance import command_words, provenance\n"
        "if __name__ == '__main__':\n"
        "    print(beside.value, sys.argv[1:], os.environ['TIMM_FUSED_ATTN'],\n"
        "          torch.nn.functional.conv2d.__code__.co_filename[-15:])\n"
        "    print(command(command_words()))\n"
        "    print(provenance()['command'])\n"
    )
    command = [sys.executable, "-m", "tools.cpu_training", str(recipe), "--run.x", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "3 ['--run.x', '1'] 0 cpu_training.py", done.stderr
    assert lines[1:] == 2 * [f"python -m tools.cpu_training {recipe} --run.x 1"]


@pytest.mark.parametrize("given", [[], ["gone.py"]])
def test_a_recipe_must_be_named(given: List[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cpu_training", *given])
    with pytest.raises(SystemExit, match="usage"):
        cpu_training.main()
