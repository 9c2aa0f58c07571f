"""The Hub's HTTP calls for collections; importing this module registers them."""

import hashlib
import re
from typing import Any, Dict

from .hub_api import DATE, Call, route
from .hub_state import Refusal


def writable(call: Call, slug: str) -> Dict[str, Any]:
    """A collection for somebody who may write to it."""
    found: Dict[str, Any] = get_collection(call, slug)
    if not call.state.known(call.user).owns(slug):
        raise Refusal(403, f"You don't have the rights to write to {slug}")
    return found


@route("POST", "/api/collections")
def create_collection(call: Call) -> Any:
    user, asked = call.state.known(call.user), call.json()
    title, namespace = asked["title"], asked["namespace"]
    if not user.owns(f"{namespace}/{title}"):
        raise Refusal(403, f"You don't have the rights to create a collection for {namespace}")
    if len(title) > 59 or len(asked.get("description", "")) > 150:
        raise Refusal(400, "A title has at most 59 characters, a description 150")
    digits = hashlib.sha1(title.encode()).hexdigest()[:24]
    slug = f"{namespace}/{re.sub('[^a-z0-9]+', '-', title.lower())}-{digits}"
    if slug in call.state.collections:
        raise Refusal(409, "This collection exists already", slug=slug)
    owner = {"name": namespace, "type": "org"}
    call.state.collections[slug] = {
        "slug": slug, "title": title, "owner": owner, "description": asked.get("description"),
        "items": [], "lastUpdated": DATE, "position": 0, "private": False, "theme": "orange",
        "upvotes": 0,
    }  # fmt: skip
    return call.state.collections[slug]


@route("GET", "/api/collections/{repo}")
def get_collection(call: Call, repo: str) -> Any:
    if repo not in call.state.collections:
        raise Refusal(404, "Collection not found")
    return call.state.collections[repo]


@route("POST", "/api/collections/{repo}/items")
def add_collection_item(call: Call, repo: str) -> Any:
    """Repositories must exist; papers are not looked up."""
    found, asked = writable(call, repo), call.json()
    item, note = asked["item"], asked.get("note") or ""
    prefix = {"model": "", "dataset": "datasets/", "space": "spaces/"}.get(item["type"])
    if prefix is not None and prefix + item["id"] not in call.state.repos:
        raise Refusal(404, f"{item['id']} does not exist")
    if len(note) > 500:
        raise Refusal(400, "A note has at most 500 characters")
    if any((i["type"], i["id"]) == (item["type"], item["id"]) for i in found["items"]):
        raise Refusal(409, "This item is in the collection already")
    found["items"].append(
        {"_id": str(len(found["items"])), **item, "position": 0, "note": {"text": note}}
    )
    return found


@route("PATCH", "/api/collections/{repo}")
def update_collection(call: Call, repo: str) -> Any:
    found, asked = writable(call, repo), call.json()
    if len(asked.get("description", "")) > 150:
        raise Refusal(400, "A description has at most 150 characters")
    found.update(asked)
    return {"success": True, "data": found}


@route("PATCH", "/api/collections/{repo}/items/{item}")
def update_collection_item(call: Call, repo: str, item: str) -> Any:
    found, note = writable(call, repo)["items"], call.json()["note"]
    if len(note) > 500:
        raise Refusal(400, "A note has at most 500 characters")
    entry = next((i for i in found if i["_id"] == item), None)
    if entry is None:
        raise Refusal(404, "This item is not in the collection")
    entry["note"] = {"text": note}
    return {"success": True}
