"""Weak masks for images without any: YOLOX-nano's boxes, each cut out of its surroundings by GrabCut.

Only masks that agree with their box are kept. Writes NAME.jpg and NAME.png (0, 1 .. n) as cutouts.py reads them.
Run: python boxes_to_masks.py --yolox yolox_nano.onnx --out STILLS/boxes_pool IMAGES...  (folders of .jpg, or .mp4 files)
"""
import argparse
import glob
import os

import cv2
import numpy as np
import onnxruntime as ort

cv2.setNumThreads(1)


def pictures(paths, every):
    for path in paths:
        if path.endswith(".mp4"):
            video, k = cv2.VideoCapture(path), 0
            while True:
                ok, frame = video.read()
                if not ok:
                    break
                if k % every == 0:
                    yield f"{os.path.basename(path)[:-4]}-{k:05d}", frame
                k += 1
        else:
            for f in sorted(glob.glob(f"{path}/*.jpg")):
                yield os.path.basename(f)[:-4], cv2.imread(f)


def detect(session, image, least):
    """Boxes left, top, right, bottom with score and class, after suppression of overlaps."""
    s = 416 / max(image.shape[:2])
    small = cv2.resize(image, (round(image.shape[1] * s), round(image.shape[0] * s)))
    x = np.full((416, 416, 3), 114, np.uint8)
    x[: small.shape[0], : small.shape[1]] = small
    out = session.run(None, {"images": x.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
    cells = [(n, 416 // n) for n in (8, 16, 32)]
    xy = np.concatenate([np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) for _, n in cells])
    stride = np.concatenate([np.full(n * n, st) for st, n in cells])[:, None]
    centre, size = (out[:, :2] + xy) * stride, np.exp(out[:, 2:4]) * stride
    scores = out[:, 4] * out[:, 5:].max(1)
    boxes = np.concatenate([centre - size / 2, size], 1)
    keep = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), least, 0.5)
    return [(boxes[i] / s, scores[i]) for i in np.array(keep).flatten()]


def cut(image, box):
    """Mask of the thing in the box (x, y, w, h), or None."""
    x, y, w, h = box
    if w < 26 or h < 26:
        return None
    m = 0.25 * max(w, h)
    x0, y0, x1, y1 = (int(v) for v in (max(0, x - m), max(0, y - m), min(image.shape[1], x + w + m), min(image.shape[0], y + h + m)))
    s = min(1.0, 150 / max(x1 - x0, y1 - y0))
    crop = cv2.resize(image[y0:y1, x0:x1], None, fx=s, fy=s, interpolation=cv2.INTER_AREA)
    b = [int(round(v * s)) for v in (x - x0, y - y0, x + w - x0, y + h - y0)]
    mask = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    mask[max(0, b[1]) : b[3], max(0, b[0]) : b[2]] = cv2.GC_PR_BGD
    centre, axes = ((b[0] + b[2]) // 2, (b[1] + b[3]) // 2), (int((b[2] - b[0]) * 0.42), int((b[3] - b[1]) * 0.46))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.ellipse(mask, centre, (max(1, axes[0] // 4), max(1, axes[1] // 3)), 0, 0, 360, cv2.GC_FGD, -1)
    try:
        cv2.grabCut(crop, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return None
    fg = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    fg = cv2.morphologyEx(fg, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    fg = cv2.morphologyEx(fg, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    n, labels, stats, _ = cv2.connectedComponentsWithStats(fg)
    if n < 2:
        return None
    i = 1 + int(np.argmax(stats[1:, 4]))
    total, (bw, bh) = fg.sum(), (b[2] - b[0], b[3] - b[1])
    l, t, cw, ch, area = stats[i]
    tight = abs(l - b[0]) + abs(l + cw - b[2]) < 0.22 * bw and abs(t - b[1]) + abs(t + ch - b[3]) < 0.22 * bh
    if area < 0.9 * total or not tight or not 0.3 < area / (bw * bh) < 0.92:
        return None
    one = cv2.resize((labels == i).astype(np.float32), (x1 - x0, y1 - y0)) > 0.5
    full = np.zeros(image.shape[:2], bool)
    full[y0:y1, x0:x1] = one
    return full


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolox", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--score", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=20, help="every n-th frame of a video")
    parser.add_argument("images", nargs="+")
    args = parser.parse_args()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(args.yolox, options, providers=["CPUExecutionProvider"])
    os.makedirs(args.out, exist_ok=True)
    images = objects = tried = 0
    for name, image in pictures(args.images, args.every):
        if image is None:
            continue
        s = 640 / max(image.shape[:2])
        image = cv2.resize(image, None, fx=s, fy=s, interpolation=cv2.INTER_AREA) if s < 1 else image
        ids, k = np.zeros(image.shape[:2], np.uint8), 0
        for box, _ in detect(session, image, args.score)[:6]:
            tried += 1
            mask = cut(image, box)
            if mask is not None:
                k += 1
                ids[mask] = k
        if k:
            images, objects = images + 1, objects + k
            cv2.imwrite(f"{args.out}/{name}.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
            cv2.imwrite(f"{args.out}/{name}.png", ids)
    print(f"{images} images with {objects} objects of {tried} boxes")


if __name__ == "__main__":
    main()
