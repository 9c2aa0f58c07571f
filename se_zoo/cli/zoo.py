"""``se-zoo list``, ``card``, ``publish`` and ``verify``: the zoo, and what goes to the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import tyro

from ..errors import InvalidInputError


@dataclass(frozen=True)
class ListModels:
    """List the zoo's trained models. All of them come with the package."""

    architectures: bool = False
    """The architectures in their place, for training or with timm's own weights from the Hub."""


@dataclass(frozen=True)
class Card:
    """Print a model's card, or start one for a run.

    Every figure in it comes from a file that says how it was measured.
    """

    model: tyro.conf.Positional[str]
    """se_zoo/<name> or an architecture's tag (resnet50_sehead.a1_in1k); or the folder of a run."""
    repo: Optional[str] = None
    """The repository that a run's card names."""
    new: bool = False
    """Write RUN/card/facts.yaml, a draft of what only you can state, to be filled in."""


@dataclass(frozen=True)
class Publish:
    """Upload a trained model to the Hugging Face Hub, and pull it back to be sure.

    Everything goes up in one commit, after the same was pulled into an empty cache and had given
    equal logits and explanations, to the bit. If anything fails, the Hub stays as it was.
    """

    run: tyro.conf.Positional[Optional[Path]] = None
    """Folder of a finished run, or of a model that se_zoo.save wrote."""
    repo: Optional[str] = None
    """Repository, <user or organisation>/<name>."""
    pr: bool = False
    """Open a pull request instead of committing; for repositories that you may not write to."""
    private: bool = False
    """Make a new repository private."""
    dry_run: bool = False
    """Write RUN/upload, the folder that would be uploaded, and ask nothing of the Hub."""
    tag: Optional[str] = None
    """Tag of the commit; by default the next of v1, v2, ..."""
    overwrite: bool = False
    """Replace files of the repository that something else than se-zoo wrote."""
    no_metrics: bool = False
    """The model was trained without a recipe, and its card says that nothing was measured."""
    zoo: bool = False
    """In the place of a run, all models of the zoo, each as it lies in the package. What is up
    already is skipped, so an interrupted command can be given again."""
    org: Optional[str] = None
    """With --zoo: the organisation; by default the zoo's."""
    record: bool = False
    """With --zoo: write commits and tags to hub_cards/manifest.json, so that the next version of
    se_zoo pulls exactly these commits."""


@dataclass(frozen=True)
class Verify:
    """Fetch a model and compare its files with the hashes that were published, then load it."""

    model: tyro.conf.Positional[str]
    """se_zoo/<name> or hf-hub:<repository>."""


def run_list(args: ListModels) -> None:
    """Run ``se-zoo list``."""
    from ..models import list_models
    from ..models.names import PREFIX
    from ..models.pretrained.own_models import own_models

    if args.architectures:
        print("\n".join(list_models()))
        return
    width = max(map(len, own_models())) + len(PREFIX) + 2
    print(f"{'name':<{width}}{'architecture.tag':<40}classes")
    for own in own_models().values():
        classes = own.cfg["num_classes"]
        print(f"{PREFIX + own.name:<{width}}{own.registry_name:<40}{classes}")


def run_card(args: Card) -> None:
    """Run ``se-zoo card``.

    Raises:
        InvalidInputError: If the facts are not complete, or there is a card already.
    """
    from ..hub.run import read_run, write_draft
    from ..hub.stage import stage
    from ..hub.zoo import card_text

    folder = Path(args.model)
    if args.new:
        print(f"{write_draft(folder)}: fill it in, then `se-zoo card {folder}` shows the card")
        return
    if args.model and folder.is_dir():
        metrics = (folder / "summary.json").is_file()
        with stage(read_run(folder, args.repo or "user/name", metrics)) as staged:
            print((staged.folder / "README.md").read_text("utf-8"))
    elif ":" in args.model or not args.model:
        raise InvalidInputError("A card is of a model of the zoo, or of a run's folder.")
    elif args.model.startswith((".", "/", "runs")):
        raise InvalidInputError(f"no such folder: {args.model}")
    else:
        print(card_text(args.model))


def run_publish(args: Publish) -> None:
    """Run ``se-zoo publish``.

    Raises:
        InvalidInputError, PublishError: If anything is not in order; the Hub is then as it was.
    """
    from ..hub.publish import publish
    from ..hub.run import read_run
    from ..hub.stage import stage, write_upload

    if args.zoo:
        _publish_zoo(args)
        return
    if args.org is not None or args.record:
        raise InvalidInputError("--org and --record are for --zoo.")
    if args.run is None:
        raise InvalidInputError("Name the folder of a run, or give --zoo for the zoo's own models.")
    if args.repo is None:
        raise InvalidInputError("Name the repository: --repo <user or organisation>/<name>.")
    run = read_run(args.run, args.repo, metrics=not args.no_metrics)
    if args.dry_run:
        folder = write_upload(run)
        names = sorted(str(p.relative_to(folder)) for p in folder.iterdir())
        print(f"{folder}: {', '.join(names)}\nwould be {run.repo}; nothing was asked of the Hub")
        return
    with stage(run) as staged:
        done = publish(
            staged, pr=args.pr, private=args.private, tag=args.tag, overwrite=args.overwrite
        )
    print(done.text())


def _publish_zoo(args: Publish) -> None:
    """Publish the zoo's own models, a line each."""
    from ..hub.publish_errors import PublishError
    from ..hub.publish_zoo import publish_zoo

    others = {"RUN": args.run, "--repo": args.repo, "--pr": args.pr, "--dry-run": args.dry_run,
              "--tag": args.tag, "--no-metrics": args.no_metrics}  # fmt: skip
    if given := [name for name, value in others.items() if value]:
        raise InvalidInputError(f"--zoo goes without {', '.join(given)}.")
    outcomes = publish_zoo(
        args.org, private=args.private, overwrite=args.overwrite, to_record=args.record
    )
    failed = 0
    for outcome in outcomes:
        print(outcome.text(), flush=True)
        failed += outcome.publication is None
    if failed:
        raise PublishError(
            f"{failed} of the models failed, the others are up; give the same command again."
        )


def run_verify(args: Verify) -> None:
    """Run ``se-zoo verify``.

    Raises:
        VerifyError: If a file is not the one that was published.
    """
    from ..hub.verify import verify

    print(verify(args.model))
