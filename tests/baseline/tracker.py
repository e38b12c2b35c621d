"""A SAM 2 family tracker on ONNX Runtime, with its memory bank in numpy.

The same modules and rules as nodes/sam2-tracker: a box on the first frame begins an object; after that,
memory attention, mask decoder and memory encoder take all objects in one batch.
"""

from __future__ import annotations

import tomllib
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image

NO_OBJECT = -1024.0
BEYOND = -10.0
# Weight of a frame in an object's usual area; how much it may grow by further parts; the gap between
# them, as a share of its side.
AREA_WEIGHT, GROWTH, GAP = 0.05, 1.4, 0.75
# Y, U and V of limited range to red, green and blue (ITU-R BT.601), all 0 to 255.
YUV_TO_RGB = np.array(
    [[1.164384, 0.0, 1.596027], [1.164384, -0.391762, -0.812968], [1.164384, 2.017232, 0.0]],
    np.float32,
)
YUV_BLACK = np.array([16.0, 128.0, 128.0], np.float32)


class Bank:
    """What is remembered of one object: the frame it was shown on, and the frames it was seen on."""

    def __init__(self, conditioning: np.ndarray, frames: int, stride: int):
        self.conditioning = conditioning
        self.recent: deque[tuple[int, np.ndarray]] = deque()
        self.frames, self.stride = frames, stride

    def push(self, step: int, memory: np.ndarray, seen: bool) -> None:
        if seen:
            self.recent.append((step, memory))
        shown = {at for at, _ in self._shown()}
        self.recent = deque(entry for entry in self.recent if entry[0] in shown)

    def _shown(self) -> list[tuple[int, np.ndarray]]:
        """Newest first: the newest, and before it those at the stride."""
        newest_first = list(reversed(self.recent))
        kept = [
            entry
            for place, entry in enumerate(newest_first)
            if place == 0 or entry[0] % self.stride == 0
        ]
        return kept[: self.frames - 1]

    def show(self) -> tuple[list[np.ndarray], list[int], list[int]]:
        """Memories, their times, and the frames that they are of."""
        recent = self._shown()
        memories = [self.conditioning] + [memory for _, memory in reversed(recent)]
        times = [0] + list(range(len(recent), 0, -1))
        return memories, times, [0] + [step for step, _ in reversed(recent)]


class Tracker:
    """Follows the objects of one stream."""

    def __init__(self, folder: Path, threads: int):
        self.config = tomllib.loads((folder / "model.toml").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Four sessions have four pools of threads; where they spin, they take the cores from each other
        # (measured: two to three times slower).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.sessions = {
            name: onnxruntime.InferenceSession(
                folder / module["file"], options, providers=["CPUExecutionProvider"]
            )
            for name, module in self.config["modules"].items()
        }
        size, geometry = self.config["input"], self.config["geometry"]
        self.input = (size["width"], size["height"])
        deviation = 255.0 * np.array(size["std"], np.float32)
        self.scale = 1.0 / deviation
        self.shift = -np.array(size["mean"], np.float32) / np.array(size["std"], np.float32)
        self.mask = tuple(geometry["mask"])
        self.banks: list[Bank] = []
        self.last: np.ndarray | None = None
        self.boxes: list[np.ndarray | None] = []
        self.usual: list[float] = []
        self.missed: list[int] = []
        self.step = 0

    def run(self, name: str, feeds: dict) -> list[np.ndarray]:
        session = self.sessions[name]
        known = {entry.name for entry in session.get_inputs()}
        return session.run(None, {key: value for key, value in feeds.items() if key in known})

    def preprocess(self, planes: np.ndarray) -> np.ndarray:
        """Resizes the planes (antialiased; in floats, where Pillow is faster than in bytes and does not
        round between the axes), and makes colours of them when they are small."""
        height, width = planes.shape[0] * 2 // 3, planes.shape[1]
        chroma = planes[height:].reshape(2, height // 2, width // 2)
        small = [
            np.asarray(
                Image.fromarray(plane).convert("F").resize(self.input, Image.Resampling.BILINEAR)
            )
            for plane in (planes[:height], *chroma)
        ]
        yuv = np.stack(small, axis=-1) - YUV_BLACK
        rgb = np.clip(cv2.transform(yuv, YUV_TO_RGB), 0.0, 255.0)
        tensor = rgb * self.scale + self.shift
        return np.ascontiguousarray(tensor.transpose(2, 0, 1))[None]

    def track(self, planes: np.ndarray, boxes: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
        """Mask logits (objects, height, width) and predicted IoU of all objects on the next frame.

        `boxes` begin objects; they are given on the first frame only.
        """
        height, width = planes.shape[0] * 2 // 3, planes.shape[1]
        embedding, without_memory, high_0, high_1 = self.run(
            "image_encoder", {"image": self.preprocess(planes)}
        )
        features = {"high_res_0": high_0, "high_res_1": high_1}
        if self.step == 0:
            count = len(boxes)
            scale = np.array(self.input, np.float32) / np.array([width, height], np.float32)
            corners = np.array(boxes, np.float32).reshape(count, 2, 2) * scale
            coords = np.concatenate([corners, np.zeros((count, 1, 2), np.float32)], axis=1)
            labels = np.tile(np.array([2, 3, -1], np.int64), (count, 1))
            look = np.repeat(without_memory, count, axis=0)
            logits, iou, score = self.decode(look, features, coords, labels)
        else:
            count = len(self.banks)
            shown = [bank.show() for bank in self.banks]
            most = max(len(times) for _, times, _ in shown)
            memory = np.zeros((count, most, *self.banks[0].conditioning.shape), np.float32)
            times = np.full((count, most), -1, np.int64)
            steps = np.zeros((count, most), np.int64)
            for at, (memories, ages, frames) in enumerate(shown):
                memory[at, : len(memories)] = memories
                times[at, : len(ages)] = ages
                steps[at, : len(frames)] = frames
            (look,) = self.run(
                "memory_attention",
                {
                    "embedding": embedding,
                    "memory": memory,
                    "memory_time": times,
                    **same_frames(steps, times),
                },
            )
            coords = np.zeros((count, 2, 2), np.float32)
            labels = np.full((count, 2), -1, np.int64)
            logits, iou, score = self.decode(look, features, coords, labels)
            self.hold(logits, score, (width, height))
        (memory,) = self.run(
            "memory_encoder",
            {
                "embedding": embedding,
                "mask_logits": logits[:, None],
                "object_score": score[:, None],
                "from_prompt": np.full(count, float(self.step == 0), np.float32),
            },
        )
        if self.step == 0:
            rules = self.config["memory"]
            frames, stride = rules["frames"], rules["temporal_stride"]
            self.banks = [Bank(entry, frames, stride) for entry in memory]
            self.boxes, self.usual = [None] * count, [0.0] * count
            self.missed = [0] * count
        else:
            for bank, entry, value in zip(self.banks, memory, score):
                bank.push(self.step, entry, value > 0)
        self.clean(logits)
        self.last = logits
        self.step += 1
        return logits, iou

    def decode(self, look, features, coords, labels):
        count = len(look)
        logits, iou, _, score = self.run(
            "mask_decoder",
            {
                "embedding": look,
                **features,
                "point_coords": coords,
                "point_labels": labels,
                "mask_prompt": np.zeros((count, 1, *self.mask), np.float32),
                "has_mask": np.zeros(count, np.float32),
                # The first is taken below.
                "all_candidates": np.zeros(1, np.int64),
            },
        )
        score = score[:, 0].copy()
        logits = logits[:, 0].copy()
        logits[score <= 0] = NO_OBJECT
        return logits, iou[:, 0], score

    def published(self, at: int, box: np.ndarray | None, area: float) -> None:
        """Tells where an object was found, in pixels of the source."""
        if box is None:
            self.missed[at] += 1
            return
        first = self.boxes[at] is None
        self.usual[at] = area if first else self.usual[at] + AREA_WEIGHT * (area - self.usual[at])
        self.boxes[at], self.missed[at] = box, 0

    def hold(self, logits: np.ndarray, score: np.ndarray, source: tuple[int, int]) -> None:
        """Leaves of each mask what its object can be, given where it was."""
        height, width = self.mask
        taken = (self.last > 0).sum(axis=0)
        x, y = width / source[0], height / source[1]
        for at, mask in enumerate(logits):
            box = self.boxes[at]
            if box is None:
                continue
            left, top, right, bottom = box * [x, y, x, y]
            side = float(np.sqrt(max((right - left) * (bottom - top), 0.0)))
            by = side * self.config["selection"]["reach"] * (self.missed[at] + 1) + 1.0
            x0, y0 = max(int(np.floor(left - by)), 0), max(int(np.floor(top - by)), 0)
            x1, y1 = min(int(np.ceil(right + by)), width), min(int(np.ceil(bottom + by)), height)
            outside = np.ones(self.mask, bool)
            outside[y0:y1, x0:x1] = False
            mask[outside] = np.minimum(mask[outside], BEYOND)
            count, parts, stats, _ = cv2.connectedComponentsWithStats(
                (mask > 0).astype(np.uint8), connectivity=8
            )
            if count == 1:
                score[at] = min(score[at], -1.0)
                continue
            if count == 2:
                continue
            self.choose_parts(mask, parts, stats, at, taken, side, self.usual[at] * x * y)

    def choose_parts(self, mask, parts, stats, at, taken, side, usual) -> None:
        last = (self.last[at] > 0).astype(np.uint8)
        near = cv2.dilate(last, np.ones((3, 3), np.uint8)) > 0
        others = taken > last
        labels = range(1, len(stats))
        area = stats[:, cv2.CC_STAT_AREA]
        order = sorted(labels, key=lambda n: (-int(near[parts == n].sum()), -int(area[n])))
        first, total = order[0], int(area[order[0]])
        for part in order[1:]:
            grown = total + int(area[part])
            apart = gap(stats[first], stats[part])
            foreign = 2 * int(others[parts == part].sum()) > area[part]
            if grown <= usual * GROWTH and apart <= int(side * GAP + 3.0) and not foreign:
                total = grown
            else:
                mask[parts == part] = BEYOND

    def clean(self, logits: np.ndarray) -> None:
        """Fills holes of one cell, takes away specks of one."""
        for mask in logits:
            if not (mask > 0).any():
                continue
            for inside in (False, True):
                picture = ((mask > 0) == inside).astype(np.uint8)
                count, parts, stats, _ = cv2.connectedComponentsWithStats(picture, connectivity=8)
                area = stats[1:, cv2.CC_STAT_AREA]
                for part in np.flatnonzero(area <= 1) + 1:
                    if not (inside and area[part - 1] == area.max()):
                        mask[parts == part] = -0.1 if inside else 0.1


def same_frames(steps: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """Which memories are of the same frame and time (docs/models.md)."""
    _, frames, which = np.unique(
        np.stack([steps.ravel(), times.ravel()]), axis=1, return_index=True, return_inverse=True
    )
    which = which.reshape(times.shape)
    last = np.argmax((times >= 0) * (2 * (times == 1) + (times == 0) + 0.1), axis=1)
    newest, of = np.unique(which[np.arange(len(times)), last], return_inverse=True)
    return {"frames": frames, "memory_frame": which, "newest": frames[newest], "newest_frame": of}


def gap(a: np.ndarray, b: np.ndarray) -> int:
    """Cells between two parts' boxes."""
    between = [
        max(a[i], b[i]) - min(a[i] + a[i + 2], b[i] + b[i + 2])
        for i in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP)
    ]
    return max(0, *between)
