"""
Classes of the rows of a Parquet catalogue by `dask.dataframe`: each partition is read, classified and written apart.

The catalogue has ``source_id``, ``path`` (of an image, seen by all workers) and ``redshift``. The classes are another
folder of Parquet with as many partitions: ``python classify_frame.py CATALOGUE MODEL OUT``.
"""

import os
import sys

os.environ.update({"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"})

import dask.dataframe
from astropy.table import QTable
from dask.distributed import Client, LocalCluster

from astroclassify.nn import load_classifier

COLUMNS = {"source_id": "string", "label_pred": "string", "message": "string"}


# --- Partition
def classify(frame, model):
    """Predictions (pandas) for the rows of one partition."""
    table = QTable.from_pandas(frame[["source_id", "path", "redshift"]])
    return load_classifier(model).classify(table, progress=False).to_pandas(index=False).astype(COLUMNS)


def main(catalogue, model, out):
    """Classify on two processes of this machine."""
    local = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=2, **local) as cluster, Client(cluster):
        frame = dask.dataframe.read_parquet(catalogue)
        like = classify(frame.head(1), model).iloc[:0]  # names and kinds of the columns
        frame.map_partitions(classify, model, meta=like).to_parquet(out)


# --- end


if __name__ == "__main__":
    main(*sys.argv[1:])
