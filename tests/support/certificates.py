"""Certificates of a hospital's own authority, made for one test."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from dicomnode.config.sections import TlsSettings


@dataclass(frozen=True, slots=True)
class Identity:
    """Files that a peer proves itself with."""

    certificate: Path
    private_key: Path
    authority: Path

    def settings(self) -> TlsSettings:
        """The same as the node's settings."""
        return TlsSettings(certificate=self.certificate, private_key=self.private_key, authorities=self.authority)


def issue(authority: trustme.CA, name: str, folder: Path) -> Identity:
    """A certificate for a peer on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    issued = authority.issue_cert("localhost", "127.0.0.1", common_name=name)
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-authority.pem")
    identity.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    identity.private_key.write_bytes(issued.private_key_pem.bytes())
    identity.authority.write_bytes(authority.cert_pem.bytes())
    return identity
