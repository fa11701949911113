"""On-device learning behind scikit-learn's interface, simulated on the host: the device's steps, bit for bit."""

from typing import Any, Dict, Optional

import numpy as np

from ._arrays import Array, array
from ._model import Model
from ._model import open as opened
from .errors import UsageError


class Classifier:
    """A model with a learning plan as a classifier.

    Classes are the numbers 0, 1, ... that the network was trained with; new ones come after them.

    Parameters
    ----------
    model : Model or path
        Compiled with ``learn=``. It does not change.
    epochs : int
        Passes over the samples of a call of :meth:`fit`.
    n_classes : int, optional
        Number of classes, those included that the network does not know. Default: those of the labels that :meth:`fit` sees, but at
        least the network's own.
    rate, rule, course
        Override the learning plan, as for :meth:`Model.learn`.
    target : str
        Where to learn: ``host``, or a board, emulated or real.

    Attributes
    ----------
    model_ : Model
        The model that has learned; save it by ``model_.save(path)``.
    classes_ : array
        Class numbers.
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        model: Any,
        *,
        epochs: int = 1,
        n_classes: Optional[int] = None,
        rate: Optional[float] = None,
        rule: Optional[str] = None,
        course: Optional[int] = None,
        target: str = "host",
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.n_classes = n_classes
        self.rate = rate
        self.rule = rule
        self.course = course
        self.target = target

    def fit(self, X: Any, y: Any) -> "Classifier":
        """Learns anew from samples ``(N, ...)`` and class numbers ``(N,)``, in this order."""
        start = self._start()
        self._learn(start, X, y, self.epochs, self.course)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "Classifier":
        """Learns on from samples ``(N, ...)`` and class numbers ``(N,)``, once.

        The first call begins with the network as it was compiled. Classes that the network does not know must be announced there, by
        ``classes`` or ``n_classes``: a device sets memory aside for them when it begins.
        """
        if hasattr(self, "model_"):
            self._learn(self.model_, X, y, 1, None)
            return self
        start = self._start()
        count = self.n_classes
        if classes is not None:
            count = int(np.max(classes)) + 1
        # The course stays as planned, since more samples will follow.
        course = start._native.course if self.course is None else self.course
        self._learn(start, X, y, 1, course, count)
        return self

    def predict(self, X: Any) -> Array:
        """Class numbers ``(N,)``, int64."""
        found: Array = np.argmax(self.decision_function(X), axis=1)
        return found

    def decision_function(self, X: Any) -> Array:
        """Scores ``(N, classes)``, float32: of the classifier head, or the network's first output without one."""
        if not hasattr(self, "model_"):
            raise UsageError("the classifier has not learned yet", "call fit or partial_fit first")
        outputs = self.model_.run(X)
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        return first.reshape(len(first), -1)

    def score(self, X: Any, y: Any) -> float:
        """Fraction of samples ``(N, ...)`` that get the class ``(N,)``."""
        return float(np.mean(self.predict(X) == array(y)))

    def get_params(self, deep: bool = True) -> Dict[str, Any]:
        """The constructor's arguments, for ``sklearn.base.clone`` and searches of parameters."""
        names = ("model", "epochs", "n_classes", "rate", "rule", "course", "target")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> "Classifier":
        """Sets arguments of the constructor."""
        for name, value in params.items():
            if name not in self.get_params():
                raise UsageError(f"there is no parameter `{name}`", f"they are {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(three_d_array=True, two_d_array=True),
        )

    def __repr__(self) -> str:
        return f"Classifier({self.model!r}, epochs={self.epochs})"

    def _start(self) -> Model:
        return self.model if isinstance(self.model, Model) else opened(self.model)

    def _learn(
        self, start: Model, X: Any, y: Any, epochs: int, course: Optional[int], count: Optional[int] = None
    ) -> None:
        known = start.classes
        if known is None:
            raise UsageError("the model has no learning plan", "compile it with learn=")
        if count is None:
            count = self.n_classes
        if count is None:
            count = int(np.max(array(y))) + 1 if not start.has_learned and len(y) else known
        new = 0 if start.has_learned else max(0, count - known)
        self.model_ = start.learn(
            X,
            y,
            epochs=epochs,
            rate=self.rate,
            rule=self.rule,
            course=course,
            new_classes=new,
            target=self.target,
        )
        self.classes_ = np.arange(self.model_.classes or known)
