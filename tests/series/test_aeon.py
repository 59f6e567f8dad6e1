"""aeon's own checks of an estimator."""

import warnings

from aeon.testing.estimator_checking import parametrize_with_checks

from minrnn.series import MinRNNClassifier, MinRNNForecaster, MinRNNRegressor


@parametrize_with_checks([MinRNNClassifier, MinRNNRegressor, MinRNNForecaster])
def test_of_aeon(check) -> None:  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aeon's checks give series that its own base classes warn of
        check()
