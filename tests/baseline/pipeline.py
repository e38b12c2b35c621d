#!/usr/bin/env python3
"""Video in, tracked masks out: what one writes in Python without TrackLens.

PyAV decodes, Pillow resizes, ONNX Runtime runs the model's modules, pycocotools encodes the masks, and JSON
Lines come out, with the fields of TrackLens' own rows, so that `tracklens diff` can compare the two.

    pipeline.py clip.mp4 --model nodes/sam2-tracker/models/nano --prompts boxes.yml --out rows.jsonl
    pipeline.py clip.mp4 … --processes        # one process per stage, multiprocessing queues between them
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import yaml
from pycocotools import mask as coco

from tracker import Tracker


def frames(path: str, threads: int, loops: int):
    """Number, time in nanoseconds and planes (yuv420p, as one array) of every frame."""
    number = 0
    for _ in range(loops):
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.thread_count = threads
            for frame in container.decode(stream):
                pts = int(frame.pts * stream.time_base * 1_000_000_000)
                yield number, pts, frame.to_ndarray(format="yuv420p")
                number += 1


def masks_of(logits: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Masks at the source's size; a pixel belongs to the object with the highest logit."""
    best = np.zeros((size[1], size[0]), np.float32)
    owner = np.full((size[1], size[0]), -1, np.int8)
    for at, entry in enumerate(logits):
        large = cv2.resize(entry, size, interpolation=cv2.INTER_LINEAR)
        np.putmask(owner, large > best, at)
        np.maximum(best, large, out=best)
    return [owner == at for at in range(len(logits))]


def rows_of(number: int, pts: int, logits: np.ndarray, iou: np.ndarray, size: tuple[int, int]):
    """The rows of a frame, and where each object is."""
    rows, places = [], []
    for at, mask in enumerate(masks_of(logits, size)):
        runs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        area = int(coco.area(runs))
        left, top, width, height = coco.toBbox(runs)
        box = np.array([left, top, left + width, top + height])
        places.append((box if area else None, area))
        rows.append(
            {
                "stream_id": "clip",
                "epoch": 0,
                "frame": number,
                "pts_ns": pts,
                "track_id": at + 1,
                "bbox": box.tolist(),
                "score": float(np.clip(iou[at], 0.0, 1.0)) if area else 0.0,
                "area": area,
                "visible": area > 0,
                "state": "new" if number == 0 else "tracked",
                "mask": {"size": [size[1], size[0]], "counts": runs["counts"].decode()},
            }
        )
    return rows, places


def write(out, rows) -> None:
    for row in rows:
        out.write(json.dumps(row) + "\n")


class Report:
    """Frames and time after a warm-up, CPU time of this process and its children."""

    def __init__(self, warm_up: int):
        self.warm_up, self.frames, self.start = warm_up, 0, time.perf_counter()

    def frame(self) -> None:
        self.frames += 1
        if self.frames == self.warm_up:
            self.start = time.perf_counter()

    def tell(self) -> None:
        seconds = time.perf_counter() - self.start
        counted = self.frames - self.warm_up
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        report = {
            "frames": self.frames,
            "fps": counted / seconds,
            "cpu_ms_per_frame": 1000 * sum(u.ru_utime + u.ru_stime for u in used) / self.frames,
            "max_rss_mib": sum(u.ru_maxrss for u in used) / 1024,
        }
        print(json.dumps(report))


def one_process(arguments, boxes) -> None:
    tracker = Tracker(arguments.model, arguments.threads)
    report = Report(arguments.warm_up)
    with open(arguments.out, "w", encoding="utf-8") as out:
        for number, pts, picture in frames(arguments.clip, arguments.decoder_threads, arguments.loops):
            size = (picture.shape[1], picture.shape[0] * 2 // 3)
            logits, iou = tracker.track(picture, boxes)
            rows, places = rows_of(number, pts, logits, iou, size)
            for at, place in enumerate(places):
                tracker.published(at, *place)
            write(out, rows)
            report.frame()
    report.tell()


def decode_stage(arguments, pictures) -> None:
    for entry in frames(arguments.clip, arguments.decoder_threads, arguments.loops):
        pictures.put(entry)
    pictures.put(None)


def track_stage(arguments, boxes, pictures, found) -> None:
    tracker = Tracker(arguments.model, arguments.threads)
    while (entry := pictures.get()) is not None:
        number, pts, picture = entry
        size = (picture.shape[1], picture.shape[0] * 2 // 3)
        logits, iou = tracker.track(picture, boxes)
        # The next frame's search needs boxes and areas: from the small masks, the large ones are made later.
        scale = np.array([size[0] / logits.shape[2], size[1] / logits.shape[1]] * 2)
        for at, mask in enumerate(logits > 0):
            area = int(mask.sum())
            box = None
            if area:
                left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
                box = np.array([left, top, left + width, top + height]) * scale
            tracker.published(at, box, area * scale[0] * scale[1])
        found.put((number, pts, logits, iou, size))
    found.put(None)


def many_processes(arguments, boxes) -> None:
    # ONNX Runtime's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pictures, found = context.Queue(maxsize=4), context.Queue(maxsize=4)
    stages = [
        context.Process(target=decode_stage, args=(arguments, pictures)),
        context.Process(target=track_stage, args=(arguments, boxes, pictures, found)),
    ]
    for stage in stages:
        stage.start()
    report = Report(arguments.warm_up)
    with open(arguments.out, "w", encoding="utf-8") as out:
        while (entry := found.get()) is not None:
            rows, _ = rows_of(*entry)
            write(out, rows)
            report.frame()
    for stage in stages:
        stage.join()
    report.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clip", help="a video file")
    parser.add_argument("--model", type=Path, required=True, help="a folder with a model.toml")
    parser.add_argument("--prompts", type=Path, required=True, help="boxes on frame 0, as in PROMPT_FILE")
    parser.add_argument("--out", type=Path, required=True, help="the rows")
    parser.add_argument("--threads", type=int, default=2, help="threads of ONNX Runtime (2)")
    parser.add_argument("--decoder-threads", type=int, default=0, help="threads of FFmpeg (0: its choice)")
    parser.add_argument("--loops", type=int, default=1, help="play the clip so often, as one stream")
    parser.add_argument("--warm-up", type=int, default=10, help="frames that the time leaves out")
    parser.add_argument("--processes", action="store_true", help="one process per stage")
    arguments = parser.parse_args()
    prompts = yaml.safe_load(arguments.prompts.read_text())
    boxes = [prompt["box"] for prompt in prompts if prompt.get("frame", 0) == 0 and "box" in prompt]
    if not boxes:
        sys.exit(f"{arguments.prompts}: no box on frame 0")
    (many_processes if arguments.processes else one_process)(arguments, boxes)


if __name__ == "__main__":
    main()
