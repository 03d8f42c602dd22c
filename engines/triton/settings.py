"""Where a Triton server is and how long it may take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SharedMemory = Literal["auto", "off"]
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class TritonSettings:
    """url: host:port of its gRPC service, "" where there is none; model: its name there, "" for the exported one.

    limit_s: an answer that takes longer is given up. shared_memory: "auto" uses it where the url is of this machine.
    authorities: with them TLS is spoken, and the server must show a certificate that one of them signed; certificate
    and private_key: for a server that wants to see ours.
    """

    url: str = ""
    model: str = ""
    limit_s: float = LIMIT_S
    shared_memory: SharedMemory = "auto"
    authorities: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
