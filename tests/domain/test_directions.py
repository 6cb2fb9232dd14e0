"""The direction of imports, what the inner packages may know of the world outside, and that everything says its job."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "projections", "adapters")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
INNER = [path for path in MODULES if path.parts[0] in ("domain", "projections")]

MAY_IMPORT = {
    "domain": {"domain", "msgspec", "transitions"},
    "projections": {"projections", "domain", "msgspec"},
}
"""Of what is not in the standard library."""

OUTSIDE = {
    "asyncio",
    "fcntl",
    "glob",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
"""Modules through which files, clocks, randomness, stores and the network come in: none of them inside."""

CALLS_OUTSIDE = {"open", "print", "input", "hash", "id", "exec", "eval", "__import__"}
"""What would read the world outside, or differ from run to run."""

CLOCKS = {"now", "utcnow", "today", "time_ns", "perf_counter", "monotonic"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The top-level package of every import, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}: name the package"
            yield str(node.module).split(".")[0], node.lineno


@pytest.mark.parametrize("path", INNER, ids=str)
def test_imports_point_inwards(path):
    allowed = MAY_IMPORT[path.parts[0]]
    wrong = [
        f"{path}:{line} imports {name}"
        for name, line in imports_of(tree_of(path))
        if name not in allowed and name not in sys.stdlib_module_names
    ]
    assert wrong == [], "imports point adapters -> projections -> domain"


@pytest.mark.parametrize("path", INNER, ids=str)
def test_nothing_inside_knows_files_clocks_randomness_or_stores(path):
    tree = tree_of(path)
    wrong = [f"{path}:{line} imports {name}" for name, line in imports_of(tree) if name in OUTSIDE]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in CALLS_OUTSIDE:
            wrong.append(f"{path}:{node.lineno} calls {function.id}()")
        if isinstance(function, ast.Attribute) and function.attr in CLOCKS:
            owner = ast.unparse(function.value)
            if owner.split(".")[-1] in ("datetime", "date", "time"):
                wrong.append(f"{path}:{node.lineno} asks a clock: {ast.unparse(function)}")
    assert wrong == []


def test_only_adapters_are_imported_by_nobody_inside_and_import_both():
    imported = {
        package: {name for path in MODULES if path.parts[0] == package for name, _ in imports_of(tree_of(path))}
        for package in PACKAGES
    }
    assert imported["domain"].isdisjoint({"projections", "adapters"})
    assert "adapters" not in imported["projections"] and "domain" in imported["projections"]
    assert {"domain", "projections"} <= imported["adapters"]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_opens_with_a_paragraph_that_says_its_job(path):
    tree = tree_of(path)
    if not tree.body:
        return  # a package that only gathers modules
    said = ast.get_docstring(tree) or ""
    assert len(said.split()) >= 8, f"{path} does not say its job: {said!r}"


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public functions and classes without a docstring. A method that another class declares says it there."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.name
        methods = node.body if isinstance(node, ast.ClassDef) else []
        for method in methods:
            if not isinstance(method, ast.FunctionDef) or method.name.startswith("_"):
                continue
            if not ast.get_docstring(method):
                yield f"{node.name}.{method.name}"


PORTS = (
    Path("adapters/ports.py"),
    Path("projections/findings/rule.py"),
    Path("projections/findings/ipset_rule.py"),
)
"""Where the methods are declared that several classes have."""


@cache
def declared() -> set[str]:
    """The methods that a protocol or an abstract class declares, and says what they do."""
    return {
        method.name
        for path in PORTS
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in ("Protocol", "ABC") for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    } | {"append", "read", "subscribe", "head", "stop"}  # the recorder's, which eventsourcing declares


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_public_function_and_class_says_what_it_does(path):
    silent = [name for name in undocumented(tree_of(path)) if name.partition(".")[2] not in declared()]
    assert silent == [], f"{path}: no docstring"


def test_this_test_sees_what_it_forbids():
    tree = ast.parse("import os\nfrom datetime import datetime\ndatetime.now()\nclass A:\n    def b(self): pass\n")
    assert ("os", 1) in list(imports_of(tree))
    assert list(undocumented(tree)) == ["A", "A.b"]
