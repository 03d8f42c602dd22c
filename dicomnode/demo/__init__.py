"""The demo: a node, an archive and a sending PACS on this machine, and real mammograms on the whole way once."""

from dicomnode.demo.run import run_demo

__all__ = ["run_demo"]
