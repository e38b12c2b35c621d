"""Makes an exported folder int8 where that is faster and costs nothing, and says how near it stays: the decoder's convolutions,
those of the image encoder's heads, and the attention's sums of remembered values.

python quantize.py --model FLOAT --data TRACKLENS_DATA --out FOLDER

Weights have 7 bits, for each output channel or place its own scale: so sums of products fit where a CPU without VNNI adds them in
16 bits, and every x86 CPU computes the same. Inputs and outputs of the modules stay f32, and so do likeness and softmax, the memory
encoder, the backbone, whose SiLUs and depthwise layers gain nothing, and the decoder's last layers at stride 4.
"""
import argparse
import glob
import hashlib
import os
import re
import shutil
import tempfile

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from evaluate import Model, Track, region
from graph import branches, rearrange, rename, sort

# by the names of their weights: the image encoder's heads; all of the decoder's convolutions but these and the last, which is computed
# in parts
HEADS = {"high0.0.conv", "high0.1", "high1", "key8", "down"}
FLOAT = {"to4", "mask4"}
# sums after it stay f32: what prompts add has another range on each frame
SUMS_FLOAT = {"in16"}
PERCENTILE = 99.99
SAMPLES = 320


class Recorder:
    """An ONNX Runtime session that keeps what it is fed."""

    def __init__(self, session, feeds):
        self.session, self.feeds = session, feeds

    def get_inputs(self):
        return self.session.get_inputs()

    def run(self, outputs, feed):
        self.feeds.append(feed)
        return self.session.run(outputs, feed)


class Feeds(CalibrationDataReader):
    def __init__(self, feeds):
        self.left = iter(feeds)

    def get_next(self):
        return next(self.left, None)


def clips(data, part, rng):
    """Short sequences of frames, RGB: pieces of the clips, and pans over every fifth picture of the pool. Parts 0 and 1 share no frame."""
    for path in sorted(glob.glob(f"{data}/clips/*.mp4")):
        video = cv2.VideoCapture(path)
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        step = count // 3 + 1
        for start in range(part * step // 2, count, step):
            video.set(cv2.CAP_PROP_POS_FRAMES, start)
            yield [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for there, frame in (video.read() for _ in range(12)) if there]
    for path in sorted(glob.glob(f"{data}/train/pool/*"))[2 * part :: 5]:
        picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        height, width = (int(n * rng.uniform(0.75, 1)) for n in picture.shape[:2])
        y, x = (rng.integers(0, n - m + 1) for n, m in zip(picture.shape, (height, width)))
        frames = []
        for _ in range(3):
            frames.append(picture[y : y + height, x : x + width].copy())
            y, x = (int(np.clip(at + rng.integers(-s, s + 1), 0, n - m)) for at, s, n, m in zip((y, x), (6, 12), picture.shape, (height, width)))
        yield frames


def feeds(folder, data, part):
    """What the modules are fed while random boxes and clicks are followed."""
    rng = np.random.default_rng(part)
    model = Model(folder, 2)
    seen = {"image_encoder": [], "mask_decoder": [], "memory_attention": []}
    for name, feed in seen.items():
        setattr(model, name, Recorder(getattr(model, name), feed))
    for frames in clips(data, part, rng):
        for _ in range(2):
            track, at = Track(model), rng.uniform(0.1, 0.9, 2) * (model.width, model.height)
            half = rng.uniform(0.03, 0.25, 2) * (model.width, model.height)
            box = [(*np.clip(at + side * half, 0, (model.width, model.height)), label) for side, label in ((-1, 2), (1, 3))]
            track.prompt(0, frames[0], points=box if rng.random() < 0.5 else [(*at, 1)])
            for k, frame in enumerate(frames[1:], 1):
                track.track(k, frame)
    pick = lambda feed: [feed[i] for i in sorted(rng.choice(len(feed), min(SAMPLES, len(feed)), replace=False))]
    return {name: pick(feed) for name, feed in seen.items()}


def layer(node):
    return node.input[1].removesuffix(".weight") if node.op_type == "Conv" and node.input[1].endswith(".weight") else None


def chosen(graph, module):
    """The nodes that work in int8: convolutions, and what is done with their results until that goes several ways."""
    takers = lambda tensor: [node for node in graph.node if tensor in node.input]
    convs = [n for n in graph.node if layer(n) and (layer(n) in HEADS if module == "image_encoder" else layer(n) not in FLOAT)]
    found = {node.name for node in convs}
    if module == "mask_decoder":
        for node in convs:
            while layer(node) not in SUMS_FLOAT and len(next_ := takers(node.output[0])) == 1 and next_[0].op_type in ("Relu", "Add", "Resize"):
                node = next_[0]
                found.add(node.name)
    return found


def apart(path, int8):
    """Nodes that stay f32 take a tensor as it is, not as it was rounded for others. In branches, which the quantizer leaves alone, they
    take one that int8 nodes make as it was rounded: before that, it may lack a Relu."""
    model = onnx.load(path)
    maker = {tensor: node for node in model.graph.node for tensor in node.output}
    rounded = {}
    for node in model.graph.node:
        there = maker.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if there and there.input[0] in maker and maker[there.input[0]].name in int8:
            rounded[there.input[0]] = node.output[0]
    for graph in (graph for node in model.graph.node for graph in branches(node)):
        rename(graph, rounded)
    for node in model.graph.node:
        if node.name in int8 or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for i, tensor in enumerate(node.input):
            back = maker.get(tensor)
            there = back and back.op_type == "DequantizeLinear" and maker.get(back.input[0])
            if there and there.op_type == "QuantizeLinear" and (there.input[0] not in maker or maker[there.input[0]].name not in int8):
                node.input[i] = there.input[0]
    return model


def values_of(model, tensor, data):
    """This tensor of the model, for each feed."""
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    return (session.run([tensor], feed)[0] for feed in data)


def attention(model, data):
    """What is read of all memories, weights times values, in int8. Weights count from the largest of a place and memory; they are
    rounded before they are copied for objects that remember different frames."""
    reads = [
        (branch.g, node)
        for choice in model.graph.node
        for branch in choice.attribute
        if choice.op_type == "If"
        for node in branch.g.node
        if node.op_type == "MatMul" and not any(node.input[1] in other.output for other in branch.g.node)
    ]
    (values,) = {product.input[1] for _, product in reads}
    most = np.percentile([np.percentile(np.abs(of_one), PERCENTILE) for of_one in values_of(model, values, data)], 95)
    constants = {
        "int8_weight": np.float32(1 / 127), "int8_weight_zero": np.uint8(0), "int8_value": np.float32(most / 127), "int8_value_zero": np.int8(0),
        "int8_least": np.float32(1e-30), "int8_cells": np.int64([2]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    for branch, product in reads:
        (fetch,) = (node for node in branch.node if node.op_type == "Gather" and not any(node.input[0] in other.output for other in branch.node) and node.input[0] != "memory_frame")
        weights, fetch.input[0] = fetch.input[0], "share_int8"
        before = [
            helper.make_node("DequantizeLinear", [product.input[0], "int8_weight", "int8_weight_zero"], ["share_rounded"]),
            helper.make_node("QuantizeLinear", [values, "int8_value", "int8_value_zero"], ["values_int8"]),
            helper.make_node("DequantizeLinear", ["values_int8", "int8_value", "int8_value_zero"], ["values_rounded"]),
            helper.make_node("Gather", ["unit", "memory_frame"], ["unit_of_memory"], axis=0),
        ]
        after = helper.make_node("Mul", ["shares_read", "unit_of_memory"], [product.output[0]])
        product.input[:], product.output[:] = ["share_rounded", "values_rounded"], ["shares_read"]
        at = list(branch.node).index(product)
        insert(branch, at, [*before, product, after], 1)
    at = next(i for i, node in enumerate(model.graph.node) if weights in node.output) + 1
    rounding = [
        helper.make_node("ReduceMax", [weights, "int8_cells"], ["largest"], keepdims=1),
        helper.make_node("Max", ["largest", "int8_least"], ["unit"]),
        helper.make_node("Div", [weights, "unit"], ["share"]),
        helper.make_node("QuantizeLinear", ["share", "int8_weight", "int8_weight_zero"], ["share_int8"]),
    ]
    insert(model.graph, at, rounding, 0)
    print(f"memory_attention: values of up to {most:.2f}", flush=True)
    return model


def insert(graph, at, nodes, instead_of):
    """Puts nodes at a place of the graph's list, whose order is that of computing."""
    rearrange(graph, [*graph.node[:at], *nodes, *graph.node[at + instead_of :]])


def convolutions(source, module, data):
    int8 = chosen(onnx.load(source).graph, module)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{module}.onnx"
        quantize_static(source, path, Feeds(data), quant_format=QuantFormat.QDQ, nodes_to_quantize=sorted(int8), per_channel=True, reduce_range=True,
                        op_types_to_quantize=["Conv", "Relu", "Add", "Resize"], activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=CalibrationMethod.Percentile, extra_options={"CalibPercentile": PERCENTILE})
        print(f"{module}: {len(int8)} nodes", flush=True)
        model = apart(path, int8)
        if any(map(branches, model.graph.node)):
            sort(model.graph)  # the quantizer's own sorting does not look into them
        return model


def quantize(source, target, module, data):
    model = attention(onnx.load(source), data) if module == "memory_attention" else convolutions(source, module, data)
    del model.metadata_props[:]
    model.producer_name, model.producer_version = "tracklens-nano", ""
    onnx.checker.check_model(model)
    onnx.save(model, target)


def check(folder, plain, seen):
    """How near int8 is to f32; on other frames than those that the ranges come from."""
    before, after = Model(plain, 2), Model(folder, 2)
    overlap, others, worst = {True: [], False: []}, [], 0
    for module in ("image_encoder", "memory_attention"):
        off = []
        for feed in seen[module]:
            pairs = zip(*(getattr(m, module).run(None, feed) for m in (before, after)))
            off.append([np.sqrt(np.square(a - b).mean() / np.square(a).mean()) for a, b in pairs])
        print(f"{module}, relative error of each output:", " ".join(f"{x:.3f}" for x in np.mean(off, 0)))
        worst = max(worst, np.mean(off, 0).max())
    for feed in seen["mask_decoder"]:
        feed = {**feed, "all_candidates": np.ones(1, np.int64)}
        a, b = (m.mask_decoder.run(None, feed)[0][0] > 0 for m in (before, after))
        if (a[0] | b[0]).any():
            overlap[bool((feed["point_labels"] >= 0).any())].append(region(a[0], b[0]))
        others += [region(x, y) for x, y in zip(a[1:], b[1:]) if (x | y).any()]
    masks = {prompted: np.mean(all_) for prompted, all_ in overlap.items()}
    others = np.mean(others)
    print(f"mask_decoder, overlap with f32 from the same input: while tracking {masks[False]:.3f}, prompted {masks[True]:.3f}, candidates after the first {others:.3f}")
    assert worst < 0.05 and masks[False] > 0.97 and masks[True] > 0.93 and others > 0.93


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder that export.py wrote")
    parser.add_argument("--data", required=True, help="folder with clips/ and train/pool/")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    if os.path.realpath(args.out) == os.path.realpath(args.model):
        parser.error("--out must be another folder than --model, with which the result is compared")
    with open(f"{args.model}/model.toml") as f:
        toml = f.read()
    if "dtype" in toml:
        parser.error(f"{args.model} is no folder that export.py wrote: its model.toml has a dtype")
    for needed in ("clips/*.mp4", "train/pool/*"):
        if not glob.glob(f"{args.data}/{needed}"):
            parser.error(f"--data: there is no {needed} in {args.data}")
    toml = toml.replace("\n[input]", 'dtype = "int8 and float32"\n\n[input]', 1)
    os.makedirs(args.out, exist_ok=True)
    seen = feeds(args.model, args.data, 0)
    for name in re.findall(r"\[modules\.(\w+)\]", toml):
        source, target = (f"{folder}/{name}.onnx" for folder in (args.model, args.out))
        if name in seen:
            quantize(source, target, name, seen[name])
        else:
            shutil.copy(source, target)
        with open(target, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        toml = re.sub(rf'(\[modules\.{name}\]\n.*\nsha256 = )"\w+"', rf'\1"{digest}"', toml)
    with open(f"{args.out}/model.toml", "w") as f:
        f.write(toml)
    check(args.out, args.model, feeds(args.model, args.data, 1))


if __name__ == "__main__":
    main()
