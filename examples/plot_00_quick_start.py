"""
How does one begin?
===================

As with any classifier of scikit-learn: `fit`, then `predict` or `predict_proba`. Features need no
scaling, and no parameter has to be set. Wines are told apart here by thirteen measurements of very
different units.
"""

from sklearn.datasets import load_wine
from sklearn.model_selection import cross_validate, train_test_split

from sknoprop import NoPropClassifier

X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

clf = NoPropClassifier(random_state=0).fit(X_train, y_train)
print(f"right on {clf.score(X_test, y_test):.1%} of {len(X_test)} wines")

# %%
# The probabilities are the mean over the blocks, each of which gives an estimate of its own. How
# far these are apart is a second opinion on each row, see
# :ref:`sphx_glr_auto_examples_plot_13_doubt.py`.

for p, apart in zip(
    clf.predict_proba(X_test[:5]), clf.predict_disagreement(X_test[:5]), strict=True
):
    print("probabilities", p.round(3), f"  blocks apart by {apart:.4f} nats")

# %%
# Whatever takes a classifier takes this one: here cross-validation with two scores.

scores = cross_validate(
    NoPropClassifier("fm", random_state=0), X, y, cv=3, scoring=("accuracy", "neg_log_loss")
)
print(f"accuracy {scores['test_accuracy'].mean():.1%} over three folds")
print(f"log loss {-scores['test_neg_log_loss'].mean():.3f}")
