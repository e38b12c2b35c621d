"""Trains TrackLens-nano on synthetic clips. Resumable; run it in pieces with --minutes.

python train.py --cache CACHE --yolox yolox_nano.onnx --out RUN --minutes 60 [--device cuda]
The learning rate follows a cosine over --steps (or over the time planned, --plan-minutes, where the speed is not known).
"""
import argparse
import copy
import math
import os
import random
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from backbone import MEAN, STD, load_yolox
from network import Nano
from synthetic_clips import Clips


class Dataset(torch.utils.data.IterableDataset):
    """Endless batches of clips; each worker has its own numbers."""

    def __init__(self, cache, seed, batch, frames, width, height):
        self.args = cache, seed, batch, frames, width, height

    def __iter__(self):
        cache, seed, batch, frames, width, height = self.args
        info = torch.utils.data.get_worker_info()
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        clips = Clips(cache)
        number = seed * 10_000_019 + (info.id if info else 0)
        stride = info.num_workers if info else 1
        while True:
            pairs = []
            for _ in range(batch):
                pairs.append(clips.sample(number, frames, width, height))
                number += stride
            yield torch.from_numpy(np.stack([p[0] for p in pairs])), torch.from_numpy(np.stack([p[1] for p in pairs]))


def normalise(images):
    """uint8 ... x H x W x 3 into normalised ... x 3 x H x W."""
    x = images.float().div_(255).movedim(-1, -3)
    mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (MEAN, STD))
    return ((x - mean) / std).contiguous()


def prompts(mask, rng):
    """Random prompts for B masks (H x W, uint8 numpy): coords B x P x 2, labels B x P, kinds."""
    points, kinds = [], []
    for m in mask:
        kind = rng.choices(["mask", "click", "box"], [0.36, 0.46, 0.18])[0]
        ys, xs = np.nonzero(m)
        if len(ys) == 0:
            kind = "mask"
        if kind == "mask":
            p = [(0, 0, -1), (0, 0, -1)]
        elif kind == "box":
            jitter = lambda s: rng.gauss(0, 0.06) * s
            w, h = np.ptp(xs) + 1, np.ptp(ys) + 1
            p = [(xs.min() + jitter(w), ys.min() + jitter(h), 2), (xs.max() + 1 + jitter(w), ys.max() + 1 + jitter(h), 3)]
        else:
            p = []
            for _ in range(rng.choice([1, 1, 1, 1, 2, 3])):
                if not p and rng.random() < 0.6:  # the middle
                    d = cv2.distanceTransform(m, cv2.DIST_L2, 3)
                    near = np.hypot(ys - ys.mean(), xs - xs.mean())
                    i = int(np.argmax(d[ys, xs])) if rng.random() < 0.5 else int(np.argmin(near))
                else:
                    i = rng.randrange(len(ys))
                p.append((xs[i] + 0.5, ys[i] + 0.5, 1))
            if rng.random() < 0.25:
                y, x = rng.randrange(m.shape[0]), rng.randrange(m.shape[1])
                if not m[y, x]:
                    p.append((x + 0.5, y + 0.5, 0))
            p.append((0, 0, -1))
        points.append(p)
        kinds.append(kind)
    n = max(len(p) for p in points)
    points = torch.tensor([p + [(0, 0, -1)] * (n - len(p)) for p in points], dtype=torch.float32)
    return points[..., :2], points[..., 2].long(), kinds


def mask_losses(logits, target, hard):
    """B x N losses of N candidates against the target (B x 1 x h x w, soft at its edge), and their true IoU."""
    b, n = logits.shape[:2]
    t = target.expand(-1, n, -1, -1).flatten(2)
    z = logits.flatten(2)
    bce = F.binary_cross_entropy_with_logits(z, t, reduction="none")
    k = max(1, int(bce.shape[2] * hard))
    bce = bce.topk(k, 2)[0].mean(2) if hard < 1 else bce.mean(2)
    p = z.sigmoid()
    dice = 1 - (2 * (p * t).sum(2) + 1) / (p.sum(2) + t.sum(2) + 1)
    with torch.no_grad():
        a, g = z > 0, t > 0.5
        inter, union = (a & g).sum(2).float(), (a | g).sum(2).float()
        iou = torch.where(union > 0, inter / union.clamp(min=1), torch.ones_like(union))
    return bce + dice, iou


def run_clip(net, images, masks, rng, hard, own):
    """Loss of a batch of clips. images B x T x 3 x H x W; masks B x T x H x W uint8; own: part of prompts whose memory is the
    network's own answer rather than the true mask."""
    b, frames = images.shape[:2]
    h, w = images.shape[-2:]
    dev = images.device
    embedding, plain, high0, high1 = (x.unflatten(0, (b, frames)) for x in net.image_encoder(images.flatten(0, 1)))
    target = F.avg_pool2d(masks.float(), 4)
    coords, labels, kinds = prompts(masks[:, 0].cpu().numpy(), rng)
    coords, labels = coords.to(dev), labels.to(dev)
    is_mask = torch.tensor([k == "mask" for k in kinds], device=dev)
    prompt_logits = (target[:, :1] * 20 - 10).clamp(-10, 10)
    stat = {}
    total = 0

    def losses(out, t, prompted):
        logits, iou, _, score = out
        loss, true = mask_losses(logits, target[:, t : t + 1], hard)
        multi, best = loss[:, 1:].min(1)
        mask_loss = loss[:, 0] + multi + 0.05 * loss[:, 1:].mean(1)
        # candidate 0 answers prompts of several points and tracking; a single click is for candidates 1 ...
        quality = (iou - true).abs().mean(1) + 0.0
        there = (masks[:, t].flatten(1).sum(1) > 0).float()
        seen = F.binary_cross_entropy_with_logits(score[:, 0], there)
        weight = 0.25 + 0.75 * there
        stat.setdefault("click" if prompted else "track", []).append(true.gather(1, iou[:, 1:].argmax(1, keepdim=True) + 1)[there > 0].mean().item())
        return (mask_loss * weight).mean() * 0.5 + 0.5 * quality.mean() + 0.2 * seen, best

    # the prompted frame; where the prompt is the mask, it is given with noise, and the answer matters less
    zeros = torch.zeros(b, device=dev)
    out = net.mask_decoder(plain[:, 0], high0[:, 0], high1[:, 0], coords, labels, prompt_logits, is_mask.float())
    loss, best = losses(out, 0, True)
    total = total + loss
    answer = out[0].detach()[torch.arange(b), best + 1][:, None]
    use_own = torch.tensor([k != "mask" and rng.random() < own for k in kinds], device=dev).view(-1, 1, 1, 1)
    first = torch.where(use_own, (answer > 0).float(), (target[:, :1] > 0.5).float() if rng.random() < 0.3 else target[:, :1])
    ones = torch.ones(b, 1, 1, 1, device=dev)
    memories = [net.memory_encoder.encode(embedding[:, 0], first, ones, ones)]
    bare = (torch.zeros(b, 2, 2, device=dev), torch.full((b, 2), -1, device=dev), torch.zeros_like(prompt_logits), zeros)
    for t in range(1, frames):
        memory = torch.stack(memories, 1)
        time_ = torch.tensor([0] + list(range(t - 1, 0, -1)), device=dev)[None].repeat(b, 1)
        if t > 2:  # drop older ones at times
            drop = torch.rand(b, t, device=dev) < 0.15
            drop[:, 0] = drop[:, -1] = False
            time_ = torch.where(drop, -1, time_)
        conditioned = net.memory_attention(embedding[:, t], memory, time_)
        out = net.mask_decoder(conditioned, high0[:, t], high1[:, t], *bare)
        loss, _ = losses(out, t, False)
        total = total + loss * 2
        if t + 1 < frames:
            pick = out[1].detach()[:, 1:].argmax(1) + 1 if rng.random() < 0.5 else torch.zeros(b, dtype=torch.long, device=dev)
            soft = out[0].detach()[torch.arange(b), pick][:, None].sigmoid()
            there = (out[3].detach() > 0).float()[:, :, None, None]
            memories.append(net.memory_encoder.encode(embedding[:, t], soft * there, there, 0 * ones))
    return total / (2 * frames - 1), {k: float(np.nanmean(v)) for k, v in stat.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--yolox", required=True, help="yolox_nano.onnx, the backbone and the detector (they are not trained further)")
    parser.add_argument("--out", required=True, help="folder of checkpoints: last.pt is resumed")
    parser.add_argument("--start", help="weights to begin with where --out has no checkpoint yet, e.g. nano.pt")
    parser.add_argument("--minutes", type=float, default=10, help="length of this piece")
    parser.add_argument("--plan-minutes", type=float, default=90, help="length of the whole schedule, all pieces together")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 192), help="width and height, multiples of 32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)
    net = Nano()
    last = f"{args.out}/last.pt"
    state = torch.load(last, map_location="cpu", weights_only=False) if os.path.exists(last) else None
    if state is None:
        torch.manual_seed(args.seed)
        net = Nano()
        if args.start:
            net.load_state_dict(torch.load(args.start, map_location="cpu")["average"])
    if state is None or not any("detector.down1.0.conv.weight" in k for k in state["net"]):
        load_yolox(net.image_encoder.backbone, net.mask_decoder.detector, args.yolox)
    dev = torch.device(args.device)
    net.to(dev).to(memory_format=torch.channels_last)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, args.rate, weight_decay=0.01)
    average = copy.deepcopy(net).eval()
    step, spent = 0, 0.0
    if state:
        missing = net.load_state_dict(state["net"], strict=False).missing_keys
        average.load_state_dict(state["average"], strict=False)
        if missing:
            print("new in this version of the network, not in the checkpoint:", missing[:4], len(missing))
        else:
            optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    data = Dataset(args.cache, args.seed + step, args.batch, args.frames, *args.size)
    loader = iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=args.workers, prefetch_factor=3 if args.workers else None))
    rng = random.Random(args.seed * 7919 + step)
    start, saved, running, first_step = time.time(), time.time(), {}, step

    def save():
        torch.save({"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step,
                    "spent": spent + (time.time() - start) / 60}, last + ".part")
        os.replace(last + ".part", last)

    while time.time() - start < args.minutes * 60:
        done = min(1.0, (spent + (time.time() - start) / 60) / args.plan_minutes)
        rate = args.rate * min(1.0, (step - first_step + 1) / (100 if first_step == 0 else 30)) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for g in optimiser.param_groups:
            g["lr"] = rate
        images, masks = next(loader)
        images, masks = normalise(images.to(dev)), masks.to(dev)
        net.train()
        loss, stat = run_clip(net, images, masks, rng, hard=max(0.15, 1 - step / 600), own=min(0.7, step / 1500))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        if torch.isfinite(norm):
            optimiser.step()
        step += 1
        with torch.no_grad():
            keep = min(0.998, 1 - 1 / (step / 5 + 1))
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
        stat["loss"] = loss.item()
        stat["norm"] = float(norm)
        for k, v in stat.items():
            if v == v:
                running[k] = running.get(k, v) * 0.97 + 0.03 * v
        if step % 25 == 0:
            print(step, f"{spent + (time.time() - start) / 60:.1f} min", " ".join(f"{k} {v:.3f}" for k, v in running.items()), f"rate {rate:.6f}", flush=True)
        if time.time() - saved > 180:
            save()
            saved = time.time()
    save()
    print("stopped at step", step)


if __name__ == "__main__":
    main()
