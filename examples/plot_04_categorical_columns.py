"""
How does NoProp take categorical columns?
=========================================

As any scikit-learn classifier does: in a pipeline, behind an encoder. No data set that scikit-learn
ships has both numbers and categories, so some columns of the wine data are turned into categories
here, as one would meet them on a form: "low", "medium", "high". What is lost by that is real, and
measured below.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_wine
from sklearn.model_selection import RepeatedStratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sknoprop import NoPropClassifier

wine = load_wine(as_frame=True)
numbers, y = wine.data, wine.target_names[wine.target]

# %%
# A frame of numbers and categories
# ---------------------------------
#
# Three columns are cut at their terciles. The cuts are taken from all rows; they use no labels.

levels = ["low", "medium", "high"]
mixed = numbers.copy()
for column in ("color_intensity", "flavanoids", "proline"):
    mixed[column] = pd.qcut(numbers[column], 3, labels=levels).astype(str)
print(mixed[["alcohol", "color_intensity", "flavanoids", "proline"]].head().to_string())

# %%
# The pipeline
# ------------
#
# Categories become columns of zeros and ones; a category that was not seen in training becomes all
# zeros. Numbers pass through: NoProp standardises and bins them itself, with what it learns from
# the training rows alone.

clf = make_pipeline(
    make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ),
    NoPropClassifier(hidden_layer_sizes=64, random_state=0),
)
clf.fit(mixed, y)
print("columns that NoProp sees:", clf[-1].n_features_in_)
print("classes:", clf.classes_)

# %%
# What the cuts cost
# ------------------
#
# The same folds for each, two times three.

cv = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)
cut = mixed.select_dtypes(exclude="number").columns
frames = {
    "all numbers": numbers,
    "three columns as categories": mixed,
    "without these columns": numbers.drop(columns=cut),
}
scores, losses = {}, {}
for name, frame in frames.items():
    result = cross_validate(clf, frame, y, cv=cv, scoring=["accuracy", "neg_log_loss"])
    losses[name] = -result["test_neg_log_loss"]
    scores[name] = {"accuracy": result["test_accuracy"].mean(), "log loss": losses[name].mean()}
print(pd.DataFrame(scores).T.round(3).to_string())

fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
for k, values in enumerate(losses.values()):
    ax.plot(values, [k] * len(values), "o", color="#0072B2", alpha=0.5)
    ax.plot(values.mean(), k, "D", color="#D55E00", markersize=9)
ax.set_yticks(range(len(losses)), losses)
ax.set(xlabel="log loss (dots: folds, diamonds: means)", xlim=(0, None), ylim=(2.5, -0.5))
ax.set_xticks([0, 0.05, 0.1, 0.15])
plt.show()

# %%
# Folds differ more than frames do, so only paired differences say something: the same folds, one
# frame against another.

for name in ("three columns as categories", "without these columns"):
    worse = losses[name] - losses["all numbers"]
    print(f"{name}: log loss {worse.mean():+.3f}, higher on {sum(worse > 0)} of {len(worse)} folds")
