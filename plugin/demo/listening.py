"""Whether a page can be served at an address, found out before anything slow."""

from __future__ import annotations

import socket

from ..errors import UserError

__all__ = ["cannot_listen", "check_port"]


def check_port(host: str, port: int) -> None:
    """Try the address: gradio does so when the model has been loaded, which may be minutes later.

    Raises:
        UserError: the port is taken, or the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gradio's own
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise cannot_listen(host, port, error) from None


def cannot_listen(host: str, port: int | None, error: OSError) -> UserError:
    """The error of a user whose page cannot be served there."""
    return UserError(f"--host {host}, --port {port or 'any'}: cannot listen there ({error}); choose another")
