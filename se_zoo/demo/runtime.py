"""Fetch onnxruntime-web, which runs a model in the browser; it is not part of this package."""

import base64
import hashlib
import http.client
import os
import re
import tarfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Optional

from ..errors import InvalidInputError
from ..files import replacing

VERSION = "1.30.0"
#: Hash of the tarball, as npm's lock files write it.
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
#: What the page needs of the tarball: the interface, and the WebAssembly with its loader.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_TARBALL = f"onnxruntime-web-{VERSION}.tgz"
_DEFAULT_REGISTRY = "https://registry.npmjs.org/"


def fetch_runtime(tarball: Optional[Path] = None) -> Path:
    """Return the tarball of onnxruntime-web, downloaded once and kept.

    Args:
        tarball: A file to use instead of the download.

    Returns:
        The tarball; its hash is the one that this version of se_zoo was tested with.

    Raises:
        InvalidInputError: If the file or the download is another one, or there is no network.
    """
    if tarball is not None:
        if not tarball.is_file():
            raise InvalidInputError(f"--ort: no such file: {tarball}")
        if _integrity(tarball.read_bytes()) != INTEGRITY:
            raise InvalidInputError(
                f"--ort: {tarball} is not the tarball of onnxruntime-web {VERSION}; take the one "
                f"that `npm pack onnxruntime-web@{VERSION}` writes."
            )
        return tarball
    kept = cached_runtime()
    if kept is not None:
        return kept
    content, url = _download()
    if _integrity(content) != INTEGRITY:
        raise InvalidInputError(
            f"{url} is not the file that it should be: its SHA-512 differs. Nothing was kept; "
            f"get it elsewhere with `npm pack onnxruntime-web@{VERSION}`, and name it with --ort."
        )
    file = _cache_folder() / _TARBALL
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    return file


def cached_runtime() -> Optional[Path]:
    """Return the tarball of an earlier download; None if there is none."""
    file = _cache_folder() / _TARBALL
    return file if file.is_file() and _integrity(file.read_bytes()) == INTEGRITY else None


def unpack_runtime(tarball: Path, folder: Path) -> None:
    """Copy the files that the page needs out of the tarball.

    Args:
        tarball: Result of :func:`fetch_runtime`.
        folder: An existing folder.
    """
    with tarfile.open(tarball) as archive:
        for name in FILES:
            content = archive.extractfile(f"package/dist/{name}")
            assert content is not None  # the hash was checked
            (folder / name).write_bytes(content.read())


def registry() -> str:
    """Return the address of the npm registry, which npm's own settings may change.

    These are the environment variable ``npm_config_registry`` and the line ``registry=`` of the
    user's ``.npmrc``.
    """
    settings = {name.lower(): value for name, value in os.environ.items()}
    file = Path(settings.get("npm_config_userconfig") or Path.home() / ".npmrc")
    written = file.read_text("utf-8") if file.is_file() else ""
    line = re.search(r"^\s*registry\s*=\s*[\"']?([^\s\"']+)", written, re.MULTILINE)
    named = settings.get("npm_config_registry") or (line[1] if line else _DEFAULT_REGISTRY)
    return named.rstrip("/") + "/"


def _download() -> "tuple[bytes, str]":
    """Return the content of the tarball and its address."""
    given = f"{registry()}onnxruntime-web/-/{_TARBALL}"
    # Name and password go into a header, and nowhere else.
    scheme, _, rest = given.partition("://")
    host, _, path = rest.partition("/")
    user, at, place = host.rpartition("@")
    url, headers = given, {}
    if at:
        url = f"{scheme}://{place}/{path}"
        code = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        headers = {"Authorization": f"Basic {code}"}
    try:
        asked = urllib.request.Request(url)
        for name, value in headers.items():  # not for a host that the registry redirects to
            asked.add_unredirected_header(name, value)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read(), url
    # ValueError: the registry is no address; HTTPException: it broke off.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InvalidInputError(
            f"onnxruntime-web cannot be fetched from {url}: {error}. Without a network, run `npm "
            f"pack onnxruntime-web@{VERSION}` on another machine, and name the file with --ort."
        ) from error


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "se_zoo"


def _integrity(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


if __name__ == "__main__":
    print(fetch_runtime())
