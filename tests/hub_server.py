"""A Hugging Face Hub on loopback that hands out files: the real client talks HTTP to it."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Request(NamedTuple):
    """What a client asked."""

    method: str
    repo: str
    file: str


class HubServer:
    """Serves ``<root>/<organisation>/<repo>/<file>`` as the Hub serves a model repository.

    Use it as a context manager; ``url`` is the endpoint, ``requests`` what was asked so far.
    """

    def __init__(self, root: Path):
        self.root = root
        self.requests: List[Request] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                parts = hub.split(self.path)
                if parts is None:
                    return self.refuse("RepoNotFound", "no such page")
                repo, file = parts
                hub.requests.append(Request(self.command, repo, file))
                if not (hub.root / repo).is_dir():
                    return self.refuse("RepoNotFound", "Repository not found")
                path = hub.root / repo / file
                if not path.is_file():
                    return self.refuse("EntryNotFound", "Entry not found")
                data = path.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def refuse(self, code: str, message: str) -> None:
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", message)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @staticmethod
    def split(path: str) -> Optional[Tuple[str, str]]:
        """(repository, file) of ``/<org>/<repo>/resolve/<revision>/<file>``."""
        parts = unquote(path.split("?")[0]).strip("/").split("/")
        if len(parts) < 5 or parts[2] != "resolve":
            return None
        return "/".join(parts[:2]), "/".join(parts[4:])

    def asked(self, repo: str) -> List[str]:
        """Files of a repository that were asked for."""
        return sorted({r.file for r in self.requests if r.repo == repo})

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.server.shutdown()
        self.server.server_close()
