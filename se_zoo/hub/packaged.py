"""Read the zoo's own models from the package: ``hub_cards/<name>/hub`` holds a repository."""

from pathlib import Path

from ..errors import InvalidInputError
from ..models.pretrained.fetch import HUB_ORG, declared_repo
from ..models.pretrained.manifest import cards_folder, hub_folder, manifest, sha256_of
from .read_run import Run, make_run, read_export
from .stage import Staged


def packaged_run(name: str, folder: Path, card: Path) -> Run:
    """Read the run or saved model that a model of the zoo is packaged from.

    Args:
        name: Name of the model, such as ``resnet50_celeba``.
        folder: Folder of weights and config: a finished run, a saved model that no recipe trained,
            or the model's folder ``hub``.
        card: Folder of its facts and figures.

    Raises:
        InvalidInputError: If the run is of another model, or the card lacks something.
        WeightsNotFoundError: If the weights do not load, do not fit, or are not finite.
    """
    _, config = read_export(folder)
    architecture = str(config.get("architecture")).removesuffix("_sehead")
    found = f"{architecture}_{config.get('pretrained_cfg', {}).get('tag')}"
    if found != name:
        raise InvalidInputError(
            f"{folder} is of {found} (architecture and tag), not of {name}; name the other."
        )
    measured = (folder / "export").is_dir() or (card / "training.json").is_file()
    return make_run(folder, f"{HUB_ORG}/{name}", card, name, measured)


def packaged(name: str, repo: str) -> Staged:
    """Read a packaged model, whose folder is published byte for byte.

    Args:
        name: Name of a model in the manifest, such as ``resnet50_celeba``.
        repo: Repository on the Hub.

    Raises:
        InvalidInputError: If the files are not those that the manifest records.
        WeightsNotFoundError: If the weights do not load.
    """
    folder, recorded = hub_folder(name), manifest()[name].sha256
    found = {file.name: sha256_of(file) for file in sorted(folder.glob("*"))}
    if found != recorded:
        names = {n for n in {**found, **recorded} if found.get(n) != recorded.get(n)}
        raise InvalidInputError(
            f"{folder} differs from hub_cards/manifest.json in: {', '.join(sorted(names))}. "
            "Install se_zoo again; in a checkout, `python -m tools.package_zoo "
            f"{name}` writes folder and manifest again."
        )
    own = name if repo == declared_repo(name) else None
    run = make_run(folder, repo, cards_folder() / name, own, metrics=False)
    return Staged(folder, run, found, packaged=True)
