"""Architectures, and their export to ONNX."""
