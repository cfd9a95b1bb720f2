"""Which status code product code gives each reason, read from its source.

Every use of `Reason.X` is followed outwards to what it is handed to: an error's class, a
violation, a function whose parameter is followed in turn. A use that leads nowhere known
is an error of its own, so that no way of raising goes unread.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from domains.errors import KINDS

ROOT = Path(__file__).parents[2]
ERRORS = "domains.errors"
KIND_NAMES = {kind.__name__: code for code, kind in KINDS.items()} | {"DomainError": 13}

# What is told of a request is INVALID_ARGUMENT; a model's problem is what its every use is
# refused with.
VIOLATION = ("domains.errors", "FieldViolation")
LISTED = "violations"
CARRIERS = {
    VIOLATION: 3,
    ("domains.model.types", "Problem"): 9,
    ("domains.model.backends.lora.file", "Finding"): 9,
}
# They only hand on what they were made with.
_TRANSPARENT = {("msgspec.structs", "replace")}
# A session is cancelled for a reason; `domains.session.errors.cancellation` has its code.
CANCELLING = {"request_cancel", ("domains.session.types", "Cancelled")}


@dataclass(frozen=True)
class Use:
    """One reason in the code: where it stands and the code it comes to; None is unknown."""

    reason: str
    where: str
    code: int | None
    cancels: bool = False


@dataclass
class Module:
    """A parsed file with what its names mean."""

    name: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node

    @cached_property
    def imported(self) -> Mapping[str, tuple[str, str]]:
        """Local names that stand for names of other modules."""
        return {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def around(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        """The nearest node around `node` of one of the kinds."""
        outer = self.parents.get(node)
        while outer is not None and not isinstance(outer, kinds):
            outer = self.parents.get(outer)
        return outer


class Code:
    """The product's modules by name, as far as reasons need them."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._modules = {name: Module(name, ast.parse(text)) for name, text in sources.items()}

    @classmethod
    @cache
    def of_the_product(cls) -> Code:
        """Everything that raises; the command line is a client of it."""
        paths = [*(ROOT / "domains").rglob("*.py"), *(ROOT / "server").rglob("*.py")]
        return cls(
            {
                ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
                    ".__init__"
                ): path.read_text("utf-8")
                for path in paths
                if "cli" not in path.parts
            }
        )

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Every use of every reason."""
        return tuple(self._uses())

    def _uses(self) -> Iterator[Use]:
        for module in self._modules.values():
            for node in ast.walk(module.tree):
                if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                    continue
                if self._meaning(module, node.value) == (ERRORS, "Reason"):
                    yield from self._follow(module, node, node.attr, node)

    def unreasoned(self) -> Iterator[str]:
        """Where an error is made without a reason, of a kind that has no usual one."""
        for module in self._modules.values():
            for node in ast.walk(module.tree) if module.name != ERRORS else ():
                if isinstance(node, ast.Call) and self._lacks_reason(module, node):
                    yield f"{module.name}:{node.lineno}"

    def _lacks_reason(self, module: Module, call: ast.Call) -> bool:
        if any(keyword.arg in ("reason", None) for keyword in call.keywords):
            return False
        meaning = self._meaning(module, call.func)
        if isinstance(call.func, ast.Attribute) and _is_super_init(call.func):
            scope = module.around(call, ast.ClassDef)
            assert isinstance(scope, ast.ClassDef)
            meaning = (module.name, scope.name)
        elif self._made_by_itself(meaning):
            return False
        return self._code_of(meaning) is not None and self._needs_reason(meaning)

    def _made_by_itself(self, meaning: tuple[str, str] | None) -> bool:
        """Whether the class has a constructor of its own, which is looked at there."""
        found = self._definition(meaning, ast.ClassDef)
        return isinstance(found, ast.ClassDef) and any(
            getattr(node, "name", "") == "__init__" and meaning != (ERRORS, "DomainError")
            for node in found.body
        )

    def _needs_reason(self, meaning: tuple[str, str] | None) -> bool:
        found = self._definition(meaning, ast.ClassDef)
        if meaning is None or meaning in CARRIERS or not isinstance(found, ast.ClassDef):
            return False
        if any(_sets_reason(node) for node in found.body):
            return meaning == (ERRORS, "DomainError")
        home = self._modules[meaning[0]]
        return any(self._needs_reason(self._meaning(home, base)) for base in found.bases)

    # What a name means.

    def _meaning(self, module: Module, node: ast.AST) -> tuple[str, str] | None:
        """The module and the name that an expression stands for."""
        if isinstance(node, ast.Name):
            return self._home(*module.imported.get(node.id, (module.name, node.id)))
        if isinstance(node, ast.Attribute):
            owner = self._meaning(module, node.value)
            if owner is not None and ".".join(owner) in self._modules:
                return self._home(".".join(owner), node.attr)
        return None

    def _home(self, module: str, name: str) -> tuple[str, str]:
        """Where a name was defined, behind however many imports; a package may import a module
        of its own."""
        found = module, name
        while module in self._modules and name in self._modules[module].imported:
            found = self._modules[module].imported[name]
            if found == (module, name):
                break
            module, name = found
        return found

    def _definition(
        self, meaning: tuple[str, str] | None, kind: type[ast.AST]
    ) -> ast.AST | None:
        if meaning is None or meaning[0] not in self._modules:
            return None
        for node in self._modules[meaning[0]].tree.body:
            if isinstance(node, kind) and getattr(node, "name", "") == meaning[1]:
                return node
        return None

    def _code_of(self, meaning: tuple[str, str] | None) -> int | None:
        """The status code of an error's class, by its bases."""
        if meaning is None:
            return None
        if meaning in CARRIERS:
            return CARRIERS[meaning]
        if meaning[0] == ERRORS and meaning[1] in KIND_NAMES:
            return KIND_NAMES[meaning[1]]
        found = self._definition(meaning, ast.ClassDef)
        if not isinstance(found, ast.ClassDef):
            return None
        home = self._modules[meaning[0]]
        codes = (self._code_of(self._meaning(home, base)) for base in found.bases)
        return next((code for code in codes if code is not None), None)

    # Where a reason goes.

    def _follow(
        self, module: Module, node: ast.AST, reason: str, start: ast.AST
    ) -> Iterator[Use]:
        """The use that `node`, which holds the reason, amounts to."""
        where = f"{module.name}:{getattr(start, 'lineno', 0)}"
        outer = module.parents[node]
        match outer:
            case ast.Compare() | ast.Set():
                return  # asked for, not raised
            case ast.Assign() | ast.AnnAssign():
                yield from self._assigned(module, outer, reason, start)
            case ast.Call() if node is not outer.func:
                yield from self._handed(module, outer, node, reason, start)
            case ast.arguments():
                function = module.parents[outer]
                assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
                name = _defaulted(outer, node)
                yield from self._parameter(module, function, name, reason, start)
            case ast.Attribute(attr="get"):  # of a table that holds the reason
                yield from self._follow(module, module.parents[outer], reason, start)
            case (
                ast.IfExp()
                | ast.BoolOp()
                | ast.keyword()
                | ast.Tuple()
                | ast.List()
                | ast.Dict()
                | ast.Subscript()
            ):
                yield from self._follow(module, outer, reason, start)
            case _:
                yield Use(reason, where, None)

    def _assigned(
        self, module: Module, node: ast.Assign | ast.AnnAssign, reason: str, start: ast.AST
    ) -> Iterator[Use]:
        """A class's usual reason, or a name that is used further on."""
        where = f"{module.name}:{getattr(start, 'lineno', 0)}"
        scope = module.around(node, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Tuple) and node.value is not None:
            target = target.elts[_place_in_tuple(node.value, start)]
        if isinstance(scope, ast.ClassDef):
            yield Use(reason, where, self._code_of((module.name, scope.name)))
        elif isinstance(target, ast.Name):
            yield from self._reads(module, scope or module.tree, target.id, reason, start)
        else:
            yield Use(reason, where, None)

    def _handed(
        self, module: Module, call: ast.Call, given: ast.AST, reason: str, start: ast.AST
    ) -> Iterator[Use]:
        """To an error, to what carries it, or to a function."""
        where = f"{module.name}:{getattr(start, 'lineno', 0)}"
        function = call.func
        meaning = self._meaning(module, function)
        name = function.attr if isinstance(function, ast.Attribute) else None
        if name in CANCELLING or meaning in CANCELLING:
            yield Use(reason, where, None, cancels=True)
            return
        if meaning in _TRANSPARENT or name == "get":
            yield from self._follow(module, call, reason, start)
            return
        around = module.around(call, ast.keyword, ast.stmt)
        if meaning == VIOLATION and isinstance(around, ast.keyword) and around.arg == LISTED:
            yield from self._follow(module, around, reason, start)  # of the error that lists it
            return
        code = self._code_of(meaning)
        if isinstance(function, ast.Attribute):
            if _is_super_init(function):
                scope = module.around(call, ast.ClassDef)
                assert isinstance(scope, ast.ClassDef)
                code = self._code_of((module.name, scope.name))
            elif code is None:  # `InvalidArgument.of(...)`
                code = self._code_of(self._meaning(module, function.value))
        helper = self._definition(meaning, ast.FunctionDef)
        if code is None and isinstance(helper, ast.FunctionDef) and meaning is not None:
            home = self._modules[meaning[0]]
            parameter = _parameter_of(helper, call, given)
            yield from self._parameter(home, helper, parameter, reason, start, where)
        else:
            yield Use(reason, where, code)

    def _parameter(
        self,
        module: Module,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        name: str,
        reason: str,
        start: ast.AST,
        where: str = "",
    ) -> Iterator[Use]:
        for use in self._reads(module, function, name, reason, start):
            yield Use(use.reason, where or use.where, use.code, use.cancels)

    def _reads(
        self, module: Module, scope: ast.AST, name: str, reason: str, start: ast.AST
    ) -> Iterator[Use]:
        """Every place in `scope` that reads the name which holds the reason."""
        for node in ast.walk(scope):
            named = isinstance(node, ast.Name) and node.id == name
            if named and isinstance(getattr(node, "ctx", None), ast.Load):
                yield from self._follow(module, node, reason, start)


def _sets_reason(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return any(isinstance(target, ast.Name) and target.id == "reason" for target in targets)


def _is_super_init(function: ast.Attribute) -> bool:
    owner = function.value
    return (
        function.attr == "__init__"
        and isinstance(owner, ast.Call)
        and isinstance(owner.func, ast.Name)
        and owner.func.id == "super"
    )


def _place_in_tuple(value: ast.expr, wanted: ast.AST) -> int:
    """Which element of the tuples in an expression holds a node."""
    return next(
        place
        for node in ast.walk(value)
        if isinstance(node, ast.Tuple)
        for place, element in enumerate(node.elts)
        if wanted in ast.walk(element)
    )


def _parameter_of(function: ast.FunctionDef, call: ast.Call, given: ast.AST) -> str:
    """The parameter that an argument of the call becomes."""
    if isinstance(given, ast.keyword):
        assert given.arg is not None
        return given.arg
    return function.args.args[list[ast.AST](call.args).index(given)].arg


def _defaulted(arguments: ast.arguments, default: ast.AST) -> str:
    """The parameter with that default."""
    pairs: Iterable[tuple[ast.arg, ast.expr | None]] = [
        *zip(arguments.args[::-1], arguments.defaults[::-1], strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return next(argument.arg for argument, value in pairs if value is default)
