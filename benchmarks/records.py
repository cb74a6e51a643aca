"""What benchmarks that measure all at once share: two commands, and a file with how it was made."""

import argparse
import json
import platform
from pathlib import Path

import sklearn
import torch
from threadpoolctl import threadpool_limits

from sknoprop import __version__

RESULTS = Path(__file__).parent / "results"


def run(name, description, measure, report, **more):
    """Measure with one thread, keep and print what was found; with ``--report`` print it only.

    Parameters
    ----------
    name : str
        Of the benchmark's script and of its file in ``results``.
    description : str
        Docstring of the script.
    measure : callable
        Gives the records, a list.
    report : callable
        Prints them.
    **more : dict
        What else the file is to say.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="print what was measured")
    path = RESULTS / f"{name}.json"
    if parser.parse_args().report:
        report(json.loads(path.read_text())["records"])
        return
    torch.set_num_threads(1)
    with threadpool_limits(1):
        records = measure()
    made_with = {
        "command": f"python benchmarks/{name}.py",
        "machine": f"{platform.machine()}, one thread",
        "versions": {
            "sknoprop": __version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(made_with | more | {"records": records}, indent=1))
    report(records)
