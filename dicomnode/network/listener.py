"""Lets connections in, one after the other, and does not turn deaf whatever the machine cannot give for a moment."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from dicomnode.errors import ConfigurationError
from dicomnode.logs import get_logger

log = get_logger(__name__)

BACKLOG = 128
FIRST_FREE_PORT = 1024
ANY_IPV6 = "::"
MAPPED = "::ffff:"  # how a peer's IPv4 address shows on a socket of IPv6; allowed networks name it without
ACCEPT_PAUSE_S = 0.5  # a machine that is out of file descriptors gets some back only when peers leave


def cannot_listen(section: str, host: str, port: int, error: OSError) -> ConfigurationError:
    """What to say where an address cannot be had. section: of the configuration, that has `host` and `port`."""
    known = error.errno is not None and error.errno > 0  # those of resolving a name are negative
    reason = os.strerror(error.errno or 0) if known else str(error.strerror)
    if isinstance(error, PermissionError) and port < FIRST_FREE_PORT:
        reason += f"; a port below {FIRST_FREE_PORT} is root's, or needs the capability CAP_NET_BIND_SERVICE"
    return ConfigurationError(f"cannot listen on {host} port {port} (host and port under [{section}]): {reason}")


class Listener:
    """One address. admit: takes the connection, the peer's host and its address for the log; it may raise anything."""

    def __init__(self, host: str, port: int, admit: Callable[[socket.socket, str, str], None]) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        self._admit = admit
        self._closing = threading.Event()
        self._socket = _listening(host, port)
        threading.Thread(target=self._accept, name="acceptor", daemon=True).start()

    @property
    def port(self) -> int:
        """TCP port that is listened on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if not self._closing.wait(ACCEPT_PAUSE_S):
                    log.warning("connection not accepted", reason=str(error))
                continue
            peer = address[0].removeprefix(MAPPED)
            try:
                self._admit(connection, peer, f"[{peer}]:{address[1]}" if ":" in peer else f"{peer}:{address[1]}")
            except Exception:
                log.exception("connection not admitted", host=peer)
                connection.close()


def _listening(host: str, port: int) -> socket.socket:
    """A socket; on `::` one for IPv4 too, where the system has such."""
    if ":" not in host:
        return socket.create_server((host, port), backlog=BACKLOG)
    both = host == ANY_IPV6 and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=both)
