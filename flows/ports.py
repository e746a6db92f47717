"""Ports of this machine: whether a server could listen there, and who does."""

import socket

import psutil


def refusal(host: str, port: int) -> str | None:
    """Why no server could listen on `host`:`port`, in the system's words; None where one could."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        return error.strerror or str(error)
    return None


def holder(port: int) -> str:
    """Who listens on `port`, as far as the system tells."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"process {connection.pid} ({command[:120]})"
    except psutil.Error:  # another user's, or it ended meanwhile
        pass
    return "another process"
