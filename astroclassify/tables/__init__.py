"""Tables that the package returns and takes: their columns, and how they are checked, read and written."""

from ._columns import (
    CANDIDATES,
    PREDICTIONS,
    SAMPLE,
    SCORES,
    VOTES,
    TableSpec,
    empty,
    provenance,
    validate,
)
from ._files import (  # noqa: F401 (some are for the rooms only)
    IMAGE_FOLDER,
    SAMPLE_FILE,
    format_of,
    image_paths,
    read,
    read_sample,
    unpack,
    write,
    write_beside,
    write_sample,
)
from ._formats import readable  # noqa: F401 (for the rooms only)
from ._kinds import KindTable, main_columns  # noqa: F401 (for the rooms only)
from ._plain import has_text, numbers, plain_column, plain_sky, plain_table  # noqa: F401 (some are for the rooms only)
from ._sample import SampleTable
from ._text_cells import cells_of, named_units, table_of_cells  # noqa: F401 (for the rooms only)

__all__ = [
    "CANDIDATES",
    "PREDICTIONS",
    "SAMPLE",
    "SCORES",
    "SampleTable",
    "VOTES",
    "TableSpec",
    "empty",
    "image_paths",
    "plain_column",
    "plain_table",
    "provenance",
    "read",
    "read_sample",
    "validate",
    "write",
    "write_sample",
]
