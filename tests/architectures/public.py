"""Definitions of torchvision and timm that are compiled with seeded random weights. See architectures.py."""

import torch
from torch import nn

from architecture import with_statistics

SIDE = 64


def from_timm(name, size=SIDE, **options):
    def make():
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **options), (3, size, size)

    return name, make


def from_torchvision(name, shape=(3, SIDE, SIDE), part=None, **options):
    def make():
        import torchvision

        models = getattr(torchvision.models, part) if part else torchvision.models
        return getattr(models, name)(weights=None, num_classes=10, **options), shape

    return name, make


SWIN = dict(img_size=SIDE, window_size=2, embed_dim=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 6))
CLIP = (3, 8, 32, 32)
# Those of the project's goal come first.
PUBLIC = [
    from_timm("vit_tiny_patch16_224", img_size=SIDE),
    from_timm("deit_tiny_patch16_224", img_size=SIDE),
    from_timm("swin_tiny_patch4_window7_224", **SWIN),
    from_timm("levit_128s", 224),
    from_timm("efficientnet_lite0"),
    from_timm("edgenext_xx_small"),
    from_timm("poolformer_s12"),
    from_timm("mobilenetv4_conv_small"),
    from_timm("repvgg_a0"),
    from_torchvision("r3d_18", CLIP, "video"),
    from_torchvision("mobilenet_v3_small"),
    from_torchvision("shufflenet_v2_x0_5"),
    from_torchvision("squeezenet1_1"),
    from_torchvision("densenet121"),
    from_torchvision("efficientnet_b0"),
    from_torchvision("regnet_y_400mf"),
    from_torchvision("mnasnet0_5"),
    from_torchvision("convnext_tiny"),
    from_torchvision("maxvit_t", (3, 224, 224)),
    from_torchvision("googlenet", aux_logits=False, init_weights=False),
    from_torchvision("inception_v3", (3, 96, 96), aux_logits=False, init_weights=False),
    from_torchvision("lraspp_mobilenet_v3_large", part="segmentation", weights_backbone=None),
    from_torchvision("deeplabv3_mobilenet_v3_large", part="segmentation", weights_backbone=None),
    from_torchvision("mc3_18", CLIP, "video"),
    from_torchvision("r2plus1d_18", CLIP, "video"),
    from_timm("deit_tiny_distilled_patch16_224", img_size=SIDE),
    from_timm("ghostnet_050"),
    from_timm("ghostnetv2_100"),
    from_timm("mobilevit_xxs"),
    from_timm("mobilevitv2_050"),
    from_timm("fastvit_t8"),
    from_timm("efficientvit_b0"),
    from_timm("efficientvit_m0", 224),
    from_timm("convnextv2_atto"),
    from_timm("convnext_atto"),
    from_timm("mixer_s32_224", img_size=SIDE),
    from_timm("resmlp_12_224", img_size=SIDE),
    from_timm("gmlp_ti16_224", img_size=SIDE),
    from_timm("pit_ti_224", img_size=SIDE),
    from_timm("cait_xxs24_224", img_size=SIDE),
    from_timm("xcit_nano_12_p16_224"),
    from_timm("coat_lite_tiny", img_size=SIDE),
    from_timm("pvt_v2_b0"),
    from_timm("twins_svt_small", img_size=SIDE),
    from_timm("crossvit_tiny_240", 240),
    from_timm("tnt_s_patch16_224", img_size=SIDE),
    from_timm("efficientformer_l1", 224),
    from_timm("efficientformerv2_s0", 224),
    from_timm("inception_next_atto"),
    from_timm("mobileone_s0"),
    from_timm("tinynet_e"),
    from_timm("lcnet_050"),
    from_timm("rexnetr_100"),
    from_timm("repghostnet_050"),
    from_timm("tiny_vit_5m_224", img_size=SIDE),
    from_timm("starnet_s1"),
    from_timm("repvit_m0_9"),
    from_timm("hgnetv2_b0"),
    from_timm("ese_vovnet19b_slim"),
    from_timm("selecsls42"),
    from_timm("dla34"),
    from_timm("hrnet_w18_small"),
    from_timm("res2net50_14w_8s"),
    from_timm("resnest14d"),
    from_timm("skresnet18"),
    from_timm("lambda_resnet26t", 128),
    from_timm("botnet26t_256", 128),
    from_timm("halonet26t", 128),
    from_timm("volo_d1_224", img_size=SIDE),
    from_timm("beit_base_patch16_224", img_size=SIDE, depth=2, embed_dim=96, num_heads=4),
    from_timm("eva02_tiny_patch14_224", 56, img_size=56),
    from_timm("mambaout_femto"),
    from_timm("focalnet_tiny_srf"),
    from_timm("davit_tiny"),
    from_timm("sequencer2d_s"),
    from_timm("visformer_tiny", img_size=SIDE),
    from_timm("convit_tiny", img_size=SIDE),
    from_timm("nf_resnet26"),
    from_timm("cspdarknet53"),
    from_timm("gernet_s"),
    from_timm("regnetz_005"),
    from_timm("legacy_seresnet18"),
    from_timm("dpn48b"),
    from_timm("xception41"),
    from_timm("mixnet_s"),
    from_timm("fbnetv3_b"),
    from_timm("hardcorenas_a"),
    from_timm("tf_efficientnetv2_b0"),
    from_timm("bat_resnext26ts", 128),
    from_timm("ecaresnet26t"),
    from_timm("vit_relpos_small_patch16_224", img_size=SIDE),
    from_timm("mvitv2_tiny", img_size=SIDE),
    from_timm("vgg11"),
    from_timm("inception_v4", 96),
    from_timm("resnet10t"),
]


def drawn(network):
    """The network with numbers such as training leaves: no layer is the identity or zero."""
    with_statistics(network)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "layer_scale" in name or value.ndim <= 1 and "gamma" in name:
                value.uniform_(0.1, 0.5)
            elif value.ndim == 1 and name.endswith("bias"):
                value.normal_(0, 0.05)
            elif not value.any():
                value.normal_(0, 0.02)
    return network.eval()


class Whole(nn.Module):
    """A network whose outputs are tensors."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        y = self.network(x)
        if isinstance(y, dict):
            return y["out"]
        return tuple(y) if isinstance(y, (tuple, list)) else y
