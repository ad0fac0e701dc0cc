"""Things that listen on a port and are no gRPC server, or stop being one."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket, threading.Event], None]


def close_at_once(connection: socket.socket, stop: threading.Event) -> None:
    """Hang up on whoever connects."""


def never_speak(connection: socket.socket, stop: threading.Event) -> None:
    """Take everything in, say nothing."""
    stop.wait()


def talk_rubbish(connection: socket.socket, stop: threading.Event) -> None:
    """Answer in a protocol that is none."""
    connection.sendall(b"220 mail.example.org ready\r\n" * 4)
    stop.wait()


def flood(connection: socket.socket, stop: threading.Event) -> None:
    """Send without end: an empty settings frame of HTTP/2 first, as a server must, then pings that nobody asked for."""
    connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    pings = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0, *range(8)]) * 1000
    while not stop.is_set():
        connection.sendall(pings)


@contextlib.contextmanager
def listening(behave: Behaviour) -> Iterator[str]:
    """Listen and let `behave` deal with every connection; yields HOST:PORT."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.05)

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(0.2)
                behave(connection, stop)

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    threads.append(threading.Thread(target=serve, args=(listener.accept()[0],)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            for thread in (acceptor, *threads):
                thread.join()
