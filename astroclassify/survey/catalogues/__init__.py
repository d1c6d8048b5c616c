"""Catalogues: read, matched, classified, annotated, as regions, sent to other programs."""
