"""Other processes for tests: to be killed, interrupted, or kept short of something."""

import multiprocessing
import signal

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


def _run(function, arguments):
    torch.set_num_threads(1)
    # Started in the background, a process has not Python's way with Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments)
