"""List and publish models: ``se-zoo list``, ``card``, ``publish`` and ``verify``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import tyro

from ..errors import InvalidInputError
from ..zoo_names import check_name

#: Last line of ``se-zoo list``.
BESIDES = (
    "From the Hub, timm's own weights under an identity gate: resnet50_sehead.a1_in1k and so on; "
    'after import se_zoo, timm.list_pretrained("*_sehead") lists them'
)


@dataclass(frozen=True)
class ListModels:
    """List the zoo's trained models. All of them come with the package."""

    architectures: bool = False
    """List the architectures instead, for training or with timm's own weights from the Hub."""


@dataclass(frozen=True)
class Card:
    """Print a model's card, or write the draft of one for a run.

    Every figure of a card comes from a file that says how it was measured.
    """

    model: tyro.conf.Positional[str]
    """se_zoo/<name> or an architecture's tag (resnet50_sehead.a1_in1k); or the folder of a run."""
    repo: Optional[str] = None
    """Repository to name in the card of a run."""
    new: bool = False
    """Write RUN/card/facts.yaml, a draft for you to fill in with what only you can state."""


@dataclass(frozen=True)
class Publish:
    """Publish a trained model on the Hugging Face Hub.

    The files are uploaded to a branch, pulled from there into an empty cache, and must give equal
    logits and explanations, to the bit. Then they go to main in one commit. If anything fails, the
    Hub stays as it was.
    """

    run: tyro.conf.Positional[Optional[Path]] = None
    """Folder of a finished run, or a folder that se_zoo.save wrote."""
    repo: Optional[str] = None
    """Repository, <user or organisation>/<name>."""
    pr: bool = False
    """Open a pull request instead of committing; for repositories that you may not write to."""
    private: bool = False
    """Make a new repository private."""
    dry_run: bool = False
    """Only write RUN/upload, the folder that would be uploaded. The Hub is not contacted."""
    tag: Optional[str] = None
    """Tag of the commit; by default the next of v1, v2, ..."""
    overwrite: bool = False
    """Replace files of the repository that se-zoo did not write, and remove those of another model
    that transformers would read."""
    no_metrics: bool = False
    """Publish a model that no recipe trained; its card says that nothing was measured."""
    zoo: bool = False
    """Publish all models of the zoo from the package, instead of a run. Models that are published
    already are skipped, so an interrupted command can be given again."""
    org: Optional[str] = None
    """With --zoo: organisation on the Hub; by default the zoo's."""
    record: bool = False
    """With --zoo: write commits and tags to hub_cards/manifest.json, so that the next version of
    se_zoo pulls exactly these commits."""


@dataclass(frozen=True)
class Verify:
    """Compare a model's files with the hashes that were published, then load the model."""

    model: tyro.conf.Positional[str]
    """se_zoo/<name> or hf-hub:<repository>."""


def run_list(args: ListModels) -> None:
    """Run ``se-zoo list``.

    Args:
        args: The options.
    """
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
    print(BESIDES)


def run_card(args: Card) -> None:
    """Run ``se-zoo card``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If there is no such model, facts are missing, or a draft exists already.
        PublishError: If the card cannot be rendered.
    """
    check_name(args.model)
    from ..hub.read_run import read_run, write_draft
    from ..hub.stage import stage
    from ..hub.zoo_cards import card_text

    folder = Path(args.model)
    if args.new:
        print(f"{write_draft(folder)}: fill it in, then `se-zoo card {folder}` shows the card")
        return
    if args.model and folder.is_dir():
        metrics = (folder / "summary.json").is_file()
        with stage(read_run(folder, args.repo or "user/name", metrics)) as staged:
            print((staged.folder / "README.md").read_text("utf-8"))
    elif ":" in args.model or not args.model:
        raise InvalidInputError(
            f"There is no card of {args.model!r}; name a model of the zoo, or the folder of a run."
        )
    elif args.model.startswith((".", "/", "runs")):
        raise InvalidInputError(f"no such folder: {args.model}; name the folder of a run.")
    elif args.repo is not None:
        raise InvalidInputError("--repo is for the card of a run; leave it out.")
    else:
        print(card_text(args.model))


def run_publish(args: Publish) -> None:
    """Run ``se-zoo publish``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If options, run or facts are wrong or incomplete; the Hub is not changed.
        PublishError: If publishing fails; the Hub is then as it was, or the message says what is
            left.
    """
    from ..hub.publish import publish
    from ..hub.read_run import read_run
    from ..hub.stage import stage, write_upload

    if args.zoo:
        _publish_zoo(args)
        return
    if args.org is not None or args.record:
        raise InvalidInputError("--org and --record are for --zoo; add it, or leave them out.")
    if args.run is None:
        raise InvalidInputError("Name the folder of a run, or give --zoo for the zoo's own models.")
    if args.repo is None:
        raise InvalidInputError("Name the repository: --repo <user or organisation>/<name>.")
    run = read_run(args.run, args.repo, metrics=not args.no_metrics)
    if args.dry_run:
        folder = write_upload(run)
        names = sorted(str(p.relative_to(folder)) for p in folder.iterdir())
        print(f"{folder}: {', '.join(names)}\nwould go to {run.repo}; the Hub was not contacted")
        return
    with stage(run) as staged:
        done = publish(
            staged, pr=args.pr, private=args.private, tag=args.tag, overwrite=args.overwrite
        )
    print(done.text())


def _publish_zoo(args: Publish) -> None:
    """Publish the zoo's own models, and print a line for each."""
    from ..hub.publish_errors import PublishError
    from ..hub.publish_zoo import publish_zoo

    others = {"RUN": args.run, "--repo": args.repo, "--pr": args.pr, "--dry-run": args.dry_run,
              "--tag": args.tag, "--no-metrics": args.no_metrics}  # fmt: skip
    if given := [name for name, value in others.items() if value]:
        raise InvalidInputError(f"--zoo goes without {', '.join(given)}; leave them out.")
    outcomes = publish_zoo(
        args.org, private=args.private, overwrite=args.overwrite, to_record=args.record
    )
    failed = 0
    for outcome in outcomes:
        print(outcome.text(), flush=True)
        failed += outcome.publication is None
    if failed:
        raise PublishError(
            f"{failed} of the models failed, the others are published; give the same command again."
        )


def run_verify(args: Verify) -> None:
    """Run ``se-zoo verify``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If the model is a folder.
        UnknownModelError: With the closest names.
        VerifyError: If a file is not the one that was published.
    """
    check_name(args.model)
    if args.model.startswith("local-dir:") or Path(args.model).is_dir():
        raise InvalidInputError(
            f"{args.model} is a folder, and has no published hashes; name se_zoo/<name> or "
            "hf-hub:<repository>."
        )
    from ..hub.verify import verify

    print(verify(args.model))
