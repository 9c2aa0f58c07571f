"""The cases of a comparison, and the maps that a method draws of them."""

from typing import Dict, NamedTuple, Optional, Sequence

import torch
from torch import nn

from ...errors import InvalidInputError
from .. import maps
from ..explainer import explain
from ..methods import SINGLE_CLASS_METHODS
from .controls import centre_gaussian, smooth_noise
from .peer_methods import OF_PIXELS
from .peers import PEERS, peer_explain

#: The project's own methods, which cost one forward pass.
OURS = SINGLE_CLASS_METHODS
CENTRE, NOISE, AVERAGE = "centre", "noise", "average"
#: Controls. Two use neither image nor model, see :func:`quality.centre_gaussian` and
#: :func:`quality.smooth_noise`, which is seeded by the number of the case. The third is the mean of
#: the maps of other images (``Cases.average``): it knows the model, but not the image.
CONTROLS = (CENTRE, NOISE, AVERAGE)
METHODS = (*OURS, *CONTROLS, *PEERS)


class Cases(NamedTuple):
    """Images with one class each, and the place of the object.

    Attributes:
        images: Normalised image of each case, (N, C, H, W); several cases may share an image.
        targets: Class of each case, (N,).
        regions: Pixels of the object, (N, H, W) bool; None if unknown.
        boxes: Box of the object, x0 y0 x1 y1 in pixels, (N, 4); None if unknown.
        ids: Number of each case, which seeds everything random, (N,).
        known: Pixels known to lie inside or outside of the region, (N, H, W) bool; None if all are
            known.
        average: The control map ``"average"`` of each case, (N, H, W); None if it is not asked for.
    """

    images: torch.Tensor
    targets: torch.Tensor
    regions: Optional[torch.Tensor]
    boxes: Optional[torch.Tensor]
    ids: Sequence[int]
    known: Optional[torch.Tensor] = None
    average: Optional[torch.Tensor] = None

    def tensors(self) -> Dict[str, torch.Tensor]:
        """Return the tensors that are not None, by their names."""
        return {k: v for k, v in self._asdict().items() if isinstance(v, torch.Tensor)}

    def some(self, rows: Sequence[int]) -> "Cases":
        """Return the cases of some rows.

        Args:
            rows: Rows to keep, in their new order.
        """
        chosen = {name: tensor[list(rows)] for name, tensor in self.tensors().items()}
        return self._replace(**chosen, ids=[self.ids[n] for n in rows])

    def to(self, device: torch.device) -> "Cases":
        """Return the cases with all tensors on a device."""
        return self._replace(**{name: t.to(device) for name, t in self.tensors().items()})


class Drawn(NamedTuple):
    """Maps of a method at the size of the images."""

    heatmap: torch.Tensor
    """(N, H, W) in [0, 1], as it is drawn. It has a plateau where the interpolation is clipped."""
    raw: torch.Tensor
    """(N, H, W), before it is normalised, signed for signed methods. Its maximum is the spot of
    the pointing game, its order ranks the pixels, and it is compared with other maps."""
    registered: torch.Tensor
    """(N, H, W), the raw maps moved by the model's ``map_offset``; ours always are."""


def draw(model: nn.Module, cases: Cases, method: str) -> Drawn:
    """Return the maps of a method.

    Args:
        model: Model with an SE head.
        cases: Images and their classes.
        method: Name from :data:`METHODS`.

    Returns:
        Heatmaps and raw maps of all cases.

    Raises:
        InvalidInputError: If there is no such method, or its library is missing; or if the method
            is ``"average"``, and the cases have no such maps.
    """
    height, width = size = tuple(cases.images.shape[2:])
    if method == CENTRE:
        centre = centre_gaussian((height, width)).to(cases.images)
        return Drawn(*[centre.expand(len(cases.targets), -1, -1)] * 3)
    if method == NOISE:
        return Drawn(*[smooth_noise((height, width), cases.ids).to(cases.images)] * 3)
    if method == AVERAGE:
        if cases.average is None:
            raise InvalidInputError('"average" needs the mean maps of other images: Cases.average.')
        return Drawn(*[cases.average] * 3)
    if method in PEERS:
        found = peer_explain(model, cases.images, cases.targets, method)
    elif method in OURS:
        found = explain(model, cases.images, cases.targets, method)
    else:
        raise InvalidInputError(f"Unknown method {method!r}; there are {', '.join(METHODS)}.")
    # Ours lie where the model's map_offset says, peers where their libraries draw them.
    raw = registered = maps.at_input_size(found.raw, size, found.placement)
    if method in PEERS and method not in OF_PIXELS:
        moved = found.placement._replace(offset=model.map_offset)
        registered = maps.at_input_size(found.raw, size, moved)
    return Drawn(found.heatmap, raw, registered)
