"""The digest that says whether two contents are the same, and which algorithm a digest is of.

It tells one instance from another under the same UID, and sound bytes from rotten ones. It keeps nobody out who may
write to the archive: they could write the digest too.
"""

import hashlib

import xxhash

SHA256_DIGITS, SHA256_DIGITS_IN_KEY = 64, 16  # of what was stored before; it stays as it is

new_digest = xxhash.xxh3_128


def digest_like(known: str, content: bytes | memoryview) -> str:
    """Hex digest of the content by the algorithm that a known one is of, which its length tells."""
    if len(known) in (SHA256_DIGITS, SHA256_DIGITS_IN_KEY):
        return hashlib.sha256(content).hexdigest()
    return xxhash.xxh3_128(content).hexdigest()


def are_comparable(one: str, other: str) -> bool:
    """Whether both are of the same algorithm."""
    return len(one) == len(other)


def in_key(digest: str) -> str:
    """As much of it as stands in a key."""
    return digest[:SHA256_DIGITS_IN_KEY] if len(digest) == SHA256_DIGITS else digest
