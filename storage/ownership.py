"""Which database has the rows of an archive's files; the archive carries its identity.

Two databases over one archive take each other's images for what a refusal or a crash has left, and remove what the
other has acknowledged: with a study that ages, with an image whose UID they know with other content, as a result that
no delivery names. So the second one is refused, and an archive changes hands only when it is told to.
"""

from sqlalchemy import select

from storage.archive import Archive
from storage.database import Database
from storage.errors import ArchiveOfAnother
from storage.schema import identity


def identity_of(database: Database) -> str:
    """What tells this database from all others; a copy, a move or a backup of it keeps it."""
    with database.transaction() as connection:
        return str(connection.execute(select(identity.c.uuid)).scalar_one())


def check_owner(database: Database, archive: Archive) -> None:
    """Raise ArchiveOfAnother where the archive is another database's; one that is nobody's yet stays so."""
    _refuse_others(database, identity_of(database), archive.owners())


def claim(database: Database, archive: Archive) -> None:
    """Make an archive that is nobody's this database's. Raises ArchiveOfAnother.

    Of two that do so at the same moment at most one succeeds; where none does, the next to come will.
    """
    ours = identity_of(database)
    owners = archive.owners()
    if not owners:
        archive.note_owner(ours)
        owners = archive.owners()
        if owners != {ours}:
            archive.forget_owners({ours})
    _refuse_others(database, ours, owners)


def take_over(database: Database, archive: Archive) -> None:
    """Make it this database's, whosever it was. No node may run on that any more."""
    ours = identity_of(database)
    archive.note_owner(ours)  # first: whoever comes in between is refused
    archive.forget_owners(archive.owners() - {ours})


def _refuse_others(database: Database, ours: str, owners: frozenset[str]) -> None:
    if owners <= {ours}:
        return
    theirs = ", ".join(sorted(owners - {ours}))
    raise ArchiveOfAnother(
        f"the archive belongs to the database {theirs}, and {database.url} is {ours}: nodes on one archive must share "
        "the database too, or each removes what the other has acknowledged. Set database.url to the other, or give "
        "this node an archive of its own. If the other is lost, stop every node that used it, and "
        "`dicomnode db rebuild --take-over` makes the archive this one's"
    )
