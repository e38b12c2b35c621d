"""J, F and speed of an exported folder, by ONNX Runtime alone: the loop of docs/models.md in its plainest form.

python evaluate.py --model FOLDER --dataset DAVIS --prompt mask|click|box     a DAVIS folder (JPEGImages, Annotations)
python evaluate.py --model FOLDER --synthetic CACHE --prompt ...              held-out synthetic clips (validation)
python evaluate.py --model FOLDER --speed                                     frames per second for 1, 4, 8 objects
"""
import argparse
import glob
import os
import time
import tomllib

import cv2
import numpy as np
import onnxruntime as ort


class Model:
    def __init__(self, folder, threads):
        with open(f"{folder}/model.toml", "rb") as f:
            self.toml = tomllib.load(f)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        for name, module in self.toml["modules"].items():
            setattr(self, name, ort.InferenceSession(f"{folder}/{module['file']}", options, providers=["CPUExecutionProvider"]))
        i = self.toml["input"]
        self.width, self.height = i["width"], i["height"]
        self.mean, self.std = np.array(i["mean"], np.float32), np.array(i["std"], np.float32)
        self.memory, self.selection = dict(self.toml["memory"]), dict(self.toml["selection"])
        self.mask_size = self.toml["geometry"]["mask"]

    @staticmethod
    def run(session, **inputs):
        names = {i.name for i in session.get_inputs()}
        return session.run(None, {k: v for k, v in inputs.items() if k in names})

    def encode(self, rgb):
        x = cv2.resize(rgb, (self.width, self.height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        x = ((x - self.mean) / self.std).transpose(2, 0, 1)[None]
        return self.run(self.image_encoder, image=np.ascontiguousarray(x))

    def decode(self, embedding, high0, high1, points=None, mask=None):
        """points: list of (x, y, label) in the model's input, for each object the same; mask: logits of the mask size. Only the first
        candidate, where neither is given and tracking always takes that."""
        first = points is None and mask is None and not self.selection["multimask_tracking"] and self.selection["stability_threshold"] <= 0
        b = embedding.shape[0]
        points = points or []
        boxed = any(p[2] in (2, 3) for p in points)
        points = points + [(0, 0, -1)] * (2 if not points else 0 if boxed else 1)
        coords = np.tile(np.array([p[:2] for p in points], np.float32)[None], (b, 1, 1))
        labels = np.tile(np.array([p[2] for p in points], np.int64)[None], (b, 1))
        given = mask is not None
        prompt = mask if given else np.zeros((b, 1, *self.mask_size), np.float32)
        return self.run(self.mask_decoder, embedding=embedding, high_res_0=high0, high_res_1=high1, point_coords=coords, point_labels=labels,
                        mask_prompt=prompt.astype(np.float32), has_mask=np.full(b, float(given), np.float32), all_candidates=np.array([not first], np.int64))

    def stable(self, logits):
        d = self.selection["stability_delta"]
        union = (logits > -d).sum()
        return 1.0 if union == 0 else (logits > d).sum() / union

    def choose(self, logits, iou, multimask):
        """Index of the answer among the candidates of one object."""
        best = 1 + int(np.argmax(iou[1:]))
        if multimask or self.stable(logits[0]) < self.selection["stability_threshold"]:
            return best
        return 0


def frames_of(frame, time):
    """Which memories are of the same frame and time, as memory_attention wants to know (docs/models.md); both B x M."""
    _, first, which = np.unique(np.stack([frame.ravel(), time.ravel()]), axis=1, return_index=True, return_inverse=True)
    which = which.reshape(time.shape)
    last = np.argmax((time >= 0) * (2 * (time == 1) + (time == 0) + 0.1), 1)
    newest, newest_frame = np.unique(which[np.arange(len(time)), last], return_inverse=True)
    return {"frames": first, "memory_frame": which, "newest": first[newest], "newest_frame": newest_frame}


class Track:
    """One object through a video; the memory bank."""

    def __init__(self, model):
        self.model, self.conditioning, self.recent = model, {}, {}

    def remember(self, frame, embedding, logits, score, prompted):
        m = Model.run(self.model.memory_encoder, embedding=embedding, mask_logits=logits[None, None].astype(np.float32),
                      object_score=np.array([[score]], np.float32), from_prompt=np.array([float(prompted)], np.float32))[0]
        (self.conditioning if prompted else self.recent)[frame] = m[0]

    def prompt(self, frame, rgb, mask=None, points=None):
        """Mask at the video's size, or points in the model's input pixels. Answers with a mask at the video's size."""
        emb, plain, high0, high1 = self.model.encode(rgb)
        if mask is not None:
            logits, score = np.where(mask, 10.0, -10.0).astype(np.float32), 10.0
        else:
            out = self.model.decode(plain, high0, high1, points)
            multi = len(points) in range(self.model.selection["multimask_points"][0], self.model.selection["multimask_points"][1] + 1)
            logits, score = out[0][0][self.model.choose(out[0][0], out[1][0], multi)], 10.0
        self.remember(frame, emb, logits, score, True)
        return self.full(logits, rgb)

    def track(self, frame, rgb):
        emb, _, high0, high1 = self.model.encode(rgb)
        n, stride = self.model.memory["frames"], self.model.memory["temporal_stride"]
        slots = [(0, self.conditioning[f]) for f in sorted(self.conditioning)[-self.model.memory["conditioning_frames"]:]]
        for t in range(1, n):
            f = frame - 1 if t == 1 else (frame - 2) // stride * stride - (t - 2) * stride
            if f in self.recent:
                slots.append((t, self.recent[f]))
        times = np.array([[t for t, _ in slots]], np.int64)
        conditioned = Model.run(self.model.memory_attention, embedding=emb, memory=np.stack([m for _, m in slots])[None],
                                memory_time=times, **frames_of(np.arange(times.size)[None], times))[0]
        logits, iou, _, score = self.model.decode(conditioned, high0, high1)
        logits = logits[0][self.model.choose(logits[0], iou[0], self.model.selection["multimask_tracking"])]
        if score[0, 0] < 0:
            logits = np.full_like(logits, -10)
        self.remember(frame, emb, logits, float(score[0, 0]), False)
        for f in [f for f in self.recent if f < frame - n * stride - 2]:
            del self.recent[f]
        return self.full(logits, rgb)

    @staticmethod
    def full(logits, rgb):
        h, w = rgb.shape[:2]
        return (logits if logits.shape == (h, w) else cv2.resize(logits, (w, h), interpolation=cv2.INTER_LINEAR)) > 0


def region(a, b):
    union = (a | b).sum()
    return 1.0 if union == 0 else (a & b).sum() / union


def outline(mask):
    """Boundary map as in the DAVIS benchmark: pixels that differ from their right, lower or lower right neighbour."""
    m = mask.astype(bool)
    e, s, d = m.copy(), m.copy(), m.copy()
    e[:, :-1] = m[:, 1:]
    s[:-1] = m[1:]
    d[:-1, :-1] = m[1:, 1:]
    out = (m ^ e) | (m ^ s) | (m ^ d)
    out[-1] = m[-1] ^ e[-1]
    out[:, -1] = m[:, -1] ^ s[:, -1]
    out[-1, -1] = False
    return out


def boundary(mask, truth, bound=0.008):
    """F of the outlines, matched within a disk of bound x the image's diagonal (Perazzi et al. 2016)."""
    r = int(np.ceil(bound * np.hypot(*truth.shape)))
    yy, xx = np.mgrid[-r : r + 1, -r : r + 1]
    disk = (xx * xx + yy * yy <= r * r).astype(np.uint8)
    a, b = outline(mask), outline(truth)
    grow = lambda m: cv2.dilate(m.astype(np.uint8), disk) > 0
    na, nb = a.sum(), b.sum()
    if na == 0 or nb == 0:
        return float(na == nb)
    precision, recall = (a & grow(b)).sum() / na, (b & grow(a)).sum() / nb
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def prompt_for(kind, mask, model):
    """Points in the model's input pixels for a mask at the video's size; click: the mask's pixel nearest to its centroid."""
    if kind == "mask":
        return {"mask": mask}
    ys, xs = np.nonzero(mask)
    sx, sy = model.width / mask.shape[1], model.height / mask.shape[0]
    if kind == "box":
        return {"points": [(xs.min() * sx, ys.min() * sy, 2), ((xs.max() + 1) * sx, (ys.max() + 1) * sy, 3)]}
    i = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
    return {"points": [((xs[i] + 0.5) * sx, (ys[i] + 0.5) * sy, 1)]}


def davis(root, names):
    for name in names or sorted(os.listdir(f"{root}/JPEGImages")):
        images = sorted(glob.glob(f"{root}/JPEGImages/{name}/*.jpg"))
        masks = sorted(glob.glob(f"{root}/Annotations/{name}/*.png"))
        yield name, [cv2.cvtColor(cv2.imread(f), cv2.COLOR_BGR2RGB) for f in images], [cv2.imread(f, 0) > 0 for f in masks]


def synthetic(cache, count, frames):
    from synthetic_clips import Clips

    clips = Clips(cache, "val")
    for i in range(count):
        x, m = clips.sample(9_000_000 + i, frames, 448, 256)
        yield f"synthetic-{i:02d}", list(x), list(m > 0)


def speed(model, frames=40):
    rgb = np.random.default_rng(0).integers(0, 255, (480, 854, 3), np.uint8)
    for b in (1, 4, 8):
        spent, n = [], model.memory["frames"]
        memory = np.zeros((b, n, model.toml["geometry"]["memory_channels"], *model.toml["geometry"]["embedding"][1:]), np.float32)
        times = np.tile(np.arange(n)[None], (b, 1))
        for k in range(frames + 3):
            if k == 3:
                cpu = time.process_time()
            t = [time.perf_counter()]
            emb, _, high0, high1 = model.encode(rgb)
            t.append(time.perf_counter())
            c = Model.run(model.memory_attention, embedding=emb, memory=memory, memory_time=times, **frames_of(times, times))[0]
            t.append(time.perf_counter())
            out = model.decode(c, high0, high1)
            t.append(time.perf_counter())
            Model.run(model.memory_encoder, embedding=emb, mask_logits=np.ascontiguousarray(out[0][:, :1]), object_score=out[3], from_prompt=np.zeros(b, np.float32))
            t.append(time.perf_counter())
            if k >= 3:
                spent.append(np.diff(t) * 1000)
        total = np.sum(spent, 1)
        cpu = (time.process_time() - cpu) / frames * 1000
        ms = np.median(spent, 0)
        # on a busy machine the fastest tenth, and CPU time with --threads 1, are nearer to what the network needs
        print(f"{b} objects: {1000 / np.median(total):.1f} frames/s, fastest tenth {1000 / np.quantile(total, 0.1):.1f}; encoder {ms[0]:.1f} attention {ms[1]:.1f} decoder {ms[2]:.1f} memory encoder {ms[3]:.1f} ms; CPU time {cpu:.1f} ms a frame")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--sequences", nargs="*")
    parser.add_argument("--synthetic")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--clip-frames", type=int, default=24)
    parser.add_argument("--prompt", default="mask", choices=["mask", "click", "box"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, help="instead of model.toml's memory.frames")
    parser.add_argument("--stride", type=int)
    parser.add_argument("--multimask", choices=["true", "false"])
    parser.add_argument("--sheet", help="folder for contact sheets")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    model = Model(args.model, args.threads)
    model.memory["frames"] = args.frames or model.memory["frames"]
    model.memory["temporal_stride"] = args.stride or model.memory["temporal_stride"]
    if args.multimask:
        model.selection["multimask_tracking"] = args.multimask == "true"
    if args.speed:
        return speed(model)
    rows = []
    sequences = davis(args.dataset, args.sequences) if args.dataset else synthetic(args.synthetic, args.clips, args.clip_frames)
    for name, images, masks in sequences:
        track, answers, start = Track(model), [], time.perf_counter()
        for k, image in enumerate(images):
            answers.append(track.prompt(k, image, **prompt_for(args.prompt, masks[0], model)) if k == 0 else track.track(k, image))
        ms = (time.perf_counter() - start) / len(images) * 1000
        counted = range(1, len(images) - 1)  # as DAVIS does: neither the first nor the last frame
        j, f = (100 * np.mean([measure(answers[k], masks[k]) for k in counted]) for measure in (region, boundary))
        j0, f0 = (100 * np.mean([measure(masks[0], masks[k]) for k in counted]) for measure in (region, boundary))
        rows.append((j, f, (j + f) / 2, 100 * region(answers[0], masks[0]), (j0 + f0) / 2))
        if not args.quiet:
            print(f"{name:14s} J {j:5.1f} F {f:5.1f} J&F {(j + f) / 2:5.1f} first frame J {rows[-1][3]:5.1f} unmoved J&F {rows[-1][4]:5.1f} {ms:4.0f} ms a frame", flush=True)
        if args.sheet:
            os.makedirs(args.sheet, exist_ok=True)
            tiles = []
            for k in np.linspace(0, len(images) - 1, 12).astype(int):
                tile = images[k].copy()
                tile[answers[k]] = tile[answers[k]] // 2 + np.array([127, 0, 0], np.uint8)
                tile[outline(masks[k])] = (0, 255, 0)
                tiles.append(cv2.resize(tile, (320, 180), interpolation=cv2.INTER_AREA))
            sheet = np.vstack([np.hstack(tiles[i : i + 4]) for i in (0, 4, 8)])
            cv2.imwrite(f"{args.sheet}/{name}-{args.prompt}.jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    j, f, jf, first, unmoved = np.mean(rows, 0)
    print(f"{'mean':14s} J {j:5.1f} F {f:5.1f} J&F {jf:5.1f} first frame J {first:5.1f} unmoved J&F {unmoved:5.1f}", flush=True)


if __name__ == "__main__":
    main()
