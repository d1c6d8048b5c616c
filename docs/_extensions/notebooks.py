"""
Tutorials as notebooks, written beside the pages when the site is built.

A tutorial is a page and a script of the same name. The script is the code of the notebook, all of it and in its order,
a cell for each part that begins with ``# ---``; the text of the page stands above the part that it shows. So what the
tests run (the scripts) and what is downloaded cannot differ.
"""

import json
import re
from pathlib import Path

__all__ = ["notebook", "scripts", "setup"]

PART = re.compile(r"^# --- (.*?)(?: -+)?$", re.MULTILINE)
INCLUDE = re.compile(r"^\.\. literalinclude:: (\S+\.py)\n((?:   .*\n)*)", re.MULTILINE)
CODE = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
# Figures and printed tables, which the notebook makes itself, and names of places.
LEFT_OUT = re.compile(r"^\.\. (?:image|figure|literalinclude|_\S+:).*\n(?:   .*\n|\n(?=   ))*", re.MULTILINE)
ADMONITION = re.compile(r"^\.\. (warning|note)::\s*\n", re.MULTILINE)
ABOUT = (
    "*A page of the documentation of astroclassify as a notebook. Start it in an empty folder: it writes files there. "
    "It runs without a network, and needs* `pip install astroclassify[sim,plots,train]`. *Cells without a text above "
    "them only write down what the page prints.*"
)
# Inline marks of reStructuredText and what they are in Markdown, in the order in which they are replaced.
INLINE = (
    (re.compile(r"``([^`]+)``"), r"<code>\1</code>"),
    (re.compile(r":math:`([^`]+)`"), r"$\1$"),
    (re.compile(r":\w+:`([^`<]+?)\s*<[^`>]+>`"), r"*\1*"),
    (re.compile(r":\w+:`~?([^`]+)`"), r"*\1*"),
    (re.compile(r"`([^`<]+?)\s*<(https?:[^`>]+)>`__?"), r"[\1](\2)"),
    (re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{0,2}"), r"*\1*"),
    (re.compile(r"`~[\w.]*?(\w+)`"), r"<code>\1</code>"),
    (re.compile(r"`([^`]+)`_"), r"*\1*"),
    (re.compile(r"</?code>"), "`"),
)


def scripts(folder):
    """Scripts of a folder that have a page."""
    return sorted(path for path in Path(folder).glob("*.py") if path.with_suffix(".rst").exists())


def notebook(script):
    """
    A tutorial as a notebook.

    Parameters
    ----------
    script : path-like
        The script, beside its page.

    Returns
    -------
    dict
        The notebook (format 4.5), to be written as JSON.
    """
    script = Path(script)
    code = script.read_text(encoding="utf-8")
    starts = [0, *(match.start() for match in PART.finditer(code)), len(code)]
    texts = _texts(script.with_suffix(".rst").read_text(encoding="utf-8"), script.name, code, starts)
    cells = []
    for number, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
        cells += [_cell("markdown", texts[number])] if number in texts else []
        cells += [_cell("code", code[start:end])]
    cells += [_cell("markdown", texts[len(starts) - 1])] if len(starts) - 1 in texts else []
    for number, cell in enumerate(cells):
        cell["id"] = f"{script.stem}-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _cell(kind, text):
    """A cell; an empty one is not worth writing, but keeps the script whole."""
    extra = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True), **extra}


def _texts(page, name, code, starts):
    """Markdown by the number of the part of the script that it stands above; the last number is for the end."""
    texts, begin = {}, 0

    def add(number, rst):
        markdown = _markdown(rst)
        if markdown:
            texts[number] = f"{texts[number]}\n\n{markdown}" if number in texts else markdown

    title, _, page = page.split("\n\n", 2)  # between the two: the link to the notebook
    texts[0] = f"{_markdown(title)}\n\n{ABOUT}"
    for include in INCLUDE.finditer(page):
        marker = re.search(r":start-(?:after|at): (.*)", include[2])
        text, place = page[begin : include.start()], len(starts) - 1
        if marker is None:  # a whole script, under a heading of its own
            text = re.split(r"\n.+\n-+\n", text)[0]
        elif include[1] == name:
            start = code.index(marker[1])
            place = max(number for number, first in enumerate(starts[:-1]) if first <= start)
        add(place, text)
        begin = include.end()
    add(len(starts) - 1, page[begin:])
    return texts


def _markdown(rst):
    """Markdown of a piece of a page, without what the notebook itself makes."""
    text = LEFT_OUT.sub("", rst)
    text = ADMONITION.sub(lambda match: f"**{match[1].capitalize()}**\n", text)
    text = re.sub(r"^(.+)\n=+$", r"# \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(.+)\n-+$", r"## \1", text, flags=re.MULTILINE)
    prose, *blocks = CODE.split(text)
    text = _inline(prose)
    for language, block, prose in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        lines = [line.removeprefix("   ") for line in block.strip("\n").splitlines()]
        text += "\n".join([f"```{language}", *lines, "```", "", _inline(prose)])
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _inline(prose):
    """Prose with the inline marks of Markdown."""
    for pattern, mark in INLINE:
        prose = pattern.sub(mark, prose)
    return prose


def _write_all(app, exception):
    """Write the notebooks into the folder of the pages."""
    if exception or app.builder.format != "html":
        return
    for script in scripts(Path(app.srcdir) / "tutorials"):
        path = Path(app.outdir) / "tutorials" / f"{script.stem}.ipynb"
        path.write_text(json.dumps(notebook(script), indent=1) + "\n", encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    app.connect("build-finished", _write_all)
    return {"parallel_read_safe": True}
