#!/usr/bin/env python3
"""SAM 2.1 in PyTorch: the frames of a clip through transformers' Sam2VideoModel, compiled, all objects in one session.

Beside `tracklens bench CLIP --model FOLDER`, where FOLDER is an export of the same network (seeded random weights will
do: the work is the same). The first frame's boxes begin the objects, and nothing lets them go.

    sam2_torch.py clip.mp4 --config tiny --seed 3 --objects 1,4,16,50 --device cuda --dtype float16 --compile
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import av
import torch
import torch.nn.functional as F
import yaml
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "nodes/sam2-tracker/models/export"))

import network
from folder import MEAN, STD

# What torch.compile makes one graph each of; the loop between them is Python's.
COMPILED = ("vision_encoder", "memory_attention", "mask_decoder", "memory_encoder")

# Frames that the model looks back at most: pointers of the last 16.
KEPT = 17


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    model = network.random_model(args.config, args.seed).to(args.device, args.dtype)
    if args.compile:
        for name in COMPILED:
            # Memories and pointers become more and more on the first frames.
            getattr(model, name).compile(dynamic=name == "memory_attention")
    for objects in args.objects:
        seconds, visible = track(model, args, objects)
        print(
            f"{args.config} {args.dtype} {args.device}, {objects} objects: {args.frames / seconds:.2f} frames a second over "
            f"{args.frames} frames after {args.warm_up} to warm up; {visible:.1f} objects seen on a frame",
            flush=True,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", help="the video; played again and again where it is too short")
    parser.add_argument("--config", choices=network.SIZES, default="tiny", help="of the random network")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--objects", type=lambda text: [int(x) for x in text.split(",")], default=[1, 4, 16, 50])
    parser.add_argument("--boxes", type=Path, help="boxes on the first frame, as `tracklens bench --boxes` takes them")
    parser.add_argument("--frames", type=int, default=100, help="frames to measure")
    parser.add_argument("--warm-up", type=int, default=40, help="frames before them: memories fill, graphs are compiled")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.dtype = getattr(torch, args.dtype)
    return args


def track(model, args, objects: int) -> tuple[float, float]:
    """Seconds for the measured frames, and how many objects were seen on one of them."""
    pictures = frames(args.clip)
    first = next(pictures)
    height, width = first.shape[:2]
    session = Sam2VideoInferenceSession(
        video_height=height,
        video_width=width,
        inference_device=args.device,
        inference_state_device=args.device,
        dtype=args.dtype,
    )
    prompt(session, boxes(args.boxes, objects, width, height), model.config.image_size, width, height)
    begin, seen = time.perf_counter(), 0
    with torch.inference_mode():
        for index, picture in zip(range(args.warm_up + args.frames), itertools.chain([first], pictures)):
            if index == args.warm_up:
                begin, seen = time.perf_counter(), 0
            logits = model(session, frame=prepare(picture, model.config.image_size, args), frame_idx=index).pred_masks
            masks = F.interpolate(logits, size=(height, width), mode="bilinear") > 0
            # To the host, where rows are made of them; this also waits for the device.
            seen += int(masks.cpu().flatten(1).any(1).sum())
            forget(session, index)
    return time.perf_counter() - begin, seen / args.frames


def frames(clip: str):
    """HxWx3 uint8, again and again."""
    while True:
        with av.open(clip) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")


def prepare(picture, side: int, args) -> torch.Tensor:
    """3xSxS, normalised, resized where the model is."""
    image = torch.from_numpy(picture).to(args.device).permute(2, 0, 1)[None].float()
    image = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(x, device=args.device)[:, None, None] for x in (MEAN, STD))
    return ((image[0] / 255 - mean) / std).to(args.dtype)


def boxes(file: Path | None, count: int, width: int, height: int) -> list[list[float]]:
    """As `tracklens bench` lays them: those of the file, then a grid."""
    found = []
    if file:
        content = yaml.safe_load(file.read_text())
        x, y = width / content["size"][0], height / content["size"][1]
        found = [[a * x, b * y, c * x, d * y] for a, b, c, d in (entry["box"] for entry in content["boxes"])]
    missing = count - len(found)
    columns = next(n for n in itertools.count(1) if n * n >= missing)
    w, h = width / columns, height / columns
    cells = ((at % columns * w, at // columns * h) for at in range(missing))
    return [*found, *([x + 0.2 * w, y + 0.2 * h, x + 0.8 * w, y + 0.8 * h] for x, y in cells)][:count]


def prompt(session, corners: list[list[float]], side: int, width: int, height: int) -> None:
    """A box for each object on the first frame: two points with the labels of its corners."""
    scale = torch.tensor([side / width, side / height])
    labels = torch.tensor([[[2, 3]]], dtype=torch.int32)
    for number, box in enumerate(corners):
        points = torch.tensor(box).reshape(1, 1, 2, 2) * scale
        points = points.to(session.dtype)
        session.add_point_inputs(session.obj_id_to_idx(number), 0, {"point_coords": points, "point_labels": labels})
    session.obj_with_new_inputs = list(range(len(corners)))


def forget(session, index: int) -> None:
    """Lets go what the model does not look at any more, which the session would keep for ever."""
    session.processed_frames.pop(index - 1, None)
    for outputs in session.output_dict_per_obj.values():
        outputs["non_cond_frame_outputs"].pop(index - KEPT, None)


if __name__ == "__main__":
    main()
