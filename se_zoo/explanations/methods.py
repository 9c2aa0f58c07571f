"""The table of methods: which maps there are, and how they differ."""

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class Method:
    """A kind of map.

    Attributes:
        name: Value of the argument ``method``.
        signed: Whether the map holds evidence for (> 0) and against (< 0) its class. Such maps are
            drawn with their sign.
        classless: Whether the map is the same for every class. Such maps need no weights of the
            head.
        from_zero: Whether the heatmap begins at 0. The zero of the other maps has no meaning, so
            these are stretched from their minimum to their maximum.
        pairwise: Whether the map compares its class with another class.
        competing: Whether the map compares its class with all others, so that classes have to
            compete for the answer.
        shared: Part of its evidence that a cell shares with cells of like features. The parts were
            chosen on one half of the people of celeba_parts, and on photos of objects that no
            reported figure uses. On faces it is best to share all. On
            single objects the peak leaves the object if a cell shares all.
        speaker: Whether speaker models offer the map, too.
    """

    name: str
    signed: bool = False
    classless: bool = False
    from_zero: bool = False
    pairwise: bool = False
    competing: bool = False
    shared: float = 0.0
    speaker: bool = False


#: All methods, in the order in which they are listed for users.
TABLE: Tuple[Method, ...] = (
    Method("contribution", signed=True, from_zero=True, speaker=True),
    Method("affinity", signed=True, from_zero=True, shared=1.0),
    Method("rivals", signed=True, from_zero=True, competing=True, shared=0.8),
    Method("support", from_zero=True),
    Method("class_gate", from_zero=True, shared=1.0),
    Method("gate", classless=True, speaker=True),
    Method("difference", signed=True, from_zero=True, pairwise=True),
    Method("activation", classless=True, speaker=True),
)

METHODS = tuple(method.name for method in TABLE)
SIGNED_METHODS = tuple(method.name for method in TABLE if method.signed)
CLASSLESS_METHODS = tuple(method.name for method in TABLE if method.classless)
FROM_ZERO_METHODS = tuple(method.name for method in TABLE if method.from_zero)
#: Methods that need at most one class for a map.
SINGLE_CLASS_METHODS = tuple(method.name for method in TABLE if not method.pairwise)
#: Methods that need classes of which one is the answer.
COMPETING_METHODS = tuple(method.name for method in TABLE if method.competing)
#: What a cell shares, by method; only of methods that share.
SHARED_PARTS = {method.name: method.shared for method in TABLE if method.shared}
#: Methods of speaker models.
SPEAKER_METHODS = tuple(method.name for method in TABLE if method.speaker)
#: Values of ``Explanation.weights`` of heads that read class tokens only.
CLASS_TOKEN_WEIGHTS = ("attention", "projection")


def offered_methods(multi_label: bool, num_classes: int) -> Tuple[str, ...]:
    """Return the methods that need at most one class, of a model with such classes."""
    competing = not multi_label and num_classes > 1
    return tuple(n for n in SINGLE_CLASS_METHODS if competing or n not in COMPETING_METHODS)


def default_method(model: object) -> str:
    """Return the method that a model draws by default, its ``map_method`` if it has one."""
    return getattr(model, "map_method", None) or "contribution"
