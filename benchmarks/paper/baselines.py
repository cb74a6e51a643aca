"""The paper's two baselines, of the same blocks: trained through the whole stack, or an ODE.

*Back-propagation*: ``z_t = (1 - a_t) z_{t-1} + a_t u_t(z_{t-1}, x)`` with ``a_t = tanh(w_t)``
learnt, a read-out of the last latent, and its cross-entropy propagated through all blocks.
*Adjoint*: ``dz/dt = v(z, x, t)`` from noise at 0 to the label at 1, v as flow matching has it,
and the cross-entropy of the read-out propagated by the adjoint equations (torchdiffeq).
"""

import copy

import numpy as np
import torch
from torch import nn

from sknoprop._inputs import check_data
from sknoprop.building import build_model
from sknoprop.defaults import fill_in
from sknoprop.networks.stacked import STACKED, StackedDropout
from sknoprop.training.seeds import Seeds


def one_block(module, block):
    """One block of a stack, for gradients to come back to the stack from."""
    taken = copy.copy(module)
    part = slice(block, block + 1)
    if isinstance(module, STACKED):
        taken._parameters, taken._buffers = {}, {}
        tensors = (*module._parameters.items(), *module._buffers.items())
        # Plain attributes: a parameter made of a slice would be one of its own.
        taken.__dict__ |= {name: None if t is None else t[part] for name, t in tensors}
    if isinstance(module, StackedDropout) and module.generators is not None:
        taken.generators = module.generators[part]
    taken._modules = {
        name: None if child is None else one_block(child, block)
        for name, child in module._modules.items()
    }
    return taken


class Backprop(nn.Module):
    """The blocks as one network, with learnt gates between them."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.gates = nn.Parameter(torch.full((model.n_blocks,), 0.5))

    def forward(self, inputs, noise):
        model = self.model
        features = model.encoder(inputs)
        z = noise.expand(len(inputs), -1)
        for block, gate in enumerate(self.gates.tanh()):
            part = slice(block, block + 1)
            logits = one_block(model.head, block)(features[part], z[None, :, None], None)
            label = logits[0, :, 0].softmax(-1) @ model.embedding.weight
            z = (1 - gate) * z + gate * label
        return model.readout(z, model.embedding.weight)


class Adjoint(nn.Module):
    """One block as the field of an ordinary differential equation."""

    def __init__(self, model, n_steps):
        super().__init__()
        self.model = model
        self.n_steps = n_steps

    def forward(self, inputs, noise):
        from torchdiffeq import odeint_adjoint

        model = self.model
        features = model.encoder(inputs)
        grid = torch.linspace(0, 1, self.n_steps + 1, device=noise.device)
        field = _Field(model, features)
        z = odeint_adjoint(
            field,
            noise.expand(len(inputs), -1).contiguous(),
            grid[[0, -1]],
            method="euler",
            options={"step_size": 1 / self.n_steps},
            adjoint_params=(*model.head.parameters(), model.embedding.weight, features)
            if model.embedding.weight.requires_grad
            else (*model.head.parameters(), features),
        )[-1]
        return model.readout(z, model.embedding.weight)


class _Field(nn.Module):
    def __init__(self, model, features):
        super().__init__()
        self.model = model
        self.features = features

    def forward(self, t, z):
        logits = self.model.head(self.features, z[None, :, None], t.view(1, 1, 1))
        return logits[0, :, 0] @ self.model.embedding.weight


class Baseline:
    """Fit and predict like an estimator; built of the blocks of one."""

    def __init__(self, kind, estimator, device, n_steps):
        self.kind = kind
        self.estimator = estimator
        self.device = device
        self.n_steps = n_steps

    def fit(self, X, y):
        estimator = self.estimator
        rows, y = check_data(estimator, X, y, reset=True)
        self.classes_, labels = np.unique(y, return_inverse=True)
        params = estimator.get_params(deep=False) | {"image_shape": estimator.image_shape_}
        params = fill_in(params, len(rows), len(self.classes_))
        seeds = Seeds(estimator.random_state)
        model = build_model(params, rows, labels, seeds, len(self.classes_)).to(self.device)
        model.readout.requires_grad_(True)
        net = Backprop(model) if self.kind == "backprop" else Adjoint(model, self.n_steps)
        self.net = net.to(self.device).train()
        dropout = seeds.block_generators("dropout", model.n_blocks, self.device)
        for module in model.modules():
            if isinstance(module, StackedDropout):
                module.generators = dropout
        generator = seeds.generator("noise", 0, self.device)
        order = seeds.generator("order")
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-3)
        targets = torch.as_tensor(labels, device=self.device)
        for _ in range(params["max_iter"]):
            for index in torch.randperm(len(rows), generator=order).split(params["batch_size"]):
                inputs = model.encoder.prepare(torch.as_tensor(rows[index], device=self.device))
                noise = torch.randn(
                    *(len(index), model.embedding.dim), generator=generator, device=self.device
                )
                loss = nn.functional.cross_entropy(net(inputs, noise), targets[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        net.eval()
        return self

    @torch.no_grad()
    def predict_proba(self, X, draw=0):
        model = self.net.model
        generator = torch.Generator().manual_seed(draw)
        parts = []
        for start in range(0, len(X), 500):
            rows = torch.as_tensor(np.array(X[start : start + 500]), device=self.device)
            inputs = model.encoder.prepare(rows.flatten(1))
            noise = torch.randn(len(rows), model.embedding.dim, generator=generator).to(self.device)
            parts.append(self.net(inputs, noise).double().softmax(-1).cpu())
        return torch.cat(parts).numpy()
