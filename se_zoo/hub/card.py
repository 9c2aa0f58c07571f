"""Model cards: the facts and the figures of a model, rendered with the template of ``hub_cards``.

A card's figures come from its files of figures alone (:mod:`se_zoo.hub.sources`); a text that
quotes one that no file has is an error.
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
from .formatting import FILTERS, labels_text, license_text, linked

#: Figures of a split that a card shows, in this order, as far as they were measured.
METRICS = ("accuracy", "balanced_accuracy", "average_precision", "top5_accuracy")
GALLERY = "gallery.png"
#: The Hub's names of what the models do.
IMAGES, CLIPS = "image-classification", "video-classification"
CURVES = "curves.png"


@dataclass
class Subject:
    """A model, and all that its card says of it.

    Attributes:
        name: Title: ``resnet50_sehead.celeba``, or a repository.
        model: The SE model; its weights are not looked at.
        facts: What people state.
        sources: Files of figures by name, ``<name>.json`` beside the card. The template knows
            ``training`` and ``control`` (a recipe's summary, with and without the block), ``test``
            (:mod:`.figures`), ``parity``, ``regions`` and ``speed``; texts may quote any.
        size: See :func:`se_zoo.hub.size.size_facts`.
        status: ``published``, or ``timm`` or ``torchvision`` for their own weights.
        load_name: What ``timm.create_model`` takes.
        repo: Repository on the Hub.
        base_model: Repository of the weights that it was fine-tuned from.
        backbone: Of a ``timm_sehead``.
        pictures: Which of gallery.png and curves.png lie beside the card.
        weights_size: Of the weights file, in bytes.
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
    """The model card, with a ``model-index`` of the test split's figures.

    Raises:
        InvalidInputError: If a text quotes a figure that no file has, or is no valid template; or
            if two files disagree on a figure.
    """
    environment = ImmutableSandboxedEnvironment(  # facts may come with a run from elsewhere
        loader=FileSystemLoader(cards_folder()), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update({**FILTERS, **TABLES})
    environment.filters["text"] = _text
    context = _context(subject)
    try:
        body = environment.get_template("template.md").render(context)
        license_id = environment.from_string(subject.facts.license.id).render(context)
    except Exception as error:  # a template can raise whatever Python can
        kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
        raise InvalidInputError(
            f"The card of {subject.name} cannot be rendered: {kind}{error}. Every figure that a "
            "text quotes has to be in a .json file beside the facts."
        ) from error
    header = _metadata(subject, license_id).to_yaml()
    return ModelCard(f"---\n{header}\n---\n\n{linked(_tidy(body))}")


def _noun(model: Union[SEHeadMixin, SpeakerModel]) -> str:
    """What samples are called."""
    if isinstance(model, SpeakerModel):
        return "tracks"
    return "videos" if model.takes_clips else "images"


@pass_context
def _text(context: Any, value: str) -> str:
    """A stated text with the figures that it quotes filled in."""
    return context.environment.from_string(value.strip()).render(context.get_all())


def _tidy(body: str) -> str:
    """At most one empty line between two paragraphs."""
    while "\n\n\n" in body:
        body = body.replace("\n\n\n", "\n\n")
    return body.strip() + "\n"


def _context(subject: Subject) -> Dict[str, Any]:
    """All that the template may ask for; the sources by their names."""
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
        "clips": model.takes_clips, "speaker": isinstance(model, SpeakerModel),
        "noun": _noun(model),
        "example_target": f", target={json.dumps(shown[0])}" if shown else "",
        "multi_label": model.is_multi_label(), "classes": model.num_classes,
        "license_text": license_text(facts.license),
        "picture": facts.gallery if GALLERY in subject.pictures else None,
        "has_curves": CURVES in subject.pictures,
    }  # fmt: skip
    taken = sorted((set(context) - {"size"}) & set(sources))
    if taken:
        raise InvalidInputError(
            f"{', '.join(f'{name}.json' for name in taken)}: a file of figures cannot have this "
            "name; rename it."
        )
    context.update(sources)
    if "test" in sources:
        means_of(sources["test"])  # or the template would fail at what is no figure
    if "training" in sources:
        training = sources["training"]
        split = test_split(training)
        context.update(split=split, metrics=[m for m in METRICS if m in training[split]])
        if "test" in sources:
            check_agreement(training, split, sources["test"], subject.name)
    return context


def test_split(training: Mapping[str, Any]) -> str:
    """The split whose figures a recipe's summary gives last: the one to be judged by.

    Raises:
        InvalidInputError: If the summary has no figures of any split.
    """
    declared = training.get("config", {}).get("data", {})
    named = (
        declared["splits"][-1] if isinstance(declared, dict) and "splits" in declared else "test"
    )
    figures = training.get(named)
    if not isinstance(figures, dict) or "accuracy" not in figures:
        raise InvalidInputError(f"The run's summary.json has no figures of the split {named}.")
    for name in (*METRICS, "majority_accuracy"):
        value = figures.get(name, 0.0)
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InvalidInputError(f"The run's summary.json says {name} = {value} of {named}.")
    return str(named)


def base_model(training: Optional[Mapping[str, Any]]) -> Optional[str]:
    """The repository of timm's weights that a recipe's run started from, if it did."""
    config = (training or {}).get("config", {})
    chosen = config.get("model") if isinstance(config, dict) else None
    if not isinstance(chosen, dict) or not chosen.get("pretrained"):
        return None
    cfg: Any = timm.get_pretrained_cfg(chosen.get("backbone") or chosen["name"])
    return getattr(cfg, "hf_hub_id", None)


def dataset_id(facts: Facts) -> str:
    """The data set as the Hub takes it in a model-index: its id there, or its name as one."""
    return facts.data.hub_id or re.sub(r"[^\w.-]+", "-", facts.data.name).strip("-")


def task_of(subject: Subject) -> str:
    """The Hub's name of what the model does."""
    sees_clips = subject.model.takes_clips or isinstance(subject.model, SpeakerModel)
    return CLIPS if sees_clips else IMAGES


def _metadata(subject: Subject, license_id: str) -> ModelCardData:
    """The YAML header, as the Hub reads it."""
    facts, task = subject.facts, task_of(subject)
    results = _eval_results(subject)
    base = subject.base_model
    header = ModelCardData(
        library_name="timm",
        pipeline_tag=task,
        tags=["timm", *(["transformers"] if task == IMAGES else []), "se_zoo", task],
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
    """The test split's figures, each with the split that it was measured on: those of the stored
    weights where there are some, or else the recipe's."""
    sources, data = subject.sources, subject.facts.data
    if "test" in sources:
        split, figures = "test", means_of(sources["test"])
    elif "training" in sources:
        split = test_split(sources["training"])
        figures = sources["training"][split]
    else:
        return []
    return [
        EvalResult(
            task_type=task_of(subject), task_name=task_of(subject).replace("-", " ").title(),
            dataset_type=dataset_id(subject.facts), dataset_name=data.name, dataset_split=split,
            metric_type=metric, metric_name=metric.replace("_", " "),
            metric_value=figures[metric],
        )
        for metric in METRICS
        if metric in figures
    ]  # fmt: skip
