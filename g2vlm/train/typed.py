"""From YAML to nested frozen dataclasses and back, strictly: whatever does not fit is one line that says where and what to write.

A file is first a tree of nodes that know their place. Trees are merged (`extends`, `--set`) before a record is made, so
that the checks of a record see the final values only.
"""

import dataclasses
import difflib
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Record = TypeVar("Record")
Presets = Mapping[type, Mapping[str, Any]]
"""Records that have names: of each class, what a name stands for."""

BASE = "base"
"""The key under which a mapping names the preset that it changes."""

TYPE = "type"
"""The key under which a mapping says which it is of several records that a field may hold."""

EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


class BadField(ValueError):
    """A value that its record does not allow. field: dotted path below the record."""

    def __init__(self, field: str, value: object, cure: str):
        super().__init__(f"{field} is {_shown(value)}; {cure}")
        self.field, self.value, self.cure = field, value, cure


def refusal(where: str, what: str) -> ValueError:
    """What is wrong with a text, and where."""
    return ValueError(f"{where}: {what}")


def require(holds: bool, field: str, value: object, cure: str) -> None:
    """Raise BadField unless `holds`."""
    if not holds:
        raise BadField(field, value, cure)


@dataclass(frozen=True)
class Node:
    """where: "file:line", or the setting it comes from."""

    where: str


@dataclass(frozen=True)
class Leaf(Node):
    """A scalar. text: as it was written. is_loose: typed on a shell, where 1e-3 is a number."""

    value: Any
    text: str
    is_loose: bool = False


@dataclass(frozen=True)
class Row(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Branch(Node):
    items: dict[str, Node]


# --- what a user calls ------------------------------------------------------------------------------------------------


def load_typed(text: str, kind: type[Record], *, file: str = "text", presets: Presets | None = None) -> Record:
    """The record that a YAML text describes; ValueError names file, line, dotted path, value and cure."""
    return build(kind, read_tree(text, file), presets=presets or {})


def apply_settings(record: Record, settings: Sequence[str], *, presets: Presets | None = None) -> Record:
    """A copy of a record with "path.to.field=value" applied, in order; checks see the result of all of them.

    Items of rows are numbered from 0: data.sources.0.weight=2. Values are YAML (`views=[2, 8]`), but 1e-3 is a number.
    """
    if not settings:
        return record
    tree = tree_of(record, f"--set {' '.join(settings)}")
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise ValueError(f"--set {setting}: write path.to.field=value")
        where = f"--set {setting}"
        tree = _with(tree, path.strip().split("."), read_tree(text, where, is_loose=True), where)
    return build(type(record), tree, presets=presets or {})


def to_yaml(record: Any) -> str:
    """A record as YAML, every field written out; `load_typed` reads the same record from it."""
    return yaml.dump(_plain(record), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


# --- trees ------------------------------------------------------------------------------------------------------------


def read_tree(text: str, file: str, *, is_loose: bool = False) -> Node:
    """The nodes of a YAML text. is_loose: it was typed on a shell; `file` is then the whole setting."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if is_loose or error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise ValueError(f"{file}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        return Leaf(file, None, "", is_loose)
    try:
        return _node(root, file, is_loose)
    except RecursionError as error:
        raise ValueError(f"{file}: an alias that holds itself; write it out") from error


def _node(node: yaml.Node, file: str, is_loose: bool) -> Node:
    where = file if is_loose else f"{file}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.SequenceNode):
        return Row(where, tuple(_node(item, file, is_loose) for item in node.value))
    if isinstance(node, yaml.MappingNode):
        items: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise refusal(where, "a key is a list or a mapping; keys are names of fields")
            if key.value in items:
                raise ValueError(f"{file}:{key.start_mark.line + 1}: {key.value} is given twice; delete one of the two")
            child = _node(value, file, is_loose)
            items[key.value] = (
                child if is_loose else dataclasses.replace(child, where=f"{file}:{key.start_mark.line + 1}")
            )
        return Branch(where, items)
    assert isinstance(node, yaml.ScalarNode)
    try:
        return Leaf(where, _scalar(node), node.value, is_loose)
    except yaml.YAMLError as error:
        raise refusal(
            where, f"{node.value!r} has the tag {node.tag}, which stands for no plain value; delete it"
        ) from error


def _scalar(node: yaml.ScalarNode) -> Any:
    """Value of a scalar; integers in the forms that YAML 1.1 alone knows (010 is 8, 1:30 is 90) stay text."""
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except ValueError:  # a date that does not exist
        return node.value
    is_odd = isinstance(value, int) and not isinstance(value, bool) and not INTEGER.fullmatch(node.value)
    return value if isinstance(value, str | bool | int | float | None) and not is_odd else node.value


def tree_of(value: Any, where: str, kind: Any = None) -> Node:
    """The nodes of a record, or of anything a record may hold; kind: what its field is declared as."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        items = {field.name: tree_of(getattr(value, field.name), where, hints[field.name]) for field in fields(value)}
        return Branch(where, {name: tree_of(text, where) for name, text in _tag(value, kind).items()} | items)
    if isinstance(value, dict):
        return Branch(where, {key: tree_of(item, where) for key, item in value.items()})
    if isinstance(value, tuple):
        return Row(where, tuple(tree_of(item, where) for item in value))
    return Leaf(where, value, str(value))


def merged(base: Node, changes: Node) -> Node:
    """`changes` over `base`: mappings key by key, everything else as a whole, and so a record of another type."""
    if isinstance(base, Leaf) and isinstance(base.value, str) and isinstance(changes, Branch):
        base = Branch(base.where, {BASE: base})  # a preset by its name, now changed
    if not isinstance(base, Branch) or not isinstance(changes, Branch) or _are_of_two_types(base, changes):
        return changes
    items = dict(base.items)
    for key, change in changes.items.items():
        items[key] = merged(items[key], change) if key in items else change
    return Branch(changes.where, items)


def _are_of_two_types(base: Branch, changes: Branch) -> bool:
    first, second = (branch.items.get(TYPE) for branch in (base, changes))
    return isinstance(first, Leaf) and isinstance(second, Leaf) and first.value != second.value


def _with(tree: Node, path: list[str], new: Node, where: str) -> Node:
    """The tree with the node at a path replaced."""
    if not path:
        return new
    name, *rest = path
    if isinstance(tree, Row):
        if not name.isdecimal() or int(name) >= len(tree.items):
            raise ValueError(f"{where}: {name!r} is not one of the {len(tree.items)} items, which are numbered from 0")
        index = int(name)
        items = (*tree.items[:index], _with(tree.items[index], rest, new, where), *tree.items[index + 1 :])
        return dataclasses.replace(tree, items=items)
    if not isinstance(tree, Branch):
        raise refusal(where, f"there is no {name!r} below a plain value; set the whole field")
    if name not in tree.items and rest:
        raise ValueError(f"{where}: no field {name!r}; {suggestion(name, tree.items)}")
    child = _with(tree.items[name], rest, new, where) if rest else new
    return dataclasses.replace(tree, items=tree.items | {name: child})


# --- records ----------------------------------------------------------------------------------------------------------


def build(kind: type[Record], tree: Node, *, presets: Presets) -> Record:
    """The record of a tree."""
    return _record(kind, tree, "", MISSING, presets)


def _value(kind: Any, node: Node, path: str, default: Any, presets: Presets) -> Any:
    """The value of a node as the type of its field asks; `default` is what the field holds when it is not written."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and isinstance(node, Leaf) and node.value is None:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) > 1:
            return _one_of(inner, node, path, presets)
        return _value(inner[0], node, path, MISSING if default is None else default, presets)
    if is_dataclass(kind):
        return _record(kind, node, path, default, presets)
    if origin is tuple:
        return _tuple(arguments, node, path, presets)
    if origin is dict:
        if not isinstance(node, Branch):
            raise _wrong(node, path, "a mapping", "write {name: value}")
        return {key: _value(arguments[1], item, f"{path}.{key}", MISSING, presets) for key, item in node.items.items()}
    if origin is Literal:
        if not isinstance(node, Leaf) or node.value not in arguments:
            choices = [str(choice) for choice in arguments]
            close = suggestion(node.text if isinstance(node, Leaf) else "", choices)
            raise _wrong(node, path, f"one of {', '.join(choices)}", close)
        return node.value
    return _plain_value(kind, node, path)


def _one_of(kinds: Sequence[Any], node: Node, path: str, presets: Presets) -> Any:
    """The value of a field that may hold several types: a record says which by its key `type`, a word or number itself."""
    if not (records := _records_among(kinds)):
        is_word = isinstance(node, Leaf) and isinstance(node.value, str)
        words, others = ([kind for kind in kinds if (get_origin(kind) is Literal) == is_it] for is_it in (True, False))
        fitting = (words if is_word else others) or kinds
        return _value(fitting[0], node, path, MISSING, presets)
    if not isinstance(node, Branch):
        raise _wrong(node, path, "a mapping", f"write its {TYPE} below it: {', '.join(records)}")
    items = dict(node.items)
    named = items.pop(TYPE, Leaf(node.where, None, ""))
    if not isinstance(named, Leaf) or named.value not in records:
        close = suggestion(named.text if isinstance(named, Leaf) else "", records)
        raise _wrong(named, _joined(path, TYPE), "a known name", close)
    return _record(records[named.value], dataclasses.replace(node, items=items), path, MISSING, presets)


def _records_among(kinds: Sequence[Any]) -> dict[str, type]:
    return {kind.__name__: kind for kind in kinds if is_dataclass(kind) and isinstance(kind, type)}


def _tag(record: Any, kind: Any) -> dict[str, str]:
    """What a record says of itself where its field may hold others."""
    return {TYPE: type(record).__name__} if len(_records_among(get_args(kind))) > 1 else {}


def _plain_value(kind: type, node: Node, path: str) -> Any:
    value = node.value if isinstance(node, Leaf) else None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(node, Leaf) and isinstance(value, str) and EXPONENT.fullmatch(value):
        if node.is_loose:
            return float(value)
        raise _wrong(node, path, "a number", f"YAML 1.1 wants a dot and a signed exponent: write {yaml_float(value)}")
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise _wrong(node, path, NAMES[kind], _cure(kind, node))


NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def _cure(kind: type, node: Node) -> str:
    if kind is str and isinstance(node, Leaf) and node.value is not None:
        return f'write it in quotes: "{node.text}"'
    if kind is int and isinstance(node, Leaf) and isinstance(node.value, float) and node.value.is_integer():
        return f"write {int(node.value)}"
    if kind is int and isinstance(node, Leaf) and isinstance(node.value, str) and EXPONENT.fullmatch(node.value):
        number = float(node.value)
        return f"write {int(number)}" if number.is_integer() else "write digits only"
    return {int: "write digits only", float: "write digits, as in 0.5", bool: "write true or false"}.get(
        kind, "write a word"
    )


def yaml_float(text: str) -> str:
    """A number with an exponent as YAML 1.1 reads it: 1e-3 becomes 1.0e-3."""
    mantissa, exponent = re.split("[eE]", text)
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else f'+{exponent}'}"


def _tuple(arguments: tuple[Any, ...], node: Node, path: str, presets: Presets) -> tuple[Any, ...]:
    is_open = len(arguments) == 2 and arguments[1] is Ellipsis
    if not isinstance(node, Row):
        raise _wrong(node, path, "a list", "write it in brackets: [...]")
    if not is_open and len(node.items) != len(arguments):
        raise ValueError(f"{node.where}: {path} has {len(node.items)} items; it must have {len(arguments)}")
    kinds = [arguments[0]] * len(node.items) if is_open else list(arguments)
    pairs = enumerate(zip(kinds, node.items, strict=True))
    return tuple(_value(kind, item, f"{path}.{index}", MISSING, presets) for index, (kind, item) in pairs)


def _record(kind: Any, node: Node, path: str, default: Any, presets: Presets) -> Any:
    """A record: a preset by its name, or fields over a preset, over what its own field holds, or over its defaults."""
    named = presets.get(kind, {})
    if isinstance(node, Leaf) and named:
        return _preset(node, path, named)
    if not isinstance(node, Branch):
        cure = f"write one of {', '.join(named)}, or its fields" if named else "write its fields below it"
        raise _wrong(node, path, "a mapping", cure)
    items = dict(node.items)
    start = default
    if named and BASE in items:
        start = _preset(items.pop(BASE), _joined(path, BASE), named)
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name, item in items.items():
        if name not in known:
            raise ValueError(f"{item.where}: {_joined(path, name)}: no such field; {suggestion(name, known)}")
    given = {}
    for name, field in known.items():
        held = _default(field) if start is MISSING else getattr(start, name)
        if name in items:
            given[name] = _value(hints[name], items[name], _joined(path, name), held, presets)
        elif held is not MISSING:
            given[name] = held
        else:
            raise ValueError(f"{node.where}: {_joined(path, name)} is missing; add it")
    try:
        return kind(**given)
    except BadField as error:
        where = _place(node, error.field.split("."))
        raise ValueError(f"{where}: {_joined(path, error.field)} is {_shown(error.value)}; {error.cure}") from error
    except ValueError as error:
        raise ValueError(f"{node.where}: {path or kind.__name__}: {error}") from error


def _preset(node: Node, path: str, named: Mapping[str, Any]) -> Any:
    if not isinstance(node, Leaf) or node.value not in named:
        raise _wrong(node, path, "a known name", suggestion(node.text if isinstance(node, Leaf) else "", named))
    return named[node.value]


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _place(node: Node, path: list[str]) -> str:
    """Where the field at a path is written; where its nearest ancestor is, if it is not."""
    items = node.items if isinstance(node, Branch) else {}
    return _place(items[path[0]], path[1:]) if path and path[0] in items else node.where


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(node: Node, path: str, wanted: str, cure: str) -> ValueError:
    kinds: dict[type, str] = {bool: "a truth value", int: "an integer", float: "a number", str: "a string"}
    if isinstance(node, Leaf):
        found = "empty" if node.value is None else f"{_shown(node.value)}, {kinds[type(node.value)]}"
    else:
        found = "a list" if isinstance(node, Row) else "a mapping"
    return ValueError(f"{node.where}: {path or 'the whole'} is {found}, but must be {wanted}; {cure}")


def suggestion(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The nearest of the known names, or all of them."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"


def _shown(value: object) -> str:
    """A value on one line, as YAML would have it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


# --- writing ----------------------------------------------------------------------------------------------------------


def _plain(value: Any, kind: Any = None) -> Any:
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        items = {field.name: _plain(getattr(value, field.name), hints[field.name]) for field in fields(value)}
        return _tag(value, kind) | items
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value


class _Dumper(yaml.SafeDumper):
    """Short rows stand on one line, everything else is indented."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _row(dumper: _Dumper, row: tuple[Any, ...]) -> yaml.Node:
    is_short = not any(isinstance(item, dict | tuple) for item in row)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", row, flow_style=is_short)


_Dumper.add_representer(tuple, _row)
