"""Pure measures of texts and of sentence vectors: the divergence of two sets, the morphological richness of one."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from xtl.errors import XtlError
from xtl.studies.texts import UNSPACED, words

# ---------------------------------------------------------------- divergence of two sets


def _require_equal_size(x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise XtlError(f"divergence: {len(x)} and {len(y)} vectors; measures are comparable at equal n only")


def median_bandwidth(*samples: np.ndarray) -> float:
    """The RBF gamma of the median heuristic over the pooled sample; take one for all pairs that are compared."""
    from scipy.spatial.distance import pdist

    pooled = np.concatenate(samples)[:2000]
    return 1.0 / (2.0 * float(np.median(pdist(pooled))) ** 2)


def mmd(x: np.ndarray, y: np.ndarray, *, gamma: float) -> float:
    """Squared maximum mean discrepancy of vectors [n, d] with an RBF kernel, unbiased (Gretton et al. 2012).

    It may be slightly negative.
    """
    from sklearn.metrics.pairwise import rbf_kernel

    _require_equal_size(x, y)
    n = len(x)
    within = [(rbf_kernel(z, z, gamma=gamma).sum() - n) / (n * (n - 1)) for z in (x, y)]
    return float(sum(within) - 2 * rbf_kernel(x, y, gamma=gamma).mean())


def proxy_a_distance(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> float:
    """2 (1 - 2 e), e the cross-validated error of a linear classifier of the two sides: 0 same, 2 separable.

    Ben-David et al. 2007.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _require_equal_size(x, y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    labels = np.repeat([0, 1], [len(x), len(y)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    error = 1 - cross_val_score(model, np.concatenate([x, y]), labels, cv=folds).mean()
    return float(max(0.0, 2 * (1 - 2 * error)))


def centroid_distance(x: np.ndarray, y: np.ndarray) -> float:
    """1 - cosine of the mean vectors (Poth et al. 2021)."""
    a, b = x.mean(0), y.mean(0)
    return float(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def unigram_divergence(x: Sequence[str], y: Sequence[str], *, types: int = 10_000) -> float:
    """Jensen-Shannon divergence, base 2, of word distributions over the `types` most frequent words of both: 0..1."""
    from scipy.spatial.distance import jensenshannon

    counts = [Counter(word for text in texts for word in words(text)) for texts in (x, y)]
    if not all(counts):
        raise XtlError("divergence: a side has no words")
    joint = [word for word, _ in (counts[0] + counts[1]).most_common(types)]
    p, q = ([c[word] for word in joint] for c in counts)
    return float(jensenshannon(p, q, base=2) ** 2)


# ---------------------------------------------------------------- morphological richness


def mattr(texts: Iterable[str], *, language: str, window: int = 500) -> float:
    """Moving-average type-token ratio, 0..1 (Covington & McFall 2010).

    XtlError for a script without spaces, and for texts of fewer words than the window.
    """
    if language in UNSPACED:
        raise XtlError(f"{language} is written without spaces: a type-token ratio needs a segmenter; leave it out")
    tokens = [word for text in texts for word in words(text)]
    if len(tokens) < window:
        raise XtlError(f"{language}: {len(tokens)} words are fewer than the window of {window}; give more text")
    counts: dict[str, int] = {}
    ratios = []
    for i, token in enumerate(tokens):
        counts[token] = counts.get(token, 0) + 1
        if i >= window:
            old = tokens[i - window]
            counts[old] -= 1
            if not counts[old]:
                del counts[old]
        if i >= window - 1:
            ratios.append(len(counts) / window)
    return float(np.mean(ratios))


def fertility(pieces: Sequence[int]) -> dict[str, float]:
    """Pieces per word, and the share of words in several pieces; from the pieces of each word (Rust et al. 2021)."""
    counts = np.asarray(pieces)
    return {"fertility": float(counts.mean()), "continued": float((counts > 1).mean())}
