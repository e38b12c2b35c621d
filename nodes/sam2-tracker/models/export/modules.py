"""The four modules of a model folder (docs/models.md), built from a transformers `Sam2VideoModel`.

Each is a pure function of its inputs. They share the reference's weights but not its code where another form of the
same sum is cheaper; `export.py` compares every one of them with the reference's own output.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from attention import ABSENT, Attention

NO_OBJECT_LOGIT = -1024.0  # the reference's NO_OBJ_SCORE


def channels_last(x: Tensor) -> Tensor:
    """BxCxhxw -> Bx(hw)xC."""
    return x.flatten(2).transpose(1, 2)


class ImageEncoder(nn.Module):
    """Hiera backbone and feature pyramid; the decoder's 1x1 convolutions on the fine levels belong here, as the
    reference runs them once a frame too (`Sam2VideoModel.get_image_features`)."""

    inputs = ("image",)
    outputs = ("embedding", "embedding_no_memory", "high_res_0", "high_res_1")

    def __init__(self, model, attention: Attention):
        super().__init__()
        self.backbone = model.vision_encoder.backbone
        self.neck = model.vision_encoder.neck
        self.conv_s0 = model.mask_decoder.conv_s0
        self.conv_s1 = model.mask_decoder.conv_s1
        self.levels = model.num_feature_levels
        self.no_memory = nn.Parameter(model.no_memory_embedding.detach().reshape(1, -1, 1, 1))
        self.attend = attention
        size = model.config.image_size // 4
        self.register_buffer("position", self.backbone._get_pos_embed((size, size)).detach(), persistent=False)

    def forward(self, image: Tensor):
        x = self.backbone.patch_embed(image) + self.position
        stages = []
        for index, block in enumerate(self.backbone.blocks):
            x = self.block(block, x)
            if index in self.backbone.stage_ends:
                stages.append(x)
        fine_to_coarse = self.neck(stages)[0][-self.levels :][::-1]
        embedding = fine_to_coarse[2]
        return (
            embedding,
            embedding + self.no_memory,
            self.conv_s0(fine_to_coarse[0]),
            self.conv_s1(fine_to_coarse[1]),
        )

    def block(self, block, x: Tensor) -> Tensor:
        """One Hiera block: attention inside windows (or everywhere), queries max-pooled where a stage begins."""
        stride = block.query_stride[0] if block.query_stride else 1
        normed = block.layer_norm1(x)
        shortcut = pool(block.proj(normed), stride) if block.dim != block.dim_out else x
        height, width = x.shape[1:3]
        window = block.window_size or height
        windows = into_windows(normed, window)

        attn = block.attn
        query, key, value = attn.qkv(windows).chunk(3, dim=-1)
        query = pool(query, stride)
        out = self.attend(query.flatten(1, 2), key.flatten(1, 2), value.flatten(1, 2), attn.num_attention_heads)
        side = window // stride
        out = attn.proj(out).unflatten(1, (side, side))

        x = shortcut + out_of_windows(out, height // stride, width // stride)
        return x + block.mlp(block.layer_norm2(x))


def pool(x: Tensor, stride: int) -> Tensor:
    """Max-pooling of BxHxWxC."""
    if stride == 1:
        return x
    return F.max_pool2d(x.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1)


def into_windows(x: Tensor, window: int) -> Tensor:
    """1xHxWxC, zero-padded to whole windows -> (windows)xwindowxwindowxC."""
    height, width, channels = x.shape[1:]
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.reshape(rows, window, columns, window, channels).transpose(1, 2)
    return x.reshape(rows * columns, window, window, channels)


def out_of_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `into_windows`, padding cut off."""
    window, channels = windows.shape[1], windows.shape[3]
    rows, columns = -(-height // window), -(-width // window)
    x = windows.reshape(rows, columns, window, window, channels).transpose(1, 2)
    return x.reshape(1, rows * window, columns * window, channels)[:, :height, :width]


class MemoryAttention(nn.Module):
    """Conditions a frame's embedding on an object's memories and pointers (`Sam2VideoMemoryAttention`).

    Three things differ in form from the reference. Rotary pairs are laid out as two halves (the projections' rows are
    permuted instead). The value projection, and the output projection after it, are applied after the weighting, since
    the weights of a query sum to one: the sum runs over Cm channels instead of C. Absent slots have one channel more in
    which every query is 1 and an absent key is hugely negative, which is an additive mask without a mask.
    The first layer's self-attention sees no memory yet and is done once for all objects.
    """

    inputs = ("embedding", "memory", "memory_time", "pointers", "pointer_time")
    outputs = ("conditioned",)

    def __init__(self, model, attention: Attention):
        super().__init__()
        config = model.config
        self.attend = attention
        self.layers = nn.ModuleList(MemoryAttentionLayer(x, attention) for x in model.memory_attention.layers)
        self.layer_norm = model.memory_attention.layer_norm
        self.memory_channels = model.mem_dim
        self.slots = model.num_maskmem
        self.pointer_projection = model.temporal_positional_encoding_projection_layer
        self.pointer_encoding = config.enable_temporal_pos_encoding_for_object_pointers
        # A stream has no last frame, so the reference's normaliser is the most pointers it ever takes, less one.
        self.pointer_span = float(config.max_object_pointers_in_encoder - 1)

        height, width = config.vision_config.backbone_feature_sizes[-1]
        channels = config.vision_config.fpn_hidden_size
        as_f32 = dict(device="cpu", dtype=torch.float32)
        position = model.vision_encoder.neck.position_encoding((1, channels, height, width), **as_f32)
        self.register_buffer("position", 0.1 * channels_last(position), persistent=False)
        position = model.memory_encoder.position_encoding((1, self.memory_channels, height, width), **as_f32)
        self.register_buffer("memory_position", channels_last(position)[None], persistent=False)
        self.register_buffer(
            "memory_times", model.memory_temporal_positional_encoding.detach()[:, 0, 0], persistent=False
        )
        cos, sin = model.memory_attention.rotary_emb(position, model.memory_attention.position_ids)
        # every angle appears twice, once for each of its pair
        self.register_buffer("cos", cos.reshape(1, height * width, -1)[..., ::2].contiguous(), persistent=False)
        self.register_buffer("sin", sin.reshape(1, height * width, -1)[..., ::2].contiguous(), persistent=False)

        half = channels // 2
        frequency = 10000 ** (2 * (torch.arange(half, dtype=torch.float32) // 2) / half)
        self.register_buffer("pointer_frequency", frequency, persistent=False)

    def forward(self, embedding, memory, memory_time, pointers, pointer_time):
        batch, slots, _, height, width = memory.shape
        # keys: memory pixels, then the pointers cut into pieces of the memory's width
        pixels = memory.flatten(3).transpose(2, 3)
        encoding = self.memory_times[(memory_time - 1) % self.slots]
        keys = (pixels + self.memory_position + encoding[:, :, None]).flatten(1, 2)
        values = pixels.flatten(1, 2)
        memory_absent = (memory_time < 0).to(keys.dtype)
        memory_absent = memory_absent[:, :, None].expand(-1, -1, height * width).flatten(1)

        pieces = pointers.shape[2] // self.memory_channels
        tokens = pointers.unflatten(2, (pieces, self.memory_channels))
        encoding = self.encode_pointer_times(pointer_time)
        pointer_keys = (tokens + encoding[:, :, None]).flatten(1, 2)
        values = torch.cat([values, tokens.flatten(1, 2)], dim=1)
        pointer_absent = (pointer_time < 0).to(keys.dtype)
        pointer_absent = pointer_absent[:, :, None].expand(-1, -1, pieces).flatten(1)
        absent = torch.cat([memory_absent, pointer_absent], dim=1)[..., None] * ABSENT

        x = channels_last(embedding) + self.position
        for layer in self.layers:
            x = layer(x, keys, pointer_keys, values, absent, self.cos, self.sin)
        x = self.layer_norm(x)
        return x.transpose(1, 2).unflatten(2, (height, width))

    def encode_pointer_times(self, time: Tensor) -> Tensor:
        """BxK frames -> BxKxCm (`get_1d_sine_pe` and its projection)."""
        if not self.pointer_encoding:
            return torch.zeros_like(time)[..., None]
        angle = (time / self.pointer_span)[..., None] / self.pointer_frequency
        return self.pointer_projection(torch.cat([angle.sin(), angle.cos()], dim=-1))


class MemoryAttentionLayer(nn.Module):
    """Self-attention, attention to memories, feed-forward: each before a residual sum."""

    def __init__(self, layer, attention: Attention):
        super().__init__()
        self.attend = attention
        self.layer = layer
        self.heads = layer.self_attn.num_attention_heads
        if self.heads != 1:
            raise ValueError(f"memory attention with {self.heads} heads: only one head is known in this family")
        self.scale = layer.self_attn.scaling
        self.self_query = halves_apart(layer.self_attn.q_proj)
        self.self_key = halves_apart(layer.self_attn.k_proj)
        self.query = halves_apart(layer.cross_attn_image.q_proj)
        self.key = halves_apart(layer.cross_attn_image.k_proj)

    def forward(self, x, keys, pointer_keys, values, absent, cos, sin):
        layer = self.layer
        normed = layer.layer_norm1(x)
        query = rotate(self.self_query(normed), cos, sin)
        key = rotate(self.self_key(normed), cos, sin)
        value = layer.self_attn.v_proj(normed)
        x = x + layer.self_attn.o_proj(self.attend(query, key, value, 1, self.scale))

        query = rotate(self.query(layer.layer_norm2(x)), cos, sin)
        query = query.expand(keys.shape[0], -1, -1)
        key = self.key(keys).unflatten(1, (-1, cos.shape[1]))
        key = torch.cat([rotate(key, cos, sin).flatten(1, 2), self.key(pointer_keys)], dim=1)
        # one channel more for the absent, and zeros up to a multiple of eight
        query = torch.cat([query, torch.ones_like(query[..., :1]), torch.zeros_like(query[..., :7])], dim=-1)
        key = torch.cat([key, absent / self.scale, torch.zeros_like(key[..., :7])], dim=-1)
        mixed = self.attend(query, key, values, 1, self.scale)
        x = x + layer.cross_attn_image.o_proj(layer.cross_attn_image.v_proj(mixed))

        return x + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(x))))


def halves_apart(projection: nn.Linear) -> nn.Linear:
    """The same projection with even channels first and odd ones after: rotary pairs (2i, 2i+1) become (i, i+n/2)."""
    out = nn.Linear(projection.in_features, projection.out_features)
    for source, target in ((projection.weight, out.weight), (projection.bias, out.bias)):
        target.data = torch.cat([source.detach()[0::2], source.detach()[1::2]]).clone()
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class MaskDecoder(nn.Module):
    """Prompt encoder, two-way transformer, mask head, scores and object pointers (`_single_frame_forward`), for all
    candidates at once. Which candidate counts is the loop's business."""

    inputs = ("embedding", "high_res_0", "high_res_1", "point_coords", "point_labels", "mask_prompt", "has_mask")
    outputs = ("mask_logits", "iou", "pointers", "object_score")

    def __init__(self, model, attention: Attention):
        super().__init__()
        decoder = model.mask_decoder
        self.prompt = model.prompt_encoder
        self.decoder = decoder
        self.mask_downsample = model.mask_downsample
        self.pointer_projection = model.object_pointer_proj
        self.no_object_pointer = nn.Parameter(model.no_object_pointer.detach())
        position = channels_last(model.get_image_wide_positional_embeddings())
        self.register_buffer("position", position.detach(), persistent=False)
        tokens = [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
        self.tokens = nn.Parameter(torch.cat(tokens).detach()[None])
        self.expand_1 = Unshuffled(decoder.upscale_conv1)
        self.expand_2 = Unshuffled(decoder.upscale_conv2)

    def forward(self, embedding, high_res_0, high_res_1, point_coords, point_labels, mask_prompt, has_mask):
        height, width = embedding.shape[2:]
        dense = self.prompt.mask_embed(self.mask_downsample(mask_prompt))
        has_mask = has_mask[:, None, None]
        dense = has_mask * channels_last(dense) + (1 - has_mask) * self.prompt.no_mask_embed.weight
        image = channels_last(embedding) + dense

        points = self.embed_points(point_coords, point_labels)
        tokens = torch.cat([self.tokens.expand(points.shape[0], -1, -1), points], dim=1)
        queries, image = self.two_way(tokens, image)

        score = self.decoder.pred_obj_score_head(queries[:, 0])
        iou = self.decoder.iou_prediction_head(queries[:, 1])
        candidates = queries[:, 2 : 2 + self.decoder.num_mask_tokens]
        appears = (score > 0).to(score.dtype)

        logits = self.mask_logits(image, candidates, high_res_0, high_res_1, height, width)
        logits = torch.where(appears[..., None, None] > 0, logits, NO_OBJECT_LOGIT)
        pointers = self.pointer_projection(candidates)
        appears = appears[..., None]
        pointers = appears * pointers + (1 - appears) * self.no_object_pointer
        return logits, iou, pointers, score

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Fourier features at pixel centres plus what the label means (`Sam2VideoPromptEncoder._embed_points`)."""
        table = self.prompt.shared_embedding.positional_embedding
        size = self.prompt.input_image_size
        angle = 2 * torch.pi * ((2 * (coords + 0.5) / size - 1) @ table)
        at = torch.cat([angle.sin(), angle.cos()], dim=-1)
        known = (labels >= 0)[..., None]
        kind = self.prompt.point_embed.weight[labels.clamp(min=0)]
        return torch.where(known, at + kind, self.prompt.not_a_point_embed.weight)

    def two_way(self, tokens: Tensor, image: Tensor):
        queries = tokens
        for layer in self.decoder.transformer.layers:
            if layer.skip_first_layer_pe:
                queries = attend_projected(layer.self_attn, queries, queries, queries)
            else:
                with_tokens = queries + tokens
                queries = queries + attend_projected(layer.self_attn, with_tokens, with_tokens, queries)
            queries = layer.layer_norm1(queries)
            placed = image + self.position
            cross = layer.cross_attn_token_to_image
            queries = layer.layer_norm2(queries + attend_projected(cross, queries + tokens, placed, image))
            queries = layer.layer_norm3(queries + layer.mlp(queries))
            cross = layer.cross_attn_image_to_token
            image = layer.layer_norm4(image + attend_projected(cross, placed, queries + tokens, queries))
        last = self.decoder.transformer
        out = attend_projected(last.final_attn_token_to_image, queries + tokens, image + self.position, image)
        return last.layer_norm_final_attn(queries + out), image

    def mask_logits(self, image, candidates, high_res_0, high_res_1, height, width) -> Tensor:
        """The two transposed convolutions as products per coarse pixel; only the logits are put in image order."""
        norm = self.decoder.upscale_layer_norm
        fine = self.expand_1(image)[:, :, :, None] + coarse_order(high_res_1, height, width, 1)
        fine = F.gelu(F.layer_norm(fine, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        finer = F.gelu(self.expand_2(fine.squeeze(3)) + coarse_order(high_res_0, height, width, 2))
        heads = self.decoder.output_hypernetworks_mlps
        weights = torch.stack([head(candidates[:, i]) for i, head in enumerate(heads)], dim=2)
        logits = finer.flatten(1, 3) @ weights
        logits = logits.unflatten(1, (height, width, 2, 2, 2, 2)).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.flatten(5, 7).flatten(2, 4)


class Unshuffled(nn.Module):
    """A transposed convolution of kernel and stride 2 on ...xC -> ...x4xD, the four pixels not yet put in place."""

    def __init__(self, conv: nn.ConvTranspose2d):
        super().__init__()
        weight = conv.weight.detach()  # C x D x 2 x 2
        self.weight = nn.Parameter(weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1).contiguous())
        self.bias = nn.Parameter(conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).unflatten(-1, (4, self.bias.shape[0])) + self.bias


def coarse_order(x: Tensor, height: int, width: int, levels: int) -> Tensor:
    """1xDx(height*2^levels)x(width*2^levels) in the order that `Unshuffled` leaves: 1x(hw)x4x(4 or 1)xD."""
    channels = x.shape[1]
    if levels == 1:
        x = x.reshape(1, channels, height, 2, width, 2).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(1, height * width, 4, 1, channels)
    x = x.reshape(1, channels, height, 2, 2, width, 2, 2).permute(0, 2, 5, 3, 6, 4, 7, 1)
    return x.reshape(1, height * width, 4, 4, channels)


def attend_projected(attn, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`Sam2VideoAttention` on BxLxC; one side always has few tokens, so the plain products are right everywhere."""
    def split(x):
        return x.unflatten(-1, (attn.num_attention_heads, -1)).transpose(1, 2)

    query = split(attn.q_proj(query) * attn.scaling)
    key, value = split(attn.k_proj(key)), split(attn.v_proj(value))
    out = torch.softmax(query @ key.transpose(-1, -2), dim=-1) @ value
    return attn.o_proj(out.transpose(1, 2).flatten(2))


class MemoryEncoder(nn.Module):
    """A frame's embedding and an object's mask -> memory (`_encode_new_memory`)."""

    inputs = ("embedding", "mask_logits", "object_score", "from_prompt")
    outputs = ("memory",)

    def __init__(self, model, attention: Attention):
        super().__init__()
        self.encoder = model.memory_encoder
        config = model.config
        self.size = (config.image_size, config.image_size)
        self.scale = config.sigmoid_scale_for_mem_enc
        self.bias = config.sigmoid_bias_for_mem_enc
        occlusion = model.occlusion_spatial_embedding_parameter
        occlusion = torch.zeros(1, model.mem_dim) if occlusion is None else occlusion.detach()
        self.occlusion = nn.Parameter(occlusion.reshape(1, -1, 1, 1))

    def forward(self, embedding, mask_logits, object_score, from_prompt):
        logits = F.interpolate(mask_logits, size=self.size, mode="bilinear", align_corners=False)
        from_prompt = from_prompt[:, None, None, None]
        hard = (logits > 0).to(logits.dtype)
        mask = from_prompt * hard + (1 - from_prompt) * torch.sigmoid(logits)
        mask = mask * self.scale + self.bias

        x = self.encoder.mask_downsampler(mask) + self.encoder.feature_projection(embedding)
        memory = self.encoder.projection(self.encoder.memory_fuser(x))
        occluded = (object_score <= 0).to(memory.dtype)[..., None, None]
        memory = memory + occluded * self.occlusion
        # The reference keeps memories as bfloat16; a bank that keeps 16 bits loses nothing.
        return memory.to(torch.bfloat16).to(memory.dtype)


MODULES = {
    "image_encoder": ImageEncoder,
    "memory_attention": MemoryAttention,
    "mask_decoder": MaskDecoder,
    "memory_encoder": MemoryEncoder,
}
