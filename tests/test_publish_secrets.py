"""What is published holds no secrets and no paths of this machine; facts cannot fill the memory."""

import json
import time
from pathlib import Path
from typing import Any, Dict, Tuple, Type

import pytest
import torch
from jinja2 import StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from safetensors.torch import save_file

from se_zoo.errors import InvalidInputError
from se_zoo.hub.facts import read_raw
from se_zoo.hub.secrets import refuse_secrets, secrets_in, without_paths
from se_zoo.models.pretrained.manifest import cards_folder

LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"HF_TOKEN=hf_{LETTERS}",
        f"hf_{LETTERS}",
        "HF_TOKEN=abcdefgh",
        "python train.py --password hunter2",
        "python train.py --api-key=hunter2 x",
        '"command": "curl -H \\"Authorization: Bearer abc\\""',
        "https://user:pass@host/data",
        f"git clone https://{LETTERS}@huggingface.co/x/y",
        "ghp_" + LETTERS,
        "sk-proj-" + LETTERS,
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        '"wandb_api_key": "0123456789abcdef"',
        "WANDB_API_KEY='0123456789abcdef'",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2QT4",
        "see file:///srv/data/x",
        "images of /home/alice/pictures",
        r"images of C:\Users\alice\pictures",
        '["train.py", "--password", "hunter2"]',
        '"--api-key",\n    "hunter2"',
        json.dumps({"command": json.dumps(["train.py", "--token", "hunter2"])}),
        "['--hf-token', 'hunter2']",
    ],
)
def test_secret_is_found(text: str) -> None:
    assert next(iter(secrets_in(f"first line\n{text}")))[0] == 2


@pytest.mark.parametrize(
    "text",
    [
        '"class_token": true, "num_reg_tokens": 4',
        '"global_pool": "token"',
        "The class token: the first of the sequence.",
        "set HF_TOKEN to a token that may write",
        "create_model(name, token=None)",
        "export HF_TOKEN=$TOKEN",
        "export HF_TOKEN=<your token>",
        '"weights_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
        "https://huggingface.co/se-zoo/resnet50_celeba",
        "mailto:someone@example.org, git@github.com:a/b.git",
        "--run.seed 3 --optim.lr 0.1",
        '["--token", "--seed", "3"]',
        '["--token", "none"]',
        '["--token", "$HF_TOKEN"]',
        '["--class-token", "True", "--model.args", "global_pool=token"]',
    ],
)
def test_harmless_text_is_no_secret(text: str) -> None:
    assert not list(secrets_in(text))


def test_packaged_repositories_hold_no_secrets() -> None:
    folders = sorted(cards_folder().glob("*/hub"))
    assert folders
    for folder in folders:
        refuse_secrets(folder)


def test_refusal_names_file_and_line_and_not_the_secret(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Card\n\nHF_TOKEN=abcdefghijk\n")
    (tmp_path / "test.json").write_text(json.dumps({"command": "x --password hunter2"}, indent=2))
    notes = {"made_by": "https://user:pass@host/x"}
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors", notes)
    with pytest.raises(InvalidInputError) as info:
        refuse_secrets(tmp_path)
    message = str(info.value)
    for place in ("README.md, line 3", "test.json, line 2", "model.safetensors, line 2"):
        assert place in message
    assert "abcdefghijk" not in message and "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/john doe/data/x.png", ".../x.png"),
        ("python a.py --out '/home/john doe/run 1/x'", "python a.py --out '.../x'"),
        ("python a.py --out /home/john doe/run/x --b 1", "python a.py --out .../x --b 1"),
        ("file:///home/me/data/x.png", ".../x.png"),
        ("read file:///srv/a/b.csv now", "read .../b.csv now"),
        (r"C:\Users\John Doe\data\x.png", ".../x.png"),
        (r"python a.py --data C:\Users\me\x.csv", r"python a.py --data .../x.csv"),
        ("C:/Users/me/x.csv", ".../x.csv"),
        (r"\\server\share\x.csv", ".../x.csv"),
        ("PYTHONPATH=a:/srv/me/lib/b", "PYTHONPATH=a:.../b"),
        ("--x=/data/me/run", "--x=.../run"),
        ("python x.py --in /mnt/me/in --out runs/out", "python x.py --in .../in --out runs/out"),
        ("https://huggingface.co/a/b/c", "https://huggingface.co/a/b/c"),
        ("a/b/c and hf://datasets/a/b", "a/b/c and hf://datasets/a/b"),
        ("accuracy / loss", "accuracy / loss"),
        ("t-shirt/top", "t-shirt/top"),
        ("~/faces", "~/faces"),
        ("../faces", "../faces"),
    ],
)
def test_paths_are_cut(text: str, shown: str) -> None:
    assert without_paths({"a": [text, 1]}) == {"a": [shown, 1]}
    assert not list(secrets_in(shown))


def test_keys_that_name_a_home_folder_are_cut_and_labels_are_kept() -> None:
    keys = {"/home/me/cat.jpg": 1, "/m/01g317": 2}
    assert without_paths(keys) == {".../cat.jpg": 1, "/m/01g317": 2}


# Facts

FACTS: Dict[str, str] = {
    "alias bomb": "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    ),
    "loop": "a: &a [*a]",
    "deep": "a: " + "[" * 20_000,
    "date": "a: 2001-99-99",
    "large": "a: " + "x" * 2**21,
    "outward": "like: ../../../../etc/passwd",
    "bytes": "a: \udcff",
}  # fmt: skip


@pytest.mark.parametrize("kind", FACTS)
def test_facts_that_waste_memory_are_refused(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "card" / "facts.yaml"
    file.parent.mkdir()
    file.write_bytes(FACTS[kind].encode("utf-8", "surrogateescape"))
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match=r"facts\.yaml"):
        read_raw(file)
    assert time.monotonic() - began < 5


def test_facts_that_name_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("like: b.yaml\n")
    (tmp_path / "b.yaml").write_text("like: a.yaml\n")
    with pytest.raises(InvalidInputError, match="holds no facts"):
        read_raw(tmp_path / "a.yaml")


#: Text -> the error, and what it says.
TEXTS: Dict[str, Tuple[Type[Exception], str]] = {
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": (
        TemplateSyntaxError, "Call is not allowed in a text",
    ),
    "{% for a in rows %}{% for b in rows %}{% for c in rows %}{% endfor %}{% endfor %}{% endfor %}":
        (ValueError, "loops of a text make more than 10,000 rounds"),
    "{{ 'x' * 1000000000 }}": (TemplateSyntaxError, "Mul is not allowed in a text"),
    "{{ 9 ** 9 ** 9 }}": (TemplateSyntaxError, "Pow is not allowed in a text"),
    "{{ '%0999999999d' % 1 }}": (TemplateSyntaxError, "Mod is not allowed in a text"),
    "{{ 'x'.ljust(1000000000) }}": (TemplateSyntaxError, "Call is not allowed in a text"),
    "{{ 'x' | center(1000000000) }}": (TemplateSyntaxError, "filter center cannot be used here"),
    "{{ 'aaaaaaaaaaaaaaaa' | replace('a', long) | replace('b', long) | replace('b', long) }}": (
        ValueError, "replace makes a text too long",
    ),
    "{% for a in rows %}{{ long }}{% endfor %}": (ValueError, "longer than 200,000 characters"),
    "{% set a = 1 %}": (TemplateSyntaxError, "Assign is not allowed in a text"),
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": (
        TemplateSyntaxError, "Macro is not allowed in a text",
    ),
    "{% include 'template.md' %}": (TemplateSyntaxError, "Include is not allowed in a text"),
    "{{ rows.__class__.__mro__ }}": (SecurityError, "'__class__' of 'list' object is unsafe"),
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}": (RecursionError, "recursion depth exceeded"),
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:30])
def test_text_of_a_card_cannot_compute_without_end(text: str) -> None:
    from se_zoo.hub.texts import fill_in

    error, says = TEXTS[text]
    environment: Any = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    began = time.monotonic()
    with pytest.raises(error, match=says):
        fill_in(environment, text, {"rows": list(range(1000)), "long": "b" * 1000}, ())
    assert time.monotonic() - began < 5


def test_text_quotes_figures_in_loops_and_conditions() -> None:
    from se_zoo.hub.texts import fill_in

    text = "{% for row in test.rows %}{{ row.a }}{{ ', ' if not loop.last }}{% endfor %}"
    figures = {"test": {"rows": [{"a": 1}, {"a": 2}]}}
    assert fill_in(ImmutableSandboxedEnvironment(), text, figures, ()) == "1, 2"
    difference = "{{ test.rows[1].a - test.rows[0].a }}"
    assert fill_in(ImmutableSandboxedEnvironment(), difference, figures, ()) == "1"
