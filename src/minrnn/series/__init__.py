"""Time series, as scikit-learn and aeon have it (the extra `series`).

from minrnn.series import MinRNNClassifier

classifier = MinRNNClassifier(random_state=0).fit(X, y)  # (series, channels, steps), or a list of unequal lengths
labels, probabilities = classifier.predict(X_new), classifier.predict_proba(X_new)
"""

try:
    import aeon as _aeon  # noqa: F401
except ImportError as error:
    raise ImportError("minrnn.series needs aeon and scikit-learn: pip install 'minrnn[series]'") from error

from ._backtest import Backtest
from ._classifier import MinRNNClassifier
from ._forecast_network import ForecastNetwork
from ._forecaster import MinRNNForecaster
from ._network import SeriesNetwork
from ._regressor import MinRNNRegressor
from ._saving import load_estimator, save_estimator

__all__ = [
    "Backtest",
    "ForecastNetwork",
    "MinRNNClassifier",
    "MinRNNForecaster",
    "MinRNNRegressor",
    "SeriesNetwork",
    "load_estimator",
    "save_estimator",
]
