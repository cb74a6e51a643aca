"""What a schedule must be for blocks to learn by it; looked at before anything is trained."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from sknoprop.schedules import Schedule

__all__ = ["check_schedule"]

#: Times that a schedule is looked at, with none at the ends, where a log SNR may be infinite.
N_TIMES = 101

#: By how much a log SNR may differ from what signal and noise say, relative to its size.
TOLERANCE = 1e-2


def check_schedule(schedule: Schedule, dtype: torch.dtype) -> None:
    """Check that a schedule leads from noise to the label.

    Parameters
    ----------
    schedule : Schedule
        It is not changed.
    dtype : torch.dtype
        Of the blocks, which times will have.

    Raises
    ------
    ValueError
        Naming the parameter and what is wrong.
    """
    schedule = copy.deepcopy(schedule).to(dtype)
    t = torch.linspace(0.0, 1.0, N_TIMES + 2, dtype=dtype)
    inner = t[1:-1]
    with torch.no_grad():
        log_snr = _of(schedule, "log_snr", t)
        signal, noise = _of(schedule, "signal", inner), _of(schedule, "noise", inner)
        clock = _of(schedule, "clock", inner)
    if torch.isnan(log_snr).any() or not torch.isfinite(log_snr[1:-1]).all():
        _refuse(schedule, f"a log_snr that is finite for times between 0 and 1 in {dtype}")
    if (log_snr.diff() < 0).any() or not log_snr[-2] > log_snr[1]:
        _refuse(schedule, "a log_snr that rises with time, from noise at 0 to the label at 1")
    if dtype == torch.float32 and not torch.isfinite(log_snr[-1]):
        with torch.no_grad():
            least = schedule.double().log_snr(torch.ones((), dtype=torch.float64))
        if torch.isfinite(least):  # the end is an end, and only its rounding is infinite
            _refuse(schedule, f"a log_snr at 1 that single precision can reach, and not {least:g}")
    if not ((signal > 0) & (noise > 0)).all():
        _refuse(schedule, "signal and noise that are positive for times between 0 and 1")
    apart = 2.0 * (signal / noise).log() - log_snr[1:-1]
    if not (apart.abs() <= TOLERANCE * (1.0 + log_snr[1:-1].abs())).all():
        _refuse(schedule, "a log_snr that is the logarithm of (signal / noise)**2")
    if (clock.diff() < 0).any() or not clock[-1] > clock[0]:
        _refuse(schedule, "a clock that rises with time")


def _of(schedule: Schedule, method: str, t: Tensor) -> Tensor:
    values = getattr(schedule, method)(t)
    if not isinstance(values, Tensor) or (values.shape, values.dtype) != (t.shape, t.dtype):
        got = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else ""
        raise ValueError(
            f"The 'schedule' parameter of NoPropClassifier must have a method {method} that "
            f"returns a tensor of the shape and dtype of its times, {tuple(t.shape)} and "
            f"{t.dtype}. Got {got or type(values).__name__} from {schedule!r}."
        )
    return values


def _refuse(schedule: Schedule, wanted: str) -> None:
    raise ValueError(
        f"The 'schedule' parameter of NoPropClassifier must have {wanted}. Got {schedule!r}."
    )
