"""Meta's checkpoint files and transformers' folders as `Sam2VideoModel`.

    python checkpoint.py        proves the mapping: every size, to Meta's key layout in a .pt file and back
"""

import hashlib
import re
import sys
import tempfile
from pathlib import Path

import torch
from transformers import Sam2VideoModel

import network

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"
CHECKPOINTS = {
    "tiny": "sam2.1_hiera_tiny.pt",
    "small": "sam2.1_hiera_small.pt",
    "base": "sam2.1_hiera_base_plus.pt",
    "large": "sam2.1_hiera_large.pt",
}
SHA256 = {
    "tiny": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    "small": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    "base": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    "large": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
}

# transformers' name -> Meta's, as whole path parts, in this order; {n} is a block's number.
RENAMES = [
    (r"^vision_encoder\.backbone\.patch_embed\.projection", "image_encoder.trunk.patch_embed.proj"),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding", "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.mask_embed\.conv1", "sam_prompt_encoder.mask_downscaling.0"),
    (r"^prompt_encoder\.mask_embed\.layer_norm1", "sam_prompt_encoder.mask_downscaling.1"),
    (r"^prompt_encoder\.mask_embed\.conv2", "sam_prompt_encoder.mask_downscaling.3"),
    (r"^prompt_encoder\.mask_embed\.layer_norm2", "sam_prompt_encoder.mask_downscaling.4"),
    (r"^prompt_encoder\.mask_embed\.conv3", "sam_prompt_encoder.mask_downscaling.6"),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.upscale_conv1", "sam_mask_decoder.output_upscaling.0"),
    (r"^mask_decoder\.upscale_layer_norm", "sam_mask_decoder.output_upscaling.1"),
    (r"^mask_decoder\.upscale_conv2", "sam_mask_decoder.output_upscaling.3"),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"^memory_encoder\.mask_downsampler\.final_conv", "memory_encoder.mask_downsampler.encoder.12"),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"^memory_encoder\.memory_fuser", "memory_encoder.fuser"),
    (r"\.depthwise_conv", ".dwconv"),
    (r"\.pointwise_conv", ".pwconv"),
    (r"(fuser\.layers\.\d+)\.layer_norm", r"\1.norm"),
    (r"(fuser\.layers\.\d+)\.scale", r"\1.gamma"),
    (r"\.layer_norm_final_attn", ".norm_final_attn"),
    (r"\.layer_norm(\d?)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"^object_pointer_proj", "obj_ptr_proj"),
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
]


class CheckpointError(Exception):
    """A checkpoint that is not what it should be."""


def meta_name(name: str) -> str:
    """Meta's key for one of transformers', apart from those that `to_meta` treats itself."""
    name = re.sub(
        r"^memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.",
        lambda m: f"memory_encoder.mask_downsampler.encoder.{3 * int(m[1]) + (m[2] == 'layer_norm')}.",
        name,
    )
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def perceptron_layers(names: list[str]) -> dict[str, str]:
    """transformers calls a perceptron's layers proj_in, layers.i, proj_out; Meta numbers them."""
    inner, out = {}, {}
    for name in names:
        if found := re.match(r"(.*)\.layers\.(\d+)\.(weight|bias)$", name):
            inner[found[1]] = max(inner.get(found[1], 0), int(found[2]) + 1)
    for name in names:
        if found := re.match(r"(.*)\.(proj_in|proj_out)\.(weight|bias)$", name):
            number = 0 if found[2] == "proj_in" else 1 + inner.get(found[1], 0)
            out[name] = f"{found[1]}.layers.{number}.{found[3]}"
            continue
        found = re.match(r"(.*)\.layers\.(\d+)\.(weight|bias)$", name)
        if found and f"{found[1]}.proj_in.weight" in names:
            out[name] = f"{found[1]}.layers.{int(found[2]) + 1}.{found[3]}"
    return out


def key_pairs(names: list[str]) -> dict[str, str]:
    """transformers' key -> Meta's, for every key but the point embeddings and the second copy of the position table."""
    numbered = perceptron_layers(names)
    special = {"prompt_encoder.point_embed.weight", "shared_image_embedding.positional_embedding"}
    return {name: meta_name(numbered.get(name, name)) for name in names if name not in special}


def from_meta(state: dict[str, torch.Tensor], model: Sam2VideoModel) -> dict[str, torch.Tensor]:
    """Meta's state as the model's; says which keys are missing or left over."""
    state, out, missing = dict(state), {}, []
    for name, meta in key_pairs(list(model.state_dict())).items():
        if meta in state:
            out[name] = state.pop(meta)
        else:
            missing.append(meta)
    out["shared_image_embedding.positional_embedding"] = out.get("prompt_encoder.shared_embedding.positional_embedding")
    points = [state.pop(f"sam_prompt_encoder.point_embeddings.{i}.weight", None) for i in range(4)]
    if any(p is None for p in points):
        missing.append("sam_prompt_encoder.point_embeddings.0…3")
    else:
        out["prompt_encoder.point_embed.weight"] = torch.cat(points)
    if missing or state:
        raise CheckpointError(
            f"not a SAM 2.1 checkpoint of this size: {len(missing)} keys missing ({', '.join(missing[:3])}), "
            f"{len(state)} unknown ({', '.join(list(state)[:3])})"
        )
    return out


def to_meta(model: Sam2VideoModel) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    out = {meta: state[name] for name, meta in key_pairs(list(state)).items()}
    for i, row in enumerate(state["prompt_encoder.point_embed.weight"]):
        out[f"sam_prompt_encoder.point_embeddings.{i}.weight"] = row[None]
    return out


def load(path: Path, size: str, sha256: str | None = None) -> Sam2VideoModel:
    """Meta's file, its checksum compared before a byte of it is interpreted."""
    expected, found = sha256 or SHA256[size], checksum(path)
    if found != expected:
        raise CheckpointError(
            f"{path}: sha256 is {found}, expected {expected} ({CHECKPOINTS[size]}); download it again from "
            f"{BASE_URL}{CHECKPOINTS[size]}, or give --sha256 for weights of your own"
        )
    content = torch.load(path, map_location="cpu", weights_only=True)
    model = Sam2VideoModel(network.config(size)).eval()
    try:
        model.load_state_dict(from_meta(content.get("model", content), model), strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: tensors do not fit size {size}: {error}") from error
    return model


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_folder(path: Path) -> Sam2VideoModel:
    """A folder as `save_pretrained` leaves it; nothing is fetched."""
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{path}: no config.json; give a folder saved by transformers' Sam2VideoModel")
    return Sam2VideoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32).eval()


def round_trip(size: str) -> int:
    """Parameters of a random network that came back equal from a file in Meta's layout."""
    torch.manual_seed(1)
    model = Sam2VideoModel(network.config(size)).eval()
    with torch.no_grad():
        for p in model.state_dict().values():
            p.normal_()
        model.shared_image_embedding.positional_embedding.copy_(model.prompt_encoder.shared_embedding.positional_embedding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CHECKPOINTS[size]
        torch.save({"model": to_meta(model)}, path)
        back = load(path, size, checksum(path)).state_dict()
    expected = model.state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[k], expected[k]) for k in expected)
    return sum(p.numel() for p in expected.values())


if __name__ == "__main__":
    for size in sys.argv[1:] or CHECKPOINTS:
        print(f"{size}: {round_trip(size) / 1e6:.1f} M values equal")
