"""Rehearse a release: build and check the package, and publish everything on a Hub on loopback.

    python -m tools.rehearse_release                     # installs torch anew: minutes
    python -m tools.rehearse_release --no-dependencies   # with the packages installed here

Nothing leaves the machine: the Hub is that of the tests, and PyPI is only asked for dependencies.
A person who has the right to publish then does the same for real:

    git tag v0.2.0 && git push origin v0.2.0      # the workflow release.yml uploads to PyPI
    hf auth login
    se-zoo publish --zoo --record
    python -m tools.release_hub
"""

import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import tyro

from se_zoo.errors import SEZooError
from se_zoo.models.pretrained.fetch import HUB_ORG
from se_zoo.models.pretrained.manifest import hub_folder, manifest
from se_zoo.version import __version__
from tools.release_hub import ROOT, collection, folders

#: PyPI's limit for a file, in bytes.
LARGEST = 100 * 10**6


@dataclass(frozen=True)
class Rehearse:
    """What to rehearse."""

    dependencies: bool = True
    """Install the package with its dependencies into a fresh environment; otherwise only the wheel
    is installed, and the dependencies are those of this environment."""


class RehearsalError(SEZooError):
    """A step of the release fails."""


def run(*command: object, cwd: Path = ROOT, env: "Mapping[str, str] | None" = None) -> str:
    """Run a command.

    Args:
        *command: The command and its arguments.
        cwd: Folder to run it in.
        env: Environment; by default this process's.

    Returns:
        What it printed.

    Raises:
        RehearsalError: If it fails; the message has the end of its output.
    """
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RehearsalError(f"{' '.join(map(str, command))}\n{end}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build wheel and sdist, and check what PyPI checks.

    Args:
        folder: Where to write them.

    Returns:
        The wheel.

    Raises:
        RehearsalError: If a file is not valid or too large.
    """
    run(sys.executable, "-m", "hatchling", "build", "-d", folder)
    files = sorted(folder.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    for file in files:
        if __version__ not in file.name or file.stat().st_size > LARGEST:
            raise RehearsalError(
                f"{file.name}, {file.stat().st_size:,} bytes: PyPI takes version {__version__} "
                f"only, and at most {LARGEST:,} bytes."
            )
        print(f"built {file.name}, {file.stat().st_size / 1e6:.1f} MB; twine finds no fault")
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, dependencies: bool) -> None:
    """Install the wheel away from the checkout, and explain the portrait with it.

    Args:
        wheel: The wheel.
        folder: An empty folder.
        dependencies: Whether to install the dependencies into a fresh environment.

    Raises:
        RehearsalError: If it cannot be installed, or does not work.
    """
    python, env = Path(sys.executable), {**os.environ, "HF_HUB_OFFLINE": "1"}
    env.pop("PYTHONPATH", None)
    if dependencies:
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        run(python, "-m", "pip", "install", "--quiet", wheel)
    else:
        target = folder / "packages"
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel)
        env["PYTHONPATH"] = str(target)
    where = run(python, "-c", "import se_zoo; print(se_zoo.__file__)", cwd=folder, env=env)
    if ROOT in Path(where.strip()).parents:
        raise RehearsalError(f"{where.strip()} is the checkout, not the installed wheel.")
    run(python, "-m", "se_zoo.cli", "explain", "--out", "why.png", cwd=folder, env=env)
    print(f"installed {wheel.name}; `se-zoo explain` wrote {(folder / 'why.png').stat().st_size:,}"
          " bytes without a network")  # fmt: skip


def publish(home: Path) -> None:
    """Publish models, cards, results and the collection on a Hub on loopback, twice.

    In between, the Hub gets what an older release may have left: other texts, and a file more.

    Args:
        home: Empty folder for the client's cache.

    Raises:
        RehearsalError: If something fails, differs from the files here, or is not the same after
            the second time.
    """
    from tests.hub_server import HubServer, User, client_environment

    with HubServer({"token": User("you", [HUB_ORG])}) as hub:
        env = client_environment(hub.url, home, "token", ROOT)
        seen: List[Tuple[Dict[str, Any], str]] = []
        for _ in range(2):
            if seen:
                (made,) = hub.state.collections.values()
                made["description"] = made["items"][0]["note"]["text"] = "old"
                hub.add(f"datasets/{HUB_ORG}/results", {"gone.json": b"{}"})
            print(run(sys.executable, "-m", "se_zoo.cli", "publish", "--zoo", env=env), end="")
            print(run(sys.executable, "-m", "tools.release_hub", env=env), end="")
            seen.append((hub.snapshot(), str(hub.state.collections)))
        if hub.unknown or seen[0] != seen[1]:
            raise RehearsalError(f"The Hub is not as after the first time, or: {hub.unknown}")
        for repo, files in expected().items():
            found = {k: v for k, v in hub.files(repo).items() if k != ".gitattributes"}
            if found != files:
                raise RehearsalError(f"{repo} has other files than here: {sorted(found)}")
        (made,) = hub.state.collections.values()
        if [item["id"] for item in made["items"]] != [i["id"] for i in collection()["items"]]:
            raise RehearsalError(f"The collection holds {made['items']}")
    print(f"{len(expected())} repositories and the collection are on the loopback Hub as here")


def expected() -> Dict[str, Dict[str, bytes]]:
    """Return the files of each repository, by the name that the Hub knows it under."""
    found = {}
    for name in manifest():
        files = hub_folder(name).iterdir()
        found[f"{HUB_ORG}/{name}"] = {file.name: file.read_bytes() for file in files}
    for folder in folders():
        kind = "" if folder.repo_type == "model" else f"{folder.repo_type}s/"
        found[kind + folder.repo] = folder.contents()
    return found


def main() -> None:
    """Read the command line and rehearse."""
    options = tyro.cli(Rehearse, description=__doc__)
    with tempfile.TemporaryDirectory(prefix="se-zoo-release-") as temporary:
        dist, home, away = (Path(temporary) / name for name in ("dist", "home", "away"))
        away.mkdir()
        try:
            install(build(dist), away, options.dependencies)
            publish(home)
        except RehearsalError as error:
            raise SystemExit(f"rehearse_release: {error}") from error
    print("rehearsed: a person with the rights can now do the same for real, see --help")


if __name__ == "__main__":
    main()
