"""A mapping that can be part of a frozen value."""

from __future__ import annotations

from typing import Any, NoReturn


class Fixed(dict[str, Any]):  # Any: the field that holds it says of what
    """A mapping that stays as it was made: frozen values that hold one can be compared, hashed, copied and stored."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict has none, because others change
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Fixed], tuple[dict[str, Any]]]:
        return Fixed, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this mapping cannot be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse
