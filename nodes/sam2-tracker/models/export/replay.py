"""The tracking loop with the four ONNX modules and NumPy alone: the executable form of docs/models.md.

Everything that has state is here; the tracker node does the same in Rust.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort


class Modules:
    """The folder's four modules and its model.toml. Only the inputs that a module declares are fed."""

    def __init__(self, folder: Path, threads: int = 1):
        self.toml = tomllib.loads((folder / "model.toml").read_text())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.sessions = {
            name: ort.InferenceSession(str(folder / entry["file"]), options, providers=["CPUExecutionProvider"])
            for name, entry in self.toml["modules"].items()
        }

    def run(self, name: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        session = self.sessions[name]
        declared = {x.name for x in session.get_inputs()}
        outputs = session.run(None, {k: v for k, v in inputs.items() if k in declared})
        return dict(zip((x.name for x in session.get_outputs()), outputs))


@dataclass
class Kept:
    """What the bank keeps of one frame of one object."""

    memory: np.ndarray  # Cm x h x w
    pointer: np.ndarray  # C


@dataclass
class Object:
    conditioning: dict[int, Kept] = field(default_factory=dict)  # frames with a prompt
    tracked: dict[int, Kept] = field(default_factory=dict)  # all others


@dataclass
class Result:
    """One object on one frame. `mask_logits` are mh x mw."""

    mask_logits: np.ndarray
    candidate: int
    iou: float
    object_score: float
    pointer: np.ndarray
    memory: np.ndarray | None = None


class Loop:
    """Streaming tracking of several objects. Frames are never run twice; an object exists from its first prompt on."""

    def __init__(self, modules: Modules):
        self.modules = modules
        self.toml = modules.toml
        self.objects: dict[int, Object] = {}

    def step(self, frame: int, image: np.ndarray, prompts: dict[int, dict]) -> dict[int, Result]:
        """One frame: `image` 3xHxW normalised; `prompts` by object: `points` Px2 in pixels of the model's input with
        `labels` P, or `mask` HxW of 0 and 1."""
        features = self.modules.run("image_encoder", image=image[None])
        results = {}
        # 1. objects with a prompt, as if they had no past: grouped here by one each, since token counts differ
        for number, prompt in prompts.items():
            if "mask" in prompt:
                results[number], logits = self.by_mask(features, prompt["mask"])
            else:
                results[number] = self.by_points(features, prompt["points"], prompt["labels"])
                logits = results[number].mask_logits
            self.remember(frame, [number], features, [logits], results, from_prompt=1.0)
        # 2. all others in one batch
        rest = [number for number in self.objects if number not in prompts]
        if rest:
            results |= self.propagate(frame, rest, features)
            self.remember(frame, rest, features, [results[n].mask_logits for n in rest], results, from_prompt=0.0)
        return results

    def by_points(self, features, points, labels) -> Result:
        out = self.decode(features["embedding_no_memory"], features, points[None], labels[None])
        low, high = self.toml["selection"]["multimask_points"]
        return self.choose(out, 0, several=low <= len(points) <= high)

    def by_mask(self, features, mask) -> tuple[Result, np.ndarray]:
        """The mask itself is the answer; the decoder is asked only for the pointer, on the embedding *without* the
        no-memory term, with candidates 1… Returned besides: what the memory encoder gets, at the model's input size."""
        out = self.decode(features["embedding"], features, mask=mask)
        best = self.choose(out, 0, several=True)
        logits = (mask * 20 - 10).astype(np.float32)
        best.object_score = 10.0 if mask.any() else -10.0
        if not mask.any():
            raise ValueError("an empty mask prompts nothing")
        best.iou = 1.0
        best.mask_logits = shrink(logits, self.toml["geometry"]["mask"])
        return best, logits

    def propagate(self, frame, numbers, features) -> dict[int, Result]:
        memory, memory_time, pointers, pointer_time = self.gather(frame, numbers)
        conditioned = self.modules.run(
            "memory_attention",
            embedding=features["embedding"],
            memory=memory,
            memory_time=memory_time,
            pointers=pointers,
            pointer_time=pointer_time,
        )["conditioned"]
        out = self.decode(conditioned, features)
        several = self.toml["selection"]["multimask_tracking"]
        return {number: self.choose(out, i, several) for i, number in enumerate(numbers)}

    def gather(self, frame, numbers):
        """The bank's part in a call: per object its conditioning frames (the order of prompting), then recent frames
        from the oldest slot to the newest; pointers of all conditioning frames, then of recent frames from the newest
        to the oldest. Shorter lists are filled with absent slots."""
        settings = self.toml["memory"]
        memories, pointers = [], []
        for number in numbers:
            bank = self.objects[number]
            chosen = nearest(list(bank.conditioning), frame, settings["conditioning_frames"])
            slots = [(0, bank.conditioning[t].memory) for t in chosen]
            recent = {t: kept for t, kept in bank.conditioning.items() if t not in chosen} | bank.tracked
            for t in range(settings["frames"] - 1, 0, -1):
                if frame - t in recent:
                    slots.append((t, recent[frame - t].memory))
            memories.append(slots)
            tokens = [(frame - t, kept.pointer) for t, kept in bank.conditioning.items()]
            for t in range(1, settings["pointers"]):
                if frame - t in bank.tracked:
                    tokens.append((t, bank.tracked[frame - t].pointer))
            pointers.append(tokens)
        memory, memory_time = fill(memories)
        pointer, pointer_time = fill(pointers)
        return memory, memory_time.astype(np.int64), pointer, pointer_time.astype(np.float32)

    def decode(self, embedding, features, points=None, labels=None, mask=None):
        """Adds the padding tokens: one after points or a box, two where there is neither."""
        batch = embedding.shape[0]
        if points is None:
            points = np.zeros((batch, 1, 2), np.float32)
            labels = np.full((batch, 1), -1, np.int64)
        points = np.concatenate([points, np.zeros((batch, 1, 2), np.float32)], axis=1)
        labels = np.concatenate([labels, np.full((batch, 1), -1, np.int64)], axis=1)
        prompt = np.zeros((batch, 1, *self.toml["geometry"]["mask_prompt"]), np.float32)
        if mask is not None:
            prompt[0, 0] = mask
        return self.modules.run(
            "mask_decoder",
            embedding=embedding,
            high_res_0=features["high_res_0"],
            high_res_1=features["high_res_1"],
            point_coords=points.astype(np.float32),
            point_labels=labels.astype(np.int64),
            mask_prompt=prompt,
            has_mask=np.full(batch, float(mask is not None), np.float32),
        )

    def choose(self, out, i, several: bool) -> Result:
        """Which candidate counts, and which pointer: the same, except that an unstable candidate 0 gives its place but
        not its pointer to the best of the others."""
        logits, iou = out["mask_logits"][i], out["iou"][i]
        best = 1 + int(iou[1:].argmax())
        candidate = best if several else 0
        pointer = candidate
        if not several:
            delta = self.toml["selection"]["stability_delta"]
            inner, outer = (logits[0] > delta).sum(), (logits[0] > -delta).sum()
            stable = outer == 0 or inner / outer >= self.toml["selection"]["stability_threshold"]
            candidate = 0 if stable else best
        return Result(
            logits[candidate], candidate, float(iou[candidate]), float(out["object_score"][i, 0]), out["pointers"][i, pointer]
        )

    def remember(self, frame, numbers, features, logits, results, from_prompt) -> None:
        memory = self.modules.run(
            "memory_encoder",
            embedding=features["embedding"],
            mask_logits=np.stack(logits)[:, None],
            object_score=np.array([[results[n].object_score] for n in numbers], np.float32),
            from_prompt=np.full(len(numbers), from_prompt, np.float32),
        )["memory"]
        for i, number in enumerate(numbers):
            bank = self.objects.setdefault(number, Object())
            results[number].memory = memory[i]
            frames = bank.conditioning if from_prompt else bank.tracked
            frames[frame] = Kept(memory[i], results[number].pointer)


def nearest(frames: list[int], now: int, most: int) -> list[int]:
    """The conditioning frames to attend to (`_select_closest_cond_frames`; none lies in the future of a stream)."""
    if len(frames) <= most:
        return frames
    return sorted(frames, key=lambda t: now - t)[:most]


def fill(lists: list[list[tuple[float, np.ndarray]]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of (time, array) of unequal length as one array, and the times, -1 where there is none."""
    longest = max(len(x) for x in lists)
    arrays = np.zeros((len(lists), longest, *lists[0][0][1].shape), np.float32)
    times = np.full((len(lists), longest), -1.0)
    for row, items in enumerate(lists):
        for column, (time, array) in enumerate(items):
            arrays[row, column], times[row, column] = array, time
    return arrays, times


def weights(source: int, target: int, antialias: bool = True) -> np.ndarray:
    """target x source matrix of bilinear interpolation at pixel centres; on reduction the triangle is widened by the
    ratio if `antialias`, and normalised where it leaves the image."""
    ratio = source / target
    width = max(ratio, 1.0) if antialias else 1.0
    at = (np.arange(target) + 0.5) * ratio - 0.5
    if not antialias:
        at = at.clip(0, source - 1)
    w = np.clip(1 - abs(np.arange(source)[None] - at[:, None]) / width, 0, None)
    return w / w.sum(axis=1, keepdims=True)


def shrink(image: np.ndarray, size) -> np.ndarray:
    """Antialiased bilinear HxW -> size."""
    return (weights(image.shape[0], size[0]) @ image @ weights(image.shape[1], size[1]).T).astype(np.float32)


def enlarge(logits: np.ndarray, size) -> np.ndarray:
    """Plain bilinear HxW -> size: logits to the frame's pixels. A mask is where the result is positive."""
    rows, columns = weights(logits.shape[0], size[0], False), weights(logits.shape[1], size[1], False)
    return rows @ logits @ columns.T


def preprocess(frame: np.ndarray, toml: dict) -> np.ndarray:
    """HxWx3 uint8 -> 3xHxW normalised: antialiased bilinear resize, rounded to bytes as the reference does."""
    size = (toml["input"]["height"], toml["input"]["width"])
    resized = np.stack([shrink(frame[..., c].astype(np.float64), size) for c in range(3)])
    resized = np.round(resized).clip(0, 255) / 255
    mean, std = (np.array(toml["input"][k])[:, None, None] for k in ("mean", "std"))
    return ((resized - mean) / std).astype(np.float32)
