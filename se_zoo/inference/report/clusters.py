"""Clusters of a label's maps, and the maps that are most unlike the others.

As in spectral relevance analysis (SpRAy, arXiv 1902.10178), maps are brought to a small grid,
spectral clustering groups them by their nearest neighbours, and the gap between the eigenvalues of
the graph's Laplacian says how many groups there are.
"""

import warnings
from typing import Any, List, NamedTuple, Sequence

import numpy as np

from ...errors import InvalidInputError

#: Rows and columns that maps are brought to before they are compared, at most.
CELLS = 8
#: Clusters of a label, at most.
MOST = 6


class Groups(NamedTuple):
    """Groups of a label's maps.

    Attributes:
        clusters: Numbers of the maps of each cluster, the largest first.
        unlike: Numbers of all maps, the one most unlike its nearest neighbours first.
    """

    clusters: List[np.ndarray]
    unlike: np.ndarray


def group_maps(shares: Sequence[np.ndarray]) -> Groups:
    """Group maps by where their evidence lies.

    Args:
        shares: Maps of one size, (rows, columns), each with the sum 1; at least two.

    Returns:
        The groups; the same for the same maps.

    Raises:
        InvalidInputError: If scikit-learn is not installed.
    """
    try:
        from scipy.sparse.csgraph import connected_components, laplacian
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        raise InvalidInputError(
            'scikit-learn, which groups the maps, is not installed: pip install "se_zoo[report]"'
        ) from None
    # Square roots, whose distances are Hellinger's: strong cells do not drown all others.
    points = np.sqrt(np.stack([_small(share).ravel() for share in shares]))
    count = len(points)
    neighbours = min(10, count - 1)
    search = NearestNeighbors(n_neighbors=neighbours).fit(points)
    distances = search.kneighbors()[0]
    unlike = np.argsort(-distances.mean(1), kind="stable")
    graph = search.kneighbors_graph(mode="connectivity")
    graph = 0.5 * (graph + graph.T)
    parts, _ = connected_components(graph, directed=False)
    matrix: Any = laplacian(graph, normed=True)
    values, vectors = np.linalg.eigh(matrix.toarray())
    most = min(MOST, count - 1)
    gaps = np.diff(values[: most + 1])  # (most,): behind 1, 2, ... clusters
    # As many eigenvalues are 0 as the graph has parts; a gap among those says nothing.
    wanted = min(most, max(parts, int(np.argmax(gaps)) + 1))
    places = vectors[:, :wanted] / np.maximum(
        np.linalg.norm(vectors[:, :wanted], axis=1, keepdims=True), 1e-12
    )
    with warnings.catch_warnings():  # equal maps may be fewer clusters than asked for
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans: Any = KMeans
        numbers = kmeans(wanted, n_init=10, random_state=0).fit_predict(places)
    clusters = [np.flatnonzero(numbers == n) for n in range(wanted)]
    clusters = [cluster for cluster in clusters if len(cluster)]
    return Groups(sorted(clusters, key=len, reverse=True), unlike)


def _small(share: np.ndarray) -> np.ndarray:
    """Return a map of at most ``CELLS`` rows and columns, by sums over equal areas."""
    for axis in (0, 1):
        cells = share.shape[axis]
        if cells > CELLS:
            edges = np.linspace(0, cells, CELLS + 1)
            total = np.concatenate([np.zeros_like(share.take([0], axis)), share.cumsum(axis)], axis)
            at = np.apply_along_axis(
                lambda column, e=edges, n=cells: np.interp(e, np.arange(n + 1), column), axis, total
            )
            share = np.diff(at, axis=axis)
    return np.asarray(share)
