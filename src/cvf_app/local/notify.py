"""Telling systemd how the guard is: the protocol of `sd_notify(3)`, one datagram a message."""

import os
import socket


def notify(message: str) -> None:
    """Send a message to the service manager; without one (`NOTIFY_SOCKET`) nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A leading "@" stands for the abstract namespace.
    path = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.connect(path)
            out.sendall(message.encode())
        except OSError:
            # The manager has gone; what it was to be told is in the log.
            return
