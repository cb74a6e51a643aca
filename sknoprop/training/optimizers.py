"""Torch's optimisers without what takes longer than their arithmetic.

Methods of torch's optimisers import torch's compiler when they are first called, to tell it that
it should not look into them: two seconds of each process that trains, and nothing is compiled here.
And a step notes for profilers that it was taken, and one of Adam's sorts its tensors anew: each
takes as long as the one call of torch's that moves the parameters of small blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

__all__ = ["FUSED", "starting_at_once"]

#: Optimisers with a fused step on every device, and what torch's step calls in the end.
FUSED: dict[type[torch.optim.Optimizer], Callable[..., None]] = {
    torch.optim.Adam: torch._fused_adam_,
    torch.optim.AdamW: torch._fused_adamw_,
}

#: What training calls of an optimiser, beside its step, that torch has wrapped so.
WRAPPED = ("add_param_group", "state_dict", "load_state_dict")

#: Hooks of the steps of all optimisers.
EVERYONES = (_global_optimizer_pre_hooks, _global_optimizer_post_hooks)

#: Options that only torch's own step knows what to do with.
UNUSUAL = ("amsgrad", "maximize", "capturable", "differentiable")


def _unusual(kind: type[torch.optim.Optimizer], group: dict[str, Any]) -> bool:
    decoupled = kind is torch.optim.AdamW
    return (
        not group["fused"]
        or isinstance(group["lr"], Tensor)
        or any(group[option] for option in UNUSUAL)
        or group.get("decoupled_weight_decay", decoupled) != decoupled
    )


def _found(
    optimizer: Any, kind: type[torch.optim.Optimizer], group: dict[str, Any]
) -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]] | None:
    """Parameters, gradients and what is known of each; None if torch's step must look."""
    if _unusual(kind, group):
        return None
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states = [optimizer.state[parameter] for parameter in parameters]
    alike = len({(parameter.device, parameter.dtype) for parameter in parameters}) == 1
    if not alike or not all(states):  # which torch's first step makes
        return None
    return parameters, [parameter.grad for parameter in parameters], states


def _count(states: list[dict[str, Tensor]]) -> list[Tensor]:
    """Numbers of steps, with one added to each.

    They are put in one array: to add to one after the other takes as long as to move parameters.
    """
    steps = [state["step"] for state in states]
    whole = steps[0]._base
    if whole is None or whole.shape != (len(steps),) or any(s._base is not whole for s in steps):
        whole = torch.stack(steps)
        for state, step in zip(states, whole, strict=True):
            state["step"] = step
        steps = [state["step"] for state in states]
    whole += 1
    return steps


def _quick(kind: type[torch.optim.Optimizer], step: Any) -> Any:
    """As `step` of a class of `FUSED`, at once where all is as it usually is."""

    def quick(self: Any, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = [_found(self, kind, group) for group in self.param_groups]
        usual = [one for one in found if one is not None]
        if hasattr(self, "grad_scale") or len(usual) < len(found):
            step(self)
            return loss
        for group, (parameters, grads, states) in zip(self.param_groups, usual, strict=True):
            means = [state["exp_avg"] for state in states]
            squares = [state["exp_avg_sq"] for state in states]
            FUSED[kind](
                *(parameters, grads, means, squares, [], _count(states)),
                amsgrad=False,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
        return loss

    return quick


def _made(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    base: Any = torch.optim.Optimizer
    own = {
        name: method.__wrapped__
        for name in WRAPPED
        if hasattr(method := getattr(base, name), "__wrapped__")
    }
    step: Any = kind.step
    while hasattr(step, "__wrapped__"):  # hooks, of an earlier use, among them; they come again
        step = step.__wrapped__
    if kind in FUSED:
        step = _quick(kind, step)
    step = torch.no_grad()(step)
    told = base.profile_hook_step(step)

    def told_if_heard(self: Any, closure: Callable[[], Any] | None = None) -> Any:
        """Torch has each step note its beginning and end for profilers, which takes as long."""
        hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks or any(EVERYONES)
        return (told if hooks else step)(self, closure)

    told_if_heard.hooked = True  # type: ignore[attr-defined]  # torch wraps it no further
    return type(kind.__name__, (kind,), own | {"step": told_if_heard})


# By names of this module, as pickle looks for them.
Adam, AdamW, SGD = (_made(kind) for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD))

OURS = {torch.optim.Adam: Adam, torch.optim.AdamW: AdamW, torch.optim.SGD: SGD}


def starting_at_once(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A class of optimisers that compute as `kind` does; `kind` itself if it is none of `OURS`."""
    return OURS.get(kind, kind)
