"""The errors of storage.

StorageError
├── OutOfSpace               ours: there is no room; the sender may try again when there is
│   ├── ArchiveFull          … for files
│   └── DatabaseFull         … for rows
├── ArchiveUnavailable       ours: the file system refused or failed
├── ArchiveOfAnother         our administrator's: another database has the rows of the archive's files
├── StudyBeingRemoved        nobody's: retention is at this study; the sender may try again in a moment
├── InvalidUid               the sender's: this text never becomes a path
├── InvalidObjectKey         ours: this text does not name an object of the archive
├── UnsupportedDatabase      our administrator's: the URL names no database that we can use
├── DatabaseUnavailable      the database's: down, locked, out of connections
│   └── Deadlock             nobody's: of two transactions that waited for each other, the database ended this one
├── DatabaseFailure          ours: the database refused the statement
├── SchemaOutOfDate          our administrator's: the tables do not fit this version of the program
├── NotFound                 the caller's: there is no such study, job or delivery
├── IllegalTransition        the caller's: the lifecycle's table does not hold this change
└── LeaseLost                nobody's: another worker took over, and what this one did is dropped

`retryable` says whether the same call may succeed later without anybody changing the call.
"""

# ruff: noqa: N818  the names say what happened; the tree above says that they are errors

from typing import ClassVar


class StorageError(Exception):
    """Base of all errors of storage."""

    retryable: ClassVar[bool] = False


class OutOfSpace(StorageError):
    """There is no room for what was to be stored; nothing of it was kept."""

    retryable = True


class ArchiveFull(OutOfSpace):
    """The archive's file system is full, its quota used up, or less than the reserve would be left."""


class DatabaseFull(OutOfSpace):
    """The database has no room for another row."""


class ArchiveUnavailable(StorageError):
    """The archive's file system refused or failed; the message names the operation."""

    retryable = True


class ArchiveOfAnother(StorageError):
    """The archive carries the identity of another database; the message says what to do."""


class StudyBeingRemoved(StorageError):
    """The study's files are being removed at this moment; nothing of it is taken until they are."""

    retryable = True


class InvalidUid(StorageError):
    """The text is not a DICOM UID (PS3.5 9.1) as far as paths are concerned."""


class InvalidObjectKey(StorageError):
    """The text is not a key that the archive gives out."""


class UnsupportedDatabase(StorageError):
    """The URL names no database that this program can use."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached or is too busy; the transaction was rolled back."""

    retryable = True


class Deadlock(DatabaseUnavailable):
    """The transaction was rolled back for the sake of another; at once, and the next one is as likely to succeed."""


class DatabaseFailure(StorageError):
    """The database refused a statement; the transaction was rolled back."""


class SchemaOutOfDate(StorageError):
    """The database's tables do not fit this version of the program."""


class NotFound(StorageError):
    """There is no such row."""


class IllegalTransition(StorageError):
    """The lifecycle's table does not hold this change."""


class LeaseLost(StorageError):
    """The lease ran out and was taken over, or the work was already ended."""
