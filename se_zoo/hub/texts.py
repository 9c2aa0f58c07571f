"""The texts of a card's facts, which may quote figures: templates of a small language.

Facts may be somebody else's, and a full template language can loop without end and fill the
memory. A text may hold ``{{ figure | filter }}``, conditions, and loops over the figures.
"""

from typing import Any, Iterable, Iterator

from jinja2 import Environment, Template, TemplateSyntaxError, nodes

#: What a text may consist of.
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem,
    nodes.Const, nodes.Tuple, nodes.Filter, nodes.Keyword, nodes.For, nodes.If, nodes.CondExpr,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Test,
    nodes.Neg, nodes.Add, nodes.Sub, nodes.Div,
)  # fmt: skip
#: Jinja's own filters that a text may use, beside those for figures.
_FILTERS = frozenset(("default", "replace", "upper", "lower", "title", "round", "length", "int"))
_TESTS = frozenset(("defined", "undefined", "none", "number", "string"))
#: Most characters of a text.
_LONGEST = 200_000
#: Filters in a row, as each may make a text longer.
_FILTERS_IN_A_ROW = 4
#: Rounds that the loops of one text may make in all.
_ROUNDS = 10_000
_COUNTED = "counted"


def fill_in(environment: Environment, text: str, context: Any, filters: Iterable[str]) -> str:
    """Fill in the figures that a text quotes.

    Args:
        environment: A sandboxed environment.
        text: The text.
        context: The figures by name.
        filters: Names of the filters for figures.

    Raises:
        TemplateSyntaxError: If the text is too long, or more than quotes, conditions and loops.
        ValueError: If what it becomes is too long, or takes too many rounds of loops.
    """
    if len(text) > _LONGEST:
        raise TemplateSyntaxError(f"a text has {len(text):,} characters, too many", 1)
    tree = environment.parse(text)
    _check(tree, _FILTERS.union(filters))
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = nodes.Filter(loop.iter, _COUNTED, [], [], None, None)
    own = environment.overlay()
    own.filters = {**environment.filters, "replace": _replace, _COUNTED: _Rounds()}
    code = own.compile(tree)
    template = Template.from_code(own, code, own.make_globals(None))
    parts, length = [], 0
    for part in template.generate(context):
        length += len(part)
        if length > _LONGEST:
            raise ValueError(f"a text becomes longer than {_LONGEST:,} characters")
        parts.append(part)
    return "".join(parts)


def _replace(text: str, old: str, new: str) -> str:
    """Replace a part of a text, as Jinja does; refuse a result that is too long."""
    if not old or len(text) + text.count(old) * len(new) > _LONGEST:
        raise ValueError("replace makes a text too long")
    return text.replace(old, new)


class _Rounds:
    """Counts the rounds of all loops of one text."""

    def __init__(self) -> None:
        self.left = _ROUNDS

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        """Return the items of a loop; refuse more than _ROUNDS in all."""
        for item in items:
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"the loops of a text make more than {_ROUNDS:,} rounds")
            yield item


def _check(node: nodes.Node, filters: "frozenset[str]", chain: int = 0) -> None:
    """Refuse what a text must not hold, in a node and below it."""
    if not isinstance(node, _ALLOWED):
        raise TemplateSyntaxError(
            f"{type(node).__name__} is not allowed in a text; quote figures as "
            "{{ file.figure | percent }}",
            node.lineno,
        )
    if isinstance(node, nodes.Filter):
        chain += 1
        if node.name not in filters or chain > _FILTERS_IN_A_ROW:
            known = ", ".join(sorted(filters))
            raise TemplateSyntaxError(
                f"the filter {node.name} cannot be used here; there are {known}, at most "
                f"{_FILTERS_IN_A_ROW} in a row",
                node.lineno,
            )
    else:
        chain = 0
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise TemplateSyntaxError(f"the test {node.name} cannot be used here", node.lineno)
    if isinstance(node, nodes.For) and node.recursive:
        raise TemplateSyntaxError("a loop must not be recursive", node.lineno)
    for child in node.iter_child_nodes():
        _check(child, filters, chain)
