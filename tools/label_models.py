"""
Write the labels that a network trained now would get into model folders made before: ``python tools/label_models.py``.

By default of all packaged models. Weights and answers stay as they are; sizes and digests in ``model.json`` follow, and
``README.md`` is written anew. Needs the extra ``train``.
"""

import sys
from pathlib import Path

from safetensors import numpy as safetensors

from astroclassify.nn import list_classifiers, load_classifier
from astroclassify.nn.estimators._fitting import labels_of, one_text
from astroclassify.nn.models._store import find_folder
from astroclassify.nn.networks._export import label_onnx


def label(folder):
    """Label one model folder."""
    model = load_classifier(folder)
    labels, network = labels_of(model, model.predictor_.preprocessing), model.predictor_.network
    model.weights_ = safetensors.save(safetensors.load(model.weights_), metadata=one_text(labels))
    network.data = label_onnx(network.data, labels)
    model.save(folder, overwrite=True)
    print(folder, labels)


if __name__ == "__main__":
    for name in sys.argv[1:] or list_classifiers()["name"]:
        label(Path(find_folder(str(name))))
