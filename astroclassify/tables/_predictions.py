"""Predictions as a notebook shows them: probabilities as bars, flags in words."""

import html

import numpy as np
from astropy.table import QTable

from astroclassify.schemes import flag_names

__all__ = ["PredictionTable"]

_N_SHOWN = 50
_BAR = "background: linear-gradient(90deg, rgba(0, 114, 178, 0.35) {0:.1f}%, transparent {0:.1f}%)"


class PredictionTable(QTable):
    """A PREDICTIONS table; one that lacks its columns is shown as any table."""

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
