"""Golden values of the tracking loop, from transformers' reference, and the proof that the folder suffices.

    python goldens.py --seed 1 --output ../../tests/golden      writes them, and the small-test folder if missing
    python goldens.py --check ../../tests/golden                replays them with ONNX Runtime and NumPy alone
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import clip
from replay import Loop, Modules, enlarge, preprocess

MEMORIES = {1: (0, 1, 9), 2: (2, 3), 3: (4, 5)}  # object: frames whose memory is kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path)
    what.add_argument("--check", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.output:
        write(args.output, args.seed)
    return check(args.check or args.output)


def write(folder: Path, seed: int) -> None:
    import torch

    import network
    import reference
    from folder import sample_inputs

    model = network.random_model("small-test", seed)
    side = model.config.image_size
    frames = clip.frames()
    resized = np.stack([reference.resize(frame, side) for frame in frames])
    recorded = {"frames": frames, "resized": resized}
    for prompt in clip.PROMPTS:
        key = f"prompt.{prompt.frame}.{prompt.object}"
        if prompt.mask:
            mask = clip.outline(prompt.object, prompt.frame)
            recorded[f"{key}.mask"] = mask.astype(np.uint8)
            recorded[f"{key}.model_mask"] = reference.model_mask(mask, side)[0, 0].numpy().astype(np.uint8)
        else:
            points = np.array(prompt.points, np.float32)
            recorded[f"{key}.points"] = points
            scale = np.array([side / clip.WIDTH, side / clip.HEIGHT], np.float32)
            recorded[f"{key}.model_points"] = points * scale
            recorded[f"{key}.labels"] = np.array(prompt.labels, np.int64)
    save_file(recorded, folder / "clip.safetensors")

    results, recorded = reference.track(model, [reference.normalise(x)[None] for x in resized]), {}
    for (frame, number), result in results.items():
        for name, value in result.items():
            value = value.numpy()
            if name == "mask":
                value = np.packbits(value, axis=1)
            if name == "memory" and frame not in MEMORIES[number]:
                continue
            value = value.astype(np.int64) if name == "candidate" else value
            recorded[f"{frame}.{number}.{name}"] = np.ascontiguousarray(value).reshape(value.shape or (1,))
    save_file(recorded, folder / "loop.safetensors")

    inputs = sample_inputs(model, batch=2, memories=7, pointers=16, seed=1)
    inputs["image_encoder"]["image"] = reference.normalise(resized[0])[None]
    recorded = {}
    for name, values in inputs.items():
        for key, value in values.items():
            recorded[f"{name}.in.{key}"] = value.numpy()
        with torch.no_grad():
            for key, value in reference.module_outputs(model, name, values).items():
                recorded[f"{name}.out.{key}"] = np.ascontiguousarray(value.numpy())
    save_file(recorded, folder / "modules.safetensors")


def check(folder: Path) -> int:
    """Replays clip and modules; prints the worst differences; 1 if any is beyond its bound."""
    modules = Modules(folder / "small-test")
    given, expected = load_file(folder / "clip.safetensors"), load_file(folder / "loop.safetensors")
    worst = {"image": 0.0}

    def note(name: str, found, reference, scale=None):
        difference = float(np.abs(found - reference).max()) / (scale or max(float(np.abs(reference).max()), 1e-6))
        worst[name] = max(worst.get(name, 0.0), difference)

    loop, least_iou, wrong = Loop(modules), 1.0, []
    mean, std = (np.array(modules.toml["input"][k], np.float32)[:, None, None] for k in ("mean", "std"))
    for frame, pixels in enumerate(given["frames"]):
        image = (given["resized"][frame].astype(np.float32) / 255 - mean) / std
        note("image", preprocess(pixels, modules.toml), image)
        prompts = {}
        for prompt in (p for p in clip.PROMPTS if p.frame == frame):
            key = f"prompt.{frame}.{prompt.object}"
            prompts[prompt.object] = (
                {"mask": given[f"{key}.model_mask"].astype(np.float32)}
                if prompt.mask
                else {"points": given[f"{key}.model_points"], "labels": given[f"{key}.labels"]}
            )
        for number, result in loop.step(frame, image, prompts).items():
            key = f"{frame}.{number}"
            for name in ("mask_logits", "iou", "object_score", "pointer"):
                note(name, getattr(result, name), expected[f"{key}.{name}"])
            if f"{key}.memory" in expected:
                note("memory", result.memory, expected[f"{key}.memory"])
            if result.candidate != expected[f"{key}.candidate"][0]:
                wrong.append(f"frame {frame}, object {number}: candidate {result.candidate}")
            mask = enlarge(result.mask_logits, pixels.shape[:2]) > 0
            truth = np.unpackbits(expected[f"{key}.mask"], axis=1)[:, : pixels.shape[1]].astype(bool)
            union = (mask | truth).sum()
            least_iou = min(least_iou, (mask & truth).sum() / union if union else 1.0)

    recorded = load_file(folder / "modules.safetensors")
    for name in modules.sessions:
        begin = f"{name}.in."
        found = modules.run(name, **{k.removeprefix(begin): v for k, v in recorded.items() if k.startswith(begin)})
        for key, value in found.items():
            note(f"{name}.{key}", value, recorded[f"{name}.out.{key}"])

    # Memories are bfloat16 in the reference: two sums that round apart differ by one step of 1/128.
    bounds = {"memory": 1e-2, "memory_encoder.memory": 1e-2, "image": 2e-2}
    for name, value in worst.items():
        bound = bounds.get(name, 1e-3)
        print(f"{name}: {value:.2e} (bound {bound:.0e})")
        if value > bound:
            wrong.append(name)
    print(f"least mask IoU: {least_iou:.5f}")
    if least_iou < 0.999:
        wrong.append("mask IoU")
    for what in wrong:
        print(f"WRONG: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
