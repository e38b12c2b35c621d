"""Runs transformers' own streaming loop on the golden clip and writes down what it gives.

One session per object: the reference's loop has no other link between objects than this one, that a frame on which any
object of the session is prompted makes the memories of all of them binary (`_batch_encode_memories`, `any(...)`). It is
a by-product of batching that Meta's predictor does not have, so it is kept out.
"""

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

import clip
from folder import MEAN, STD


def resize(frame: np.ndarray, side: int) -> np.ndarray:
    """HxWx3 uint8 -> 3xSxS uint8, as the reference's video processor: bilinear, antialiased, rounded to bytes."""
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    image = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    return image.round().clamp(0, 255).to(torch.uint8)[0].numpy()


def normalise(resized: np.ndarray) -> torch.Tensor:
    image = torch.from_numpy(resized).float() / 255
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def model_mask(mask: np.ndarray, side: int) -> torch.Tensor:
    """HxW bool -> 1x1xSxS of 0 and 1 (`process_new_mask_for_video_frame`)."""
    mask = torch.from_numpy(mask).float()[None, None]
    return (F.interpolate(mask, size=(side, side), mode="bilinear", align_corners=False, antialias=True) >= 0.5).float()


def add_prompt(session, prompt: clip.Prompt, side: int) -> None:
    """What `Sam2VideoProcessor.add_inputs_to_inference_session` does, without the processor."""
    index = session.obj_id_to_idx(prompt.object)
    if prompt.mask:
        mask = model_mask(clip.outline(prompt.object, prompt.frame), side)
        session.add_mask_inputs(index, prompt.frame, mask)
    else:
        scale = torch.tensor([side / clip.WIDTH, side / clip.HEIGHT])
        points = torch.tensor(prompt.points, dtype=torch.float32) * scale
        labels = torch.tensor(prompt.labels, dtype=torch.int32)
        session.add_point_inputs(
            index, prompt.frame, {"point_coords": points[None, None], "point_labels": labels[None, None]}
        )
    session.obj_with_new_inputs = [prompt.object]


class Scores:
    """Listens to the decoder: predicted IoU of all candidates, and what it handed on."""

    def __init__(self, model):
        self.all, self.given = None, None
        model.mask_decoder.iou_prediction_head.register_forward_hook(self.head)
        model.mask_decoder.register_forward_hook(self.decoder)

    def head(self, module, inputs, output):
        self.all = output.flatten()

    def decoder(self, module, inputs, output):
        self.given = output[1].flatten()

    def chosen(self) -> int:
        """The best of 1..3 where several were handed on, else the one whose score was."""
        if self.given.numel() > 1:
            return 1 + int(self.given.argmax())
        return int((self.all == self.given[0]).nonzero()[0, 0])


def track(model, images: list[torch.Tensor]) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """(frame, object) -> everything that the loop gave."""
    side = model.config.image_size
    scores, results = Scores(model), {}
    for number in sorted({p.object for p in clip.PROMPTS}):
        session = Sam2VideoInferenceSession(
            video_height=clip.HEIGHT, video_width=clip.WIDTH, dtype=torch.float32
        )
        for frame, image in enumerate(images):
            prompts = [p for p in clip.PROMPTS if (p.object, p.frame) == (number, frame)]
            for prompt in prompts:
                add_prompt(session, prompt, side)
            if session.get_obj_num() == 0:
                continue
            out = model(session, frame=image, frame_idx=frame)
            key = "cond_frame_outputs" if prompts else "non_cond_frame_outputs"
            kept = session.output_dict_per_obj[0][key][frame]
            chosen = scores.chosen()
            by_mask = any(p.mask for p in prompts)
            upsampled = F.interpolate(out.pred_masks, size=(clip.HEIGHT, clip.WIDTH), mode="bilinear")
            h, w = model.backbone_feature_sizes[-1]
            results[frame, number] = {
                "mask_logits": out.pred_masks[0, 0],
                "candidate": torch.tensor(chosen),
                "iou": torch.tensor(1.0) if by_mask else scores.all[chosen],
                "ious": scores.all.clone(),
                "object_score": kept["object_score_logits"].flatten()[0],
                "pointer": kept["object_pointer"].flatten(),
                "memory": kept["maskmem_features"][:, 0].T.reshape(-1, h, w).float(),
                "mask": upsampled[0, 0] > 0,
            }
    return results


def module_outputs(model, name: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The reference's own answer to a module's inputs, object by object, absent slots left out."""
    rows = [one(model, name, inputs, i) for i in range(len(next(reversed(inputs.values()))))]
    return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}


def one(model, name: str, inputs: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    if name == "image_encoder":
        features = model.get_image_features(inputs["image"], return_dict=True).fpn_hidden_states
        maps = [x.permute(1, 2, 0).unflatten(2, s) for x, s in zip(features, model.backbone_feature_sizes)]
        without = maps[2] + model.no_memory_embedding.reshape(1, -1, 1, 1)
        return {"embedding": maps[2], "embedding_no_memory": without, "high_res_0": maps[0], "high_res_1": maps[1]}
    if name == "memory_attention":
        return {"conditioned": condition(model, inputs, i)}
    if name == "mask_decoder":
        return decode(model, inputs, i)
    flat = inputs["embedding"].flatten(2).permute(2, 0, 1)
    side = model.config.image_size
    logits = F.interpolate(inputs["mask_logits"][i : i + 1], size=(side, side), mode="bilinear")
    score = inputs["object_score"][i : i + 1]
    memory, _ = model._encode_new_memory(flat, logits, score, bool(inputs["from_prompt"][i]))
    return {"memory": memory.permute(1, 2, 0).unflatten(2, model.backbone_feature_sizes[-1]).float()}


def condition(model, inputs, i: int) -> torch.Tensor:
    position = model.memory_encoder.position_encoding(inputs["memory"][i].shape, "cpu", torch.float32)
    position = position[:1].flatten(2).permute(2, 0, 1)
    kept = [
        (int(t), {"maskmem_features": m[None].flatten(2).permute(2, 0, 1), "maskmem_pos_enc": position})
        for t, m in zip(inputs["memory_time"][i], inputs["memory"][i])
        if t >= 0
    ]
    memories, positions = model._build_memory_attention_inputs(kept, "cpu")
    present = inputs["pointer_time"][i] >= 0
    pointers, encoding = model._process_object_pointers(
        inputs["pointer_time"][i][present].tolist(),
        list(inputs["pointers"][i][present][:, None]),
        model.config.max_object_pointers_in_encoder,
        1,
        model.hidden_dim,
        "cpu",
    )
    embedding = inputs["embedding"]
    out = model.memory_attention(
        current_vision_features=embedding.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=model.vision_encoder.neck.position_encoding(
            embedding.shape, "cpu", torch.float32
        )
        .flatten(2)
        .permute(2, 0, 1),
        memory=torch.cat([*memories, pointers]),
        memory_posision_embeddings=torch.cat([*positions, encoding]),
        num_object_pointer_tokens=pointers.shape[0],
    )
    return out.reshape(1, -1, model.hidden_dim).transpose(1, 2).unflatten(2, embedding.shape[2:])


def decode(model, inputs, i: int) -> dict[str, torch.Tensor]:
    """The prompt encoder and decoder below `_single_frame_forward`, which keeps only some candidates."""
    one_of = {k: v[i : i + 1] if v.shape[0] > 1 else v for k, v in inputs.items()}
    coords, labels = one_of["point_coords"][:, None], one_of["point_labels"][:, None]
    sparse = model.prompt_encoder._embed_points(coords, labels, pad=False)
    mask = model.mask_downsample(one_of["mask_prompt"]) if one_of["has_mask"].any() else None
    _, dense = model.prompt_encoder(None, None, None, mask)
    tokens = {}
    listen = model.mask_decoder.transformer.register_forward_hook(lambda m, a, o: tokens.update(queries=o[0]))
    score_head = model.mask_decoder
    parts = [
        score_head(
            image_embeddings=one_of["embedding"],
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=[inputs["high_res_0"], inputs["high_res_1"]],
        )
        for several in (False, True)
    ]
    listen.remove()
    # candidate 0 as it is, even where the reference would fall back: the heads once more on the transformer's tokens
    queries = tokens["queries"][:, 0]
    score = parts[1][3][:, 0]
    iou = torch.cat([model.mask_decoder.iou_prediction_head(queries[:, 1])], dim=1)
    pointers = model.object_pointer_proj(queries[:, 2 : 2 + iou.shape[1]])
    appears = (score > 0).float()[..., None]
    pointers = appears * pointers + (1 - appears) * model.no_object_pointer
    single = single_mask(model, one_of, sparse, dense, inputs)
    logits = torch.cat([single, parts[1][0][:, 0]], dim=1)
    logits = torch.where(appears[..., None] > 0, logits, -1024.0)
    return {"mask_logits": logits, "iou": iou, "pointers": pointers, "object_score": score}


def single_mask(model, one_of, sparse, dense, inputs) -> torch.Tensor:
    decoder = model.mask_decoder
    decoder.dynamic_multimask_via_stability = False
    out = decoder(
        image_embeddings=one_of["embedding"],
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        high_resolution_features=[inputs["high_res_0"], inputs["high_res_1"]],
    )
    decoder.dynamic_multimask_via_stability = True
    return out[0][:, 0]
