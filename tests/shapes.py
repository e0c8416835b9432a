"""The checker of shapes that the tests put on every function and record of g2vlm."""

import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Callable) -> Callable:
    """beartype, which jaxtyping teaches the axes, on the arrays of a signature.

    Left out are other hints, because tests also pass what a user may get wrong, and the items of `tuple[array, ...]`,
    because views of one scene may differ in size while an axis has one length per call.
    """
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _is_shaped(hint)}
    return beartype(function)


def _is_shaped(hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) or (origin is tuple and Ellipsis not in parts):
        return any(_is_shaped(part) for part in parts)
    return isinstance(hint, type) and issubclass(hint, AbstractArray)
