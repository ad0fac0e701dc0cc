"""The ports that a server listens on: found free before it starts, so that the error names the setting and not a line of its log."""

import errno
import socket
from dataclasses import fields

from build.errors import PortInUseError, SettingError
from build.server_options import LOOPBACK, Access
from build.settings import Ports


def check_ports(ports: Ports, access: Access) -> None:
    """Whether the server could listen on all three.

    Raises:
        PortInUseError: one is taken; the message names it and the setting that changes it.
        SettingError: the address is not one of this machine's.
    """
    for name, port in vars(ports).items():
        address = access.address if name == "grpc_port" else access.plain_address
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise SettingError(f"address={address} is not one of this machine's: `ip address` lists them, 0.0.0.0 is all") from None
                raise PortInUseError(f"port {port} cannot be used ({error.strerror}): give another one with {name}=NUMBER") from None


def free_ports() -> Ports:
    """Three ports on the loopback address on which nobody listens now; somebody else may take one before it is used."""
    sockets = [socket.socket() for _ in fields(Ports)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    finally:
        for each in sockets:
            each.close()
