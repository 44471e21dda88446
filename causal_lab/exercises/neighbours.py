"""Neighbours of a solution: its syntax tree with a slip in it, and a sentence that tells the slip.

A slip is a rule, a line of slips.txt: what stands there, what is written instead, the sentence.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import operator
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from causal_lab.exercises.rules import read

ROUNDS = 100  # of a while loop; a slip may make it run for ever
SHORT = 44  # signs of code that are quoted in a sentence
MODULES = {"torch", "math", "F", "special", "linalg"}
ALONG = {"sum", "mean", "any", "all", "amax", "softmax", "cumsum", "cat", "flatten", "stack"}
SCOPE = {"torch": torch, "math": math, "F": F, "cross_entropy": F.cross_entropy}
METHODS = ALONG - {"cat", "stack"} | {"sigmoid", "exp", "log", "triu", "tril"}

_parsed = functools.cache(ast.parse)  # a module is read once


# --- rules: a small language of code with holes


def parse(text: str) -> ast.AST:
    """Parse an expression, or else a statement; ``*R`` stands for keywords, too.

    >>> type(parse("x + 1")).__name__, type(parse("x += 1")).__name__
    ('BinOp', 'AugAssign')
    """
    (node,) = ast.parse(text.strip().replace("*R)", "*R, **R)")).body
    return node.value if isinstance(node, ast.Expr) else node


def match(pattern: Any, node: Any, found: dict) -> bool:
    """Compare a pattern with code, and note what its capital letters stand for.

    N stands for a number, F for the name of a method that goes along an axis, G for any method's,
    ``*R`` for all further arguments, every other letter for an expression.

    >>> match(parse("X.F(N, *R)"), parse("w.exp().sum(-1, keepdim=True)"), found := {})
    True
    >>> ast.unparse(found["X"]), found["F"]
    ('w.exp()', 'sum')
    """
    if isinstance(pattern, ast.Name) and _is_hole(pattern.id):
        is_module = isinstance(node, ast.Name | ast.Attribute) and _name(node) in MODULES
        if is_module or (pattern.id == "N" and _number(node) is None):
            return False
        known = found.setdefault(pattern.id, node)
        return known is node or ast.dump(known) == ast.dump(node)
    if isinstance(pattern, str) and _is_hole(pattern):
        return found.setdefault(pattern, node) == node and (pattern != "F" or node in ALONG)
    if isinstance(pattern, list):
        if pattern and (rest := _rest(pattern[-1])):
            pattern = pattern[:-1]
            found[rest], node = node[len(pattern) :], node[: len(pattern)]
        return len(pattern) == len(node) and all(map(match, pattern, node, itertools.repeat(found)))
    if not isinstance(pattern, ast.AST) or type(pattern) is not type(node):
        return pattern == node
    fields = (field for field in pattern._fields if field not in ("ctx", "kind", "type_comment"))
    return all(match(getattr(pattern, one), getattr(node, one), found) for one in fields)


def fill(pattern: ast.AST, found: dict) -> ast.AST:
    """Build code from a pattern and what its letters stand for.

    >>> ast.unparse(fill(parse("X.mean(*R)"), {"X": parse("w"), "*R": [parse("0")], "**R": []}))
    'w.mean(0)'
    """
    return rebuild(pattern, lambda one: found.get(_rest(one) or getattr(one, "id", one)))


def rebuild(tree: Any, swap: Callable[[Any], Any]) -> Any:
    """Copy a tree with parts exchanged for what ``swap`` gives; what stays the same is shared.

    >>> tree = parse("x + 1")
    >>> ast.unparse(rebuild(tree, lambda one: parse("y") if one is tree.right else None))
    'x + y'
    """
    if isinstance(tree, list):
        items = [rebuild(item, swap) for item in tree]
        if all(map(operator.is_, items, tree)):
            return tree
        parts = (item if isinstance(item, list) else [item] for item in items)
        return [*itertools.chain.from_iterable(parts)]
    if (new := swap(tree)) is not None or not isinstance(tree, ast.AST):
        return tree if new is None else new
    fields = {key: rebuild(value, swap) for key, value in ast.iter_fields(tree)}
    if all(value is getattr(tree, key) for key, value in fields.items()):
        return tree
    return ast.copy_location(type(tree)(**fields), tree)


@functools.cache
def rules() -> dict[type, list[tuple[ast.AST, ast.AST, str]]]:
    """Read the rules, sorted by what stands at the root of their patterns."""
    told = {}
    for code, sentence in read("slips"):
        pattern, new = map(parse, code.split(" => "))
        is_number = isinstance(pattern, ast.Name)
        for root in (ast.Constant, ast.UnaryOp) if is_number else (type(pattern),):
            told.setdefault(root, []).append((pattern, new, sentence))
    return told


def _rest(node: Any) -> str:
    """Is this the sign for all further arguments, or all further keywords?"""
    is_keywords = isinstance(node, ast.keyword) and node.arg is None
    return "**R" if is_keywords else "*R" if isinstance(node, ast.Starred) else ""


def _is_hole(name: str) -> bool:
    return len(name) == 1 and name.isupper() and name != "T"


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", getattr(node, "id", ""))


def _number(node) -> float | None:
    """Give the number that an expression is, with its sign; None if it is none."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return node.value if is_number else None


# --- trees


class _Plain(ast.NodeTransformer):
    """Write torch.f(x) as x.f() and dim=0 as 0; let no loop run for ever."""

    def visit_Call(self, node):
        self.generic_visit(node)
        is_function = _name(getattr(node.func, "value", None)) in ("torch", "F")
        if is_function and node.func.attr in METHODS and node.args:
            node.func = ast.Attribute(node.args.pop(0), node.func.attr, ast.Load())
        named = [word for word in node.keywords if word.arg in ("dim", "diagonal")]
        node.args += [word.value for word in named]
        node.keywords = [word for word in node.keywords if word not in named]
        return node

    def visit_While(self, node):
        self.generic_visit(node)
        loop = parse(f"for _ in range({ROUNDS}): pass\nelse: raise RuntimeError('does not end')")
        loop.body = [ast.If(node.test, [ast.Pass()], [ast.Break()]), *node.body]
        return loop


@dataclass(frozen=True)
class Program:
    """A function as a tree: it can be run, and edited. A neighbour knows its slip.

    >>> Program.of("def double(x): return 2 * x").function(3)
    6
    """

    tree: ast.FunctionDef
    scope: dict
    slip: tuple[Any, Any, str] = (None, None, "")  # what stood there, what does, "except that …"
    distinct: list["Program"] = dataclasses.field(default_factory=list)  # found when first needed

    @staticmethod
    def of(source: str, scope: dict | None = None) -> "Program":
        """Parse a function's source, and say what it may use."""
        source = re.sub(r"float\(.-inf.\)", "-torch.inf", textwrap.dedent(source))
        module = _Plain().visit(ast.parse(source.replace("math.inf", "torch.inf")))
        tree = next(node for node in module.body if isinstance(node, ast.FunctionDef))
        return Program(tree, SCOPE if scope is None else scope)

    @staticmethod
    def behind(function: Callable) -> "Program | None":
        """Find the source of a function or lambda; None if there is none to be found."""
        code = getattr(function, "__code__", None)
        try:
            tree = _parsed("".join(inspect.findsource(code)[0]))
        except (OSError, TypeError, SyntaxError):
            return None
        kinds, first = ast.FunctionDef | ast.Lambda, code.co_firstlineno
        nodes = (n for n in ast.walk(tree) if isinstance(n, kinds) and n.lineno == first)
        node = next(nodes, None)
        if node is None or code.co_freevars:
            return None
        if isinstance(node, ast.Lambda):
            node = ast.FunctionDef("answer", node.args, [ast.Return(node.body)], [], lineno=1)
        return Program.of(ast.unparse(node), function.__globals__)

    @functools.cached_property
    def function(self) -> Callable | None:
        """Compile the tree; None if a slip has left no program."""
        scope = {**self.scope}
        try:
            module = ast.fix_missing_locations(ast.Module([self.tree], []))
            exec(compile(module, "<neighbour>", "exec"), scope)  # our own code
        except (SyntaxError, ValueError, TypeError):
            return None
        return scope[self.tree.name]

    @functools.cached_property
    def profile(self) -> Counter:
        """Count the pieces of the tree, each alone and with what it stands in."""
        names = {argument.arg: f"argument {n}" for n, argument in enumerate(self.tree.args.args)}

        def word(node) -> str:
            if isinstance(node, ast.Name):
                return names.get(node.id, "name")
            return f"{type(node).__name__} {_name(node)}{getattr(node, 'value', '')!s:.1}"

        pieces = ((word(node), word(parents[0][0])) for node, parents in _places(self.tree))
        return Counter(itertools.chain.from_iterable((a, (a, b)) for a, b in pieces))

    def likeness(self, other: "Program") -> float:
        """Say how much of two trees is the same, from 0 to 1."""
        common, together = self.profile & other.profile, self.profile | other.profile
        return common.total() / max(1, together.total())

    def edited(self, *slip: Any) -> "Program | None":
        """Exchange a part of the tree; None if that part is not there (any more)."""
        tree = rebuild(self.tree, lambda node: slip[1] if node is slip[0] else None)
        return None if tree is self.tree else Program(tree, self.scope, slip)

    @functools.cached_property
    def neighbours(self) -> list["Program"]:
        """Make every slip that the tree has room for."""
        return [self.edited(*slip) for slip in _slips(self.tree)]


def _places(node: ast.AST, parents: tuple = ()) -> Iterator[tuple[ast.AST, tuple]]:
    """Walk through a tree; give each node with all that it stands in, the nearest first."""
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.expr | ast.stmt | ast.keyword | ast.comprehension):
                here = ((node, field), *parents)
                yield child, here
                yield from _places(child, here)


# --- slips


def _slips(tree: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """Yield what stands there, what stands there instead, and the sentence."""
    parameters, local = [argument.arg for argument in tree.args.args], _assigned(tree)
    quote = functools.partial(_quote, {k: v for k, v in local.items() if k not in parameters})
    for node, ((parent, field), *further) in _places(tree):
        if field == "func" or isinstance(getattr(node, "ctx", None), ast.Store):
            continue
        for pattern, new, sentence in rules().get(type(node), ()):
            is_number = isinstance(pattern, ast.Name)  # the minus before it belongs to it
            if match(pattern, node, found := {}) and not (
                is_number and isinstance(parent, ast.UnaryOp)
            ):
                told = {k: v if isinstance(v, str) else quote(v) for k, v in found.items()}
                yield node, fill(new, found), sentence.format(**told, AROUND=quote(parent))
        if isinstance(node, ast.Name) and node.id in {*parameters, *local}:
            yield from _other_names(node, parent, further, [*parameters, *local], quote)
        if isinstance(parent, ast.Return):
            parts = [part for part, _ in _places(node) if isinstance(part, ast.Call | ast.BinOp)]
            for part in [*parts, *map(parse, local)]:
                yield node, part, f"the last step is missing: {quote(part)} is returned as it is"
    for a, b in itertools.combinations(parameters, 2):
        names = {a: b, b: a}
        arguments = [ast.arg(names.get(name, name)) for name in parameters]
        new = ast.arguments([], arguments, None, [], [], None, [])
        yield tree.args, new, f"`{a}` and `{b}` are exchanged"


def _assigned(tree: ast.FunctionDef) -> dict[str, ast.AST]:
    """Find what the local names stand for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts, strict=True) if both else [(target, value)]
            found |= {name.id: what for name, what in pairs if isinstance(name, ast.Name)}
    return found


def _quote(local: dict[str, ast.AST], node) -> str:
    """Quote code; for a name of the solution's own, unknown to a learner, what it stands for."""
    node = local.get(_name(node), node) if isinstance(node, ast.Name) else node
    if not isinstance(node, ast.AST):
        return ""
    text = ast.unparse(node).replace("-torch.inf", "−∞").splitlines()[0]
    if _number(node) is not None:
        return text.replace("-", "−")
    return f"`{text}`" if len(text) <= SHORT else f"`{text[: SHORT - 2]} …`"


def _other_names(node: ast.Name, parent, further, names: list[str], quote) -> Iterator[tuple]:
    """Write another name; of len(x) and x.shape[0], the whole is quoted."""
    if isinstance(parent, ast.Call) and parent.func is node:
        return
    whole = parent if isinstance(parent, ast.Call) and _name(parent.func) == "len" else node
    if isinstance(parent, ast.Attribute) and isinstance(further[0][0], ast.Subscript):
        whole = further[0][0]
    for name in names:
        if name != node.id:
            other = ast.Name(name, ast.Load())
            new = rebuild(whole, lambda one, other=other: other if one is node else None)
            yield whole, new, f"{quote(new)} stands where {quote(whole)} belongs"
