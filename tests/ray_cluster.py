"""Fits on a cluster of Ray's, in a process of its own: ``python -m tests.ray_cluster FOLDER``.

Ray has threads, handlers of signals and workers that a process of tests would keep. A worker is
killed in the fit. The model's state and warnings are written to the folder.
"""

import functools
import os
import sys
import warnings
from pathlib import Path

import joblib
import torch

import sknoprop.parallel as parallel
from sknoprop import NoPropClassifier
from tests.test_parallel import SMALL, _killed_once, rows, state


def main(folder: Path) -> None:
    # By default Ray's workers give way to all else, here to the other tests.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    (folder / "started").touch()
    parallel._train_group = functools.partial(_killed_once, str(folder / "killed"))
    with joblib.parallel_config("ray"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = NoPropClassifier("fm", n_jobs=2, **SMALL).fit(*rows())
    torch.save(state(clf), folder / "state.pt")
    (folder / "warnings").write_text("\n".join(str(warning.message) for warning in caught))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
