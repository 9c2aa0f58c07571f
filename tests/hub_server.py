"""A Hugging Face Hub on loopback, with faults on demand: the real client talks HTTP to it."""

import os
import re
import select
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Union

from . import hub_api, hub_collections  # noqa: F401  registers the calls for collections
from .hub_state import Blob, HubState, Refusal, Repo, User, is_large

__all__ = ["Fault", "HubServer", "Request", "User", "client_environment"]

ACTIONS = ("drop", "lost", "cut", "slow", "corrupt", "hang")


class Request(NamedTuple):
    """What a client asked; ``file`` is empty but for a download."""

    method: str
    path: str
    repo: str
    file: str


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and with which requests: those of a method whose path and query match.

    ``action`` is a status to answer with (``code`` its X-Error-Code, ``error`` in its body), or
    "drop": the connection closes with nothing done, in the middle of an upload's body;
    "lost": the request is done and the connection closes instead of the answer;
    "cut": the connection closes in the middle of the answer's body;
    "corrupt": a byte of the answer's body is another one;
    "slow": all goes well, ``seconds`` later;
    "hang": nothing is done before ``HubServer.release``, and nothing at all if the client is gone.
    The first ``skip`` matching requests are spared and ``times`` struck after them, None: all.
    """

    action: Union[int, str]
    pattern: str = ""
    method: Optional[str] = None
    skip: int = 0
    times: Optional[int] = 1
    code: str = ""
    error: str = "a fault on demand"
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.action, int) and self.action not in ACTIONS:
            raise ValueError(f"no such action: {self.action}")

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and re.search(self.pattern, path) is not None


def client_environment(
    endpoint: str, cache: Path, token: str = "", package: Optional[Path] = None
) -> Dict[str, str]:
    """Environment of a process whose huggingface_hub talks to an endpoint, and knows no other.

    Args:
        endpoint: Address of the Hub.
        cache: Home of the client.
        token: Of the user.
        package: Folder to import se_zoo from; the process has to be started there.
    """
    own = ("HF_", "HUGGING")  # a token or a cache of the machine's
    kept = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    return {
        **{k: v for k, v in kept.items() if not k.lower().endswith("_proxy")},
        **({"HF_TOKEN": token} if token else {}),
        **({"PYTHONPATH": str(package)} if package else {}),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }


class HubServer:
    """A Hub; use it as a context manager.

    ``url`` is the endpoint, ``requests`` what was asked so far, ``unknown`` what of it the Hub does
    not know, ``hits`` how often a fault struck; ``hanging`` is set while a request hangs.
    """

    def __init__(self, tokens: Optional[Mapping[str, User]] = None):
        self.state = HubState(tokens or {})
        self.requests: List[Request] = []
        self.unknown: List[str] = []
        self.hits = 0
        self.hanging = threading.Event()
        self._released = threading.Event()
        self._faults: List[Fault] = []
        self._seen: List[int] = []  # per fault: requests that matched it
        self._lock = threading.RLock()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        # The interval is what an exit waits for.
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self.release()
        self._server.server_close()

    def add(
        self, repo: str, files: Mapping[str, bytes], private: bool = False, gated: bool = False
    ) -> str:
        """Commit files to a repository's main branch, making it where there is none."""
        blobs = {path: Blob(data, is_large(path, len(data))) for path, data in files.items()}
        with self._lock:
            if repo not in self.state.repos:
                self.state.repos[repo] = Repo(repo, private, gated)
            found = self.state.repos[repo]
            before = found.commits[found.refs["refs/heads/main"]]
            return found.record("refs/heads/main", {**before, **blobs})

    def add_folder(
        self, repo: str, folder: Path, private: bool = False, gated: bool = False
    ) -> str:
        """Commit a folder's files, as ``add``."""
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        return self.add(repo, {name: p.read_bytes() for name, p in files.items()}, private, gated)

    def files(self, repo: str, revision: str = "main") -> Dict[str, bytes]:
        """What a revision holds."""
        with self._lock:
            found = self.state.repos[repo]
            return {p: blob.data for p, blob in found.commits[found.resolve(revision)].items()}

    def snapshot(self) -> Dict[str, Any]:
        """All that can be seen on the Hub, to compare with what could be seen before."""
        with self._lock:
            return self.state.snapshot()

    def asked(self, repo: str) -> List[str]:
        """Files of a repository that were asked for."""
        return sorted({r.file for r in self.requests if r.repo == repo and r.file})

    def fail(self, fault: Fault) -> None:
        """Arrange for a fault; of several that are due, the one that was arranged first strikes."""
        with self._lock:
            self._faults.append(fault)
            self._seen.append(0)

    def clear_faults(self) -> None:
        """Nothing goes wrong from now on; what hangs goes on hanging."""
        with self._lock:
            self._faults, self._seen = [], []

    def release(self) -> None:
        """Let what hangs go on; the next fault of the kind hangs until the next call."""
        with self._lock:
            self._released.set()
            self._released = threading.Event()
            self.hanging.clear()

    def arrive(self, method: str, path: str) -> Optional[Fault]:
        """Note a request; the fault that strikes it."""
        found = hub_api.find(method, path)
        parts = found[1] if found else {}
        with self._lock:
            self.requests.append(
                Request(method, path, parts.get("repo", ""), parts.get("file", ""))
            )
            due = None
            for number, fault in enumerate(self._faults):
                if not fault.matches(method, path):
                    continue
                seen = self._seen[number] = self._seen[number] + 1
                if seen > fault.skip and (fault.times is None or seen <= fault.skip + fault.times):
                    due = due or fault
            self.hits += due is not None
            return due

    def reply(self, method: str, path: str, headers: Message, body: bytes) -> hub_api.Reply:
        """The answer of a Hub on which nothing goes wrong."""
        with self._lock:
            reply = hub_api.reply(self.state, self.url, method, path, headers, body)
            if reply is None:
                self.unknown.append(f"{method} {path}")
                return hub_api.refuse(Refusal(404, "the test Hub does not know this path"))
            return reply

    def hang(self) -> None:
        """Wait for ``release``."""
        with self._lock:
            released = self._released
            self.hanging.set()
        released.wait()


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    hub: HubServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes

    def answer(self) -> None:
        hub = self.server.hub
        fault = hub.arrive(self.command, self.path)
        action = fault.action if fault else None
        if action == "drop":
            return self.drop()
        body = self.rfile.read(self.length())
        if len(body) < self.length():  # the client is gone
            self.close_connection = True
            return
        if fault and action == "slow":
            threading.Event().wait(fault.seconds)  # tests make time.sleep return at once
        if action == "hang":
            hub.hang()
            if select.select([self.connection], [], [], 0)[0]:  # it ended while it waited
                self.close_connection = True
                return
        if fault and isinstance(action, int):
            reply = hub_api.refuse(Refusal(action, fault.error, fault.code))
        else:
            reply = hub.reply(self.command, self.path, self.headers, body)
        if action == "lost":
            self.close_connection = True
            return
        self.send(reply, action)

    do_HEAD = do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def length(self) -> int:
        return int(self.headers.get("Content-Length", 0))

    def drop(self) -> None:
        """Close the connection; an upload finds it reset, as by a peer that stopped reading."""
        self.close_connection = True
        if self.command == "PUT":
            self.rfile.read(self.length() // 2)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()  # or it holds the connection open
            self.connection.close()
        else:
            self.rfile.read(self.length())

    def send(self, reply: hub_api.Reply, action: Union[int, str, None]) -> None:
        data = reply.body
        if action == "corrupt" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if action == "cut":
            self.close_connection = True
            data = data[: len(data) // 2]
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass
