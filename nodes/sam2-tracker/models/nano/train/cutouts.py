"""Makes the data cache: backgrounds, cut-out objects with alpha, and scenes with object masks, as uint8 arrays.

Stills are folders of NAME.jpg beside NAME.png (0 background, 1 .. n the objects). One file in twelve, by its name's hash, is
kept for validation. Run: python cutouts.py --pool DIR --stills DIR --out CACHE
"""
import argparse
import glob
import hashlib
import os
import pickle

import cv2
import numpy as np

CANVAS = 144
POOL = (480, 270)


def held_out(path):
    return int(hashlib.md5(os.path.basename(path).encode()).hexdigest(), 16) % 12 == 0


def read(path):
    image = cv2.imread(path)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def cover(image, size):
    """Scales and crops to the size."""
    w, h = size
    s = max(w / image.shape[1], h / image.shape[0])
    image = cv2.resize(image, (max(w, round(image.shape[1] * s)), max(h, round(image.shape[0] * s))), interpolation=cv2.INTER_AREA)
    y, x = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    return image[y : y + h, x : x + w]


def cut(image, mask):
    """RGBA canvas of one object with a margin; None where it is too small, too thin, or cut off by the image's edge."""
    ys, xs = np.nonzero(mask)
    if len(ys) < 500:
        return None
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    edge = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
    if edge > 0.15 * np.sqrt(len(ys)) * 4:
        return None
    h, w = y1 - y0, x1 - x0
    s = (CANVAS - 8) / max(h, w)
    if s > 3:
        return None
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7 * max(1, 1 / s * 0.6))
    # colours from inside the object, so that its edge carries none of the old background
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    near = cv2.inpaint(image[y0:y1, x0:x1], (1 - inner[y0:y1, x0:x1]) * (alpha[y0:y1, x0:x1] > 0.02).astype(np.uint8), 2, cv2.INPAINT_TELEA) if inner.sum() > 200 else image[y0:y1, x0:x1]
    rgba = np.dstack([near, (alpha[y0:y1, x0:x1] * 255).astype(np.uint8)])
    rgba = cv2.resize(rgba, (max(4, round(w * s)), max(4, round(h * s))), interpolation=cv2.INTER_AREA if s < 1 else cv2.INTER_LINEAR)
    out = np.zeros((CANVAS, CANVAS, 4), np.uint8)
    out[..., :3] = 127
    y, x = (CANVAS - rgba.shape[0]) // 2, (CANVAS - rgba.shape[1]) // 2
    out[y : y + rgba.shape[0], x : x + rgba.shape[1]] = rgba
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True, help="folder of background images")
    parser.add_argument("--stills", required=True, help="folder of folders of images with masks")
    parser.add_argument("--out", required=True)
    parser.add_argument("--scenes", type=int, default=350, help="most images of a source (but drawn ones)")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    files = sorted(glob.glob(f"{args.pool}/*.jpg"))
    np.save(f"{args.out}/pool.npy", np.stack([cover(read(f), POOL) for f in files]))
    for part in ("train", "val"):
        cutouts, scenes = {}, {}
        for f in sorted(glob.glob(f"{args.stills}/*/*.png")):
            if held_out(f) != (part == "val"):
                continue
            source = os.path.basename(os.path.dirname(f))
            if len(scenes.get(source, [])) >= args.scenes:
                continue
            image, ids = read(f[:-3] + "jpg"), cv2.imread(f, cv2.IMREAD_UNCHANGED)
            if image is None or ids is None or image.shape[:2] != ids.shape:
                continue
            kinds = [i for i in np.unique(ids) if i]
            for i in kinds[:3] if len(cutouts.get(source, [])) > 2 * args.scenes and "sprites" not in source else kinds[:6]:
                piece = cut(image, (ids == i).astype(np.uint8))
                if piece is not None:
                    cutouts.setdefault(source, []).append(piece)
            if "sprites" in source:
                continue
            s = 448 / max(image.shape[:2])
            size = (round(image.shape[1] * s), round(image.shape[0] * s))
            scenes.setdefault(source, []).append((cv2.resize(image, size, interpolation=cv2.INTER_AREA if s < 1 else cv2.INTER_LINEAR),
                                                  cv2.resize(ids.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)))
        cutouts = {k: np.stack(v) for k, v in cutouts.items()}
        with open(f"{args.out}/{part}.pkl.part", "wb") as f:
            pickle.dump({"cutouts": cutouts, "scenes": scenes}, f, protocol=4)
        os.replace(f"{args.out}/{part}.pkl.part", f"{args.out}/{part}.pkl")
        print(part, {k: len(v) for k, v in cutouts.items()}, {k: len(v) for k, v in scenes.items()})


if __name__ == "__main__":
    main()
