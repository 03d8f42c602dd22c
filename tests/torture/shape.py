"""The node that a campaign tortures: which processes, which stores, and what it asks of the archive; drawn by seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self

from tests.support.certificates import Identity

LEASE_S = 2.0
COMMITMENT_TIMEOUT_S = 2.0
REMOVED_AFTER_S = 20.0
PULL_TIMEOUT_S = 2.0
LIGHT_PAUSE_S, HEAVY_PAUSE_S = 0.3, 2.0  # on average between two kills; a process that is no fork of ours starts slowly
Sections = dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Shape:
    """One configuration. whole: all roles in one `dicomnode serve`; bucket: on object storage, not in a folder.

    abreast: jobs that a worker does at once.
    """

    whole: bool = False
    workers: int = 2
    senders: int = 1
    receivers: int = 1
    acceptor: Literal["own", "pynetdicom"] = "own"
    durability: Literal["full", "none"] = "full"
    tls: bool = False
    bucket: bool = False
    pull: Literal["", "move", "get", "dicomweb"] = ""
    commitment: Literal["off", "ask", "require"] = "off"
    retention: bool = False
    abreast: int = 1

    @classmethod
    def of(cls, seed: int) -> Self:
        """The shape that belongs to a seed."""
        rng = random.Random(f"shape {seed}")  # noqa: S311  to be repeatable
        acceptor = rng.choice(("own", "own", "own", "pynetdicom"))
        return cls(
            whole=rng.random() < 0.25,
            workers=rng.randint(1, 3),
            senders=rng.randint(1, 3),
            receivers=rng.choice((1, 3)) if acceptor == "own" else 1,
            acceptor=acceptor,
            durability=rng.choice(("full", "none")),
            tls=rng.random() < 0.4,
            bucket=rng.random() < 0.35,
            pull=rng.choice(("", "move", "get", "dicomweb")),
            commitment=rng.choice(("off", "ask", "require")),
            retention=rng.random() < 0.35,
            abreast=rng.choice((1, 1, 4)),
        )

    @property
    def roles(self) -> list[str]:
        """Names of its processes, as the crew starts them."""
        if self.whole:
            return ["serve"]
        workers = [f"work{number}" for number in range(1, self.workers + 1)]
        return ["receive", *workers, *(f"send{number}" for number in range(1, self.senders + 1))]

    @property
    def has_children(self) -> bool:
        """Whether a process of its own starts others."""
        return self.whole or self.receivers > 1

    @property
    def mean_pause_s(self) -> float:
        """How long it lives from one kill to the next."""
        return HEAVY_PAUSE_S if self.has_children else LIGHT_PAUSE_S

    def sections(self, identity: Identity, bucket: Mapping[str, object], web_url: str) -> Sections:
        """What it says in the configuration. bucket: URL and endpoint; web_url: of the PACS's DICOMweb."""
        sections: Sections = {
            "receiver": {"durability": self.durability, "processes": self.receivers, "acceptor": self.acceptor},
            "worker": {
                "lease_s": LEASE_S,
                "retry_after_s": 0.1,
                "max_attempts": 100_000,
                "job_deadline_s": 60.0,
                "jobs_at_once": self.abreast,
            },
            "sender": {
                "lease_s": LEASE_S,
                "retry_after_s": 0.1,
                "retry_after_max_s": 0.5,
                "max_attempts": 100_000,
                "commitment_timeout_s": COMMITMENT_TIMEOUT_S,
            },
            "archive": {"min_free_bytes": 1024 * 1024, **(bucket if self.bucket else {})},
        }
        if self.tls:
            files: dict[str, Path] = {
                "certificate": identity.certificate,
                "private_key": identity.private_key,
                "authorities": identity.authority,
            }
            sections["tls"] = {name: str(path) for name, path in files.items()}
        if self.retention:
            sections["retention"] = {"after_days": REMOVED_AFTER_S / 86400, "states": ["done"]}
        if self.pull:
            sections["completeness"] = {"ask": "pacs"}
            sections["pull"] = {
                "source": "pacs",
                "method": self.pull,
                "missing": True,
                "timeout_s": PULL_TIMEOUT_S,
                "max_attempts": 100_000,
                "retry_after_s": 0.1,
                "retry_after_max_s": 0.5,
                **({"url": web_url} if self.pull == "dicomweb" else {}),
            }
        return sections

    def __str__(self) -> str:
        """What differs from the plain one."""
        plain = Shape()
        different = [field.name for field in fields(self) if getattr(self, field.name) != getattr(plain, field.name)]
        return ", ".join(f"{name} {getattr(self, name)}" for name in different) or "plain"
