"""The report of predictions: its table, its pictures, its figures, and the page that holds them."""

from ._write import write_report

__all__ = ["write_report"]
