"""The golden clip: twelve frames of three textured shapes, and the prompts given on them."""

from dataclasses import dataclass

import numpy as np

FRAMES, HEIGHT, WIDTH = 12, 96, 160
BLANK = (6, 7)  # frames on which everything is hidden behind flat grey


@dataclass(frozen=True)
class Prompt:
    """What is said about one object on one frame, in pixels of the frame."""

    object: int
    frame: int
    points: tuple = ()
    labels: tuple = ()  # 1 object, 0 background, 2 and 3 a box's corners
    mask: bool = False  # the shape's own outline is the prompt


PROMPTS = (
    Prompt(1, 0, points=((16.0, 20.0), (56.0, 60.0)), labels=(2, 3)),  # a box
    Prompt(2, 2, points=((112.0, 30.0), (80.0, 80.0)), labels=(1, 0)),  # a point and a negative one
    Prompt(3, 4, mask=True),
    Prompt(1, 9, points=((71.5, 49.0),), labels=(1,)),  # prompted again: one point, so an ambiguous prompt
)


def centre(shape: int, frame: int) -> tuple[float, float]:
    """x and y of a shape's centre."""
    return [(36 + 4 * frame, 40 + frame), (116 - 2 * frame, 32 + 2 * frame), (40 + 3 * frame, 74 - frame)][shape - 1]


def outline(shape: int, frame: int) -> np.ndarray:
    """HxW bool."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cx, cy = centre(shape, frame)
    if shape == 1:
        return np.hypot(x - cx, y - cy) < 20
    if shape == 2:
        return (abs(x - cx) < 18) & (abs(y - cy) < 14)
    return abs(x - cx) / 26 + abs(y - cy) / 16 < 1


def frames() -> np.ndarray:
    """The clip, 12xHxWx3 uint8 RGB."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    clip = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for f in range(FRAMES):
        wave = np.sin(x / 17) * np.cos(y / 11 + f / 5)
        image = np.stack([90 + 40 * wave, 110 + 30 * np.sin((x + y) / 23), 120 - 35 * wave], axis=-1)
        textures = (
            np.stack([200 + 50 * np.sin((x - 4 * f) / 2), 60 + 0 * x, 40 + 20 * np.cos(y / 3)], axis=-1),
            np.stack([40 + 0 * x, 180 + 60 * np.sign(np.sin((x + 2 * f) / 4) * np.sin(y / 4)), 70 + x / 4], axis=-1),
            np.stack([60 + y / 2, 70 + 0 * x, 190 + 60 * np.sin((x - y - 4 * f) / 3)], axis=-1),
        )
        for shape, texture in zip((1, 2, 3), textures):
            image = np.where(outline(shape, f)[..., None], texture, image)
        if f in BLANK:
            image = np.full_like(image, 128) + 4 * np.sin(x / 9 + f)[..., None]
        clip[f] = np.clip(np.round(image), 0, 255)
    return clip
