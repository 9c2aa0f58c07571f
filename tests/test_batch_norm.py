"""BatchNorms that were folded before training, and parts that are kept from it."""

from typing import Any

import pytest
import timm
import torch

from se_zoo import unsqueeze
from se_zoo.train.batch_norm import batch_norms, folded_norms, freeze_norms, unfold_norms
from se_zoo.train.model import classifier_prefixes, freeze_backbone

from .tester import randomise


@pytest.fixture
def model() -> Any:
    """A model with folded BatchNorms of one kind of weight and bias each."""
    torch.manual_seed(0)
    made: Any = randomise(
        timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3, gate="sigmoid")
    )
    for norm in batch_norms(made):
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    return made.eval()


def images(seed: int) -> torch.Tensor:
    return 3 + 2 * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_folded_norms_are_noticed_and_others_are_not(model: Any) -> None:
    assert len(folded_norms(model)) == len(batch_norms(model)) > 5
    batch_norms(model)[0].running_mean[0] = 0.1
    assert len(folded_norms(model)) == len(batch_norms(model)) - 1


def test_measured_statistics_keep_what_the_model_computes(model: Any) -> None:
    with torch.no_grad():
        before = model(images(0))
        wrong = model.train()(images(0))
    model.eval()
    for norm in batch_norms(model):  # the pass in train mode changed them
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    unfold_norms(model, folded_norms(model), [images(seed) for seed in range(8)])
    assert not folded_norms(model) and not model.training
    with torch.no_grad():
        after, trained = model(images(0)), model.train()(images(0))
    scale = before.abs().max()
    assert (after - before).abs().max() < 1e-3 * scale
    assert (trained - before).abs().max() < 0.5 * (wrong - before).abs().max()


def test_frozen_norms_keep_their_statistics(model: Any) -> None:
    model.train()
    freeze_norms(model)
    before = [norm.running_var.clone() for norm in batch_norms(model)]
    model(images(0)).sum().backward()
    for norm, var in zip(batch_norms(model), before, strict=True):
        assert torch.equal(norm.running_var, var) and norm.weight.grad is not None
    assert model.training


def test_frozen_backbone_leaves_block_and_classifier_to_train(model: Any) -> None:
    freeze_backbone(model)
    trained = {n.partition(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"se", "fc"}
    speaker = timm.create_model("asd_tiny_sehead")
    freeze_backbone(speaker)
    frozen = {n.partition(".")[0] for n, p in speaker.named_parameters() if not p.requires_grad}
    assert frozen == {"audio_encoder", "visual_encoder"}


def test_frozen_backbone_without_a_block_leaves_the_classifier_to_train(model: Any) -> None:
    """As the runs with the block that it is compared with."""
    plain = unsqueeze(model)
    freeze_backbone(plain)
    trained = {n.partition(".")[0] for n, p in plain.named_parameters() if p.requires_grad}
    assert trained == {"fc"}


def test_both_classifiers_of_a_distilled_model_are_left_to_train() -> None:
    made = timm.create_model(
        "timm_sehead", backbone="deit_tiny_distilled_patch16_224", img_size=64, embed_dim=48,
        depth=2, num_heads=4, num_classes=3,
    )  # fmt: skip
    freeze_backbone(made)
    trained = {n.partition(".")[0] for n, p in made.named_parameters() if p.requires_grad}
    assert trained == {"se", "head", "head_dist"}
    assert classifier_prefixes(made) == ("head.", "head_dist.")
