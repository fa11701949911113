//! The ONNX standard's node tests, compiled to float32: see `tests/nodes.rs`.
