"""Settings of the documentation. The build needs no network."""

import os
from importlib.metadata import version as _version

project = "astroclassify"
author = "The astroclassify developers"
copyright = f"2026, {author}"
release = _version("astroclassify")
version = ".".join(release.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "README.rst"]
default_role = "py:obj"
highlight_language = "python"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Links into other projects' documentation need inventories from the network, so they are made only when asked for.
intersphinx_mapping = {}
if os.environ.get("DOCS_INTERSPHINX"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "astropy": ("https://docs.astropy.org/en/stable", None),
        "reproject": ("https://reproject.readthedocs.io/en/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://pytorch.org/docs/stable", None),
    }

nitpicky = True
nitpick_ignore_regex = [
    # Objects of other projects: known only with their inventories (see intersphinx_mapping).
    (r"py:.*", r"(astropy|concurrent|matplotlib|numpy|onnxruntime|pathlib|photutils|reproject|sklearn|torch)\..*"),
    # Python's own, likewise.
    (r"py:.*", r"(Exception|TypeError|ValueError|OSError|ImportError|FileNotFoundError|IntFlag|enum\.IntFlag|object)"),
    # Private base classes, which have no page.
    (r"py:class", r"astroclassify\..*\._\w+(\.\w+)?"),
]

html_theme = "alabaster"
html_theme_options = {
    "description": "Classification of galaxy clusters from X-ray images",
    "fixed_sidebar": False,
    "page_width": "1100px",
    "sidebar_width": "240px",
}
html_static_path = ["_static"]
html_show_sourcelink = False

# In the order in which a name is looked up: a name that two of them have is described with the first.
_ROOMS = ("exceptions", "schemes", "images", "tables", "batch", "fields", "samples", "workflows", "sim", "survey", "nn")


def _find_home(app, env, node, contnode):
    """Link a name to the room that describes it: `COOL_CORE` without its module, `astroclassify.survey.Field`."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    target = node["reftarget"]
    for room in _ROOMS:
        target = target.removeprefix(f"astroclassify.{room}.")
    for room in _ROOMS:
        name = f"astroclassify.{room}.{target}"
        if name in domain.objects:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)
    return None


def setup(app):
    """Called by Sphinx."""
    app.connect("missing-reference", _find_home)
