"""Listening: what is said where an address cannot be had."""

import socket
from queue import Queue

import pytest

from dicomnode.network.listener import Listener, cannot_listen


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _complaint(host: str, port: int) -> str:
    with pytest.raises(OSError, match=" ") as caught:
        Listener(host, port, lambda *_: None)
    return str(cannot_listen("node", host, port, caught.value))


def test_a_port_in_use_is_named() -> None:
    """With the settings that say which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        told = _complaint("127.0.0.1", port)
    assert told == f"cannot listen on 127.0.0.1 port {port} (host and port under [node]): Address already in use"


def test_an_address_that_is_not_ours_is_named() -> None:
    """As of a documentation network, or of no machine at all."""
    assert _complaint("192.0.2.1", 0).endswith("Cannot assign requested address")
    assert "host.invalid port 104 (host and port under [node]): " in _complaint("host.invalid", 104)


def test_a_port_of_root_says_what_it_needs() -> None:
    """The DICOM port 104 is one."""
    told = str(cannot_listen("node", "0.0.0.0", 104, PermissionError(13, "Permission denied")))  # noqa: S104  an example
    assert "Permission denied; a port below 1024 is root's, or needs the capability CAP_NET_BIND_SERVICE" in told
    other = str(cannot_listen("node", "0.0.0.0", 11112, PermissionError(13, "Permission denied")))  # noqa: S104  the same
    assert other.endswith("Permission denied")


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("peer", "host", "shown"), [("::1", "::1", "[::1]:"), ("127.0.0.1", "127.0.0.1", "127.0.0.1:")]
)
def test_all_addresses_are_those_of_ipv4_too(peer: str, host: str, shown: str) -> None:
    """A peer that comes by IPv4 to `::` is known by the address that allowed networks name."""
    came: Queue[tuple[str, str]] = Queue()

    def admit(connection: socket.socket, host: str, address: str) -> None:
        connection.close()
        came.put((host, address))

    listener = Listener("::", 0, admit)
    try:
        socket.create_connection((peer, listener.port), timeout=10).close()
        found, address = came.get(timeout=10)
    finally:
        listener.close()
    assert found == host
    assert address.startswith(shown)
