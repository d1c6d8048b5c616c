"""Settings of the documentation. Neither the build nor the pages that it makes need the network."""

import sys
from importlib.metadata import version as _version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

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
    "sphinx-mathjax-offline",  # ships MathJax, which sphinx.ext.mathjax alone takes from the web
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "myst_parser",  # for the model cards, which are Markdown
    "notebooks",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "README.rst"]
source_suffix = {".rst": "restructuredtext"}
default_role = "py:obj"
highlight_language = "python"

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# The few objects of other projects that are named here, one a line, so that links to them need no download.
intersphinx_mapping = {
    name: (address, f"inventories/{name}.inv")
    for name, address in {
        "astropy": "https://docs.astropy.org/en/stable",
        "matplotlib": "https://matplotlib.org/stable",
        "numpy": "https://numpy.org/doc/stable",
        "photutils": "https://photutils.readthedocs.io/en/stable",
        "python": "https://docs.python.org/3",
        "reproject": "https://reproject.readthedocs.io/en/stable",
        "sklearn": "https://scikit-learn.org/stable",
        "torch": "https://docs.pytorch.org/docs/stable",
    }.items()
}
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "logo": {"text": "astroclassify"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "collapse_navigation": True,  # the whole tree on every page would be most of its bytes
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_title = f"astroclassify {version}"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {name: [] for name in ("index", "installation", "getting_started", "changes")}

# The lines of code, without prompts and what is printed.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

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


def _public_name(cls):
    """Name of a class in the outermost module that has it, or None of a class that has no page."""
    parts = cls.__module__.split(".")
    modules = [".".join(parts[:number]) for number in range(1, len(parts) + 1)]
    public = [name for name in modules if "._" not in name and not cls.__name__.startswith("_")]
    if parts[0] == "astroclassify":  # rooms hold a few names for each other that are not for users
        public = [name for name in public if cls.__name__ in getattr(sys.modules[name], "__all__", ())]
    found = next((name for name in public if getattr(sys.modules[name], cls.__name__, None) is cls), None)
    return found and f"{found}.{cls.__name__}".removeprefix("builtins.")


def _show_public_bases(app, name, obj, options, bases):
    """Show base classes by the names that users import, and in the place of a private one the nearest that it has."""
    shown = [next(filter(None, map(_public_name, base.__mro__))) for base in bases]
    bases[:] = [f":py:class:`~{each}`" for each in dict.fromkeys(shown)]


def setup(app):
    """Called by Sphinx."""
    app.connect("missing-reference", _find_home)
    app.connect("autodoc-process-bases", _show_public_bases)
