"""Publish on the Hub what is no model: the organisation's card, the endpoint, results, collection.

    hf auth login
    se-zoo publish --zoo --record     # the models first
    python -m tools.release_hub

The files are those of release/ and of benchmarks/results/. Afterwards the Hub has these files and
texts only: others are replaced, and files that are gone here are deleted there. Items that
collection.yaml no longer lists stay in the collection. An interrupted command can be given again.
Like `se-zoo publish`, the command cuts the paths of this machine in JSON files, and refuses what
looks like a secret. It also refuses files that git does not track.
`python -m tools.rehearse_release` tries all of it on a Hub on loopback.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from se_zoo.errors import InvalidInputError
from se_zoo.hub.facts import read_facts
from se_zoo.hub.secrets import refuse_secret_texts, without_paths
from se_zoo.hub.zoo_cards import FACTS
from se_zoo.models.pretrained.fetch import HUB_ORG, declared_repo
from se_zoo.models.pretrained.manifest import cards_folder, manifest

ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT / "release"
#: Longest note of a collection's item, and longest description, in characters.
NOTE, DESCRIPTION = 500, 150


class Folder(NamedTuple):
    """A repository that is no model of the zoo, and its files."""

    repo: str
    repo_type: str
    files: Dict[str, Path]

    def contents(self) -> Dict[str, bytes]:
        """Return what is uploaded of each file, by name."""
        return {name: _content(file) for name, file in self.files.items()}


def _content(file: Path) -> bytes:
    """Return a file's content; of JSON, without the paths of this machine."""
    content = file.read_bytes()
    if file.suffix != ".json":
        return content
    figures = json.loads(content)
    cut = without_paths(figures)
    return content if cut == figures else (json.dumps(cut, indent=2) + "\n").encode()


def folders() -> List[Folder]:
    """Return the repositories and the files that belong there."""
    results = ROOT / "benchmarks" / "results"
    figures = {f.name: f for f in sorted(results.iterdir()) if f.suffix in (".json", ".png")}
    return [
        Folder(f"{HUB_ORG}/README", "space", _files(RELEASE / "organisation")),
        Folder(f"{HUB_ORG}/endpoint", "model", _files(RELEASE / "endpoint")),
        Folder(
            f"{HUB_ORG}/results",
            "dataset",
            {**_files(RELEASE / "results"), "tables.md": results / "README.md", **figures},
        ),
    ]


def _files(folder: Path) -> Dict[str, Path]:
    """Return the files of a folder by name."""
    return {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}


def collection() -> Dict[str, Any]:
    """Return the collection: ``title``, ``description``, and ``items`` with id, type and note."""
    content = yaml.safe_load((RELEASE / "collection.yaml").read_text("utf-8"))
    models = [
        {
            "id": declared_repo(name),
            "type": "model",
            "note": " ".join(read_facts(cards_folder() / name / FACTS).summary.split()),
        }
        for name in manifest()
    ]
    return {**content, "items": models + content["items"]}


def _checked(found: List[Folder]) -> List[Tuple[Folder, Dict[str, bytes]]]:
    """Return each folder with what is uploaded of it: what was looked at, and nothing newer.

    Files that git does not track are refused, and what looks like a secret.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise InvalidInputError(
            f"git does not list the files of {ROOT}; release from a checkout. {listed.stderr}"
        )
    tracked = {ROOT / name for name in listed.stdout.split("\0")}
    files = [file for folder in found for file in folder.files.values()]
    unknown = [str(file.relative_to(ROOT)) for file in files if file not in tracked]
    if unknown:
        raise InvalidInputError(
            f"git does not track {', '.join(unknown)}: commit what is to be published, and remove "
            "the rest."
        )
    read = [(folder, folder.contents()) for folder in found]
    refuse_secret_texts(
        {
            f"{folder.repo}/{name}": content.decode("utf-8", "replace")
            for folder, contents in read
            for name, content in contents.items()
            if not name.endswith(".png")
        }
    )
    return read


def release() -> Iterator[str]:
    """Publish everything.

    Yields:
        A line for each repository, and one for the collection.

    Raises:
        InvalidInputError: If ``SE_ZOO_HUB_ORG`` names another organisation, git does not track a
            file, or one seems to hold a secret. Nothing is published then.
        HfHubHTTPError: If the Hub refuses something.
    """
    org = os.environ.get("SE_ZOO_HUB_ORG") or HUB_ORG
    if org != HUB_ORG:
        raise InvalidInputError(
            f"SE_ZOO_HUB_ORG is {org}, but the files of release/ name {HUB_ORG}: unset it."
        )
    api = HfApi()
    for folder, contents in _checked(folders()):
        sdk = "static" if folder.repo_type == "space" else None
        api.create_repo(folder.repo, repo_type=folder.repo_type, space_sdk=sdk, exist_ok=True)
        adds = [CommitOperationAdd(name, content) for name, content in contents.items()]
        there = api.list_repo_files(folder.repo, repo_type=folder.repo_type)
        gone = sorted(set(there) - {".gitattributes", *folder.files})
        deletes = [CommitOperationDelete(name, is_folder=False) for name in gone]
        done = api.create_commit(
            folder.repo, [*adds, *deletes], commit_message="Publish with tools/release_hub.py",
            repo_type=folder.repo_type,
        )  # fmt: skip
        yield f"{folder.repo_type} {folder.repo}: {len(adds)} files, commit {done.oid}"
    yield _release_collection(api, collection())


def _release_collection(api: HfApi, wanted: Dict[str, Any]) -> str:
    """Make the collection, or give an older one the texts of today; return a line about it."""
    made = api.create_collection(
        wanted["title"], namespace=HUB_ORG, description=wanted["description"], exists_ok=True
    )
    if made.description != wanted["description"]:
        api.update_collection_metadata(made.slug, description=wanted["description"])
    present = {(item.item_type, item.item_id): item for item in made.items}
    for item in wanted["items"]:
        old = present.get((item["type"], item["id"]))
        if old is None:
            api.add_collection_item(
                made.slug, item["id"], item["type"], note=item["note"], exists_ok=True
            )
        elif old.note != item["note"]:
            api.update_collection_item(made.slug, old.item_object_id, note=item["note"])
    return f"collection {made.slug}: {len(wanted['items'])} items"


def main() -> None:
    """Publish, and print what was done."""
    try:
        for line in release():
            print(line, flush=True)
    except InvalidInputError as error:
        raise SystemExit(f"release_hub: {error}") from None


if __name__ == "__main__":
    main()
