"""Turns a SAM 2.1 model into a TrackLens model folder.

    python export.py --checkpoint sam2.1_hiera_tiny.pt --size tiny --output models/tiny
    python export.py --hf-folder DIR --size tiny --output models/tiny
    python export.py --random-weights --seed 1 --config small-test --output models/small-test
"""

import argparse
import copy
import os
import sys
import tempfile
from pathlib import Path

import onnxruntime as ort
import torch

import checkpoint
import network
from attention import Attention
from folder import export_module, sample_inputs, write_toml
from modules import MODULES

TOLERANCE = {"float32": 1e-3, "float16": 1e-2}
# What --dtype float16 leaves in single precision: with random weights rounding grows a hundredfold and more in these,
# and they are little of the work.
SINGLE = ("mask_decoder", "memory_encoder")
BFLOAT16_STEP = 1e-2  # memories are bfloat16: what rounds apart is one step of up to 1/128 apart


def main() -> int:
    args = parse()
    torch.manual_seed(0)
    try:
        model, name, source, licence = load(args)
        export(model, args.output, name, source, licence, args)
    except (checkpoint.CheckpointError, OSError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--checkpoint", type=Path, help="Meta's .pt file; needs --size")
    given.add_argument("--hf-folder", type=Path, help="a local folder as transformers saves Sam2VideoModel")
    given.add_argument("--random-weights", action="store_true", help="seeded random weights; needs --config")
    parser.add_argument("--size", choices=network.BACKBONES, help="of the checkpoint or the folder")
    parser.add_argument("--config", choices=network.SIZES, help="of the random network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sha256", help="expected checksum of the checkpoint, if it is not one of Meta's")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write; must not exist or be empty")
    parser.add_argument("--name", help="what SAM2_MODEL_SIZE calls it (default: the size)")
    parser.add_argument("--attention", choices=Attention.kinds, default="fused")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32", help="of the weights; inputs stay f32")
    args = parser.parse_args()
    if args.random_weights and not args.config:
        parser.error("--random-weights needs --config")
    if not args.random_weights and not args.size:
        parser.error("--checkpoint and --hf-folder need --size")
    return args


def load(args):
    if args.random_weights:
        source = f"random weights, seed {args.seed}: for tests, recognises nothing"
        return network.random_model(args.config, args.seed), args.name or args.config, source, "Apache-2.0"
    if args.checkpoint:
        model = checkpoint.load(args.checkpoint, args.size, args.sha256)
        source = f"Meta's SAM 2.1, {checkpoint.CHECKPOINTS[args.size]}"
    else:
        model = checkpoint.load_folder(args.hf_folder)
        source = f"a transformers folder, SAM 2.1 {args.size}"
    return model, args.name or args.size, source, "Apache-2.0"


def export(model, output: Path, name: str, source: str, licence: str, args) -> None:
    """Writes beside the target and renames, so that no half folder is ever found under the name."""
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty: give a new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as unfinished:
        unfinished = Path(unfinished) / "model"
        unfinished.mkdir()
        inputs = sample_inputs(model)
        for module_name, build in MODULES.items():
            module = build(model, Attention(args.attention)).eval()
            path = unfinished / f"{module_name}.onnx"
            with torch.no_grad():
                export_module(module_name, module, inputs[module_name], path)
            dtype = "float32" if module_name in SINGLE else args.dtype
            if dtype == "float16":
                to_float16(path)
            verify(model, module_name, module, path, TOLERANCE[dtype])
        write_toml(model, unfinished, name=name, version="1", licence=licence, source=source, dtype=args.dtype)
        if output.exists():
            output.rmdir()
        os.replace(unfinished, output)
    print(f"{output}: {sum(f.stat().st_size for f in output.iterdir()) / 1e6:.1f} MB")


def to_float16(path: Path) -> None:
    """Weights and sums in half precision; inputs and outputs stay f32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = convert_float_to_float16(onnx.load(str(path)), keep_io_types=True, op_block_list=["Resize", "Cast"])
    onnx.save_model(proto, str(path))


def verify(model, name: str, module, path: Path, tolerance: float) -> None:
    """Compares the file with the PyTorch module for other counts than it was traced with.

    The truth is the module in double precision: with some weights single precision alone is off by more than the
    tolerance, and then the file need only be as good as PyTorch's own single precision is.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    exact = copy.deepcopy(module).double()
    for counts in (dict(batch=1, memories=1, pointers=1, points=2), dict(batch=3, memories=5, pointers=2, points=4)):
        inputs = sample_inputs(model, seed=counts["batch"], **counts)[name]
        with torch.no_grad():
            single = module(**inputs)
            truth = exact(**{k: v.double() if v.is_floating_point() else v for k, v in inputs.items()})
        found = session.run(None, {k: v.numpy() for k, v in inputs.items()})
        single, truth = (x if isinstance(x, tuple) else (x,) for x in (single, truth))
        for output, f, s, t in zip(module.outputs, found, single, truth):
            # against the tensor's own magnitude: single values near zero have no relative error to speak of
            scale = max(float(t.abs().max()), 1e-6)
            onnx_error, torch_error = (float((x - t).abs().max()) / scale for x in (torch.from_numpy(f), s))
            direct = float((torch.from_numpy(f) - s).abs().max())
            print(
                f"{name}.{output} B={counts['batch']}: from PyTorch {direct:.1e} abs, {direct / scale:.1e} relative; "
                f"from double precision {onnx_error:.1e}, PyTorch's own {torch_error:.1e}"
            )
            allowed = max(tolerance, 2 * torch_error, BFLOAT16_STEP if output == "memory" else 0)
            if not onnx_error <= allowed:
                raise ValueError(f"{name}.{output} is off by {onnx_error:.1e}, more than {allowed:.1e}")


if __name__ == "__main__":
    sys.exit(main())
