"""Several processes of one run: when one of them dies, the others end soon, with a sentence.

JAX itself notices that after up to 100 s, and then aborts with the traces of all its threads.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator

import jax

from openseg_jax import sharding

_DONE = "done"
_CONNECTING = 10  # seconds
_GRACE = 5  # seconds in which a process says by itself what is wrong, after another one did
_HIGH = 900  # of the 1024 that the system allows by default
_SECRET = 16  # bytes


def _nothing() -> str:
    return "what is complete on disk stays"


def _failure(index: int) -> str:
    return f"process {index} failed, and says why"


_saved = _nothing


@contextlib.contextmanager
def joined(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> Iterator[None]:
    """Makes this process one of several, see `sharding.join_processes`, and ends it if another one dies."""
    sharding.join_processes(coordinator, count, index)
    watch = _Watch(_connect(coordinator))
    try:
        yield
    except BaseException as error:
        watch.failed(error)
        raise
    watch.tell(_DONE)


@contextlib.contextmanager
def says_when_lost(saved: Callable[[], str]) -> Iterator[None]:
    """Lets `saved` say what is on disk, in the sentence about a process that died, until the block ends well."""
    global _saved
    _saved = saved
    yield
    _saved = _nothing


class _Watch:
    """Follows connections to other processes, which the system closes when these die.

    Process 0 is connected to all, the others to process 0. Before a process ends it says how, in one line.
    """

    def __init__(self, links: dict[int, socket.socket]):
        self._links, self._null = links, os.open(os.devnull, os.O_WRONLY)
        self._status: int | None = None  # with which this process ends, once it fails by itself
        self._lost, self._ending = threading.Event(), threading.Lock()
        for index, link in links.items():
            threading.Thread(target=self._follow, args=(index, link), daemon=True).start()

    def tell(self, line: str) -> None:
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.sendall(f"{line}\n".encode())

    def failed(self, error: BaseException) -> None:
        """Tells the others that this process ends, unless it fails because one of them died: then it ends here."""
        if isinstance(error, Exception) and self._lost.wait(1):
            threading.Event().wait()  # for the end, which `_follow` makes
        self._status = 130 if isinstance(error, KeyboardInterrupt) else 2 if isinstance(error, ValueError) else 1
        self.tell(_failure(jax.process_index()))

    def _follow(self, index: int, link: socket.socket) -> None:
        line = _receive(link)
        if line == _DONE:
            return
        if line == _failure(index):
            time.sleep(_GRACE)
        if self._status is not None:
            os._exit(self._status)  # JAX would wait for the others, and abort
        with self._ending:  # which it does once
            stderr = os.dup(2)
            os.dup2(self._null, 2)  # JAX is about to abort, with the traces of its threads
            self._lost.set()
            line = line or f"process {index} was killed, perhaps because memory ran out, or its machine is gone"
            advice = "start all processes again with the same command, and they continue from there"
            os.write(stderr, f"error: {line}; {_saved()}: {advice}\n".encode())
            self.tell(line)
            os._exit(1)


def _receive(link: socket.socket) -> str:
    """Returns the line that the other process sent, "" if there is none."""
    try:
        return link.recv(256).decode(errors="replace").strip()
    except OSError:
        return ""


def _connect(coordinator: str | None) -> dict[int, socket.socket]:
    """Returns the connections of this process by the index of the other one; fewer where a firewall is between them."""
    links: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        own = "- - 0"
        if jax.process_index() == 0:
            server = stack.enter_context(socket.create_server(("", 0), backlog=jax.process_count()))
            server.settimeout(_CONNECTING)
            host = coordinator.rpartition(":")[0].strip("[]") if coordinator else socket.gethostname()
            own = f"{secrets.token_hex(_SECRET)} {host} {server.getsockname()[1]}"
        secret, host, port = sharding.exchange(own.encode())[0].decode().split()
        stack.enter_context(contextlib.suppress(OSError))
        if jax.process_index():
            links[0] = socket.create_connection((host, int(port)), timeout=_CONNECTING)
            links[0].sendall(f"{secret}{jax.process_index():8}".encode())
        while jax.process_index() == 0 and len(links) < jax.process_count() - 1:
            link = server.accept()[0]
            link.settimeout(_CONNECTING)
            greeting = link.recv(2 * _SECRET + 8, socket.MSG_WAITALL).decode(errors="replace")
            if secrets.compare_digest(greeting[:-8].encode(), secret.encode()):
                links[int(greeting[-8:])] = link
    return {index: _closing_first(link) for index, link in links.items()}


def _closing_first(link: socket.socket) -> socket.socket:
    """Returns the connection under a high number: Linux closes the files of a process that was killed from there on.

    Otherwise the others would hear of it through JAX's connections first, and abort.
    """
    link.settimeout(None)
    with link:
        return socket.socket(fileno=fcntl.fcntl(link, fcntl.F_DUPFD_CLOEXEC, _HIGH))
