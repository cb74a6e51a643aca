"""Keeping a fitted classifier: a safe file format, and what pickles hold.

`NoPropClassifier.save` and `NoPropClassifier.load` use the safe format. A file is one
`safetensors <https://huggingface.co/docs/safetensors>`_ file: tensors, and in the header's
metadata under ``"sknoprop"`` one JSON document with everything else. Loading it runs no code
from the file: it holds numbers and names, and each is checked before use.

====================  =============================================================================
``format``            version of this format, `FORMAT`
``versions``          of sknoprop, torch, numpy and scikit-learn, when the file was written
``parameters``        the constructor's parameters
``design``            what the model was assembled from when it was fitted
``classes``           ``dtype`` and ``values`` of `classes_`
``feature_names``     `feature_names_in_` or null
``seed``              of the fit; prediction draws its noise from it
``changed``           parameters that were set to another value after the fit
``fixed``             parameters that a class derived sets itself, and its constructor does not take
``left_out``          digest of which rows blocks left out, that a later fit leaves out the same
====================  =============================================================================

Tensors are the model's state (``model.*``), the curves of training, where the user gave an array
``parameters.embedding``, and where asked for the optimiser's state (``optimizer.*``). There are no
sizes in the document: those of the model are the tensors' own, so that a small file can not ask
for a large model.

Pickle, joblib and skops work on the estimator as on any other. Its state holds the same design
and tensors (as NumPy arrays) in place of the torch module, wherever the model is made of the
package's own parts, so that pickles depend on neither torch's version nor a GPU. They keep more
than the safe format: `history_`, callbacks, objects of the user's own, and the optimiser's state
where more training is to be expected: after `partial_fit`, and with ``warm_start=True``. Pickle and
joblib run what a file tells them to; skops loads the types that it is told to trust::

    import skops.io as sio

    sio.dump(clf, "iris.skops")
    trusted = ["sknoprop.classifier.NoPropClassifier", "skorch.history.History"]
    clf = sio.load("iris.skops", trusted=trusted)
"""

from sknoprop.persistence.estimators import load_classifier, save_classifier, warn_of_version
from sknoprop.persistence.files import FORMAT, ModelFileError
from sknoprop.persistence.models import pickled_model, unpickled_model
from sknoprop.persistence.trainings import pickled_optimizer, unpickled_optimizer

__all__ = [
    "FORMAT",
    "ModelFileError",
    "load_classifier",
    "pickled_model",
    "pickled_optimizer",
    "save_classifier",
    "unpickled_model",
    "unpickled_optimizer",
    "warn_of_version",
]
