"""The backend on a Triton Inference Server, for sites whose GPUs serve many nodes.

The server has the package's weights because `repository` exported them; its model configuration carries their digest,
and its answers on the golden inputs are compared before it may serve. Pixels leave this process, by gRPC or, where both
are on one machine, through shared memory.
"""
