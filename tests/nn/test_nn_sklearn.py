"""The estimator contract of scikit-learn, as far as it means something for images and tables."""

import inspect
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

import astroclassify.nn
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, CutoutRegressor, RankClassifier, ThresholdClassifier

SIDE = 32
GRID = Geometry(SIDE * 4 * u.arcsec, (SIDE, SIDE))
TINY = {"n_filters": 4, "geometry": GRID, "epochs": 2, "batch_size": 8, "random_state": 0, "device": "cpu"}
CORES = {"CC": 1.2, "WCC": 3.5, "NCC": 9.0}


def images(n=24):
    """Beta models of three core radii."""
    rng = np.random.default_rng(0)
    labels = np.array(list(CORES))[np.arange(n) % 3]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    shapes = [(1 + (x**2 + y**2) / CORES[label] ** 2) ** -1.5 for label in labels]
    return np.stack([rng.poisson(2000 * s / s.sum()) for s in shapes]).astype(float), labels


def measures(n=24):
    labels = np.array(list(CORES))[np.arange(n) % 3]
    t_cool = np.where(labels == "CC", 0.5, np.where(labels == "WCC", 4, 12)) * u.Gyr
    return QTable({"t_cool": t_cool}), labels


def network_data():
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    return images()


def targets():
    data, labels = network_data()
    return data, np.log10([CORES[label] for label in labels])


# Estimator, other values of its parameters, and data that it can learn from.
ESTIMATORS = {
    "CutoutClassifier": (lambda: CutoutClassifier(**TINY), {"n_filters": 8, "stretch": "sqrt"}, network_data),
    "CutoutRegressor": (
        lambda: CutoutRegressor(targets=("log_t_cool",), **TINY), {"n_filters": 8, "stretch": "sqrt"}, targets
    ),
    "ThresholdClassifier": (lambda: ThresholdClassifier("t_cool"), {"measure": "n_e"}, measures),
    "RankClassifier": (lambda: RankClassifier("t_cool"), {"measure": "n_e"}, measures),
}  # fmt: skip
every = pytest.mark.parametrize("name", ESTIMATORS)


def make(name):
    return ESTIMATORS[name][0]()


@pytest.fixture(scope="module")
def fitted():
    """Each estimator fitted once, when first asked for."""
    kept = {}

    def get(name):
        if name not in kept:
            X, y = ESTIMATORS[name][2]()
            kept[name] = make(name).fit(X, y), X, y
        return kept[name]

    return get


def test_every_estimator_is_here():
    public = {name for name in astroclassify.nn.__all__ if inspect.isclass(getattr(astroclassify.nn, name))}
    estimators = {name for name in public if issubclass(getattr(astroclassify.nn, name), BaseEstimator)}
    assert estimators <= set(ESTIMATORS)


@every
def test_init_only_stores(name):
    """The very objects that came, nothing more, nothing learned."""
    kind = type(make(name))
    parameters = inspect.signature(kind).parameters
    assert not any(each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in parameters.values())
    marks = {parameter: object() for parameter in parameters}
    estimator = kind(**marks)
    assert vars(estimator) == marks
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters.values())
    for default in (parameter.default for parameter in parameters.values()):
        assert not isinstance(default, (list, dict, set, np.ndarray)), "a default that one call could change for all"


@every
def test_parameters_can_be_read_set_and_cloned(name):
    estimator, changes = make(name), ESTIMATORS[name][1]
    assert estimator.get_params().keys() == inspect.signature(type(estimator)).parameters.keys()
    assert estimator.set_params(**changes) is estimator
    assert {key: estimator.get_params()[key] for key in changes} == changes
    copy = clone(estimator)
    assert copy is not estimator and type(copy) is type(estimator)
    same = [copy.get_params(deep=False)[key] == value for key, value in estimator.get_params(deep=False).items()]
    assert np.all([np.all(each) for each in same])
    with pytest.raises(ValueError, match="Invalid parameter"):
        estimator.set_params(no_such_parameter=1)
    assert name in repr(estimator)


@every
def test_it_says_what_it_is(name):
    assert is_classifier(make(name)) == name.endswith("Classifier")
    assert is_regressor(make(name)) == name.endswith("Regressor")


@every
def test_not_fitted(name):
    estimator = make(name)
    X = images(2)[0] if name.startswith("Cutout") else measures(2)[0]
    for method in ("predict", "predict_proba", "classify", "predict_table"):
        # Fixed cuts learn nothing, so they need no fit.
        if hasattr(estimator, method) and name != "ThresholdClassifier":
            with pytest.raises(NotFittedError, match="not fitted"):
                getattr(estimator, method)(X)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)


@every
def test_fit_returns_self_and_leaves_the_parameters_alone(name, fitted):
    estimator, X, y = fitted(name)
    before = make(name).get_params(deep=False)
    after = estimator.get_params(deep=False)
    assert all(np.all(before[key] == after[key]) for key in before)
    again = make(name)
    assert again.fit(X, y) is again
    learned = set(vars(again)) - set(before)
    assert learned and all(key.endswith("_") and not key.startswith("_") for key in learned)
    check_is_fitted(again)
    assert np.array_equal(again.predict(X), estimator.predict(X)), "the same seed gives the same answer"
    assert not [key for key in vars(clone(again)) if key.endswith("_")]


@every
def test_a_second_fit_forgets_the_first(name, fitted):
    _, X, y = fitted(name)
    estimator = make(name).fit(X[:12], y[:12])
    assert estimator.fit(X, y) is estimator
    assert np.array_equal(estimator.predict(X), fitted(name)[0].predict(X))


@every
def test_answers_have_one_row_per_image(name, fitted):
    estimator, X, y = fitted(name)
    before = X.copy()
    assert len(estimator.predict(X)) == len(y) and np.isfinite(estimator.score(X, y))
    if is_classifier(estimator):
        p = estimator.predict_proba(X)
        assert p.shape == (len(y), len(estimator.classes_)) and p.sum(axis=1) == pytest.approx(1)
        assert np.array_equal(estimator.classes_[p.argmax(axis=1)], estimator.predict(X))
        assert set(y) <= set(estimator.classes_)
    columns = getattr(X, "colnames", None)
    for ours, theirs in [(X, before)] if columns is None else [(X[key], before[key]) for key in columns]:
        assert np.array_equal(ours, theirs), "the input is left as it was"


@every
def test_pickle(name, fitted):
    estimator, X, _ = fitted(name)
    copy = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(copy.predict(X), estimator.predict(X))
    assert pickle.loads(pickle.dumps(make(name))).get_params().keys() == estimator.get_params().keys()


def halve(X):
    return X / 2


@pytest.mark.parametrize("name", ["CutoutClassifier", "CutoutRegressor"])
def test_pipeline(name, fitted):
    _, X, y = fitted(name)
    steps = Pipeline([("exposure", FunctionTransformer(halve)), ("network", make(name))])
    assert steps.set_params(network__epochs=1).fit(2 * X, y) is steps
    alone = make(name).set_params(epochs=1).fit(X, y)
    assert np.array_equal(steps.predict(2 * X), alone.predict(X))
    assert steps.score(2 * X, y) == alone.score(X, y)
    assert clone(steps).get_params()["network__n_filters"] == 4


@pytest.mark.parametrize("name", ["CutoutClassifier", "CutoutRegressor"])
def test_grid_search(name, fitted):
    _, X, y = fitted(name)
    folds = KFold(2)
    search = GridSearchCV(make(name).set_params(epochs=1), {"n_filters": [4, 8]}, cv=folds, error_score="raise")
    assert search.fit(X, y) is search
    assert search.best_params_["n_filters"] in (4, 8) and len(search.cv_results_["mean_test_score"]) == 2
    assert len(search.predict(X)) == len(y)
    if name == "CutoutClassifier":
        scores = cross_val_score(search.best_estimator_, X, y, cv=2, scoring="f1_macro", error_score="raise")
        assert scores.shape == (2,) and np.all(np.isfinite(scores))
