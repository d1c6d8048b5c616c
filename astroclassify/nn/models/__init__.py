"""Models on disk, checked before use, and their predictions with ONNX Runtime."""
