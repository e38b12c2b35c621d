"""Sizes of the family, and networks with seeded random weights for tests and timings."""

import math

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoRoPEAttention

# What distinguishes the four published sizes: the backbone (Meta's sam2.1_hiera_*.yaml).
BACKBONES = {
    "tiny": dict(dim=96, heads=1, blocks=[1, 2, 7, 2], globals=[5, 7, 9], background=[7, 7], windows=[8, 4, 14, 7]),
    "small": dict(dim=96, heads=1, blocks=[1, 2, 11, 2], globals=[7, 10, 13], background=[7, 7], windows=[8, 4, 14, 7]),
    "base": dict(dim=112, heads=2, blocks=[2, 3, 16, 3], globals=[12, 16, 20], background=[14, 14], windows=[8, 4, 14, 7]),
    "large": dict(dim=144, heads=2, blocks=[2, 6, 36, 4], globals=[23, 33, 43], background=[7, 7], windows=[8, 4, 16, 8]),
}

SIZES = (*BACKBONES, "small-test")


def config(size: str) -> Sam2VideoConfig:
    """The reference's configuration of one size."""
    if size == "small-test":
        return small_test()
    b = BACKBONES[size]
    dims = [b["dim"] << stage for stage in range(4)]
    backbone = dict(
        model_type="sam2_hiera_det_model",
        hidden_size=b["dim"],
        num_attention_heads=b["heads"],
        blocks_per_stage=b["blocks"],
        embed_dim_per_stage=dims,
        num_attention_heads_per_stage=[b["heads"] << stage for stage in range(4)],
        window_size_per_stage=b["windows"],
        window_positional_embedding_background_size=b["background"],
        global_attention_blocks=b["globals"],
    )
    vision = dict(model_type="sam2_vision_model", backbone_config=backbone, backbone_channel_list=dims[::-1])
    return Sam2VideoConfig(vision_config=vision)


def small_test() -> Sam2VideoConfig:
    """The same family at 128x128 and a hundredth of the weights: windows that need padding, global blocks, every
    branch of the loop. Pointers are two memory widths, as the reference cannot do with one."""
    side, channels = 128, 64
    dims = [16, 32, 48, 64]
    backbone = dict(
        model_type="sam2_hiera_det_model",
        image_size=[side, side],
        hidden_size=dims[0],
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=dims,
        num_attention_heads_per_stage=[1, 2, 4, 4],
        window_size_per_stage=[8, 4, 6, 3],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
        mlp_ratio=2.0,
    )
    vision = dict(
        model_type="sam2_vision_model",
        backbone_config=backbone,
        backbone_channel_list=dims[::-1],
        backbone_feature_sizes=[[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
        fpn_hidden_size=channels,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=channels, image_size=side),
        mask_decoder_config=dict(hidden_size=channels, mlp_dim=128, iou_head_hidden_dim=channels),
        image_size=side,
        memory_attention_hidden_size=channels,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=128,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        memory_encoder_hidden_size=channels,
        memory_encoder_output_channels=32,
        mask_downsampler_embed_dim=channels,
        memory_fuser_embed_dim=channels,
        memory_fuser_intermediate_dim=128,
    )


def random_model(size: str, seed: int) -> Sam2VideoModel:
    """A network whose every parameter is random, the same for the same seed.

    The reference starts many parameters at zero (encodings, the no-object embeddings), which would hide mistakes; and
    with its usual deviation of 0.02 all outputs are nearly constant. Here weights keep the variance of what they are
    given, everything else is drawn too, and the score head is centred so that both signs occur.
    """
    model = Sam2VideoModel(config(size)).eval()
    fit_memory_width(model)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=draw)
            if "layer_norm" in name:
                p.copy_(0.1 * noise + (1 if name.endswith("weight") else 0))
            elif name.endswith("scale"):
                p.copy_(0.3 + 0.1 * noise)
            elif p.dim() > 1 and name.endswith("weight") and "embed.weight" not in name and "token" not in name:
                # the loop feeds its outputs back: a gain under one keeps rounding from growing from frame to frame
                gain = 1.0 if "vision_encoder" in name else 0.8
                p.copy_(gain * noise / math.sqrt(p[0].numel()))
            elif name.endswith("bias"):
                p.copy_(0.1 * noise)
            else:
                p.copy_(0.5 * noise)
        for embedding in (model.shared_image_embedding, model.prompt_encoder.shared_embedding):
            table = embedding.positional_embedding
            table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(seed + 1)))
        for head in model.mask_decoder.output_hypernetworks_mlps:
            head.proj_out.weight *= 2
        centre_scores(model, draw)
    return model


def fit_memory_width(model: Sam2VideoModel) -> None:
    """The reference has the memory's 64 channels fixed in its attention; other widths need their projections made."""
    for layer in model.memory_attention.layers:
        if layer.cross_attn_image.kv_in_dim != model.mem_dim:
            layer.cross_attn_image = Sam2VideoRoPEAttention(model.config, model.mem_dim, rope_k_repeat=True).eval()


def centre_scores(model: Sam2VideoModel, draw: torch.Generator) -> None:
    """Shifts and widens the object score so that over a few noise images its mean is 0.5 and its deviation 1."""
    side = model.config.image_size
    scores = []
    for sigma in (0.2, 0.5, 1.0, 1.5):
        image = torch.randn(1, 3, side, side, generator=draw) * sigma
        embeddings = model.get_image_embeddings(image)
        for _ in range(4):
            point = torch.rand(1, 1, 1, 2, generator=draw) * side
            label = torch.ones(1, 1, 1, dtype=torch.int64)
            out = model._single_frame_forward(input_points=point, input_labels=label, image_embeddings=embeddings)
            scores.append(out.object_score_logits.flatten())
    scores = torch.cat(scores)
    head = model.mask_decoder.pred_obj_score_head.proj_out
    gain = 1 / scores.std()
    head.bias.copy_(0.5 + gain * (head.bias - scores.mean()))
    head.weight *= gain
