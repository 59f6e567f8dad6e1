"""Recurrent states in files: any tree of tensors, for one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from minrnn.errors import UserError

from ._checkpoint import load_tensors, save_tensors


def save_tree(path: str | os.PathLike[str], tree: Any, digest: str) -> None:
    """Keep the tensors of a `tree` beside the digest of the weights that made it.

    Raises UserError where the file cannot be written, and where a tensor is not finite, which `load_tree` refuses.
    """
    tensors = _named(tree_flatten(tree)[0])
    if not all(one.isfinite().all() for one in tensors.values()):
        raise UserError(f"the state has values that are not finite and was not saved; {path} is as it was")
    save_tensors(Path(path), tensors, {"run": digest})


def load_tree(path: str | os.PathLike[str], like: Any, digest: str) -> Any:
    """A tree as `like`, which a size of 0 leaves open. Raises UserError for a missing, damaged or foreign file."""
    leaves, form = tree_flatten(like)
    tensors, facts = load_tensors(Path(path), _named(leaves), "the run")
    if facts.get("run") != digest:
        raise UserError(f"{path} is the state of another run, or from before this one went on; make it anew")
    return tree_unflatten(
        [tensors[str(at)].to(leaf) if isinstance(leaf, Tensor) else leaf for at, leaf in enumerate(leaves)], form
    )


def _named(leaves: list[Any]) -> dict[str, Tensor]:
    """The tensors by their places; as precise in the file, whatever precision a run is loaded in.

    Raises TypeError for a leaf of another kind, which would be lost in silence.
    """
    for leaf in leaves:
        if leaf is not None and not isinstance(leaf, Tensor):  # None: the window of a block without a convolution
            raise TypeError(f"a state holds a {type(leaf).__name__}; expected tensors and None")
    return {
        str(at): leaf.float() if leaf.is_floating_point() and leaf.itemsize < 4 else leaf
        for at, leaf in enumerate(leaves)
        if leaf is not None
    }
