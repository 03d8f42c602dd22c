"""The sections of the configuration: what can be set, its bounds and its defaults."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from engines.triton.settings import LIMIT_S, SharedMemory
from engines.trt.settings import BUILD_LIMIT_S, CACHE, MemoryName

MAX_AE_TITLE = 16  # PS3.5 6.2, VR AE
MAX_PORT = 65535


def _check_ae_title(value: str) -> str:
    title = value.strip()
    if not 0 < len(title) <= MAX_AE_TITLE or not title.isascii() or not title.isprintable() or "\\" in title:
        msg = f"{value!r} is no AE title: 1 to {MAX_AE_TITLE} printable ASCII characters without backslash (PS3.5 6.2)"
        raise ValueError(msg)
    return title


AeTitle = Annotated[str, AfterValidator(_check_ae_title)]
ANY_AE_TITLE = "*"
Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
# Bounds that no node needs and that the operating system, the databases and the protocol can still count in.
MAX_SECONDS = 10 * 365 * 86400.0
MAX_PDU_SIZE = 64 * 1024**2  # held for each association
MAX_COUNT = 1_000_000
MAX_AGE_DAYS = 150 * 366
MAX_THREADS = 1024
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MAX_JOBS_AT_ONCE = 64
Attempts = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Priority = Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT)]
FreeSpace = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[0-9]{1,2}(\.[0-9]+)?%$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_name_holds_a_null(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            msg = "contains a null character, which no file, host or name can"
            raise ValueError(msg)
        return value


class PeerSettings(_Section):
    """An entry of `node.peers`: limits of one calling AE title that differ from the node's."""

    ae_title: AeTitle
    maximum_instance_bytes: Annotated[int, Field(ge=1)] | None = None
    maximum_bytes_per_s: Rate | None = None


class NodeSettings(_Section):
    """`[node]`: who we are and who may send."""

    ae_title: AeTitle = "DICOMNODE"
    host: str = "0.0.0.0"  # noqa: S104  a DICOM node listens to its network; the allow-list decides who may talk
    port: Port = 11112
    allowed_calling_ae_titles: tuple[AeTitle, ...] = ()
    allow_any_calling_ae_title: bool = False
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    maximum_associations: Annotated[int, Field(ge=1)] = 50
    maximum_associations_per_peer: Annotated[int, Field(ge=1)] = 20
    maximum_pdu_size: Annotated[int, Field(ge=4096, le=MAX_PDU_SIZE)] = 131072
    network_timeout_s: Seconds = 60.0
    maximum_message_s: Seconds = 1800.0
    maximum_instance_bytes: Annotated[int, Field(ge=1)] = 2 * 1024**3
    maximum_bytes_per_s: Rate | None = None
    peers: tuple[PeerSettings, ...] = ()

    def bytes_per_s_of(self, ae_title: str) -> float | None:
        """How fast the peer may send over all its associations; None without a limit."""
        own = next((peer.maximum_bytes_per_s for peer in self.peers if peer.ae_title == ae_title), None)
        return own or self.maximum_bytes_per_s

    @property
    def instance_bytes_by_peer(self) -> dict[str, int]:
        """The longest instance of each calling AE title that has a limit of its own."""
        return {peer.ae_title: peer.maximum_instance_bytes for peer in self.peers if peer.maximum_instance_bytes}

    @model_validator(mode="after")
    def _somebody_may_send(self) -> Self:
        if not self.allowed_calling_ae_titles and not self.allow_any_calling_ae_title:
            msg = "name the senders in allowed_calling_ae_titles, or set allow_any_calling_ae_title = true"
            raise ValueError(msg)
        return self


class ReceiverSettings(_Section):
    """`[receiver]`: how instances are taken in. durability "none": Success does not wait for the disk."""

    durability: Literal["full", "none"] = "full"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    acceptor: Literal["own", "pynetdicom"] = "own"

    @model_validator(mode="after")
    def _stock_acceptor_is_alone(self) -> Self:
        if self.acceptor == "pynetdicom" and self.processes > 1:
            msg = "processes: only the node's own acceptor has several"
            raise ValueError(msg)
        return self


class TlsSettings(_Section):
    """`[tls]`: with a certificate the node's port speaks TLS alone; authorities: who vouches for peers, both ways."""

    certificate: Path | None = None
    private_key: Path | None = None
    authorities: Path | None = None

    @model_validator(mode="after")
    def _certificate_has_its_key_and_judges(self) -> Self:
        given = [self.certificate, self.private_key, self.authorities]
        if any(given) and not all(given):
            msg = "certificate, private_key and authorities belong together: peers prove who they are, both ways"
            raise ValueError(msg)
        return self


class IdentitySettings(_Section):
    """`[identity]`: users whom a peer may name with its association; required: no user, no association."""

    passcodes: Path | None = None
    required: bool = False

    @model_validator(mode="after")
    def _who_is_required_is_known(self) -> Self:
        if self.required and self.passcodes is None:
            msg = "required: name the file with the users in passcodes"
            raise ValueError(msg)
        return self


class DatabaseSettings(_Section):
    """`[database]`: where studies, jobs and deliveries are kept."""

    url: str = Field(repr=False)


class ArchiveSettings(_Section):
    """`[archive]`: where received instances and results are kept.

    path: the folder for them, or with `url` for what is on its way to or from a bucket.
    """

    path: Path
    url: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[A-Za-z0-9._/-]+)?$")] | None = None
    endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    region: str = "us-east-1"
    min_free_bytes: Annotated[int, Field(ge=0)] = 1024**3
    refuse_below: FreeSpace = Field(default_factory=lambda validated: 2 * int(validated["min_free_bytes"]))
    accept_above: FreeSpace = Field(default_factory=lambda validated: 3 * int(validated["min_free_bytes"]))
    warn_below: FreeSpace = Field(default_factory=lambda validated: 5 * int(validated["min_free_bytes"]))

    @model_validator(mode="after")
    def _marks_are_in_order(self) -> Self:
        marks = [self.min_free_bytes, self.refuse_below, self.accept_above, self.warn_below]
        for alike in (
            [mark for mark in marks if isinstance(mark, int)],
            [float(mark.rstrip("%")) for mark in marks if isinstance(mark, str)],
        ):
            if alike != sorted(alike):
                msg = "min_free_bytes, refuse_below, accept_above and warn_below must be in this order, least first"
                raise ValueError(msg)
        return self


class RetentionSettings(_Section):
    """`[retention]`: which finished studies are removed again; none unless an age or an amount of room is given."""

    after_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    below_free_bytes: Annotated[int, Field(gt=0)] | None = None
    states: Annotated[tuple[Literal["done", "failed", "unmatched", "prior"], ...], Field(min_length=1)] = (
        "done",
        "unmatched",
        "prior",
    )
    only_delivered: bool = True


class CompletenessSettings(_Section):
    """`[completeness]`: when a study is taken as complete."""

    quiet_s: Seconds = 30.0
    deadline_s: Seconds = 900.0
    ask: str | None = None


class QueueSettings(_Section):
    """`[queue]`: which studies go first. A step of priority, of a sender or a model, is a head start of `ageing_s`."""

    ageing_s: Seconds = 3600.0
    priorities: dict[AeTitle, Priority] = {}
    respect_priority_of: tuple[AeTitle, ...] = (ANY_AE_TITLE,)

    def of_sender(self, ae_title: str, asked: int) -> int:
        """Steps for what comes from a calling AE title that asks for so many with it."""
        is_heard = bool({ae_title, ANY_AE_TITLE}.intersection(self.respect_priority_of))
        return self.priorities.get(ae_title, 0) + (asked if is_heard else 0)


class PriorRule(_Section):
    """An entry of `pull.priors`: studies that hold the modality get the newest earlier ones that hold it."""

    modality: str
    at_most: Annotated[int, Field(ge=1)] = 1
    maximum_age_days: Annotated[int, Field(ge=1, le=MAX_AGE_DAYS)] = 1830


class PullSettings(_Section):
    """`[pull]`: what is fetched from a PACS that did not send it."""

    source: str | None = None
    method: Literal["move", "get", "dicomweb"] = "move"
    missing: bool = False
    priors: tuple[PriorRule, ...] = ()
    timeout_s: Seconds = 300.0
    max_attempts: Attempts = 5
    retry_after_s: Seconds = 10.0
    retry_after_max_s: Seconds = 3600.0
    url: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    authorities: Path | None = None

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Self:
        if (self.missing or self.priors) and self.source is None:
            msg = "missing and priors need a source: the name of a destination"
            raise ValueError(msg)
        if (self.method == "dicomweb") != (self.url is not None):
            msg = 'url belongs to method = "dicomweb"'
            raise ValueError(msg)
        if (self.user is None) != (self.password is None):
            msg = "user and password belong together"
            raise ValueError(msg)
        return self


class WorkerSettings(_Section):
    """`[worker]`: how long a job may take, how often it is tried, and how many share the calls of a GPU."""

    lease_s: Seconds = 60.0
    job_deadline_s: Seconds = 900.0
    max_attempts: Attempts = 3
    retry_after_s: Seconds = 30.0
    jobs_at_once: Annotated[int, Field(ge=1, le=MAX_JOBS_AT_ONCE)] = 1


class SenderSettings(_Section):
    """`[sender]`: how results are handed over."""

    max_attempts: Attempts = 20
    lease_s: Seconds = 300.0
    retry_after_s: Seconds = 5.0
    retry_after_max_s: Seconds = 3600.0
    commitment_timeout_s: Seconds = 3600.0


class LoggingSettings(_Section):
    """`[logging]`: console on a terminal, JSON elsewhere, unless told."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class MetricsSettings(_Section):
    """`[metrics]`: where Prometheus may ask; nowhere without a port."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=MAX_PORT)] | None = None


class TritonSection(_Section):
    """`[triton]`: the inference server of the backend triton; unused by the others. TLS is spoken with authorities."""

    url: str | None = None
    limit_s: Seconds = LIMIT_S
    shared_memory: SharedMemory = "auto"
    authorities: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    @model_validator(mode="after")
    def _certificate_has_its_key_and_judges(self) -> Self:
        if (self.certificate is None) != (self.private_key is None) or (self.certificate and not self.authorities):
            msg = "certificate and private_key belong together, and need authorities"
            raise ValueError(msg)
        return self


class TensorRtSection(_Section):
    """`[tensorrt]`: where engines are kept and how long one may be built; used by the backend tensorrt only."""

    cache: Path = CACHE
    build_limit_s: Seconds = BUILD_LIMIT_S
    memory: MemoryName = "auto"


class ModelSettings(_Section):
    """`[[models]]`: a model package and the images that it gets."""

    package: str
    backend: Literal["auto", "tensorrt", "openvino", "onnxruntime", "triton"] = "auto"
    triton_model: str | None = None
    threads: Annotated[int, Field(ge=0, le=MAX_THREADS)] = 0
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    priority: Priority = 0
    modalities: Annotated[tuple[str, ...], Field(min_length=1)] = ("MG",)
    accept_digitised_film: bool = False
    accept_lossy: bool = True
    accept_implants: bool = False
    accept_partial_views: bool = True
    accept_repeats: bool = True
    accept_synthetic_2d: bool = True
    cancer_share: Annotated[float, Field(gt=0, lt=1)] | None = None


DestinationKind = Literal["orthanc-ohif", "dcm4chee", "mammography-workstation", "archive"]
ObjectKind = Literal["sr", "cad", "seg", "gsps", "sc", "ko"]
DEFAULT_OBJECTS: Mapping[DestinationKind, tuple[ObjectKind, ...]] = {  # what each kind of peer shows
    "orthanc-ohif": ("sr", "seg"),
    "dcm4chee": ("sr", "seg", "gsps", "ko"),
    "mammography-workstation": ("cad", "sr", "gsps"),
    "archive": ("sr", "seg"),
}


def _objects_shown(validated: dict[str, Any]) -> tuple[ObjectKind, ...]:
    return DEFAULT_OBJECTS[validated["kind"]]


def _needs_geometry(validated: dict[str, Any]) -> bool:
    return bool(validated["kind"] == "orthanc-ohif")


class DestinationSettings(_Section):
    """`[[destinations]]`: a peer that gets results, and which kinds; what is not said depends on the peer's kind."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    ae_title: AeTitle
    host: str
    port: Annotated[int, Field(ge=1, le=MAX_PORT)]
    calling_ae_title: AeTitle | None = None
    kind: DestinationKind = "archive"
    objects: Annotated[tuple[ObjectKind, ...], Field(min_length=1)] = Field(default_factory=_objects_shown)
    segmentation_form: Literal["binary", "fractional", "labelmap"] = "binary"
    invented_geometry: bool = Field(default_factory=_needs_geometry)
    connect_timeout_s: Seconds = 10.0
    tls: bool = False
    commitment: Literal["off", "ask", "require"] = "off"
