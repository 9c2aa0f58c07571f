"""Find the classifiers of a model, and the number of classes that they have."""

from typing import List, Optional

from torch import nn

from ..explanations.classifier_rows import is_plain

#: Layers behind a classifier that leave the number of its outputs as it is.
_PASSING = (nn.Dropout, nn.Flatten, nn.Identity)


def classifiers_of(model: nn.Module) -> List[nn.Module]:
    """Return the modules that compute a model's logits.

    Args:
        model: Image, clip or speaker model, with or without an SE block.

    Returns:
        One module; two of a distilled model; none of a model that does not tell.
    """
    found = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    several = found if isinstance(found, (tuple, list)) else (found,)
    return [part for part in several if isinstance(part, nn.Module)]


def classes_of(model: nn.Module) -> int:
    """Return the number of classes that a model's classifier has.

    ``num_classes`` stays as it was where a classifier is replaced by hand (``model.fc = ...``).

    Args:
        model: Image or clip model.

    Returns:
        The outputs of the classifier if it is one linear layer or convolution, or a Sequential that
        ends with one; else ``num_classes``. 0 for a model without a classifier.
    """
    stated: int = getattr(model, "num_classes", None) or 0
    if not stated:
        return 0
    widths = {_outputs(part) for part in classifiers_of(model)}
    found = widths.pop() if len(widths) == 1 else None
    return stated if found is None else found


def _outputs(classifier: nn.Module) -> Optional[int]:
    """Return the number of a classifier's outputs; None if it is unknown."""
    if is_plain(classifier):
        return len(classifier.weight)  # type: ignore[arg-type]
    if type(classifier) is not nn.Sequential:  # a class of its own may do anything with its layers
        return None
    layers = [layer for layer in classifier if not isinstance(layer, _PASSING)]
    return _outputs(layers[-1]) if layers else None
