"""Any ONNX file, with inputs of its own: measured by how far its outputs stay with the unquantized ones."""

FAMILY = "arrays"
