"""The checker of shapes and types that the tests put on every function and record of g2vlm."""

import types
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, Union, get_args, get_origin

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may serve as a float


def check(function: Callable) -> Callable:
    """beartype, which jaxtyping teaches the axes; but one axis name may differ from item to item of a collection."""
    function.__annotations__ = {name: _whole(hint) for name, hint in function.__annotations__.items()}
    return _checked(function)


def _whole(hint: Any) -> Any:
    """The hint without the items of its collections: `tuple[Float[Tensor, "height width"], ...]` -> `tuple`."""
    origin, items = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return reduce(or_, (_whole(item) for item in items))
    is_collection = isinstance(origin, type) and (origin is not tuple or Ellipsis in items)
    return origin if is_collection else hint
