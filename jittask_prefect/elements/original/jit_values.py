"""Values as JitTask's code has them: objects with `.value`, which refuse to be taken for their value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, ClassVar, NoReturn
from zoneinfo import ZoneInfo

from jittask_prefect.errors import JittaskError
from jittask_prefect.schedule import clock

_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip
_COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_ALONE = {
    "bool": "a truth test", "neg": "-", "pos": "+", "abs": "abs()", "invert": "~", "int": "int()", "float": "float()",
    "index": "an index", "len": "len()", "iter": "a loop", "contains": "in", "getitem": "[…]", "round": "round()",
}  # fmt: skip


class ValueForgotten(JittaskError, TypeError):
    """A field was used in the place of its value: write `.value`."""


class Compared:
    """An object with a value: `.value`, and comparisons by name."""

    value: Any

    @property
    def _shown(self) -> str:
        return type(self).__name__

    def isNull(self) -> bool:
        """Whether there is no value."""
        return self.value is None

    def isNotNull(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def isEqual(self, other: Any) -> bool:
        """Whether the value is equal to another value, or to that of a field."""
        return bool(self.value == _like(self.value, other))

    def notEqual(self, other: Any) -> bool:
        """Whether the value differs."""
        return not self.isEqual(other)

    def gt(self, other: Any) -> bool:
        """Whether the value is greater; without a value never."""
        return _both(self.value, other, lambda one, two: one > two)

    def gte(self, other: Any) -> bool:
        """Whether the value is greater or equal; without a value never."""
        return _both(self.value, other, lambda one, two: one >= two)

    def lt(self, other: Any) -> bool:
        """Whether the value is less; without a value never."""
        return _both(self.value, other, lambda one, two: one < two)

    def lte(self, other: Any) -> bool:
        """Whether the value is less or equal; without a value never."""
        return _both(self.value, other, lambda one, two: one <= two)

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __repr__(self) -> str:
        return f"<{self._shown}: {self.value!r}>"

    def __hash__(self) -> int:
        return id(self)


def _forgotten(used: str) -> Callable[..., NoReturn]:
    def refuse(self: Compared, *_: object) -> NoReturn:
        raise ValueForgotten(
            f"{used} on {self._shown}, which is an object with a value: write {self._shown}.value"
        )

    return refuse


for _name, _sign in _SIGNS.items():
    for _kind in ("", "r", "i"):
        setattr(Compared, f"__{_kind}{_name}__", _forgotten(_sign))
for _name, _sign in (_COMPARED | _ALONE).items():
    setattr(Compared, f"__{_name}__", _forgotten(_sign))


def plain(value: Any) -> Any:
    """The value of an object with a value; anything else as it is."""
    return value.value if isinstance(value, Compared) else value


def _like(value: Any, other: Any) -> Any:
    """Another value in the form of a value: a date may be written as text."""
    found = plain(other)
    if isinstance(value, date) and isinstance(found, str):
        kind = datetime if isinstance(value, datetime) else date
        return kind.fromisoformat(found)
    return found


def _both(value: Any, other: Any, compare: Callable[[Any, Any], Any]) -> bool:
    found = _like(value, other)
    return value is not None and found is not None and bool(compare(value, found))


class JitValue(Compared):
    """A value of a data type.

    Args:
        value: The value.
        config: The settings of the data type; without meaning here.
    """

    def __init__(self, value: Any = None, **config: Any) -> None:
        self.value = plain(value)
        self.config = config

    @classmethod
    def new(cls, config: Mapping[str, Any] | None = None, value: Any = None) -> Any:
        """A value of this data type."""
        return cls(value, **{k: v for k, v in (config or {}).items() if k != "value"})


class JitDict(JitValue):
    """A dict whose entries are objects with a value."""

    def __init__(self, value: Any = None, **config: Any) -> None:
        super().__init__(dict(plain(value) or {}), **config)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("value", "config"):
            raise AttributeError(name)
        return Entry(self.value, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("value", "config"):
            super().__setattr__(name, value)
        else:
            self.value[name] = plain(value)

    def __getitem__(self, name: str) -> Entry:
        return Entry(self.value, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.value[name] = plain(value)

    def __contains__(self, name: object) -> bool:
        return name in self.value

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)


class Entry(Compared):
    """An entry of a dict; one that is missing has no value until the value is set."""

    def __init__(self, of: dict[str, Any], name: str) -> None:
        self._of, self._name = of, name

    @property
    def _shown(self) -> str:
        return self._name

    @property
    def value(self) -> Any:
        """The value; None where the dict has no such entry."""
        return self._of.get(self._name)

    @value.setter
    def value(self, value: Any) -> None:
        self._of[self._name] = plain(value)


class JitList(JitValue):
    """A list of the items that were put in."""

    def __init__(self, value: Any = None, **config: Any) -> None:
        super().__init__(list(plain(value) or ()), **config)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Any:
        return self.value[index]

    def __contains__(self, item: object) -> bool:
        return item in self.value

    def __bool__(self) -> bool:
        return bool(self.value)

    def append(self, item: Any) -> None:
        """Add an item at the end."""
        self.value.append(item)


class DataTypes:
    """`datatypes`: a class for each data type, by its name (`datatypes.Stext`)."""

    _made: ClassVar[dict[str, type[JitValue]]] = {
        "JitDict": JitDict,
        "JitList": JitList,
        "RowList": JitList,
    }

    def __getattr__(self, name: str) -> type[JitValue]:
        if not name[:1].isupper():
            raise AttributeError(
                f"datatypes has no {name!r}; a data type's name begins with a capital"
            )
        if name not in self._made:
            self._made[name] = type(name, (JitValue,), {"__module__": __name__})
        return self._made[name]


class CurrentTime(Compared):
    """`currentTime`: the present, as wall-clock time in the app's zone.

    Args:
        zone: The name of the zone.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    @property
    def _shown(self) -> str:
        return "currentTime"

    @property
    def value(self) -> datetime:
        """The present, without a zone, to the second."""
        return clock.now().astimezone(self._zone).replace(tzinfo=None, microsecond=0)

    def __call__(self) -> datetime:
        return self.value


class GlobalVar:
    """`GlobalVar`: the variables of every app.

    Attributes:
        currentTime: The present.
    """

    def __init__(self, zone: str) -> None:
        self.currentTime = CurrentTime(zone)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"GlobalVar has no {name!r} here; it has currentTime")
