"""The tables. `migrations` makes them; a test holds the two equal.

Times are seconds since the Unix epoch by the database's clock. States are the values of `lifecycle`'s enumerations.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    },
)

UID = String(64)  # PS3.5 6.2, value representation UI
AE_TITLE = String(16)  # PS3.5 6.2, value representation AE
STATE = String(16)
NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in a column of type INTEGER


def _partial_index(name: str, state: str, *columns: ColumnElement[Any]) -> None:
    """Index only the rows in one state, so that finished work costs a look-up nothing."""
    where = text(f"state = '{state}'")
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


# One row, made with the table: what tells this database from all others.
identity = Table("identity", metadata, Column("uuid", String(36), primary_key=True))

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", UID, primary_key=True),
    Column("state", STATE, nullable=False),
    Column("revision", Integer, nullable=False),  # grows when an image comes after the study had been taken as complete
    Column("reason", Text, nullable=False),
    Column("first_received_at", Double, nullable=False),  # of this revision
    Column("last_received_at", Double, nullable=False),
    Column("restarted_at", Double),  # after a crash, both timers of completeness start again here
    Column("removed_instances", Integer),  # the most that were ever removed at once; of modalities that are analysed
)
_partial_index("ix_studies_receiving", "receiving", studies.c.first_received_at)
_partial_index("ix_studies_removing", "removing", studies.c.study_instance_uid)
FINISHED = "state IN ('done', 'failed', 'unmatched', 'prior')"
Index("ix_studies_finished", studies.c.last_received_at, sqlite_where=text(FINISHED), postgresql_where=text(FINISHED))

instances = Table(
    "instances",
    metadata,
    Column("sop_instance_uid", UID, primary_key=True),
    # Deferred: the instance is written first, since its being new decides whether the study is touched at all.
    Column(
        "study_instance_uid",
        UID,
        ForeignKey("studies.study_instance_uid", deferrable=True, initially="DEFERRED"),
        nullable=False,
    ),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("object_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("calling_ae_title", AE_TITLE, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("priority", Integer),  # in steps of the queue, as its sender asked for it; none where nobody said
    Index("ix_instances_study", "study_instance_uid", "sop_instance_uid"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("package", Text, nullable=False),
    Column("state", STATE, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # grows with every claim: the fencing token
    Column("max_attempts", Integer, nullable=False),
    Column("not_before", Double, nullable=False),  # of a delayed job
    Column("created_at", Double, nullable=False),
    Column("claimed_at", Double),
    Column("finished_at", Double),
    Column("leased_by", Text),
    Column("lease_until", Double),
    Column("last_error", Text, nullable=False),
    Column("summary", Text, nullable=False),
    # When it was queued, less what its priority is worth; the lowest goes first.
    Column("rank", Double, nullable=False, server_default=text("0")),
    Column(
        "model_sha256", String(64), nullable=False, server_default=text("''")
    ),  # of the manifest that it was done by
    UniqueConstraint("study_instance_uid", "revision", "package"),
    sqlite_autoincrement=True,  # a number is never given out again, so that an old lease cannot fit a new job
)
_partial_index("ix_jobs_claim", "waiting", jobs.c.rank, jobs.c.id)
_partial_index("ix_jobs_delayed", "delayed", jobs.c.not_before)
_partial_index("ix_jobs_leased", "leased", jobs.c.lease_until)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("job_id", NUMBER, ForeignKey("jobs.id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("state", STATE, nullable=False),
    Column("attempt", Integer, nullable=False),  # grows with every claim: the fencing token
    Column("failures", Integer, nullable=False),  # counts towards the dead letter
    Column("not_before", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("leased_by", Text),
    Column("lease_until", Double),
    Column("last_error", Text, nullable=False),
    Column("commitment_uid", UID),  # the storage commitment transaction that the archive will speak of
    UniqueConstraint("job_id", "destination", "sop_instance_uid"),
    sqlite_autoincrement=True,
)
_partial_index("ix_deliveries_due", "waiting", deliveries.c.not_before, deliveries.c.id)
_partial_index("ix_deliveries_leased", "leased", deliveries.c.lease_until)
_partial_index("ix_deliveries_sent", "sent", deliveries.c.not_before)
Index("ix_deliveries_commitment", deliveries.c.commitment_uid)

retrievals = Table(
    "retrievals",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("study_instance_uid", UID, ForeignKey("studies.study_instance_uid"), nullable=False),  # for which
    Column("wanted_study_uid", UID, nullable=False),  # of which something is fetched; a prior may not be here yet
    Column("modality", String(16), nullable=False),  # of a prior's series
    Column("revision", Integer, nullable=False),  # of a study that lacks images; of a prior when it had come
    Column("state", STATE, nullable=False),
    Column("attempt", Integer, nullable=False),  # grows with every claim: the fencing token
    Column("failures", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("leased_by", Text),
    Column("lease_until", Double),
    Column("outcome", Text, nullable=False),
    UniqueConstraint("study_instance_uid", "kind", "wanted_study_uid"),
    sqlite_autoincrement=True,
)
_partial_index("ix_retrievals_due", "waiting", retrievals.c.not_before)
_partial_index("ix_retrievals_leased", "leased", retrievals.c.lease_until)
Index("ix_retrievals_wanted", retrievals.c.wanted_study_uid)

# Of studies that may not have come yet, so without a foreign key to them.
notices = Table(
    "notices",
    metadata,
    Column("notice_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", STATE, nullable=False),
    Column("received_at", Double, nullable=False),
    Index("ix_notices_study", "study_instance_uid"),
    Index("ix_notices_received", "received_at"),
)

announced = Table(
    "announced",
    metadata,
    Column("notice_uid", UID, primary_key=True),
    Column("sop_instance_uid", UID, primary_key=True),
    Column("series_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
)
