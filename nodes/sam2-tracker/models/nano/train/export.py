"""Exports a checkpoint to the four ONNX modules and model.toml (docs/models.md), and checks them.

python export.py --checkpoint RUN/last.pt --out FOLDER
"""
import argparse
import hashlib
import os

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from evaluate import frames_of
from graph import branches, names_used
from network import C, CANDIDATES, CM, HIGH0, HIGH1, SCALES, Nano

WIDTH, HEIGHT = 448, 256
H16, W16, H8, W8, H4, W4 = HEIGHT // 16, WIDTH // 16, HEIGHT // 8, WIDTH // 8, HEIGHT // 4, WIDTH // 4
HIGH1_SCALES = HIGH1 + SCALES
MODULES = ("image_encoder", "memory_attention", "mask_decoder", "memory_encoder")

TOML = """[model]
name = "nano"
family = "nano"
version = "{version}"
licence = "Apache-2.0"
source = "trained for this project by models/nano/train; backbone started from YOLOX-nano (Apache-2.0)"

[input]
width = {WIDTH}
height = {HEIGHT}
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[geometry]
embedding = [{C}, {H16}, {W16}]
high_res_0 = [{HIGH0}, {H4}, {W4}]
high_res_1 = [{HIGH1_SCALES}, {H8}, {W8}]
memory_channels = {CM}
mask = [{H4}, {W4}]
candidates = {CANDIDATES}

[memory]
frames = {frames}
conditioning_frames = {conditioning}
temporal_stride = {stride}
pointers = 0
least_iou = {least_iou}

[selection]
multimask_tracking = {multimask}
multimask_points = {points}
stability_delta = 0.05
stability_threshold = {stability}
reach = {reach}
similarity = {similarity}
"""


class MemoryEncoding(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, embedding, mask_logits, object_score, from_prompt):
        return self.module(embedding, mask_logits, object_score, from_prompt)


def examples():
    b, m, p = 3, 4, 5
    emb, h0, h1 = torch.randn(1, C, H16, W16), torch.randn(1, HIGH0, H4, W4), torch.rand(1, HIGH1_SCALES, H8, W8)
    dim = lambda name: torch.export.Dim(name, min=1, max=1024)
    B, M, P, S, T = dim("objects"), dim("memories"), dim("points"), dim("frames"), dim("newest_frames")
    ma, mb = dim("mask_height"), dim("mask_width")
    return {
        "image_encoder": ({"image": torch.randn(1, 3, HEIGHT, WIDTH)}, {"image": {}},
                          ["embedding", "embedding_no_memory", "high_res_0", "high_res_1"]),
        "memory_attention": ({"embedding": emb, "memory": torch.randn(b, m, CM, H16, W16), "memory_time": torch.arange(m)[None].repeat(b, 1),
                              "frames": torch.arange(5), "memory_frame": torch.arange(b * m).reshape(b, m) % 5,
                              "newest": torch.arange(2), "newest_frame": torch.arange(b) % 2},
                             {"embedding": {}, "memory": {0: B, 1: M}, "memory_time": {0: B, 1: M}, "frames": {0: S}, "memory_frame": {0: B, 1: M},
                              "newest": {0: T}, "newest_frame": {0: B}}, ["conditioned"]),
        "mask_decoder": ({"embedding": torch.randn(b, C, H16, W16), "high_res_0": h0, "high_res_1": h1, "point_coords": torch.rand(b, p, 2) * 200,
                          "point_labels": torch.ones(b, p, dtype=torch.long), "mask_prompt": torch.randn(b, 1, H4, W4), "has_mask": torch.ones(b),
                          "all_candidates": torch.ones(1, dtype=torch.long)},
                         {"embedding": {0: B}, "high_res_0": {}, "high_res_1": {}, "point_coords": {0: B, 1: P}, "point_labels": {0: B, 1: P},
                          "mask_prompt": {0: B}, "has_mask": {0: B}, "all_candidates": {}}, ["mask_logits", "iou", "pointers", "object_score"]),
        "memory_encoder": ({"embedding": emb, "mask_logits": torch.randn(b, 1, 120, 210), "object_score": torch.ones(b, 1), "from_prompt": torch.ones(b)},
                           {"embedding": {}, "mask_logits": {0: B, 2: ma, 3: mb}, "object_score": {0: B}, "from_prompt": {0: B}}, ["memory"]),
    }


def strip(graph):
    """Removes what only the exporter needs: names of source files, stack traces, intermediate shapes, constants left over."""
    del graph.value_info[:], graph.metadata_props[:]
    used = names_used(graph)
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in graph.node:
        for branch in branches(node):
            strip(branch)


def session(path, threads=2):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(net, out):
    """The files against PyTorch, for several sizes of the dynamic axes, and what must not matter."""
    s = {n: session(f"{out}/{n}.onnx") for n in MODULES}
    modules = {"memory_attention": net.memory_attention, "mask_decoder": net.mask_decoder, "memory_encoder": net.memory_encoder}
    worst = {}

    def both(name, feed):
        got = s[name].run(None, {k: v.numpy() for k, v in feed.items()})
        with torch.no_grad():
            want = (net.image_encoder if name == "image_encoder" else modules[name])(**feed)
        want = want if isinstance(want, tuple) else (want,)
        for g, w in zip(got, want):
            assert g.shape == tuple(w.shape), (name, g.shape, w.shape)
            worst[name] = max(worst.get(name, 0), float(np.abs(g - w.numpy()).max() / (w.abs().max() + 1e-6)))
        return got

    torch.manual_seed(0)
    feed = examples()["image_encoder"][0]
    emb, plain, h0, h1 = (torch.from_numpy(x) for x in both("image_encoder", feed))
    for b in range(1, 6):
        score = torch.randn(b, 1)
        for size in ((H4, W4), (480, 854), (37, 90)):
            memory = both("memory_encoder", {"embedding": emb, "mask_logits": torch.randn(b, 1, *size) * 8, "object_score": score, "from_prompt": torch.rand(b).round()})[0]
        for m in range(1, 8):
            # memories of m frames, which the objects share but for the first: what they keep of the mask differs
            frame = np.array([[-1 - i, *range(1, m)] for i in range(b)])
            keys = {f: torch.randn(1, *emb.shape[1:]) for f in np.unique(frame)}
            remember = lambda f: both("memory_encoder", {"embedding": keys[f], "mask_logits": torch.randn(1, 1, H4, W4) * 8,
                                                         "object_score": torch.ones(1, 1), "from_prompt": torch.zeros(1)})[0]
            memories = torch.from_numpy(np.stack([np.concatenate([remember(f) for f in row]) for row in frame]))
            times = torch.tensor([[0, *range(m - 1, 0, -1)]] * b)
            absent = torch.rand(b, m) < 0.3
            absent[:, 0] = False
            times[absent] = -1
            attend = lambda memory, time, frame: {"embedding": emb, "memory": memory, "memory_time": time,
                                                  **{k: torch.from_numpy(v) for k, v in frames_of(frame, time.numpy()).items()}}
            feed = attend(memories, times, frame)
            a = both("memory_attention", feed)[0]
            # and of objects found together, which share all of them
            both("memory_attention", attend(memories, times[:1].repeat(b, 1), frame[:1].repeat(b, 0)))
            with torch.no_grad():
                apart = net.memory_attention(emb, memories, times)
            assert np.abs(a - apart.numpy()).max() < 1e-4, "sharing frames matters"
            other = torch.where(absent[:, :, None, None, None], torch.randn_like(memories) * 5, memories)
            c = s["memory_attention"].run(None, {k: v.numpy() for k, v in attend(other, times, frame).items()})[0]
            assert np.abs(a - c).max() < 1e-5, f"absent memories matter: {np.abs(a - c).max()}"
            padded = attend(torch.cat([memories, torch.zeros_like(memories[:1])]), torch.cat([times, torch.full((1, m), -1)]), np.concatenate([frame, frame[:1]]))
            c = s["memory_attention"].run(None, {k: v.numpy() for k, v in padded.items()})[0]
            assert np.isfinite(c).all() and np.abs(a - c[:b]).max() < 1e-5, f"padding of the batch matters: {np.abs(a - c[:b]).max()}"
        for p in (1, 2, 4):
            feed = {"embedding": torch.from_numpy(a), "high_res_0": h0, "high_res_1": h1, "point_coords": torch.rand(b, p, 2) * 200,
                    "point_labels": torch.randint(-1, 4, (b, p)), "mask_prompt": torch.randn(b, 1, H4, W4), "has_mask": torch.rand(b).round(), "all_candidates": torch.ones(1, dtype=torch.long)}
            both("mask_decoder", {**feed, "point_labels": torch.full((b, p), -1), "has_mask": torch.zeros(b)})
            a1 = both("mask_decoder", feed)
            alone = both("mask_decoder", {**feed, "all_candidates": torch.zeros(1, dtype=torch.long)})
            assert all(np.abs(a[:, :1] - b[:, :1]).max() < 1e-5 for a, b in zip(a1, alone)), "the first candidate knows of others"
            more = {**feed, "point_coords": torch.cat([feed["point_coords"], torch.zeros(b, 2, 2)], 1), "point_labels": torch.cat([feed["point_labels"], torch.full((b, 2), -1)], 1)}
            a2 = s["mask_decoder"].run(None, {k: v.numpy() for k, v in more.items()})
            assert np.abs(a1[0] - a2[0]).max() < 1e-3, "points without a label matter"
    print("largest difference to PyTorch, relative:", {k: f"{v:.1e}" for k, v in worst.items()})
    assert max(worst.values()) < 2e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--weights", default="average", choices=["average", "net"], help="moving average or last")
    parser.add_argument("--version", default="4")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--conditioning", type=int, default=2)
    parser.add_argument("--multimask", default="false", choices=["true", "false"], help="candidates 1 to 3 while tracking")
    parser.add_argument("--multimask-points", default="[0, 0]", help="numbers of points for which candidates 1 to 3 are used")
    parser.add_argument("--stability", type=float, default=0.0, help="least stability of candidate 0")
    parser.add_argument("--reach", type=float, default=1.5, help="share of its side that an object gets in a frame")
    parser.add_argument("--similarity", type=float, default=0.75, help="cosine of pooled embeddings from which two objects may be one")
    parser.add_argument("--least-iou", type=float, default=0.0, help="predicted IoU from which a frame is remembered")
    parser.add_argument("--opset", type=int, default=18)
    args = parser.parse_args()
    net = Nano().eval()
    net.load_state_dict(torch.load(args.checkpoint, map_location="cpu", weights_only=False)[args.weights])
    os.makedirs(args.out, exist_ok=True)
    toml = TOML.format(version=args.version, frames=args.frames, stride=args.stride, conditioning=args.conditioning, multimask=args.multimask, points=args.multimask_points, stability=args.stability, reach=args.reach, similarity=args.similarity, least_iou=args.least_iou, **{k: v for k, v in globals().items() if isinstance(v, int)})
    for name, (inputs, dynamic, outputs) in examples().items():
        path = f"{args.out}/{name}.onnx"
        module = getattr(net, name)
        program = torch.onnx.export(module, (), kwargs=inputs, dynamic_shapes=dynamic, input_names=list(inputs), output_names=outputs,
                                    opset_version=args.opset, dynamo=True, external_data=False, verbose=False)
        program.save(path, external_data=False)
        model = onnx.load(path)
        del model.metadata_props[:]
        strip(model.graph)
        model.producer_name, model.producer_version = "tracklens-nano", ""
        model.ir_version = min(model.ir_version, 9)
        onnx.save(model, path)
        digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
        toml += f'\n[modules.{name}]\nfile = "{name}.onnx"\nsha256 = "{digest}"\n'
        print(name, f"{os.path.getsize(path) / 1e6:.2f} MB, opset", [(o.domain or "onnx", o.version) for o in model.opset_import])
    with open(f"{args.out}/model.toml", "w") as f:
        f.write(toml)
    check(net, args.out)


if __name__ == "__main__":
    main()
