"""What must not be published: paths of this machine are cut, secrets are refused.

The patterns are our own, because kept scanners do not fit what a model's repository holds: the
entropy detectors of detect-secrets flag every SHA-256 among the figures, and none of its others
knows tokens of the Hub, passwords in a recorded command line, or home folders.
"""

import json
import re
from pathlib import Path
from typing import Any, Iterator, Mapping, Tuple

from ..errors import InvalidInputError

_NAMES = (
    r"token|secret|passw(?:or)?d|passphrase|credentials?|api[_-]?key|access[_-]?key|private[_-]?key"
)
#: What a value is not: a switch, a number, a placeholder, a variable.
_VALUE = (
    r"(?!(?:true|false|none|null|yes|no|default|[\d.]+|\*+|x+|\.+)[\"'\s,;)\]}]*(?:$|[\s,;]))"
    r"[^\s\"'<>${},;&|]{4,}"
)
#: Kinds of secrets, and how they look.
_SECRETS: Tuple[Tuple[str, "re.Pattern[str]"], ...] = tuple(
    (kind, re.compile(pattern, flags))
    for kind, pattern, flags in (
        ("a token of the Hub", r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}", 0),
        ("a token of GitHub", r"\b(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}", 0),
        ("a token of GitLab", r"\bglpat-[\w-]{16,}", 0),
        ("an API key", r"\bsk-[A-Za-z0-9_-]{20,}|\bAIza[\w-]{30,}|\bpypi-[\w-]{30,}", 0),
        ("a key of AWS", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 0),
        ("a token of Slack", r"\bxox[abeoprs]-[\w-]{10,}", 0),
        ("a signed token", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+", 0),
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY", 0),
        (
            "a header with credentials",
            r"\bAuthorization\b[\"':\s]+(?:Bearer|Basic|token)\s+\S",
            re.I,
        ),
        ("an address with a password", r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:[^\s/@\"']+@", re.I),
        ("an address with a token", r"\bhttps?://[^\s/:@\"']{12,}@", re.I),
        ("a password or token", rf"--?[\w-]*(?:{_NAMES})(?:\s*=\s*|\s+)[\"']?(?!-){_VALUE}", re.I),
        ("a password or token", rf"(?:{_NAMES})[\"']?\s*=\s*[\"']?{_VALUE}", re.I),
        ("a password or token", rf"[\"'][\w-]*(?:{_NAMES})[\"']\s*:\s*[\"']{_VALUE}", re.I),
        ("a folder of a person", r"(?<![\w.])/(?:home|Users)/[^\s/\"'<>]+", 0),
        ("a folder of a person", r"\b[A-Za-z]:[\\/]+(?:Users|Documents and Settings)[\\/]", re.I),
        ("an address of this machine", r"\bfile://+[^\s\"']", re.I),
    )
)
#: An option and its value in a list, as a JSON file holds a command: ["--token", "abcd"]. They may
#: stand on two lines.
_IN_LIST = re.compile(rf"[\"']--?[\w-]*(?:{_NAMES})\\*[\"']\s*,\s*\\*[\"'](?!-){_VALUE}", re.I)
#: Endings of texts in a repository; NOTICE has none.
_TEXTS = frozenset((".md", ".json", ".txt", ".yaml", ".yml", ".csv", ""))
#: Most bytes of the header of a safetensors file that are looked at.
_HEADER_BYTES = 10_000_000


def secrets_in(text: str) -> Iterator[Tuple[int, str, str]]:
    """Yield what looks like a secret: the line, its kind, and its beginning.

    Args:
        text: Any text.
    """
    for number, line in enumerate(text.splitlines(), 1):
        for kind, pattern in _SECRETS:
            found = pattern.search(line)
            if found:
                yield number, kind, f"{found[0][:8]}..."
                break
    for found in _IN_LIST.finditer(text):
        lines = text[: found.start() + 1].splitlines()
        yield len(lines), "a password or token in a list", f"{found[0][:8]}..."


def refuse_secrets(folder: Path) -> None:
    """Refuse to publish files that seem to hold secrets.

    Texts and the notes in safetensors files are looked at.

    Args:
        folder: The folder that is to be published.

    Raises:
        InvalidInputError: Naming each file and line.
    """
    refuse_secret_texts({file.name: _text_of(file) for file in sorted(folder.iterdir())})


def refuse_secret_texts(texts: Mapping[str, str]) -> None:
    """Refuse to publish texts that seem to hold secrets.

    Args:
        texts: The texts, by the names of their files.

    Raises:
        InvalidInputError: Naming each file and line.
    """
    found = [
        f"{name}, line {number}: {kind} ({start})"
        for name, text in texts.items()
        for number, kind, start in secrets_in(text)
    ]
    if found:
        raise InvalidInputError(
            f"what would be published seems to hold secrets. {'; '.join(found[:10])}"
            f"{f'; and {len(found) - 10} more' if len(found) > 10 else ''}. Remove them from the "
            "facts, the figures or the summary; a token that was written down should be revoked."
        )


def _text_of(file: Path) -> str:
    """Return the text of a file: all of it, or the notes of a safetensors file; "" for others."""
    if file.suffix == ".safetensors":
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = opened.read(min(length, _HEADER_BYTES))
        try:
            notes = json.loads(header).get("__metadata__", {})
        except (ValueError, AttributeError):
            return ""
        return json.dumps(notes, indent=2)
    if file.suffix.lower() not in _TEXTS:
        return ""
    return file.read_text("utf-8", errors="replace")


#: A path in quotes, which may hold blanks.
_QUOTED = re.compile(r"([\"'])((?:file://|[A-Za-z]:[\\/]|\\\\|/)[^\"'\n]*)\1")
#: A path without blanks, up to its last part. An address as https://a/b is none.
_PLAIN = re.compile(r"(?:\bfile://|(?<![\w.~/-]))/(?!/)(?:[^\s/'\"=]+/)+")
#: A folder below the folder of a person, which may hold blanks.
_HOME = re.compile(r"(?:\bfile://|(?<![\w.~/-]))/(?:home|Users)/(?:[^/'\"=\n]+/)+")
_WINDOWS = re.compile(r"(?:\b[A-Za-z]:|(?<!\\)\\)(?:\\+[^\\/:*?\"'<>|\n]+)*\\+")


def without_paths(content: Any) -> Any:
    """Return figures with absolute paths cut to their last part.

    The rest of a path would tell names of users, projects and disks.

    Args:
        content: The content of a JSON file.
    """
    if isinstance(content, str):
        return _without_paths(content)
    if isinstance(content, dict):
        return {_key_without_paths(key): without_paths(value) for key, value in content.items()}
    return [without_paths(v) for v in content] if isinstance(content, list) else content


def _key_without_paths(key: Any) -> Any:
    """Return a key without a home folder; other keys may be labels, such as /m/01g317."""
    tells = isinstance(key, str) and any(secrets_in(key))
    return _without_paths(key) if tells else key


def _without_paths(text: str) -> str:
    whole = re.fullmatch(r"(?:file://)?/(?!/)[^\n\"'=]*/[^\n\"'=/]*|[A-Za-z]:[\\/][^\n\"'=]*", text)
    if whole and " -" not in text:  # one path, not a command
        return _last_part(text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{_last_part(found[2])}{found[1]}", text)
    for pattern in (_WINDOWS, _HOME, _PLAIN):
        text = pattern.sub(".../", text)
    return text


def _last_part(path: str) -> str:
    """Return the last part of a path behind dots; a file in the root as it is."""
    folder, name = re.fullmatch(r"(?s)(.*[\\/])?(.*)", path).groups()  # type: ignore[union-attr]
    return path if folder in (None, "/") else f".../{name}"
