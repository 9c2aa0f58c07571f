"""Every registered family, and timm_sehead with heads of other kinds, through the shared tester."""

from typing import Any, ClassVar

import timm
import torch

import se_zoo

from .tester import HandWrittenHead, LinearHead, SEHeadTester


class TestResNet(LinearHead, HandWrittenHead):
    """Average pooling, linear."""

    name = "resnet10t_sehead"
    backbone = "resnet10t"
    kwargs: ClassVar = {"channels": (16, 32, 64, 128)}


class TestSlimResNet(LinearHead, HandWrittenHead):
    """The bundled model's architecture, which timm does not have."""

    name = "resnet18_slim_sehead"
    grid = (8, 8)


class TestResNetMaxPool(SEHeadTester):
    """Maximum pooling is no average: its maps are the head's gradient."""

    name = "resnet10t_sehead"
    backbone = "resnet10t"
    kwargs: ClassVar = {**TestResNet.kwargs, "global_pool": "max"}
    exact = False
    weights = "gradient"


class EfficientNetHead(LinearHead, HandWrittenHead):
    """Average pooling, linear; newer versions of timm prune the last convolution with the head."""

    def test_pruned_model_loses_head_and_block(self) -> None:
        model, images = self.model(), self.images()
        plain: Any = se_zoo.unsqueeze(self.model())
        for each in (model, plain):
            each.prune_intermediate_layers(1, prune_head=True)
        assert model.state_dict().keys() == plain.state_dict().keys()
        with torch.no_grad():
            assert torch.equal(model.forward_features(images), plain.forward_features(images))
            assert torch.equal(model(images), plain(images))


class TestEfficientNet(EfficientNetHead):
    """timm's smallest one, with SE blocks inside: the registered ones cannot be cut down."""

    name = "timm_sehead"
    backbone = "test_efficientnet"
    kwargs: ClassVar = {"backbone": backbone}


class TestEfficientNetLite(EfficientNetHead):
    """The registered one: no such blocks inside, TensorFlow's padding."""

    name = "tf_efficientnet_lite0_sehead"
    backbone = "tf_efficientnet_lite0"

    def test_output_stride_is_a_model_argument(self) -> None:
        model = self.create(output_stride=16, gate="sigmoid").eval()
        model.load_state_dict(self.model().state_dict())  # the weights are the same
        assert model.explain(self.images()).native_grid == (4, 4)

    def test_features_are_those_of_timms_features_only(self) -> None:
        own: Any = self.create(features_only=True).eval()
        timms: Any = timm.create_model(str(self.backbone), features_only=True).eval()
        assert own.feature_info.get_dicts() == timms.feature_info.get_dicts()
        assert own.feature_info.channels() == [16, 24, 40, 112, 320]
        assert own.feature_info.reduction() == [2, 4, 8, 16, 32]


class TestConvNeXt(HandWrittenHead):
    """LayerNorm between pooling and classifier."""

    name = "convnext_atto_sehead"
    backbone = "convnext_atto"
    kwargs: ClassVar = {"depths": (1, 1, 1, 1)}


class TestConvNeXtStdNorm(HandWrittenHead):
    """SimpleNorm (a norm by the standard deviation, not centred) in the same place."""

    name = "convnext_zepto_rms_sehead"
    backbone = "convnext_zepto_rms"
    kwargs: ClassVar = {"depths": (1, 1, 1, 1)}


class TestViTClassToken(HandWrittenHead):
    """The classifier reads the class token: maps show what its attention takes of each patch."""

    name = "vit_tiny_patch16_224_sehead"
    backbone = "vit_tiny_patch16_224"
    kwargs: ClassVar = {"img_size": 64, "depth": 2}
    wide_kwargs: ClassVar = {"img_size": (64, 96)}
    feature_kwargs: ClassVar = {"out_indices": 2}
    grid = (4, 4)
    exact = False
    weights = "attention"


class TestViTAveragePool(HandWrittenHead):
    """Average of the patch tokens, LayerNorm, linear: exact again."""

    name = "vit_tiny_patch16_224_sehead"
    backbone = "vit_tiny_patch16_224"
    kwargs: ClassVar = {"img_size": 64, "depth": 2, "global_pool": "avg"}
    wide_kwargs: ClassVar = {"img_size": (64, 96)}
    feature_kwargs: ClassVar = {"out_indices": 2}
    grid = (4, 4)


class TestViTRegisterTokens(HandWrittenHead):
    """Four register tokens beside the class token: five are no patches."""

    name = "timm_sehead"
    backbone = "vit_small_patch14_reg4_dinov2"
    kwargs: ClassVar = {
        "backbone": backbone,
        "img_size": 56,
        "depth": 2,
        "embed_dim": 96,
        "num_heads": 3,
    }
    wide_kwargs: ClassVar = {"img_size": (56, 84)}
    feature_kwargs: ClassVar = {"out_indices": 2}
    wide = (56, 84)
    size = 56
    grid = (4, 4)
    exact = False
    weights = "attention"


class TestViTRegisterTokensAveragePool(TestViTRegisterTokens):
    """The same, averaged over the patch tokens alone."""

    kwargs: ClassVar = {**TestViTRegisterTokens.kwargs, "global_pool": "avg"}
    exact = True
    weights = "folded"


class TestSwin(LinearHead, HandWrittenHead):
    """Features with channels last, windows that are shifted and masked."""

    name = "swin_tiny_patch4_window7_224_sehead"
    backbone = "swin_tiny_patch4_window7_224"
    kwargs: ClassVar = {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 24}
    wide_kwargs: ClassVar = {"img_size": (64, 96)}


class TestRunTimeClass(LinearHead):
    """A backbone without a class written by hand: squeeze() makes one. Pooling, linear."""

    name = "timm_sehead"
    backbone = "test_byobnet"
    kwargs: ClassVar = {"backbone": backbone}


class TestRunTimeClassMLPHead(SEHeadTester):
    """Channels last, and layers with an activation before the classifier: the head's gradient."""

    name = "timm_sehead"
    backbone = "test_mambaout"
    kwargs: ClassVar = {"backbone": backbone}
    exact = False
    weights = "gradient"
