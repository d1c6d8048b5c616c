"""How tables of the known kinds are shown: main columns on a narrow terminal, predictions with bars in a notebook."""

import html
import textwrap
from fnmatch import fnmatchcase

import numpy as np
from astropy.table import QTable

from astroclassify.schemes import flag_names

__all__ = ["KindTable", "main_columns"]

# Columns by which a table of a kind is known, and its main ones; "p_*" stands for all columns that begin so.
_KINDS = (
    (("source_id", "label_pred", "flags"), ("source_id", "label_pred", "p_*", "flags", "familiarity")),
    (
        ("source_id", "ext_like", "det_like", "x_class"),
        ("source_id", "sky_position", "ext", "ext_like", "det_like", "counts", "x_class", "flags"),
    ),
    (
        ("class", "precision", "recall", "f1"),
        ("method", "class", "precision", "recall", "f1", "f1_lo", "f1_hi", "f1_std", "bacc"),
    ),
    (("population", "description", "source"), ("population", "fraction_*")),
    (("source_id", "path", "label"), ("source_id", "label", "redshift", "m_500", "t_cool", "c_sb", "flags")),
)
_N_SHOWN = 50
_BAR = "background: linear-gradient(90deg, rgba(0, 114, 178, 0.35) {0:.1f}%, transparent {0:.1f}%)"


def main_columns(table):
    """Names of the main columns of a table of PREDICTIONS, CANDIDATES, SCORES, SAMPLE or populations; else of all."""
    for known_by, main in _KINDS:
        if set(known_by) <= set(table.colnames):
            return [name for pattern in main for name in table.colnames if fnmatchcase(name, pattern)]
    return table.colnames


class KindTable(QTable):
    """A table of a known kind, which prints its main columns where not all fit on the terminal."""

    def __str__(self):
        names = main_columns(self)
        others = [name for name in self.colnames if name not in names]
        terminal = {"max_lines": None, "max_width": None}  # as large as that is
        if not others or "..." not in self.pformat(**terminal)[0].split():
            return super().__str__()
        more = textwrap.wrap(f"and {', '.join(others)}", 80, break_on_hyphens=False)
        return "\n".join([*self[names].pformat(**terminal), *more])

    def __repr__(self):
        return f"<{type(self).__name__} length={len(self)}>\n{self}"

    def _repr_html_(self):
        classes = [name for name in self.colnames if name.startswith("p_")]
        if not {"source_id", "label_pred", "flags"} <= set(self.colnames):
            return super()._repr_html_()
        texts = [name for name in ("familiarity", "label", "message") if name in self.colnames]
        head = "".join(
            f"<th>{html.escape(name)}</th>" for name in ("source_id", "label_pred", *classes, "flags", *texts)
        )
        rows = "".join(f"<tr>{_cells(row, classes, texts)}</tr>" for row in self[:_N_SHOWN])
        more = f"<p>{_N_SHOWN} of {len(self)} rows</p>" if len(self) > _N_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _cells(row, classes, texts):
    words = [str(row["source_id"]), str(row["label_pred"]) or "no answer"]
    cells = [f"<td>{html.escape(word)}</td>" for word in words]
    for name in classes:
        p = float(row[name])
        cells.append(f'<td style="{_BAR.format(100 * p)}">{p:.3f}</td>' if np.isfinite(p) else "<td></td>")
    values = [f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in texts]
    words = [", ".join(flag_names(row["flags"])), *values]
    return "".join([*cells, *(f"<td>{html.escape(word)}</td>" for word in words)])
