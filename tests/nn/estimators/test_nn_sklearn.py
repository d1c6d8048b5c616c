"""The estimator contract of scikit-learn, as far as it means something for images and tables."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

import astroclassify.nn
from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.images import Geometry
from astroclassify.nn import CatalogueClassifier, CutoutClassifier, CutoutRegressor, RankClassifier, ThresholdClassifier
from astroclassify.schemes import get_scheme

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
    "CatalogueClassifier": (
        lambda: CatalogueClassifier(("t_cool",), method="logistic", scheme="cool-core", random_state=0),
        {"method": "trees"}, measures,
    ),
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


# What scikit-learn computes of the answers, beside an estimator of its own that gives the same answers.


def logistic(p, classes):
    """scikit-learn's own classifier with the probabilities ``p`` for images whose features are their logarithms."""
    plain = LogisticRegression()
    plain.classes_, plain.n_features_in_ = np.asarray(classes), p.shape[1]
    plain.coef_ = np.eye(3) if p.shape[1] == 3 else np.array([[-1.0, 1.0]])
    plain.intercept_ = np.zeros(len(plain.coef_))
    features = np.log(p)
    assert plain.predict_proba(features) == pytest.approx(p, abs=1e-12)
    return plain, features


def linear(values):
    """scikit-learn's own regressor with the predictions ``values``."""
    plain = LinearRegression()
    plain.coef_, plain.intercept_ = np.eye(values.shape[1]), 0.0
    return plain, values


def scored(name, estimator, X, y):
    """The score, or the kind of error where it does not apply."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(get_scorer(name)(estimator, X, y))
        except Exception as error:
            return type(error).__name__


def compare_scorers(ours, X, plain, features, y, *, least):
    """Every scorer gives the same for both; at least ``least`` of them apply."""
    results = {name: (scored(name, ours, X, y), scored(name, plain, features, y)) for name in get_scorer_names()}
    for name, (mine, theirs) in results.items():
        expected = theirs if isinstance(theirs, str) else pytest.approx(theirs, rel=1e-6, abs=1e-9, nan_ok=True)
        assert mine == expected, name
    assert sum(isinstance(theirs, float) and np.isfinite(theirs) for _, theirs in results.values()) >= least


def noisy(classes, n=40):
    """Images and labels of which a third is wrong, so that no score is perfect."""
    X, _ = images(n)
    labels = np.array(classes)[np.arange(n) % len(classes)]
    labels[::3] = np.roll(labels, 1)[::3]
    return X, labels


@pytest.mark.parametrize(
    ("scheme", "coded", "least"),
    [("cool-core", False, 20), ("cool-core", True, 20), ("cluster", False, 20), ("cluster", True, 30)],
)
def test_every_scorer_is_right_for_a_network(scheme, coded, least):
    network_data()
    X, labels = noisy(get_scheme(scheme).classes)
    classes, codes = np.unique(labels, return_inverse=True)
    y = codes if coded else labels
    network = CutoutClassifier(**{**TINY, "epochs": 1}, scheme=scheme, validation_fraction=0).fit(X, y)
    assert network.classes_.tolist() == sorted(set(y.tolist()))
    p = network.predict_proba(X)
    table = network.classify(X)
    for column, name in enumerate(classes):
        assert p[:, column] == pytest.approx(table[f"p_{name}"], abs=1e-6)
    plain, features = logistic(p, network.classes_)
    assert np.array_equal(plain.predict(features), network.predict(X))
    assert (network.classes_ if coded else classes)[p.argmax(axis=1)].tolist() == network.predict(X).tolist()
    compare_scorers(network, X, plain, features, y, least=least)


@pytest.mark.parametrize("targets", [("c_sb",), ("log_t_cool", "c_sb")])
def test_every_scorer_is_right_for_a_regression(targets):
    X, y = network_data()
    rng = np.random.default_rng(1)
    y = rng.uniform(0.5, 2, size=(len(y), len(targets)))
    y = y[:, 0] if len(targets) == 1 else y
    network = CutoutRegressor(**{**TINY, "epochs": 1}, targets=targets, validation_fraction=0).fit(X, y)
    plain, features = linear(network.predict(X).reshape(len(X), -1))
    if len(targets) == 1:
        plain.coef_ = np.ones(1)
    compare_scorers(network, X, plain, features, y, least=8)


@pytest.mark.parametrize("kind", [ThresholdClassifier, RankClassifier])
@pytest.mark.parametrize("coded", [False, True])
def test_a_perfect_classifier_has_perfect_scores(kind, coded):
    X, labels = measures()
    y = np.unique(labels, return_inverse=True)[1] if coded else labels
    model = kind("t_cool").fit(X, y)
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    for name in ("accuracy", "roc_auc_ovr", "roc_auc_ovo_weighted", "f1_macro", "top_k_accuracy"):
        assert scored(name, model, X, y) == pytest.approx(1), name
    assert scored("neg_log_loss", model, X, y) == pytest.approx(0, abs=1e-9)


def sample_table(n=24):
    table, labels = measures(n)
    table["source_id"], table["label"] = [f"s{i}" for i in range(n)], labels
    table["c_sb"] = np.random.default_rng(0).uniform(0.01, 0.3, n)
    return tables.SampleTable(table)


def test_a_sample_table_can_be_split_and_searched():
    sample = sample_table()
    part = _safe_indexing(sample, np.array([3, 0]))
    assert isinstance(part, tables.SampleTable) and part["source_id"].tolist() == ["s3", "s0"]
    with pytest.raises(ValueError, match="axis must be 0"):
        sample.take([0], axis=1)
    scores = cross_val_score(ThresholdClassifier("t_cool"), sample, sample["label"], cv=3, scoring="neg_log_loss")
    assert scores == pytest.approx(0, abs=1e-9)
    search = GridSearchCV(
        ThresholdClassifier(), {"measure": ["c_sb", "t_cool"]}, cv=3, scoring="neg_log_loss", error_score="raise"
    )
    assert search.fit(sample, sample["label"]).best_params_ == {"measure": "t_cool"}
    p = cross_val_predict(ThresholdClassifier("t_cool"), sample, sample["label"], cv=3, method="predict_proba")
    assert np.array_equal(np.array(["CC", "NCC", "WCC"])[p.argmax(axis=1)], sample["label"])


def test_a_sample_folder_can_be_cross_validated(tmp_path):
    """Images are found from every part of a table that knows its folder."""
    network_data()
    data, labels = images(12)
    (tmp_path / "images").mkdir()
    for number, image in enumerate(data):
        header = fits.Header({"BUNIT": "ct", "REDSHIFT": 0.05, "EXPOSURE": 1e5, "CTYPE1": "RA---TAN",
                              "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 16.5, "CRPIX2": 16.5,
                              "CDELT1": -4 / 3600, "CDELT2": 4 / 3600})  # fmt: skip
        fits.writeto(tmp_path / "images" / f"s{number}.fits", image.astype(np.float32), header)
    names = [f"s{i}" for i in range(12)]
    sample = tables.SampleTable({"source_id": names, "path": [f"images/{name}.fits" for name in names]})
    sample["label"], sample.meta["folder"] = labels, str(tmp_path)
    model = make("CutoutClassifier").set_params(epochs=1, validation_fraction=0)
    scores = cross_val_score(model, sample, sample["label"], cv=2, scoring="neg_log_loss", error_score="raise")
    assert np.all(np.isfinite(scores))


def test_labels_as_numbers(fitted):
    """scikit-learn numbers the labels before it trains, here and there."""
    _, X, y = fitted("CutoutClassifier")
    model = make("CutoutClassifier").set_params(epochs=1, validation_fraction=0)
    p = cross_val_predict(model, X, y, cv=2, method="predict_proba")
    assert p.shape == (len(y), 3) and p.sum(axis=1) == pytest.approx(1)
    first, second = next(iter(StratifiedKFold(2).split(np.zeros(len(y)), y)))
    alone = clone(model).fit(X[first], y[first])
    assert alone.classes_.tolist() == ["CC", "NCC", "WCC"]
    assert p[second] == pytest.approx(alone.predict_proba(X[second]), abs=1e-6)
    calibrated = CalibratedClassifierCV(model, cv=2, ensemble=False).fit(X, y)
    assert calibrated.classes_.tolist() == ["CC", "NCC", "WCC"] and set(calibrated.predict(X)) <= set(y)
    with pytest.raises(SchemaError, match="labels that are numbers must be from 0 to 2"):
        clone(model).fit(X, np.arange(len(y)) % 4)


def test_every_parameter_is_in_the_docstring_and_no_attribute_of_the_class():
    for kind in (CutoutClassifier, CutoutRegressor):
        documented = inspect.getdoc(kind).split("Attributes\n")[0]
        for name in inspect.signature(kind).parameters:
            assert f"\n{name} : " in documented and not hasattr(kind, name), name
