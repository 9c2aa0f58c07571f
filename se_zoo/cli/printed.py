"""Print predictions: as text for people, and as rows for tables and programs."""

from typing import Any, Dict, List, Optional, Sequence

from ..explanations.methods import CLASSLESS_METHODS, COMPETING_METHODS
from ..text import printable

#: What a map may add up to, for people who do not know the word.
_LOGIT = "logit, the score behind the probability"


def row_of(
    explanation: Any, file: str, picture: str, region: Sequence[int], top: Optional[int]
) -> Dict[str, Any]:
    """Return what a table says of one explained photo or clip.

    Args:
        explanation: The explanation of this photo alone.
        file: Its name.
        picture: Name of the picture.
        region: Box (x0, y0, x1, y1) in pixels that the model saw.
        top: How many of the most probable labels to name; None for those that are predicted.

    Returns:
        A value for each column of :data:`~se_zoo.cli.tables.COLUMNS`.
    """
    probabilities = explanation.probabilities[0]
    order = probabilities.argsort(descending=True).tolist()
    holds = explanation.predicted[0]
    shown = order[:top] if top else [i for i in order if holds[i]]
    names = _names(explanation)
    classless = explanation.method in CLASSLESS_METHODS
    return {
        "file": file,
        "error": "",
        "picture": picture,
        "target": [] if classless else list(explanation.target),
        "label": [] if classless else list(explanation.labels),
        "probability": [] if classless else _rounded(explanation.row_probability),
        "predicted": [names[i] for i in shown],
        "predicted_probability": _rounded(probabilities[shown]),
        "region": list(region),
        "empty": list(explanation.empty[: 1 if classless else None]),
    }


def error_row(file: str, error: str) -> Dict[str, Any]:
    """Return the row of a file that could not be read."""
    lists = ("target", "label", "probability", "predicted", "predicted_probability", "region",
             "empty")  # fmt: skip
    return {"file": file, "error": error, "picture": "", **{name: [] for name in lists}}


def _rounded(values: Any) -> List[float]:
    """Return probabilities with six decimals."""
    return [round(value, 6) for value in values.tolist()]


def _names(explanation: Any) -> List[str]:
    """Return the names of all classes; their indices where the model has no names."""
    return list(explanation.label_names or []) or [
        str(i) for i in range(explanation.logits.shape[1])
    ]


def text_of(
    name: str, explanation: Any, asked: Optional[Sequence[int]], top: Optional[int] = None
) -> str:
    """Return the predictions of one photo as text; explained targets carry a star.

    Args:
        name: Name of the photo.
        explanation: The explanation of this photo alone.
        asked: Classes that were asked for. Of independent labels these are listed, or else all
            predicted ones; of competing classes five.
        top: List so many of the most probable labels instead, and those that are explained.
    """
    probabilities = explanation.probabilities[0]
    names = _names(explanation)
    order = probabilities.argsort(descending=True).tolist()
    if explanation.multi_label and asked and not top:
        shown = [i for i in order if i in asked]
    elif explanation.multi_label and not top:
        holds = explanation.predicted[0]
        shown = [i for i in order if holds[i] or i in explanation.target]
    else:
        shown = [i for n, i in enumerate(order) if n < (top or 5) or i in explanation.target]
    lines = [printable(name), f"  {'label':<32}probability"]
    for i in shown:
        explained = i in explanation.target and explanation.method not in CLASSLESS_METHODS
        star = "  *" if explained else ""
        lines.append(f"  {printable(names[i])[:30]:<32}{probabilities[i]:>10.1%}{star}")
    return "\n".join(lines)


def what_it_shows(explanation: Any) -> str:
    """Describe the map in one line: its cells, and what it adds up to."""
    *steps, rows, columns = explanation.native_grid
    parts = [f"{rows} x {columns} cells"]
    if steps:
        parts.append(f"{steps[0]} time step{'' if steps[0] == 1 else 's'}")
    if explanation.method not in CLASSLESS_METHODS:
        parts.append("* = explained")
    if explanation.versus:
        parts.append(f"against {', '.join(sorted(set(explanation.versus_labels)))}")
    if explanation.method in CLASSLESS_METHODS:
        parts.append("the same for every label")
        if explanation.method == "gate" and float(explanation.gate.std(1).amax()) < 1e-6:
            parts.append("the gate is the same for every channel, so it selects none: train it")
    elif explanation.method == "support":
        parts.append("what speaks against the label counts by half")
    else:
        what = "difference of the two logits" if explanation.versus else _LOGIT
        if explanation.method in COMPETING_METHODS:
            what = "logit less those of the other labels, each by a third of its probability"
        if explanation.exact:
            parts.append(f"the map adds up to the {what}")
        else:
            parts.append(f"the map does not add up to the {what} (weights: {explanation.weights})")
    return printable("; ".join(parts))
