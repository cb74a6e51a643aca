"""What must not cross blocks does not, and imports go one way."""

import ast
import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import sknoprop
from sknoprop._parameters import OPTIMIZERS
from sknoprop.networks.stacked import take_blocks
from sknoprop.partition import Partition
from tests.models import toy_draws, toy_model

CASES = [
    {"variant": variant, "head": head, "batch_norm": batch_norm}
    for variant in ("dt", "ct", "fm")
    for head in ("light", "paper")
    for batch_norm in (False, True)
]


def block_parameters(model):
    return [*model.encoder.parameters(), *model.head.parameters()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_of_a_blocks_loss_is_exactly_zero_elsewhere(case):
    model, inputs, y = toy_model(**case, hidden_layer_sizes=(8, 6))
    losses = model.losses(inputs, y, toy_draws(model, len(y)))
    for block in range(model.n_blocks):
        grads = torch.autograd.grad(
            losses.blocks[block], block_parameters(model), retain_graph=True
        )
        others = [i for i in range(model.n_blocks) if i != block]
        for grad in grads:
            assert torch.all(grad[others] == 0.0)
        assert any(torch.any(grad[block] != 0.0) for grad in grads)


def test_readout_and_blocks_share_no_gradient():
    model, inputs, y = toy_model(variant="dt", readout="linear")
    losses = model.losses(inputs, y, toy_draws(model, len(y)))
    grads = torch.autograd.grad(
        losses.readout, block_parameters(model), allow_unused=True, retain_graph=True
    )
    assert all(grad is None for grad in grads)
    grads = torch.autograd.grad(
        losses.blocks.sum(), list(model.readout.parameters()), allow_unused=True
    )
    assert all(grad is None for grad in grads)


def test_a_learned_embedding_is_reached_by_every_block():
    """Shared because the user asked for it; a detached one would never be learned."""
    for variant in ("dt", "ct", "fm"):
        model, inputs, y = toy_model(variant=variant, embedding="learned", embedding_dim=4)
        losses = model.losses(inputs, y, toy_draws(model, len(y)))
        for block in losses.blocks:
            (grad,) = torch.autograd.grad(block, model.embedding.weight, retain_graph=True)
            assert grad.abs().sum() > 0


def single_block(model, i):
    """A model of block i alone, with its interval of time."""
    alone = copy.deepcopy(model)
    alone.encoder = take_blocks(model.encoder, slice(i, i + 1))
    alone.head = take_blocks(model.head, slice(i, i + 1))
    for part in (alone.encoder, alone.head):
        for module in part.modules():
            module._parameters = {
                k: None if v is None else nn.Parameter(v.detach().clone())
                for k, v in module._parameters.items()
            }
            module._buffers = {
                k: None if v is None else v.clone() for k, v in module._buffers.items()
            }
    alone.partition = Partition(1, model.partition.edges[i : i + 2].clone())
    alone.path = type(model.path)(
        alone.schedule,
        alone.partition,
        alone.parameterization,
        model.path.horizon
        if i == model.n_blocks - 1 or not model.variant.single_level
        else float(model.partition.edges[i + 1]),
    )
    return alone


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_summed_step_is_a_step_of_each_block(case):
    """Stacked against alone, in float64, over a few AdamW steps."""
    model, inputs, y = toy_model(**case, hidden_layer_sizes=(8, 6))
    alone = [single_block(model, i) for i in range(model.n_blocks)]
    scale = model.scale()
    together = torch.optim.AdamW(block_parameters(model), lr=1e-2)
    apart = [torch.optim.AdamW(block_parameters(one), lr=1e-2) for one in alone]
    for step in range(3):
        draws = toy_draws(model, len(y), seed=step)
        together.zero_grad()
        model.objective(model.losses(inputs, y, draws), scale).backward()
        together.step()
        for i, (one, optimizer) in enumerate(zip(alone, apart, strict=True)):
            optimizer.zero_grad()
            own = type(draws)(draws.eps[i : i + 1], draws.uniform[i : i + 1], draws.last)
            one.objective(one.losses(inputs, y, own), one.scale()).backward()
            optimizer.step()
    for i, one in enumerate(alone):
        for stacked, single in zip(block_parameters(model), block_parameters(one), strict=True):
            # A bias in front of a normalisation has gradient zero but for rounding, which AdamW
            # divides by its epsilon of 1e-8: hence 1e-9 rather than float64's 1e-16.
            torch.testing.assert_close(stacked[i : i + 1], single, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_every_named_optimizer_is_element_wise(name, variant):
    """One optimiser over the stack makes the steps of one over each one-block model."""
    model, inputs, y = toy_model(variant=variant)
    alone = [single_block(model, i) for i in range(model.n_blocks)]

    def two_steps(one, blocks):
        optimizer = OPTIMIZERS[name](block_parameters(one), lr=1e-2, weight_decay=1e-2)
        scale = one.scale()
        for seed in range(2):
            draws = toy_draws(model, len(y), seed=seed)
            own = replace(draws, eps=draws.eps[blocks], uniform=draws.uniform[blocks])
            optimizer.zero_grad()
            one.objective(one.losses(inputs, y, own), scale).backward()
            optimizer.step()

    before = [p.detach().clone() for p in block_parameters(model)]
    two_steps(model, slice(None))
    for i, one in enumerate(alone):
        two_steps(one, slice(i, i + 1))
        for stacked, single, start in zip(
            block_parameters(model), block_parameters(one), before, strict=True
        ):
            torch.testing.assert_close(stacked[i : i + 1], single, rtol=1e-9, atol=1e-9)
            assert not torch.equal(single, start[i : i + 1]), "it has moved"


# The house: who may import whom. What is not listed may not.

ROOT = Path(sknoprop.__file__).parent

#: From the ground up; a module sees those below it, and its own parts.
LAYERS = [
    {"_memory", "_modes", "_version", "rowwise", "schedules", "embeddings"},
    {"networks"},
    {"partition", "kernels", "samplers", "parameterizations", "readouts"},
    {"calibration"},
    {"variants"},
    {"model"},
    {"probes"},
    {"central"},
    {"inference"},
    {"few_rows", "trajectories"},
    {"training"},
    {"_parameters", "_schedules", "calibrating", "parallel", "presets"},
    {"_images", "_labels"},
    {"_inputs", "_weights"},
    {"_data", "cycles"},
    {"building", "datasets", "defaults", "fitting", "growing"},
    {"persistence"},
    {"callbacks", "classifier"},
    {"inspection"},
    {"__init__"},
]

#: What the mathematics and prediction need beside torch: nothing that reads, writes or waits.
PURE = {
    "__future__",
    "abc",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "functools",
    "itertools",
    "math",
    "numbers",
    "typing",
}

#: Other packages a module may see, beside PURE; torch alone where nothing else is said.
FOREIGN = {
    "_memory": {"torch", "warnings"},
    "_modes": {"torch"},
    "few_rows": {"torch", "weakref"},
    "networks": {"numpy", "threading", "torch"},
    "training": {
        *("dis", "hashlib", "inspect", "numpy", "skorch", "sys", "threading", "torch", "tqdm"),
    },
    "_parameters": {"numpy", "sklearn", "torch"},
    "presets": set(),
    "_images": {"numpy", "torch"},
    "_inputs": {"datetime", "numpy", "scipy", "sklearn", "torch"},
    "_labels": {"datetime", "numpy"},
    "_weights": {"numpy", "sklearn"},
    "_data": {"numpy", "sklearn"},
    "datasets": {"numpy", "os", "sklearn", "torch", "torchvision"},
    "building": {"numpy", "torch", "warnings"},
    "fitting": {"joblib", "numpy", "sklearn", "torch", "warnings"},
    "parallel": {
        *("joblib", "numpy", "os", "skorch", "sys", "threading", "torch", "warnings"),
    },
    "persistence": {
        *("errno", "json", "numpy", "os", "pathlib", "safetensors", "sklearn"),
        *("secrets", "skorch", "stat", "torch", "warnings"),
    },
    # matplotlib and pandas only where they are asked for, see test_inspection.py.
    "inspection": {"matplotlib", "numpy", "pandas", "sklearn", "torch", "types"},
    "callbacks": {"hashlib", "io", "json", "numpy", "os", "re", "skorch", "torch"},
    "classifier": {"numpy", "os", "sklearn", "skorch", "torch"},
    "__init__": set(),
    "_version": set(),
}


#: What sees less of the package than its layer would let it: public names, and torch's modes.
SEES = {"inspection": {"schedules", "_modes"}}


def imports_of(source, package):
    """Full names of what is imported, each with the package that a relative one starts from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            if module == "sknoprop":
                yield from (f"sknoprop.{alias.name}" for alias in node.names)
            else:
                yield module


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import sknoprop.model as m, os.path", ["sknoprop.model", "os.path"]),
        ("from sknoprop import classifier", ["sknoprop.classifier"]),
        ("from . import net", ["sknoprop.training"]),
        ("from .net import train", ["sknoprop.training.net"]),
        ("from .. import classifier", ["sknoprop.classifier"]),
        ("from ..model import Draws", ["sknoprop.model"]),
        ("def f():\n    import requests", ["requests"]),
    ],
)
def test_imports_are_found_in_all_their_forms(source, expected):
    assert list(imports_of(source, "sknoprop.training")) == expected


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_are_those_allowed(path):
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    parts = path.relative_to(ROOT).with_suffix("").parts
    own = parts[0]
    assert own in rank, f"{own} has no layer"
    # A package's __init__ is the package: relative imports start from where it lies.
    for name in imports_of(path.read_text(), ".".join(["sknoprop", *parts[:-1]])):
        package, *inner = name.split(".")
        if package != "sknoprop":
            allowed = package in PURE | FOREIGN.get(own, {"torch"})
        else:
            # Public names of the top are for users, not for the inside.
            target = inner[0] if inner else None
            allowed = target == own or rank.get(target, len(rank)) < rank[own]
            allowed = allowed and target in {own} | SEES.get(own, set(rank))
            allowed = allowed or (own, target) == ("__init__", "_version")
        assert allowed, f"{path.name} imports {name}"


def test_no_file_is_longer_than_a_room():
    for path in ROOT.rglob("*.py"):
        if path.name != "classifier.py":
            assert len(path.read_text().splitlines()) <= 400, path.name
