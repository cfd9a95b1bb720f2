"""How nested arguments are built, as keys: torch 2.4's own description cannot be hashed."""

from __future__ import annotations

from collections.abc import Hashable

from torch.utils import _pytree as pytree


def as_key(form: pytree.TreeSpec) -> Hashable:
    """Equal for equal forms, and hashable whatever torch there is.

    Args:
        form: From `tree_flatten`.
    """
    return form if _HASHABLE else repr(form)


def _hashable() -> bool:
    try:
        hash(pytree.tree_structure([0]))
    except TypeError:
        return False
    return True


_HASHABLE = _hashable()
