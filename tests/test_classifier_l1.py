"""The L1 penalty on the classifier of a head that is trained on cached features."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

from se_zoo import InvalidInputError
from se_zoo.train.classifier_l1 import check_l1, classifier_l1
from se_zoo.train.resume import state

from .test_train import folder, run, run_head, weights  # noqa: F401  (folder is a fixture)
from .train_run import losses

pytestmark = pytest.mark.usefixtures("fresh_accelerator", "undrawn")


def test_penalty_is_the_weights_times_the_spread_of_the_gated_channels() -> None:
    model: Any = timm.create_model(
        "timm_sehead", backbone="test_resnet", num_classes=2, gate="sigmoid"
    )
    channels = model.se.channels
    weight = torch.zeros(2, channels)
    weight[0, 0], weight[1, 1] = 3.0, -2.0
    with torch.no_grad():
        model.get_classifier().weight.copy_(weight)
        model.se.fc2.weight.zero_()  # every gate is one half
    features = torch.ones(2, channels, 1, 2)  # only the first two channels differ between images
    features[:, 0] = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])  # means 2 and 6: spread sqrt(8)
    features[:, 1] = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])  # means 0 and 1: spread sqrt(1/2)
    found = classifier_l1(model, features)
    # Half of each spread, by the gate; the mean over two classes.
    assert found.item() == pytest.approx((3 * 8**0.5 / 2 + 2 * 0.5**0.5 / 2) / 2)
    found.backward()
    assert model.get_classifier().weight.grad[0, 0].item() == pytest.approx(8**0.5 / 4)
    assert model.se.fc2.weight.grad is None, "the gate learns nothing from the penalty"


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
def test_other_heads_are_refused(backbone: str) -> None:
    model: Any = timm.create_model("timm_sehead", backbone=backbone, num_classes=2)
    with pytest.raises(InvalidInputError, match=r"l1-classifier needs a head of average pooling"):
        check_l1(model, 8)


def test_batches_of_one_sample_are_refused() -> None:
    model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=2)
    check_l1(model, 2)
    with pytest.raises(InvalidInputError, match="batch-size is 1, give 2 or more"):
        check_l1(model, 1)


def test_whole_models_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"squeeze_only\.py .*--run\.init .*run"):
        run(folder, tmp_path / "run", optim={"l1_classifier": 0.01})
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_evidence_lies_on_fewer_channels() -> None:
    shares = []
    for weight in (0.0, 0.03):
        torch.manual_seed(0)
        model: Any = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=1)
        shared, noise = torch.randn(256, 1), torch.randn(256, model.se.channels)
        features, truth = (shared + noise)[:, :, None, None], (shared > 0).float()
        classifier = model.get_classifier()
        optimizer = torch.optim.Adam(classifier.parameters(), 0.01)
        for _ in range(200):
            loss = F.binary_cross_entropy_with_logits(model.forward_head(features), truth)
            loss = loss + weight * classifier_l1(model, features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        sizes = classifier.weight.detach().abs().flatten().sort(descending=True)[0]
        shares.append(int((sizes.cumsum(0) < 0.9 * sizes.sum()).sum()) / len(sizes))
    assert shares[1] < 0.7 * shares[0]


def test_penalty_shrinks_the_classifier_and_the_export_is_a_plain_model(
    folder: Path, tmp_path: Path
) -> None:
    plain, sparse = (
        run_head(folder, tmp_path / f"{weight}", optim={"l1_classifier": weight, "epochs": 2})
        for weight in (0.0, 100.0)
    )
    config = json.loads((plain / "export" / "config.json").read_text())
    assert json.loads((sparse / "export" / "config.json").read_text()) == config
    before, after = weights(plain), weights(sparse)
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    assert after["fc.weight"].abs().mean() < 0.9 * before["fc.weight"].abs().mean()


def test_penalty_replaces_the_weight_decay_of_the_classifier(folder: Path, tmp_path: Path) -> None:
    found = [
        weights(
            run_head(
                folder, tmp_path / f"{decay}",
                optim={"l1_classifier": 1e-9, "weight_decay": decay, "epochs": 2},
                model={"gate": "identity"},
            )
        )
        for decay in (0.0, 50.0)
    ]  # fmt: skip
    assert found[0]["fc.weight"].abs().mean() < 1.5 * found[1]["fc.weight"].abs().mean()
    assert found[1]["se.fc1.weight"].abs().mean() < 0.5 * found[0]["se.fc1.weight"].abs().mean()


def test_interrupted_run_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    options: Any = {"optim": {"l1_classifier": 0.05, "epochs": 2}}
    whole = run_head(folder, tmp_path / "whole", run={"keep": 9, "save_every": 1}, **options)
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    (part / "summary.json").unlink()
    for step in state.steps(part / "state")[3:]:
        shutil.rmtree(step)
    run_head(folder, part, run={"keep": 9}, **options)
    assert losses(part) == losses(whole)
    assert all(torch.equal(v, weights(part)[k]) for k, v in weights(whole).items())
