"""TensorRT: an ONNX file becomes an engine in a child process, is kept in a cache, and runs on an NVIDIA GPU.

Read in this order: bindings, settings, builder, child, process, cache, device, execute. `engines.tensorrt` joins them.
"""
