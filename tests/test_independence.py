"""What must not cross blocks does not, and imports go one way."""

import ast
import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import sknoprop
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
    model, inputs, y = toy_model(variant="dt")
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


def test_summed_step_over_separate_modules_is_exact():
    """Disjoint parameters and an element-wise optimiser: equal to the last bit."""
    model, inputs, y = toy_model(variant="fm", dtype="float32")
    first = [single_block(model, i) for i in range(model.n_blocks)]
    second = copy.deepcopy(first)
    draws = toy_draws(model, len(y))

    def objective(i, one):
        own = type(draws)(
            draws.eps[i : i + 1].float(), draws.uniform[i : i + 1].float(), draws.last.float()
        )
        return one.objective(one.losses(inputs, y, own), one.scale())

    joint = torch.optim.AdamW([p for one in first for p in block_parameters(one)], lr=1e-2)
    sum(objective(i, one) for i, one in enumerate(first)).backward()
    joint.step()
    for i, one in enumerate(second):
        optimizer = torch.optim.AdamW(block_parameters(one), lr=1e-2)
        objective(i, one).backward()
        optimizer.step()
    for one, other in zip(first, second, strict=True):
        for a, b in zip(block_parameters(one), block_parameters(other), strict=True):
            assert torch.equal(a, b)


# The house: who may import whom.

ROOT = Path(sknoprop.__file__).parent
MATHEMATICS = [
    "schedules", "embeddings", "partition", "kernels", "samplers", "parameterizations",
    "readouts", "variants",
]  # fmt: skip
LAYERS = [
    {"_version", "schedules", "embeddings", "kernels", "networks"},
    {"partition", "samplers", "parameterizations", "readouts"},
    {"variants"},
    {"model"},
    {"inference", "training"},
    {"_parameters", "building", "presets"},
    {"persistence"},
    {"classifier"},
]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("name", MATHEMATICS)
def test_the_mathematics_imports_torch_alone(name):
    foreign = {
        module.split(".")[0]
        for module in imports_of(ROOT / f"{name}.py")
        if module.split(".")[0] in {"sklearn", "skorch", "numpy", "os", "pathlib", "joblib", "io"}
    }
    assert not foreign


def test_imports_go_one_way():
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own not in rank:
            assert own == "__init__", f"{own} has no layer"
            continue
        for module in imports_of(path):
            parts = module.split(".")
            if parts[0] == "sknoprop" and len(parts) > 1 and parts[1] != own:
                assert rank[parts[1]] <= rank[own], f"{path.name} imports {module}"


def test_no_file_is_longer_than_a_room():
    for path in ROOT.rglob("*.py"):
        if path.name != "classifier.py":
            assert len(path.read_text().splitlines()) <= 400, path.name
