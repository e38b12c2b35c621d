"""Meta's checkpoint files and transformers' folders as `Sam2VideoModel`."""

import hashlib
import re
from pathlib import Path

import torch
from transformers import Sam2VideoModel

import network

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"
CHECKPOINTS = {
    "tiny": "sam2.1_hiera_tiny.pt",
    "small": "sam2.1_hiera_small.pt",
    "base": "sam2.1_hiera_base_plus.pt",
    "large": "sam2.1_hiera_large.pt",
}


class CheckpointError(Exception):
    """A checkpoint that is not what it should be."""
