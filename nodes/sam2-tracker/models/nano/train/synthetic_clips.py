"""Pseudo-videos with masks: real scenes and cut-outs, and made objects of jointed parts, moved over real backgrounds.

A clip has a base layer (a background, or a scene with masks) under a moving camera, and a few movers: cut-outs or jointed
objects, with deformation, look-alikes of each other, occluders that belong to nobody, shadows, light changes, blur, noise
and JPEG. One visible thing of the first frame is the target.
"""
import math
import pickle
import random

import cv2
import numpy as np

cv2.setNumThreads(1)
S = 144  # canvas of a part


def about(scale_x, scale_y, angle, shear=0.0):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]]) @ np.array([[1, shear], [0, 1]]) @ np.diag([scale_x, scale_y])


def affine(linear, centre, at):
    """2x3 that applies linear about centre and moves centre to at."""
    return np.hstack([linear, (np.asarray(at) - linear @ np.asarray(centre))[:, None]]).astype(np.float32)


def field(n, amplitude, size, rng):
    """Smooth random displacement, size x size x 2, in pixels."""
    grid = np.array([rng.gauss(0, amplitude) for _ in range(2 * n * n)], np.float32).reshape(n, n, 2)
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)


class Part:
    """A textured canvas with alpha, its joint, and how it swings."""

    def __init__(self, rgba, rng, joint=None, attach=(0.0, 0.0), angle=0.0, scale=(1.0, 1.0), swing=0.0, soft=0.0, behind=False):
        self.rgba, self.attach, self.angle, self.scale, self.behind = rgba, attach, angle, scale, behind
        self.joint = (S / 2, S / 2) if joint is None else joint
        self.swing, self.rate, self.phase = swing, rng.uniform(0.15, 1.1), rng.uniform(0, 6.28)
        self.fields = [field(rng.choice([3, 4, 5]), soft, (S, S), rng) for _ in range(2)] if soft > 0.3 else None
        self.frate = [rng.uniform(0.1, 0.8), rng.uniform(0.1, 0.8)]

    def canvas(self, t):
        if self.fields is None:
            return self.rgba
        d = sum(f * math.sin(r * t + self.phase + i) for i, (f, r) in enumerate(zip(self.fields, self.frate)))
        return cv2.remap(self.rgba, Clips.grid + d.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


class Mover:
    def __init__(self, parts, size, position, rng, lively):
        self.parts, self.size, self.rng = parts, size, rng
        self.x, self.y = position
        self.vx, self.vy = rng.gauss(0, 0.022) * lively, rng.gauss(0, 0.013) * lively
        self.angle, self.va = rng.gauss(0, 0.25), rng.gauss(0, 0.035) * lively
        self.vs, self.aspect, self.turn = rng.gauss(0, 0.02) * lively, 1.0, rng.gauss(0, 0.3) * lively
        self.phase, self.flip = rng.uniform(0, 6.28), rng.choice([-1, 1])
        self.lively, self.t = lively, 0.0

    def step(self, dt, keep):
        r = self.rng
        self.t += dt
        self.x += self.vx * dt
        self.y += self.vy * dt
        self.angle += self.va * dt
        self.size = min(1.3, max(0.07, self.size * math.exp(self.vs * dt)))
        self.vx += r.gauss(0, 0.006) * self.lively * dt
        self.vy += r.gauss(0, 0.004) * self.lively * dt
        self.va = self.va * 0.9 + r.gauss(0, 0.012) * self.lively
        self.vs = self.vs * 0.95 + r.gauss(0, 0.006) * self.lively
        if keep:
            if abs(self.x - 0.5) > 0.45:
                self.vx = -math.copysign(abs(self.vx), self.x - 0.5)
            if abs(self.y - 0.5) > 0.45:
                self.vy = -math.copysign(abs(self.vy), self.y - 0.5)

    def matrices(self, width, height, camera):
        """(part, canvas-to-frame 2x3) back to front."""
        k = self.size * height / S
        squash = 1 - 0.35 * abs(math.sin(self.turn * self.t * 0.2))
        body = about(k * squash * self.flip, k, self.angle)
        x, y = camera(self.x * width, self.y * height)
        out = []
        for p in self.parts:
            local = about(p.scale[0], p.scale[1], p.angle + p.swing * math.sin(p.rate * self.t + p.phase))
            at = np.array([x, y]) + body @ (np.array(p.attach) * S)
            out.append((p, affine(body @ local, p.joint, at)))
        return out


class Clips:
    grid = np.stack(np.meshgrid(np.arange(S), np.arange(S)), -1).astype(np.float32)

    def __init__(self, cache, part="train"):
        self.pool = np.load(f"{cache}/pool.npy", mmap_mode="r")
        with open(f"{cache}/{part}.pkl", "rb") as f:
            data = pickle.load(f)
        drawn = {k: v for k, v in data["cutouts"].items() if "sprites" in k}
        real = {k: v for k, v in data["cutouts"].items() if "sprites" not in k}
        self.drawn = np.concatenate(list(drawn.values())) if drawn else None
        self.real = list(real.values())
        self.scenes = list(data["scenes"].values())
        # images weigh by the square root of their number, weak masks half
        weigh = lambda groups: [math.sqrt(len(g)) * (0.5 if k.startswith("boxes") else 1.0) for k, g in groups.items()]
        self.scene_weights, self.real_weights = weigh(data["scenes"]), weigh(real)
        self.noise = np.random.default_rng(0).normal(0, 1, (4, 300, 520, 3)).astype(np.float32)

    # -- things -------------------------------------------------------------------------------------------------------
    def texture(self, rng, size=S):
        im = self.pool[rng.randrange(len(self.pool))]
        c = rng.randint(40, 200)
        y, x = rng.randrange(im.shape[0] - c), rng.randrange(im.shape[1] - c)
        t = cv2.resize(im[y : y + c, x : x + c], (size, size), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            t = self.tint(t, rng, 0.5)
        if rng.random() < 0.15:
            t = np.clip(t // 4 + np.array([rng.randint(0, 190) for _ in range(3)]), 0, 255).astype(np.uint8)
        if rng.random() < 0.25:  # stripes or checks
            step = rng.randint(5, 24)
            bars = ((Clips.grid[..., 0] * math.cos(step) + Clips.grid[..., 1] * math.sin(step)) // step % 2).astype(np.uint8)
            t = np.where(bars[..., None] > 0, t, self.tint(t, rng, 0.9))
        return t

    @staticmethod
    def tint(im, rng, a):
        gain = np.array([rng.uniform(1 - a, 1 + a) for _ in range(3)], np.float32) * rng.uniform(1 - a, 1 + a * 0.6)
        return np.clip(im.astype(np.float32) * gain + rng.uniform(-40, 40) * a, 0, 255).astype(np.uint8)

    @staticmethod
    def blob(rng, limb=False):
        """Mask of a random outline; a limb is long and hangs from the canvas's top middle."""
        m = np.zeros((S, S), np.uint8)
        if limb:
            w0, w1 = rng.uniform(0.05, 0.14) * S, rng.uniform(0.02, 0.1) * S
            bend = rng.gauss(0, 0.12) * S
            t = np.linspace(0, 1, 12)
            cx, cy, w = S / 2 + bend * t * t, 12 + t * (S - 24), w0 + (w1 - w0) * t
            pts = np.concatenate([np.stack([cx - w, cy], 1), np.stack([cx + w, cy], 1)[::-1]])
        else:
            a = np.linspace(0, 2 * math.pi, 64, endpoint=False)
            r = np.ones_like(a)
            rough = rng.uniform(0.05, 0.35)
            for k in range(2, 9):
                r += rough / k ** 0.8 * rng.gauss(0, 1) * np.cos(k * a + rng.uniform(0, 6.28))
            r = np.clip(r, 0.25, 1.8)
            if rng.random() < 0.2:  # polygon
                k = rng.randint(3, 7)
                r = r[:: 64 // k] * 1.0
                a = a[:: 64 // k]
            x, y = r * np.cos(a) * rng.uniform(0.4, 1), r * np.sin(a) * rng.uniform(0.4, 1)
            s = (S / 2 - 6) / max(abs(x).max(), abs(y).max())
            pts = np.stack([S / 2 + x * s, S / 2 + y * s], 1)
        cv2.fillPoly(m, [np.round(pts * 8).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=3)
        return m

    def made(self, rng):
        """A thing of one to six textured parts."""
        soft = rng.choice([0.0, 0.0, 3.0, 6.0])
        base = self.texture(rng)
        look = lambda: base if rng.random() < 0.4 else self.texture(rng)
        m = self.blob(rng)
        if rng.random() < 0.08:
            cv2.circle(m, (rng.randint(40, 100), rng.randint(40, 100)), rng.randint(8, 28), 0, -1)
        parts = [Part(np.dstack([base, m]), rng, soft=soft)]
        if rng.random() < 0.6:
            tall = rng.random() < 0.6
            parts[0].scale = (rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.8)) if tall else (rng.uniform(0.6, 0.9), rng.uniform(0.35, 0.55))
            for _ in range(rng.randint(1, 5)):
                limb = Part(np.dstack([look(), self.blob(rng, True)]), rng, joint=(S / 2, 14), attach=(rng.uniform(-0.2, 0.2), rng.uniform(-0.25, 0.3)),
                            angle=rng.uniform(-1.6, 1.6), scale=(rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.65)), swing=rng.choice([0, 0.3, 0.7, 1.1]))
                parts.insert(0 if rng.random() < 0.5 else len(parts), limb)
            if rng.random() < 0.7:
                parts.append(Part(np.dstack([look(), self.blob(rng)]), rng, attach=(rng.uniform(-0.3, 0.3), rng.uniform(-0.45, -0.2)), scale=(rng.uniform(0.15, 0.3),) * 2, swing=0.3))
        return parts

    def thing(self, rng):
        u = rng.random()
        rgba = None
        if u < 0.45 and self.real:
            group = rng.choices(self.real, self.real_weights)[0]
            rgba = group[rng.randrange(len(group))]
        elif u < 0.62 and self.drawn is not None:
            rgba = self.drawn[rng.randrange(len(self.drawn))]
        if rgba is None:
            return self.made(rng)
        if rng.random() < 0.4:
            rgba = np.dstack([self.tint(rgba[..., :3], rng, 0.3), rgba[..., 3]])
        return [Part(rgba, rng, soft=rng.choice([0.0, 2.0, 4.0, 6.0]))]

    # -- clips --------------------------------------------------------------------------------------------------------
    def base(self, rng, width, height):
        """Image and ids larger than the frame."""
        ids = None
        if self.scenes and rng.random() < 0.45:
            group = rng.choices(self.scenes, self.scene_weights)[0]
            image, ids = group[rng.randrange(len(group))]
        else:
            image = self.pool[rng.randrange(len(self.pool))]
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
            ids = None if ids is None else np.ascontiguousarray(ids[:, ::-1])
        if rng.random() < 0.4:
            image = self.tint(image, rng, 0.2)
        return image, ids

    def sample(self, seed, frames, width, height):
        """images T x H x W x 3 and target masks T x H x W, uint8."""
        for k in range(20):
            rng = random.Random(seed * 1000003 + k)
            out = self.attempt(rng, frames, width, height)
            if out is not None:
                return out
        raise RuntimeError(f"no target found for seed {seed}: the data cache has no usable objects")

    def attempt(self, rng, frames, width, height):
        image, ids = self.base(rng, width, height)
        ih, iw = image.shape[:2]
        fit = max(width / iw, height / ih) * rng.uniform(1.02, 1.5 if ids is None else 1.25)
        lively = rng.choice([0.4, 1.0, 1.0, 1.6])
        dt = rng.choice([1, 1, 2, 3])
        # camera
        cx, cy, ca, cs = rng.uniform(0.4, 0.6) * iw, rng.uniform(0.4, 0.6) * ih, rng.gauss(0, 0.04), fit
        vx, vy, va, vs = rng.gauss(0, 0.012) * iw * lively, rng.gauss(0, 0.007) * ih * lively, rng.gauss(0, 0.008) * lively, rng.gauss(0, 0.008) * lively
        if rng.random() < 0.25:
            vx = vy = va = vs = 0.0
        warp = [field(rng.choice([3, 4, 6]), rng.choice([0, 2, 5]) * width / 320, (width, height), rng) for _ in range(2)] if ids is not None and rng.random() < 0.7 else None
        # movers
        n = rng.choices([0, 1, 2, 3, 4], [4, 2, 2, 1, 1] if ids is not None else [0, 3, 4, 3, 2])[0]
        movers = []
        for i in range(n):
            if movers and rng.random() < 0.4:  # a look-alike
                parts = rng.choice(movers).parts
                if rng.random() < 0.5:
                    f = rng.uniform(0.8, 1.2)
                    parts = [self.alike(p, f) for p in parts]
            else:
                parts = self.thing(rng)
            movers.append(Mover(parts, min(1.2, 0.16 * math.exp(abs(rng.gauss(0, 0.9)))), (rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.85)), rng, lively))
        occluders = []
        if rng.random() < 0.3:
            for _ in range(rng.choice([1, 1, 2, 4])):
                bar = rng.random() < 0.5
                m = np.full((S, S), 255, np.uint8) if bar else self.blob(rng)
                part = Part(np.dstack([self.texture(rng), m]), rng, scale=(rng.uniform(0.03, 0.2), 3.0) if bar else (1, 1))
                o = Mover([part], rng.uniform(0.2, 0.7), (rng.random(), rng.uniform(0.3, 0.7)), rng, lively * 2)
                if bar:
                    o.angle, o.va, o.vy = rng.gauss(0, 0.1), 0.0, 0.0
                occluders.append(o)
        shadow = rng.random() < 0.3
        sx, sy, sd = rng.gauss(0, 0.04) * width, rng.uniform(0, 0.06) * height, rng.uniform(0.45, 0.85)
        keep = rng.random() < 0.7
        images, owners = [], []
        first = (cx, cy)
        for t in range(frames):
            m = affine(about(cs, cs, ca), (cx, cy), (width / 2, height / 2))
            camera = lambda x, y: ((x - width / 2) * cs / fit - (cx - first[0]) * cs + width / 2, (y - height / 2) * cs / fit - (cy - first[1]) * cs + height / 2)
            if warp is None:
                frame = cv2.warpAffine(image, m, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
                owner = np.zeros((height, width), np.int16) if ids is None else cv2.warpAffine(ids, m, (width, height), flags=cv2.INTER_NEAREST).astype(np.int16)
            else:
                inv = cv2.invertAffineTransform(m)
                gx, gy = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
                d = warp[0] * math.sin(0.4 * t * dt) + warp[1] * math.sin(0.25 * t * dt + 1)
                gx, gy = gx + d[..., 0], gy + d[..., 1]
                mx, my = inv[0, 0] * gx + inv[0, 1] * gy + inv[0, 2], inv[1, 0] * gx + inv[1, 1] * gy + inv[1, 2]
                frame = cv2.remap(image, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
                owner = cv2.remap(ids, mx, my, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT).astype(np.int16)
            for i, mover in enumerate(movers + occluders):
                who = 300 + i if i < len(movers) else -1
                for part, matrix in mover.matrices(width, height, camera):
                    if shadow and i < len(movers):
                        s = matrix.copy()
                        s[:, 2] += (sx, sy)
                        self.paint(frame, None, part.rgba, s, 0, sd)
                    self.paint(frame, owner, part.canvas(mover.t), matrix, who)
                mover.step(dt, keep)
            images.append(frame)
            owners.append(owner)
            cx, cy, ca, cs = cx + vx * dt, cy + vy * dt, ca + va * dt, min(fit * 2, max(fit * 0.9, cs * math.exp(vs * dt)))
            vx, vy = vx + rng.gauss(0, 0.003) * iw * lively * (vx != 0), vy + rng.gauss(0, 0.002) * ih * lively * (vy != 0)
        target = self.choose(rng, owners, width * height)
        if target is None:
            return None
        masks = np.stack([o == target for o in owners]).astype(np.uint8)
        return np.stack(self.finish(images, rng)), masks

    @staticmethod
    def alike(part, gain):
        other = Part.__new__(Part)
        other.__dict__.update(part.__dict__)
        other.rgba = np.dstack([np.clip(part.rgba[..., :3] * gain, 0, 255).astype(np.uint8), part.rgba[..., 3]])
        return other

    @staticmethod
    def paint(frame, owner, rgba, matrix, who, shade=None):
        """Blends the part into the frame (or darkens it by its alpha) within its bounding box."""
        height, width = frame.shape[:2]
        corners = matrix[:, :2] @ np.array([[0, S, 0, S], [0, 0, S, S]]) + matrix[:, 2:]
        x0, y0 = np.maximum(np.floor(corners.min(1)), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(corners.max(1)), (width, height)).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        area = abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])
        m = matrix.copy()
        m[:, 2] -= (x0, y0)
        if area < 0.2:
            rgba = cv2.resize(rgba, (S // 2, S // 2), interpolation=cv2.INTER_AREA)
            m[:, :2] *= 2
        piece = cv2.warpAffine(rgba, m, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        region = frame[y0:y1, x0:x1]
        a = piece[..., 3:].astype(np.uint16)
        if shade is not None:
            region[:] = (region * (256 - (a * (1 - shade)).astype(np.uint16))) >> 8
            return
        region[:] = (region * (255 - a) + piece[..., :3] * a + 127) // 255
        owner[y0:y1, x0:x1][a[..., 0] > 127] = who

    @staticmethod
    def choose(rng, owners, area):
        ids, counts = np.unique(owners[0], return_counts=True)
        able = [(i, c) for i, c in zip(ids, counts) if i > 0 and 0.003 * area < c < 0.55 * area]
        if not able:
            return None
        later = {i: sum(int((o == i).any()) for o in owners[1:]) for i, _ in able}
        weights = [math.sqrt(c) * (0.2 + later[i]) * (2.0 if i >= 300 else 1.0) for i, c in able]
        return rng.choices([i for i, _ in able], weights)[0]

    def finish(self, images, rng):
        gain, drift = rng.uniform(0.8, 1.2), rng.gauss(0, 0.02)
        grain = rng.choice([0, 0, 2, 5, 9])
        soft, jpeg = rng.random() < 0.25, rng.random() < 0.35
        smear = rng.random() < 0.15
        kernel = None
        if smear:
            n = rng.choice([3, 5, 7])
            kernel = np.zeros((n, n), np.float32)
            kernel[n // 2] = 1 / n
            kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D((n // 2, n // 2), rng.uniform(0, 180), 1), (n, n))
            kernel /= max(kernel.sum(), 1e-3)
        quality = rng.randint(25, 80)
        out = []
        for t, f in enumerate(images):
            if soft:
                f = cv2.GaussianBlur(f, (0, 0), rng.uniform(0.4, 1.2))
            if kernel is not None:
                f = cv2.filter2D(f, -1, kernel)
            g = gain + drift * t
            offset = rng.gauss(0, 3)
            if grain:
                h, w = f.shape[:2]
                n = self.noise[rng.randrange(4), (y := rng.randrange(300 - h + 1)) : y + h, (x := rng.randrange(520 - w + 1)) : x + w]
                f = np.clip(f * np.float32(g) + np.float32(offset) + n * np.float32(grain), 0, 255).astype(np.uint8)
            else:
                f = cv2.convertScaleAbs(f, alpha=g, beta=offset) if offset >= 0 else np.clip(f * np.float32(g) + np.float32(offset), 0, 255).astype(np.uint8)
            if jpeg:
                f = cv2.imdecode(cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
            out.append(f)
        return out


if __name__ == "__main__":  # a sheet of clips to look at, and the speed
    import sys
    import time

    clips = Clips(sys.argv[1])
    start, rows = time.time(), []
    for seed in range(16):
        x, m = clips.sample(seed, 4, 320, 192)
        x = x.copy()
        x[..., 0][m > 0] = 255 - (255 - x[..., 0][m > 0]) // 2
        rows.append(np.hstack(list(x)))
    print((time.time() - start) / 64 * 1000, "ms a frame")
    rows = [np.hstack(rows[i : i + 2]) for i in range(0, 16, 2)]
    cv2.imwrite(sys.argv[2], cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
