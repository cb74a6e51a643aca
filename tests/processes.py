"""Other processes for tests: to be killed, interrupted, or kept short of something."""

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def run_apart(function, *arguments):
    """Run a function in a process of its own, and give the process's exit code.

    It is forked from a server that has the package imported and has not trained: torch trains in
    no process that was forked from one that has.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs processes that are forked from a server")
    context = multiprocessing.get_context("forkserver")
    # The latter is what torch imports, slowly, when it makes the first optimiser.
    context.set_forkserver_preload(["sknoprop", "torch._dynamo"])
    process = context.Process(target=_run, args=(function, arguments))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
        pytest.fail("a process did not end")
    return process.exitcode


def run_alone(function, *arguments, patience):
    """Run a function of a test module in a Python process of its own, and fail if it does.

    Nothing but what the function does has been done there: there are no threads of pytest's, nor of
    what other tests left behind, that could hold a lock in the moment of a fork. Arguments are
    strings.
    """
    program = f"import sys; from {function.__module__} import {function.__name__} as run; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}run(*sys.argv[1:])", *arguments],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience,
    )
    assert done.returncode == 0, done.stdout


def _run(function, arguments):
    torch.set_num_threads(1)
    # Started in the background, a process has not Python's way with Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments)
