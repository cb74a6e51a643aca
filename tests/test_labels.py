"""Labels of classes: which are the same, and which are missing."""

import datetime

import numpy as np
import pandas as pd
import pytest
import torch

from sknoprop import NoPropClassifier
from sknoprop._labels import class_number, label_keys, refuse_missing
from tests.models import toy_data

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}

X, Y = toy_data(60)
DATES = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "M8[D]")
SPANS = DATES - DATES[0]


@pytest.mark.parametrize("unit", ["W", "h", "m", "s", "ms", "us", "ns", "25s", "as"])
@pytest.mark.parametrize("kind", ["M8", "m8"])
def test_times_are_the_same_in_every_unit(kind, unit):
    labels = np.array([0, 25, -3], f"{kind}[W]")
    finer = labels.astype(f"{kind}[{unit}]") if unit != "as" else np.array([0], f"{kind}[as]")
    assert label_keys(finer) == label_keys(labels)[: len(finer)]
    assert set(label_keys(finer + 1)).isdisjoint(label_keys(labels))


def test_times_that_numpy_would_wrap_are_told_apart():
    """The year 9999 has no number of nanoseconds: NumPy takes it for a day of 1815."""
    far, near = np.array(["9999-01-01"], "M8[D]"), np.array(["1815-03-31"], "M8[D]")
    wrapped = far.astype("M8[ns]")
    assert wrapped.astype("M8[D]") == near
    assert label_keys(wrapped) != label_keys(far)


def test_months_of_dates_are_days_and_those_of_spans_have_no_length():
    months = np.array(["2020-01", "2021-01"], "M8[M]")
    assert label_keys(months) == label_keys(months.astype("M8[D]"))
    assert label_keys(months[:1].astype("M8[Y]")) == label_keys(months[:1])
    year, month, day = (
        np.array([n], f"m8[{unit}]") for n, unit in [(1, "Y"), (12, "M"), (365, "D")]
    )
    assert label_keys(year) == label_keys(month) != label_keys(day)


def test_times_are_not_numbers():
    ns = DATES.astype("M8[ns]")
    assert set(label_keys(ns)).isdisjoint(label_keys(ns.astype(np.int64)))
    assert set(label_keys(SPANS)).isdisjoint(label_keys(DATES))


@pytest.mark.parametrize(
    "labels",
    [DATES, DATES.astype("M8[ns]"), DATES.astype("M8[s]"), DATES.astype("M8[h]")],
    ids=lambda labels: str(labels.dtype),
)
@pytest.mark.parametrize(
    "key",
    [
        datetime.date(2020, 1, 2),
        datetime.datetime(2020, 1, 2),
        np.datetime64("2020-01-02"),
        np.datetime64("2020-01-02T00", "ns"),
        pd.Timestamp("2020-01-02"),
    ],
    ids=repr,
)
def test_weights_of_dates(labels, key):
    """In whatever way a date is written, and in whatever unit labels are."""
    expected = NoPropClassifier(**SMALL, class_weight={1: 3.0}).fit(X, Y).predict_proba(X)
    found = NoPropClassifier(**SMALL, class_weight={key: 3.0}).fit(X, labels[Y])
    np.testing.assert_array_equal(found.predict_proba(X), expected)


def test_nanoseconds_of_pandas_are_not_lost():
    labels = np.array(["2020-01-01T00:00:00.000000001", "2020-01-01"], "M8[ns]")
    numbers = {key: number for number, key in enumerate(label_keys(labels))}
    assert class_number(pd.Timestamp(labels[0]), numbers) == 0
    assert class_number(pd.Timestamp(labels[1]), numbers) == 1


@pytest.mark.parametrize(
    "key", [datetime.timedelta(1), np.timedelta64(24, "h"), pd.Timedelta("1D")]
)
def test_weights_of_spans_of_time(key):
    expected = NoPropClassifier(**SMALL, class_weight={1: 3.0}).fit(X, Y).predict_proba(X)
    found = NoPropClassifier(**SMALL, class_weight={key: 3.0}).fit(X, SPANS[Y])
    np.testing.assert_array_equal(found.predict_proba(X), expected)


def test_a_key_that_equals_a_class_is_its_own_whatever_its_hash():
    expected = NoPropClassifier(**SMALL, class_weight={1: 3.0}).fit(X, Y).predict_proba(X)
    found = NoPropClassifier(**SMALL, class_weight={torch.tensor(1): 3.0}).fit(X, Y)
    np.testing.assert_array_equal(found.predict_proba(X), expected)


UTC = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("labels", "class_weight", "message"),
    [
        (
            DATES,
            {datetime.date(2021, 1, 1): 1.0},
            r"among \['2020-01-01',.*, as datetime\.date",
        ),
        (DATES.astype("M8[ns]"), {0: 1.0}, r"among \['2020-01-01T00:00:00\.0+', .*Got also \[0\]"),
        (
            DATES,
            {"2020-01-01": 1.0},
            r"or np\.datetime64\. Got also \['2020-01-01'",
        ),
        (DATES, {UTC: 1.0}, r"Got also \[datetime"),
        (SPANS, {5: 1.0}, r"among \['0 days', '1 days', '2 days'\]\. Got also \[5\]"),
        (np.arange(3), {torch.zeros(2): 1.0}, r"Got also \[tensor"),
        (np.arange(3), {np.datetime64(0, "s"): 1.0}, r"among \[0, 1, 2\]\. Got also"),
        (
            np.arange(3),
            {0: 1.0, torch.tensor(0): 2.0},
            r"one key for a class\..* for \[0\]",
        ),
        (DATES, {datetime.date(2020, 1, 2): 1.0, DATES[1]: 2.0}, r"several for \['2020-01-02'\]"),
    ],
)
def test_keys_that_are_no_class_are_named(labels, class_weight, message):
    with pytest.raises(ValueError, match=message):
        NoPropClassifier(**SMALL, class_weight=class_weight).fit(X, labels[Y])


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_dates_in_another_unit_are_known(unit):
    other = DATES.astype(f"M8[{unit}]")
    plain = NoPropClassifier(**SMALL)
    parts = plain.partial_fit(X, DATES[Y], classes=DATES)
    expected = parts.predict_proba(X)
    found = NoPropClassifier(**SMALL).partial_fit(X, DATES[Y], classes=other)
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    assert found.classes_.dtype == other.dtype
    plain.fit(X, DATES[Y], X_val=X, y_val=other[Y])
    warm = NoPropClassifier(**SMALL, warm_start=True).fit(X, DATES[Y])
    assert warm.fit(X, other[Y]).n_iter_ == 4
    assert warm.classes_.dtype == DATES.dtype
    with pytest.raises(ValueError, match="classes it knows"):
        warm.fit(X, other[Y] + 1)
    with pytest.raises(ValueError, match=r"y_val must have labels among .* Got also"):
        plain.fit(X, DATES[Y], X_val=X, y_val=other[Y] + 1)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 1, np.nan], "Got NaN in row 2"),
        (["a", "b", None], "Got None in row 2"),
        (["a", np.nan, "b"], "Got nan in row 1"),
        (("a", np.nan), "Got nan in row 1"),
        ([*DATES, np.datetime64("NaT")], "Got NaT in row 3"),
        (pd.Series([*DATES, None]), "Got NaT in row 3"),
    ],
    ids=str,
)
def test_classes_of_a_stream_are_not_missing(classes, message):
    clf = NoPropClassifier(**SMALL)
    with pytest.raises(ValueError, match=f"classes must have no missing labels. {message}"):
        clf.partial_fit(X, Y, classes=classes)
    assert not hasattr(clf, "classes_")


@pytest.mark.parametrize("label", [np.nan, None], ids=str)
def test_a_label_that_is_missing_from_a_column_is_named(label):
    """NumPy makes "nan" of it, which would be a class."""
    with pytest.raises(ValueError, match=f"y must have no missing labels. Got {label} in row 1"):
        refuse_missing("y", [["a"], [label], ["b"]])
