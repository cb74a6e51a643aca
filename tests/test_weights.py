"""Weights of rows and classes."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from sknoprop import NoPropClassifier
from sknoprop._data import weighted_data
from tests.models import toy_data, toy_draws, toy_model

SMALL = {"n_blocks": 2, "hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
OPTIONS = [
    {"variant": "dt"},
    {"variant": "dt", "readout": "linear"},
    {"variant": "ct", "readout": "posterior"},
    {"variant": "fm"},
    {"variant": "fm", "embedding": "learned", "embedding_dim": 4},
    {"variant": "ct", "schedule": "learned"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_term_of_the_loss_is_a_weighted_mean(options):
    """A weight of k counts as k equal rows with the same noise, in all terms and gradients."""
    model, inputs, y = toy_model(**options)
    copies = torch.arange(len(y)) % 3
    draws = toy_draws(model, len(y))
    weight = copies.double() / copies.double().mean()
    weighted = model.losses(inputs, y, draws, weight)
    index = torch.arange(len(y)).repeat_interleave(copies)
    repeated = model.losses(
        inputs[index],
        y[index],
        type(draws)(draws.eps[:, index], draws.uniform[:, index], draws.last[index]),
    )
    for ours, theirs in zip(
        (weighted.blocks, weighted.readout, weighted.prior),
        (repeated.blocks, repeated.readout, repeated.prior),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    parameters = [p for p in model.parameters() if p.requires_grad]
    one = torch.autograd.grad(weighted.total(), parameters)
    two = torch.autograd.grad(repeated.total(), parameters)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_weight_zero_is_as_if_the_row_were_not_there(variant):
    X, y = toy_data(60)
    weight = np.where(np.arange(60) % 4 == 0, 0.0, 2.5)
    dropped = NoPropClassifier(variant, **SMALL).fit(X[weight > 0], y[weight > 0])
    zero = NoPropClassifier(variant, **SMALL).fit(X, y, weight)
    np.testing.assert_array_equal(zero.predict_proba(X), dropped.predict_proba(X))


def test_weights_trained_with_have_mean_one_over_the_rows_that_count():
    """Neither their unit nor rows of none change the size of a step."""
    X, y = toy_data(4)
    data = weighted_data(X, y, np.array([0.0, 1.0, 2.0, 6.0]))
    np.testing.assert_array_equal(data.y, y[1:])
    np.testing.assert_allclose(data.sample_weight, [1 / 3, 2 / 3, 2])
    some = data.take(np.array([0, 2]))  # what is left when rows are held out
    np.testing.assert_allclose(some.sample_weight, [2 / 7, 12 / 7])


def test_only_ratios_of_weights_matter():
    X, y = toy_data(60)
    weight = np.random.default_rng(0).random(60)
    fits = [
        NoPropClassifier(**SMALL).fit(X, y, factor * weight).predict_proba(X)
        for factor in (1.0, 2.0**1000, 2.0**-1000)
    ]
    np.testing.assert_allclose(fits[1], fits[0], atol=1e-6)
    np.testing.assert_allclose(fits[2], fits[0], atol=1e-6)


def test_probabilities_follow_the_weights():
    """Features that say nothing: what is learnt are the weighted shares of the classes.

    Exactly so at pure noise; close to the label a block has little to tell classes apart by.
    """
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 2)), np.arange(600) % 2
    options = {"hidden_layer_sizes": (16,), "random_state": 0}
    for fit in (
        lambda: NoPropClassifier(**options).fit(X, y, np.where(y == 1, 3.0, 1.0)),
        lambda: NoPropClassifier(**options, class_weight={1: 3.0}).fit(X, y),
    ):
        clf = fit()
        first = next(clf.staged_predict_proba(X))[:, 1]
        assert first.mean() == pytest.approx(0.75, abs=0.02)
        assert clf.predict_proba(X)[:, 1].mean() == pytest.approx(0.75, abs=0.06)


def test_class_weights_multiply_those_of_rows():
    X, y = toy_data(60)
    y = np.array(["a", "b", "c"])[y]
    weight = np.random.default_rng(0).random(60)
    both = NoPropClassifier(**SMALL, class_weight={"a": 2.0, "c": 0.5}).fit(X, y, weight)
    factor = np.where(y == "a", 2.0, np.where(y == "c", 0.5, 1.0))
    by_hand = NoPropClassifier(**SMALL).fit(X, y, weight * factor)
    np.testing.assert_array_equal(both.predict_proba(X), by_hand.predict_proba(X))


def test_balanced_weights_are_scikit_learns():
    X, y = toy_data(60)
    y = np.minimum(y, 1)
    table = dict(enumerate(compute_class_weight("balanced", classes=np.unique(y), y=y)))
    balanced = NoPropClassifier(**SMALL, class_weight="balanced").fit(X, y)
    by_hand = NoPropClassifier(**SMALL, class_weight=table).fit(X, y)
    np.testing.assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X), atol=1e-6)


def test_a_class_without_weight_stays_a_class():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL | {"max_iter": 60}).fit(X, y, (y != 1).astype(float))
    assert clf.classes_.tolist() == [0, 1, 2]
    assert clf.predict_proba(X)[:, 1].max() < 0.2
    assert set(clf.predict(X)) == {0, 2}


def test_weights_are_routed():
    X, y = toy_data(60)
    weight = np.random.default_rng(0).random(60)
    with config_context(enable_metadata_routing=True):
        clf = NoPropClassifier(**SMALL).set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), clf)
        pipeline.fit(X, y, sample_weight=weight)
        own = clf.fit(StandardScaler().fit_transform(X), y, weight)
        scaled = StandardScaler().fit_transform(X)
        np.testing.assert_array_equal(pipeline.predict_proba(X), own.predict_proba(scaled))
        # A scorer of its own: scikit-learn 1.6 cannot route into the score of a pipeline.
        scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
        grid = {"nopropclassifier__n_blocks": [1, 2]}
        search = GridSearchCV(pipeline, grid, scoring=scorer, cv=2)
        search.fit(X, y, sample_weight=weight)
        assert search.best_params_["nopropclassifier__n_blocks"] in (1, 2)
        clf.set_partial_fit_request(sample_weight=True, classes=True)
        clf.set_fit_request(sample_weight=True, X_val=True, y_val=True)


def test_class_weights_need_not_occur_in_every_part():
    X, y = toy_data(60)
    part = y < 2
    clf = NoPropClassifier(**SMALL, class_weight={2: 5.0})
    clf.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X[part], y[part])
    clf.fit(X, y, X_val=X[part], y_val=y[part])
    assert clf.validation_scores_.shape == (5, 2)


def test_balanced_weights_judge_validation_rows_too():
    X, y = toy_data(60)
    y = np.minimum(y, 1)
    table = dict(enumerate(compute_class_weight("balanced", classes=np.unique(y), y=y)))
    scores = [
        NoPropClassifier(**SMALL, class_weight=weight)
        .fit(X, y, X_val=X[:9], y_val=y[:9])
        .validation_scores_
        for weight in ("balanced", table, None)
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    assert not np.allclose(scores[0], scores[2], rtol=1e-2)


def test_rows_of_weight_zero_do_not_count_for_a_balance():
    X, y = toy_data(60)
    weight = (np.arange(60) > 20) | (y == 0)
    dropped = NoPropClassifier(**SMALL, class_weight="balanced").fit(X[weight], y[weight])
    zero = NoPropClassifier(**SMALL, class_weight="balanced").fit(X, y, weight.astype(float))
    np.testing.assert_array_equal(zero.predict_proba(X), dropped.predict_proba(X))


def test_a_class_of_which_no_row_counts_is_no_part_of_a_balance():
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL, class_weight="balanced").fit(X, y, (y != 1).astype(float))
    assert clf.classes_.tolist() == [0, 1, 2]


def test_products_of_huge_weights_do_not_overflow():
    X, y = toy_data(60)
    huge = NoPropClassifier(**SMALL, class_weight={0: 1e200, 1: 1e200, 2: 2e200})
    plain = NoPropClassifier(**SMALL, class_weight={2: 2.0})
    np.testing.assert_allclose(
        huge.fit(X, y, np.full(60, 1e200)).predict_proba(X),
        plain.fit(X, y).predict_proba(X),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("params", "weight", "message"),
    [
        ({}, np.zeros(60), "non-zero|positive"),
        ({}, np.full(60, -1.0), "[Nn]egative"),
        ({}, np.full(60, np.nan), "NaN"),
        ({}, np.ones(59), r"60"),
        ({}, np.ones((60, 2)), "1D"),
        ({"class_weight": {0: 0.0, 1: 0.0, 2: 0.0}}, None, "positive weight"),
        ({"class_weight": {0: 1.0, 1: 0.0, 2: 0.0}}, None, "only one class: .*0"),
        ({"class_weight": {0: -1.0}}, None, "class_weight.*-1"),
        ({"class_weight": {0: np.inf}}, None, "class_weight.*inf"),
        ({"class_weight": {5: 1.0}}, None, r"class_weight.*keys among \[0, 1, 2\].*\[5\]"),
        ({"class_weight": {0: None}}, None, "class_weight.*None"),
        ({"class_weight": "even"}, None, "class_weight"),
        ({"embedding": "prototype"}, np.arange(60) % 3 != 1, "prototype.*2 of 3 classes"),
    ],
)
def test_bad_weights_are_named(params, weight, message):
    X, y = toy_data(60)
    clf = NoPropClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(X, y, weight)
    assert clf.set_params(class_weight=None).predict(X).shape == (60,)
