"""Times the exported modules beside the reference's own, in one run, in turns, with the same threads.

    python bench.py --folder /tmp/tiny --config tiny --threads 2 --objects 1 4

On a machine that others use too, take `--threads 1 --cpu`: processor time instead of wall time.

The reference runs objects one by one where its loop does (attention, decoder) and in one batch where it does that
(memory encoder). Medians of the turns.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import torch

import network
from folder import sample_inputs
from replay import Modules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--config", choices=network.SIZES, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--objects", type=int, nargs="+", default=[1])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--modules", nargs="+", default=list(STEPS))
    parser.add_argument("--cpu", action="store_true", help="processor time of the process instead of wall time")
    parser.add_argument("--exported-only", action="store_true", help="to see its peak memory alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = network.random_model(args.config, 1)
    modules = Modules(args.folder, args.threads)
    for objects in args.objects:
        inputs = sample_inputs(model, batch=objects, memories=7, pointers=16, points=2)
        inputs["memory_attention"]["memory_time"] = torch.arange(7).repeat(objects, 1)
        inputs["memory_attention"]["pointer_time"] = torch.arange(1.0, 17.0).repeat(objects, 1)
        inputs["mask_decoder"]["has_mask"].zero_()
        total = [0.0, 0.0]
        for name in args.modules:
            pair = measure(args, model, modules, name, inputs[name], objects)
            total = [a + b for a, b in zip(total, pair)]
            show(name, objects, pair)
        show("all", objects, total)
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def measure(args, model, modules, name, inputs, objects) -> list[float]:
    arrays = {k: v.numpy() for k, v in inputs.items()}
    runs = [lambda: modules.run(name, **arrays)]
    if not args.exported_only:
        runs.append(lambda: STEPS[name](model, inputs, objects))
    times = [[] for _ in runs]
    clock = time.process_time if args.cpu else time.perf_counter
    with torch.inference_mode():
        for turn in range(args.turns + 1):
            for run, kept in zip(runs, times):
                begin = clock()
                run()
                if turn:  # the first warms up
                    kept.append(clock() - begin)
    return [statistics.median(x) * 1e3 for x in times] + [0.0] * (2 - len(runs))


def show(name: str, objects: int, pair: list[float]) -> None:
    exported, reference = pair
    ratio = f"{exported / reference:.2f}" if reference else "-"
    print(f"{name:17} B={objects:<3} exported {exported:8.1f} ms  reference {reference:8.1f} ms  ratio {ratio}", flush=True)


def attend(model, inputs, objects):
    import reference

    for i in range(objects):
        reference.condition(model, inputs, i)


def decode(model, inputs, objects):
    high = [inputs["high_res_0"], inputs["high_res_1"]]
    for i in range(objects):
        model._single_frame_forward(image_embeddings=[*high, inputs["embedding"][i : i + 1]], multimask_output=True)


def remember(model, inputs, objects):
    flat = inputs["embedding"].flatten(2).permute(2, 0, 1).expand(-1, objects, -1)
    side = model.config.image_size
    logits = torch.nn.functional.interpolate(inputs["mask_logits"], size=(side, side), mode="bilinear")
    model._encode_new_memory(flat, logits, inputs["object_score"][..., None], False)


STEPS = {
    "image_encoder": lambda model, inputs, objects: model.get_image_features(inputs["image"], return_dict=True),
    "memory_attention": attend,
    "mask_decoder": decode,
    "memory_encoder": remember,
}

if __name__ == "__main__":
    main()
