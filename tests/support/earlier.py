"""An archive and a database as they were before XXH3: digests and keys of SHA-256."""

import hashlib
from dataclasses import replace

from sqlalchemy import update

from dicomnode.assembly import Stores
from dicomnode.receiving.intake import Taken
from storage.schema import instances
from storage.studies import Instance
from tests.support.located import located


def as_before(stores: Stores, taken: Taken, dataset: bytes) -> Instance:
    """Give what was just taken the name and the digest that it would have had. dataset: its bytes as sent."""
    arrived = taken.instance
    digest = hashlib.sha256(dataset).hexdigest()
    key = f"{arrived.object_key.rpartition('-')[0]}-{digest[:16]}.dcm"
    located(stores.archive, arrived.object_key).rename(located(stores.archive, key))
    with stores.database.transaction() as connection:
        connection.execute(
            update(instances)
            .where(instances.c.sop_instance_uid == arrived.sop_instance_uid)
            .values(digest=digest, object_key=key)
        )
    return replace(arrived, digest=digest, object_key=key)
