"""Convolutions of all blocks: one grouped convolution against block by block.

    python benchmarks/stacked_convolutions.py

Forward and backward of the paper's image path (without dropout) for five blocks and 128 images of
MNIST's size, on one thread. The grouped one has all blocks' channels in one tensor, in either
memory layout. Both compute the same. Prints milliseconds and writes
``benchmarks/results/stacked_convolutions.json``.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from sknoprop import __version__

N_BLOCKS, N_IMAGES, N_ROUNDS = 5, 128, 7


def grouped(images, weights, layout):
    n_blocks = len(weights[0])
    h = images.contiguous(memory_format=layout)
    h = F.max_pool2d(F.conv2d(h, weights[0].flatten(0, 1), padding=1).relu(), 2)
    h = F.conv2d(h, weights[1].flatten(0, 1), padding=1, groups=n_blocks).relu()
    h = F.conv2d(h, weights[2].flatten(0, 1), padding=1, groups=n_blocks).relu()
    return F.max_pool2d(h, 2).reshape(len(images), n_blocks, -1).transpose(0, 1)


def apart(images, weights):
    features = []
    for first, second, third in zip(*(w.unbind() for w in weights), strict=True):
        h = F.max_pool2d(F.conv2d(images, first, padding=1).relu(), 2)
        h = F.conv2d(h, second, padding=1).relu()
        h = F.conv2d(h, third, padding=1).relu()
        features.append(F.max_pool2d(h, 2).flatten(1))
    return torch.stack(features)


def milliseconds(function):
    start = time.process_time()
    function().square().mean().backward()
    return 1e3 * (time.process_time() - start)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N_IMAGES, 1, 28, 28, generator=generator)
    weights = [
        (0.1 * torch.randn(N_BLOCKS, n_out, n_in, 3, 3, generator=generator)).requires_grad_()
        for n_in, n_out in ((1, 32), (32, 64), (64, 128))
    ]
    ways = {
        "block by block": lambda: apart(images, weights),
        "grouped": lambda: grouped(images, weights, torch.contiguous_format),
        "grouped, channels last": lambda: grouped(images, weights, torch.channels_last),
    }
    expected = apart(images, weights)
    for name, way in ways.items():
        torch.testing.assert_close(way(), expected, rtol=1e-3, atol=1e-3, msg=name)
    times = {name: [] for name in ways}
    for _ in range(N_ROUNDS):  # interleaved, so that a slow moment strikes all
        for name, way in ways.items():
            times[name].append(milliseconds(way))
    base = statistics.median(times["block by block"])
    for name, own in times.items():
        print(
            f"{name:>24}: {statistics.median(own):5.0f} ms, {statistics.median(own) / base:.2f} x"
        )
    record = {
        "command": "python benchmarks/stacked_convolutions.py",
        "machine": {"processor": platform.machine(), "threads": 1},
        "versions": {"sknoprop": __version__, "torch": torch.__version__},
        "cpu_ms": times,
    }
    path = Path(__file__).parent / "results" / "stacked_convolutions.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
