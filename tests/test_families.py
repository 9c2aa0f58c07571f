"""Every registered family, and timm_sehead with heads of other kinds, through the shared tester."""

from .tester import SEHeadTester


class TestResNet(SEHeadTester):
    """Average pooling, linear."""

    name = "resnet10t_sehead"
    backbone = "resnet10t"
    linear = True


class TestResNetBottleneck(SEHeadTester):
    """The same head behind bottleneck blocks: 2,048 channels."""

    name = "resnet50_sehead"
    backbone = "resnet50"
    kwargs = {"layers": (1, 1, 1, 1), "channels": (16, 16, 32, 32)}
    linear = True


class TestSlimResNet(SEHeadTester):
    """The bundled model's architecture, which timm does not have."""

    name = "resnet18_slim_sehead"
    grid = (8, 8)
    linear = True


class TestResNetMaxPool(SEHeadTester):
    """Maximum pooling is no average: its maps are the head's gradient."""

    name = "resnet10t_sehead"
    backbone = "resnet10t"
    kwargs = {"global_pool": "max"}
    exact = False
    weights = "gradient"


class TestConvNeXt(SEHeadTester):
    """LayerNorm between pooling and classifier."""

    name = "convnext_atto_sehead"
    backbone = "convnext_atto"
    kwargs = {"depths": (1, 1, 1, 1)}


class TestConvNeXtStdNorm(SEHeadTester):
    """SimpleNorm (a norm by the standard deviation, not centred) in the same place."""

    name = "convnext_zepto_rms_sehead"
    backbone = "convnext_zepto_rms"
    kwargs = {"depths": (1, 1, 1, 1)}


class TestViTClassToken(SEHeadTester):
    """The classifier reads the class token: patch maps are a projection, and say so."""

    name = "vit_tiny_patch16_224_sehead"
    backbone = "vit_tiny_patch16_224"
    kwargs = {"img_size": 64, "depth": 2}
    wide_kwargs = {"img_size": (64, 96)}
    grid = (4, 4)
    exact = False
    weights = "projection"


class TestViTAveragePool(SEHeadTester):
    """Average of the patch tokens, LayerNorm, linear: exact again."""

    name = "vit_tiny_patch16_224_sehead"
    backbone = "vit_tiny_patch16_224"
    kwargs = {"img_size": 64, "depth": 2, "global_pool": "avg"}
    wide_kwargs = {"img_size": (64, 96)}
    grid = (4, 4)


class TestViTRegisterTokens(SEHeadTester):
    """Four register tokens beside the class token: five are no patches."""

    name = "timm_sehead"
    backbone = "vit_small_patch14_reg4_dinov2"
    kwargs = {"backbone": backbone, "img_size": 56, "depth": 2}
    wide_kwargs = {"img_size": (56, 84)}
    wide = (56, 84)
    size = 56
    grid = (4, 4)
    exact = False
    weights = "projection"


class TestViTRegisterTokensAveragePool(TestViTRegisterTokens):
    """The same, averaged over the patch tokens alone."""

    kwargs = {**TestViTRegisterTokens.kwargs, "global_pool": "avg"}
    exact = True
    weights = "folded"


class TestSwin(SEHeadTester):
    """Features with channels last, windows that are shifted and masked."""

    name = "swin_tiny_patch4_window7_224_sehead"
    backbone = "swin_tiny_patch4_window7_224"
    kwargs = {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 48}
    wide_kwargs = {"img_size": (64, 96)}
    linear = True


class TestRunTimeClass(SEHeadTester):
    """A backbone without a class written by hand: squeeze() makes one. Pooling, linear."""

    name = "timm_sehead"
    backbone = "regnetx_002"
    kwargs = {"backbone": backbone}
    linear = True
    scriptable = False


class TestRunTimeClassMLPHead(SEHeadTester):
    """Convolution and activation between pooling and classifier: the head's gradient."""

    name = "timm_sehead"
    backbone = "mobilenetv3_small_050"
    kwargs = {"backbone": backbone}
    exact = False
    weights = "gradient"
    scriptable = False
