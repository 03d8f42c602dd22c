"""A digest tells which algorithm it is of, also from the piece of it that stands in a key."""

import hashlib

import pytest
import xxhash

from storage.archive import digest_by_key
from storage.digest import are_comparable, digest_like, in_key

CONTENT = b"a dataset"
NEW, OLD = xxhash.xxh3_128_hexdigest(CONTENT), hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("known", [NEW, OLD])
def test_content_is_compared_by_the_algorithm_of_what_is_known(known: str) -> None:
    """The whole digest, or what a key has of it."""
    assert digest_like(known, CONTENT) == known
    assert digest_like(in_key(known), CONTENT) == known
    assert digest_like(known, b"other") != known


@pytest.mark.parametrize(("digest", "ending"), [(NEW, NEW), (OLD, OLD[:16])])
def test_a_key_tells_its_own_content_from_any_other(digest: str, ending: str) -> None:
    """As in archives of both versions."""
    key = f"studies/00/1.2/1.2.3-{ending}.dcm"
    assert in_key(digest) == ending
    assert digest_by_key(key, CONTENT) == digest
    assert digest_by_key(key, b"other") is None


def test_digests_of_two_algorithms_say_nothing_of_each_other() -> None:
    """Neither that contents are the same nor that they differ."""
    assert are_comparable(NEW, xxhash.xxh3_128_hexdigest(b"other"))
    assert not are_comparable(NEW, OLD)
