"""The model folder: four ONNX files and model.toml, as docs/models.md says."""

import hashlib
import io
from pathlib import Path

import onnx
import torch

from modules import MODULES

OPSET = 20
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]

# Axes of every tensor; a name is a dynamic axis, 1 stays 1, "*" is fixed by the network.
AXES = {
    "image": (1, "*", "*", "*"),
    "memory": ("batch", "memories", "*", "*", "*"),
    "memory_time": ("batch", "memories"),
    "pointer_time": ("batch", "pointers"),
    "point_coords": ("batch", "points", "*"),
    "point_labels": ("batch", "points"),
    "mask_prompt": ("batch", "*", "*", "*"),
    "has_mask": ("batch",),
    "object_score": ("batch", "*"),
    "from_prompt": ("batch",),
    "high_res_0": (1, "*", "*", "*"),
    "high_res_1": (1, "*", "*", "*"),
}
# These mean different things in different modules.
AXES_IN = {
    ("memory_attention", "embedding"): (1, "*", "*", "*"),
    ("memory_encoder", "embedding"): (1, "*", "*", "*"),
    ("mask_decoder", "embedding"): ("batch", "*", "*", "*"),
    ("memory_attention", "pointers"): ("batch", "pointers", "*"),
    ("memory_encoder", "mask_logits"): ("batch", "*", "mask_height", "mask_width"),
}


def sample_inputs(model, batch=2, memories=3, pointers=4, points=3, seed=0) -> dict[str, dict[str, torch.Tensor]]:
    """Random inputs of every module, with one absent memory and pointer."""
    draw = torch.Generator().manual_seed(seed)
    vision = model.config.vision_config
    side, channels = model.config.image_size, vision.fpn_hidden_size
    (h0, w0), (h1, w1), (h, w) = vision.backbone_feature_sizes

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    memory_time = torch.arange(memories).repeat(batch, 1)
    pointer_time = torch.arange(1, pointers + 1, dtype=torch.float32).repeat(batch, 1)
    memory_time[-1, -1] = pointer_time[-1, -1] = -1
    labels = torch.tensor([1, 0, 2, 3]).repeat(points)[:points].repeat(batch, 1)
    labels[:, -1] = -1
    return {
        "image_encoder": {"image": normal(1, 3, side, side)},
        "memory_attention": {
            "embedding": normal(1, channels, h, w),
            "memory": normal(batch, memories, model.mem_dim, h, w),
            "memory_time": memory_time,
            "pointers": normal(batch, pointers, channels),
            "pointer_time": pointer_time,
        },
        "mask_decoder": {
            "embedding": normal(batch, channels, h, w),
            "high_res_0": normal(1, channels // 8, h0, w0),
            "high_res_1": normal(1, channels // 4, h1, w1),
            "point_coords": torch.rand(batch, points, 2, generator=draw) * side,
            "point_labels": labels,
            "mask_prompt": (normal(batch, 1, side, side) > 0).float(),
            "has_mask": (torch.arange(batch) % 2).float(),
        },
        "memory_encoder": {
            "embedding": normal(1, channels, h, w),
            "mask_logits": normal(batch, 1, h0, w0) * 5,
            "object_score": normal(batch, 1),
            "from_prompt": (torch.arange(batch) % 2).float(),
        },
    }


def export_module(name: str, module: torch.nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    """Writes one module as one self-contained ONNX file."""
    dynamic = {}
    for tensor in inputs:
        axes = AXES_IN.get((name, tensor)) or AXES[tensor]
        named = {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(axes) if isinstance(axis, str) and axis != "*"}
        dynamic[tensor] = named or None
    program = torch.onnx.export(
        module,
        kwargs=inputs,
        dynamic_shapes=dynamic,
        input_names=list(inputs),
        output_names=list(module.outputs),
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    proto = program.model_proto
    name_axes(name, proto)
    strip(proto)
    onnx.save_model(proto, str(path))


def name_axes(name: str, proto: onnx.ModelProto) -> None:
    """Readable names for the dynamic axes of inputs; outputs share the batch."""
    for value in proto.graph.input:
        axes = AXES_IN.get((name, value.name)) or AXES[value.name]
        for dim, axis in zip(value.type.tensor_type.shape.dim, axes):
            if isinstance(axis, str) and axis != "*":
                dim.dim_param = axis
    for value in proto.graph.output:
        dim = value.type.tensor_type.shape.dim[0]
        if dim.WhichOneof("value") == "dim_param":
            dim.dim_param = "batch"


def strip(proto: onnx.ModelProto) -> None:
    """Removes what only the exporter needs: paths of its sources, intermediate shapes."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    proto.producer_name, proto.producer_version = "tracklens export", ""
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    for thing in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        thing.doc_string = ""
        if hasattr(thing, "metadata_props"):
            del thing.metadata_props[:]


def write_toml(model, folder: Path, *, name: str, version: str, licence: str, source: str, dtype: str) -> None:
    """model.toml: everything the loop has to know and the modules cannot say."""
    config, vision = model.config, model.config.vision_config
    decoder = config.mask_decoder_config
    side, channels = config.image_size, vision.fpn_hidden_size
    (h0, w0), (h1, w1), (h, w) = vision.backbone_feature_sizes
    out = io.StringIO()

    def section(title, **values):
        out.write(f"{chr(10) if out.tell() else ''}[{title}]\n")
        for key, value in values.items():
            text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
            out.write(f"{key} = {text}\n")

    section("model", name=name, family="sam2.1", version=version, licence=licence, source=source, dtype=dtype)
    section("input", width=side, height=side, mean=MEAN, std=STD)
    section(
        "geometry",
        embedding=[channels, h, w],
        high_res_0=[channels // 8, h0, w0],
        high_res_1=[channels // 4, h1, w1],
        memory_channels=model.mem_dim,
        mask=[h0, w0],
        mask_prompt=[side, side],
        candidates=decoder.num_multimask_outputs + 1,
    )
    # The reference attends to every conditioning frame (max_cond_frame_num -1), which a stream without end cannot:
    # four is what the family was trained with. Up to four prompts an object the two agree.
    conditioning = config.max_cond_frame_num if config.max_cond_frame_num > 0 else 4
    section(
        "memory",
        frames=config.num_maskmem,
        conditioning_frames=conditioning,
        temporal_stride=1,
        pointers=config.max_object_pointers_in_encoder,
    )
    multimask = [config.multimask_min_pt_num, config.multimask_max_pt_num] if config.multimask_output_in_sam else []
    section(
        "selection",
        multimask_tracking=config.multimask_output_for_tracking and config.multimask_output_in_sam,
        multimask_points=multimask,
        stability_delta=decoder.dynamic_multimask_stability_delta,
        stability_threshold=decoder.dynamic_multimask_stability_thresh if decoder.dynamic_multimask_via_stability else 0.0,
    )
    for module in MODULES:
        file = folder / f"{module}.onnx"
        section(f"modules.{module}", file=file.name, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    (folder / "model.toml").write_text(out.getvalue())
