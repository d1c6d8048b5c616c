"""Settings of published classifiers, as data: what is printed in the papers, and what had to be chosen."""

import json

from astropy.table import QTable

from astroclassify.data import FOLDER as DATA

__all__ = ["list_recipes", "load_recipe"]

_FOLDER = DATA / "recipes"


def _names():
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def load_recipe(name):
    """
    Load the settings of a published classifier.

    Parameters
    ----------
    name : str
        ``"su2020"``, ``"kosiba2020-cn"`` (custom network) or ``"kosiba2020-mn"`` (MobileNet).

    Returns
    -------
    dict
        ``name``, ``reference``, ``description``; ``parameters``: for each parameter of
        `~astroclassify.nn.CutoutClassifier` a dict with its ``value``, its ``origin`` (``"paper"``; ``"derived"`` from
        what is printed; ``"our choice"`` where the paper's is not known) and, for some, a ``note``; ``protocol``: the
        same for how the paper splits and scores.

    Raises
    ------
    ValueError
        If there is no such recipe.

    See Also
    --------
    CutoutClassifier.from_recipe : the classifier itself.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620; Kosiba et al. 2020, MNRAS 496, 4141.

    Examples
    --------
    >>> from astroclassify.nn import load_recipe
    >>> load_recipe("kosiba2020-cn")["parameters"]["batch_size"]
    {'value': 10, 'origin': 'paper'}
    """
    if name not in _names():
        raise ValueError(f"name must be one of the recipes {_names()}, got {name!r}")
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def list_recipes():
    """
    List the recipes.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``name``, ``architecture``, ``scheme``, ``n_printed`` and ``n_chosen`` (how many values are printed in
        the paper or follow from it, and how many are our choice), ``reference`` and ``description``.

    Examples
    --------
    >>> from astroclassify.nn import list_recipes
    >>> list_recipes()["name"].tolist()
    ['kosiba2020-cn', 'kosiba2020-mn', 'su2020']
    """
    rows = []
    for name in _names():
        recipe = load_recipe(name)
        parameters = recipe["parameters"]
        chosen = sum(entry["origin"] == "our choice" for entry in parameters.values())
        kind = parameters["architecture"]["value"], parameters["scheme"]["value"]
        rows.append((name, *kind, len(parameters) - chosen, chosen, recipe["reference"], recipe["description"]))
    names = ("name", "architecture", "scheme", "n_printed", "n_chosen", "reference", "description")
    return QTable(rows=rows, names=names)
