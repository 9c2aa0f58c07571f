"""Notes on empty maps: a grey picture does not say why it is grey."""

from collections import Counter
from typing import Any, List, Mapping, Sequence

from ..explanations.maps import is_constant
from ..explanations.methods import CLASSLESS_METHODS
from ..text import counted, printable

#: Labels that a note names.
_NAMED = 5
_WAY_OUT = "; --method contribution shows what speaks for and against "


def empty_notes(explanation: Any) -> str:
    """Return the lines that name the labels with an empty map, and say what to do.

    Args:
        explanation: The explanation of one or more photos, or of a clip.

    Returns:
        For each kind of empty map a line after a line break; nothing if no map is empty.
    """
    even = is_constant(explanation.raw).tolist()
    rows = [n for n, empty in enumerate(explanation.empty) if empty]
    same = [n for n in rows if even[n]]
    negative = [n for n in rows if not even[n]]
    lines: List[str] = []
    if same and explanation.method in CLASSLESS_METHODS:
        lines.append("the map is the same everywhere, so it marks no place")
    elif same:
        lines.append(f"{_maps_of(explanation, same)} the same everywhere, so nothing is marked")
    if negative:
        lines.append(_without_evidence(explanation, negative))
    return "".join(f"\nnote: {printable(line)}" for line in lines)


def summary_of_empty(labels: Mapping[str, int], files: int, method: str, table: str) -> str:
    """Return the line that counts the empty maps of many files.

    Args:
        labels: Number of empty maps of each label; none of methods that know no label.
        files: Number of files with an empty map.
        method: The method.
        table: Name of the table.

    Returns:
        The line after a line break; nothing if no map is empty.
    """
    if not files:
        return ""
    maps = [f"{label} {count:,}" for label, count in Counter(labels).most_common()]
    named = f" ({_listed(maps, 'and')})" if maps else ""
    way = f"{_WAY_OUT}a label" if maps and method != "contribution" else ""
    line = f"{counted(files, 'file')} with an empty map{named}"
    return f"\nnote: {printable(f'{line}; see the column empty of {table}{way}')}"


def _without_evidence(explanation: Any, rows: Sequence[int]) -> str:
    """Return what is said of maps with values of which none is above zero."""
    method, labels = explanation.method, _labels_of(explanation, rows, "or")
    way = _WAY_OUT + ("it" if len(rows) == 1 else "them")
    if method == "contribution":
        return f"nothing in the picture speaks for {labels}"
    if method == "affinity":
        return f"nothing in the affinity map speaks for {labels}{way}"
    if method == "rivals":
        return f"nothing in the picture speaks for {labels} more than for the other labels{way}"
    if method == "difference":
        others = sorted({explanation.versus_labels[n] for n in rows})
        return f"nothing in the picture speaks for {labels} more than for {', '.join(others)}{way}"
    return f"{_maps_of(explanation, rows)} empty{way}"


def _maps_of(explanation: Any, rows: Sequence[int]) -> str:
    """Return the subject of a sentence on the maps of some rows, and its verb."""
    maps, verb = ("map", "is") if len(rows) == 1 else ("maps", "are")
    return f"the {maps} of {_labels_of(explanation, rows, 'and')} {verb}"


def _labels_of(explanation: Any, rows: Sequence[int], word: str) -> str:
    """Return the labels of some rows; of several photos with the number of photos."""
    counts = Counter(explanation.labels[n] for n in rows)
    if len(explanation) == 1:
        return _listed(list(counts), word)
    return _listed([f"{n} ({counted(c, 'photo')})" for n, c in counts.items()], word)


def _listed(names: Sequence[str], word: str) -> str:
    """Return names as a list in words, of many the first ones."""
    if len(names) > _NAMED:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} other labels"]
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))
