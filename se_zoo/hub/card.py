"""Render model cards from facts and figures, with the template in ``hub_cards``.

All figures of a card come from its files of figures (:mod:`se_zoo.hub.sources`). A text that quotes
a figure which no file has is an error.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Union

import timm
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, pass_context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import InvalidInputError
from ..models import SEHeadMixin, SpeakerModel
from ..models.pretrained.manifest import cards_folder
from .facts import Facts
from .figures import TABLES, check_agreement, means_of
from .formatting import FILTERS, labels_text, license_text, link_arxiv
from .texts import fill_in

#: Metrics that a card shows, in this order, as far as they were measured.
METRICS = ("accuracy", "balanced_accuracy", "average_precision", "top5_accuracy")
GALLERY = "gallery.png"
CURVES = "curves.png"
#: What a model calls its samples -> the Hub's name of its task.
TASKS = {
    "image": "image-classification",
    "video": "video-classification",
    "track": "video-classification",
}


@dataclass
class Subject:
    """A model, and everything that its card says about it.

    Attributes:
        name: Title of the card: ``resnet50_sehead.celeba``, or a repository.
        model: The SE model; its weights are not used.
        facts: What people state.
        sources: Content of the files of figures, by name; each is ``<name>.json`` beside the card.
            The template uses ``training`` and ``control`` (a recipe's summary, with and without
            the block), ``test`` (see :mod:`.figures`), ``parity`` and ``maps``. Texts may quote any
            file.
        size: Result of :func:`se_zoo.hub.size.size_facts`; None where it was not counted.
        status: ``published``; for weights of others, ``timm`` or ``torchvision``.
        load_name: Name of the model for ``timm.create_model``.
        repo: Repository on the Hub.
        base_model: Repository of the weights that the model was fine-tuned from.
        backbone: Backbone of a ``timm_sehead``.
        pictures: Those of gallery.png and curves.png that lie beside the card.
        weights_size: Size of the weights file in bytes.
    """

    name: str
    model: Union[SEHeadMixin, SpeakerModel]
    facts: Facts
    sources: Mapping[str, Dict[str, Any]]
    size: Optional[Mapping[str, Any]]
    status: str
    load_name: str
    repo: Optional[str] = None
    base_model: Optional[str] = None
    backbone: Optional[str] = None
    pictures: List[str] = field(default_factory=list)
    weights_size: Optional[int] = None


def render(subject: Subject) -> ModelCard:
    """Render the model card, with a ``model-index`` of the test split's figures.

    Args:
        subject: The model with its facts and figures.

    Returns:
        The card: header and text.

    Raises:
        InvalidInputError: If a text quotes a figure that no file has, or is no valid template; or
            if two files disagree on a figure.
    """
    environment = ImmutableSandboxedEnvironment(  # the facts of a run may be somebody else's
        loader=FileSystemLoader(cards_folder()), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update({**FILTERS, **TABLES})
    environment.filters["text"] = _text
    context = _context(subject)
    try:
        body = environment.get_template("template.md").render(context)
        license_id = fill_in(environment, subject.facts.license.id, context, FILTERS)
    except Exception as error:  # a template can raise whatever Python can
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise InvalidInputError(
            f"The card of {subject.name} cannot be rendered: {kind}{error}. Correct the text; "
            "every figure that it quotes must be in a .json file beside the facts."
        ) from error
    header = _metadata(subject, license_id).to_yaml()
    return ModelCard(f"---\n{header}\n---\n\n{link_arxiv(_tidy(body))}")


@pass_context
def _text(context: Any, value: str) -> str:
    """Fill in the figures that a text quotes."""
    return fill_in(context.environment, value.strip(), context.get_all(), (*FILTERS, *TABLES))


def _tidy(body: str) -> str:
    """Leave at most one empty line between two paragraphs."""
    while "\n\n\n" in body:
        body = body.replace("\n\n\n", "\n\n")
    return body.strip() + "\n"


def _context(subject: Subject) -> Dict[str, Any]:
    """Return the variables of the template, the files of figures among them."""
    model: Any = subject.model
    facts, sources = subject.facts, subject.sources
    cfg: Dict[str, Any] = dict(model.pretrained_cfg)
    labels = model.class_labels()
    shown = list(labels or ())[:1] if model.is_multi_label() else []
    if facts.gallery:
        shown = list(facts.gallery.targets[:1])
    context: Dict[str, Any] = {
        "name": subject.name, "facts": facts, "size": subject.size, "status": subject.status,
        "load_name": subject.load_name, "repo": subject.repo, "base_model": subject.base_model,
        "weights_size": subject.weights_size,
        "files": {name: f"{name}.json" for name in sources}, "cfg": cfg,
        "architecture": cfg.get("architecture"), "backbone": subject.backbone, **model.se_args,
        "labels_text": labels_text(labels, model.num_classes, model.is_multi_label()),
        "clips": model.noun == "video", "speaker": model.noun == "track",
        "noun": f"{model.noun}s",
        "example_target": f", target={json.dumps(shown[0])}" if shown else "",
        "multi_label": model.is_multi_label(), "classes": model.num_classes,
        "license_text": license_text(facts.license),
        "picture": facts.gallery if GALLERY in subject.pictures else None,
        "has_curves": CURVES in subject.pictures,
    }  # fmt: skip
    taken = sorted((set(context) - {"size"}) & set(sources))
    if taken:
        raise InvalidInputError(
            f"{', '.join(f'{name}.json' for name in taken)}: a file of figures must not have this "
            "name, which the template uses; rename it."
        )
    context.update(sources)
    if "test" in sources:
        means_of(sources["test"])  # a clear error, where the template's would be obscure
    if "training" in sources:
        training = sources["training"]
        split = test_split(training)
        context.update(split=split, metrics=[m for m in METRICS if m in training[split]])
        if "test" in sources:
            check_agreement(training, split, sources["test"], subject.name)
    return context


def test_split(training: Mapping[str, Any]) -> str:
    """Return the name of the split that a recipe's run was tested on.

    Args:
        training: The recipe's summary.

    Raises:
        InvalidInputError: If the summary has no figures of that split, or one is not in [0, 1].
    """
    declared = training.get("config", {}).get("data", {})
    named = (
        declared["splits"][-1] if isinstance(declared, dict) and "splits" in declared else "test"
    )
    figures = training.get(named)
    if not isinstance(figures, dict) or "accuracy" not in figures:
        raise InvalidInputError(
            f"The run's summary.json has no figures of the split {named}; train again."
        )
    for name in (*METRICS, "majority_accuracy"):
        value = figures.get(name, 0.0)
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InvalidInputError(
                f"The run's summary.json says {name} = {value} of the split {named}; it must be a "
                "number from 0 to 1. Train again."
            )
    return str(named)


def base_model(training: Optional[Mapping[str, Any]]) -> Optional[str]:
    """Return the repository of timm's weights that a recipe's run started from, if any.

    Weights of ``--run.init`` replace timm's, and only the facts can name their repository.

    Args:
        training: The recipe's summary; None where no recipe trained the model.
    """
    config = (training or {}).get("config", {})
    chosen, run = (config.get(k) if isinstance(config, dict) else None for k in ("model", "run"))
    if not isinstance(chosen, dict) or not chosen.get("pretrained"):
        return None
    if isinstance(run, dict) and run.get("init") is not None:
        return None
    cfg: Any = timm.get_pretrained_cfg(chosen.get("backbone") or chosen["name"])
    return getattr(cfg, "hf_hub_id", None)


def _dataset_id(facts: Facts) -> str:
    """Return the data set's id on the Hub, or its name in the form of an id."""
    return facts.data.hub_id or re.sub(r"[^\w.-]+", "-", facts.data.name).strip("-")


def _metadata(subject: Subject, license_id: str) -> ModelCardData:
    """Return the YAML header of a card, as the Hub reads it."""
    facts, task = subject.facts, TASKS[subject.model.noun]
    results = _eval_results(subject)
    base = subject.base_model
    header = ModelCardData(
        library_name="timm",
        pipeline_tag=task,
        tags=["timm", *(["transformers"] if subject.model.noun == "image" else []), "se_zoo", task],
        license=license_id,
        license_name=facts.license.name,
        license_link=facts.license.link,
        datasets=[facts.data.hub_id] if facts.data.hub_id else None,
        metrics=sorted({r.metric_type for r in results}) or None,
        base_model=base,
        model_name=subject.name if results else None,
        eval_results=results or None,
    )
    if base:
        header["base_model_relation"] = "finetune"
    return header


def _eval_results(subject: Subject) -> List[EvalResult]:
    """Return the figures of the test split for the header.

    Figures of the stored weights (test.json) come before those of the recipe.
    """
    sources, data, task = subject.sources, subject.facts.data, TASKS[subject.model.noun]
    if "test" in sources:
        split, figures = "test", means_of(sources["test"])
    elif "training" in sources:
        split = test_split(sources["training"])
        figures = sources["training"][split]
    else:
        return []
    return [
        EvalResult(
            task_type=task, task_name=task.replace("-", " ").title(),
            dataset_type=_dataset_id(subject.facts), dataset_name=data.name, dataset_split=split,
            metric_type=metric, metric_name=metric.replace("_", " "),
            metric_value=figures[metric],
        )
        for metric in METRICS
        if metric in figures
    ]  # fmt: skip
