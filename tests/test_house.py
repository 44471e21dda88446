"""How the house is built: floors, lightness, docstrings, and versions that agree."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from inspect import isclass, isfunction
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from torch import Tensor

import causal_lab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "causal_lab"

FLOORS = {
    folder: int(floor)
    for floor, folder in re.findall(r"^(\d)\s+``(\w+)``", causal_lab.__doc__, re.MULTILINE)
}
LAZY = {("causality.report", "plots.figures")}  # a report draws itself, if it is asked to


def name_of(path: Path) -> str:
    """Name a module as an import does, without the leading causal_lab."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
MODULES = [name for name in SOURCES if name]


def imports_of(module: str) -> set[str]:
    """List which modules of causal_lab a module imports, "" for the package itself."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write causal_lab.… in full"
            # "from causal_lab import masks" names a module, "from causal_lab.masks import x" not.
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {f"causal_lab.{name}" for name in SOURCES}
            found |= (whole & modules) or {node.module}
    return {
        name.removeprefix("causal_lab").lstrip(".")
        for name in found
        if name.split(".")[0] == "causal_lab"
    }


def floor_of(module: str) -> int:
    top = module.split(".")[0]
    assert top in FLOORS, (
        f"causal_lab/{top} has no floor; give it a row in the map of causal_lab/__init__.py"
    )
    return FLOORS[top]


# --- floors


def test_a_module_imports_only_from_floors_below_its_own_or_its_own_folder():
    faults = []
    for module in MODULES:
        folder, floor = module.split(".")[0], floor_of(module)
        for other in sorted(imports_of(module) - {""}):
            if other not in SOURCES:
                faults.append(f"{module} imports {other}, which does not exist")
            elif other.split(".")[0] != folder and (module, other) not in LAZY:
                if floor_of(other) >= floor:
                    there = floor_of(other)
                    faults.append(f"{module} (floor {floor}) imports {other} (floor {there})")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("module", "other"), sorted(LAZY))
def test_what_is_imported_lazily_is_imported_inside_a_function(module, other):
    top = [n.module for n in TREES[module].body if isinstance(n, ast.ImportFrom)]
    assert other in imports_of(module)
    assert f"causal_lab.{other}" not in top


def test_the_package_needs_torch_and_numpy_and_the_course_is_an_extra():
    assert [Requirement(line).name for line in PROJECT["dependencies"]] == ["torch", "numpy"]


def test_the_checker_needs_no_more():
    """An engineer's CI has no notebook, and no matplotlib."""
    heavy = {"matplotlib", "PIL", "ipywidgets", "IPython", "anywidget", "sklearn"}
    code = (
        "import sys, causal_lab.causality\n"
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('causal_lab.')}\n"
        f"print(sorted(ours), sorted({heavy} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == "['causality', 'validation'] []"


def test_the_package_itself_imports_nothing():
    assert not [
        node for node in ast.walk(TREES[""]) if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def test_no_module_is_part_of_a_circle():
    finished, path = set(), []

    def visit(module: str) -> None:
        assert module not in path, f"a circle: {' → '.join([*path, module])}"
        if module not in finished:
            path.append(module)
            for other in sorted(imports_of(module) - {module}):
                visit(other)
            path.pop()
            finished.add(module)

    for module in SOURCES:
        visit(module)


def test_a_module_without_a_floor_is_told_to_get_one():
    with pytest.raises(AssertionError, match="causal_lab/utils has no floor; give it a row"):
        floor_of("utils")


def test_the_reader_of_imports_sees_every_way_to_import(monkeypatch):
    code = """
import causal_lab
import causal_lab.masks.rules as m
from causal_lab import __version__
from causal_lab.plots import figures as plots
from causal_lab.explorers import MaskExplorer
import torch
def late():
    from causal_lab.course.text import load_text
"""
    monkeypatch.setitem(TREES, "sample", ast.parse(code))
    assert imports_of("sample") == {
        *("", "masks.rules", "plots.figures", "explorers", "course.text")
    }


# --- lightness


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, causal_lab\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'anywidget', 'ipywidgets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_no_module_touches_pyplot():
    faults = {
        f"{SOURCES[module]}:{node.lineno} names {part}"
        for module in MODULES
        for node in ast.walk(TREES[module])
        for name in names_in(node)
        for part in {"pyplot", "pylab"} & set(name.split("."))
    }
    assert not faults, "\n".join(sorted(faults))


def names_in(node: ast.AST) -> list[str]:
    """List the names that a piece of code uses, docstrings and comments left out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(alias.name for alias in node.names)]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    return [node.id] if isinstance(node, ast.Name) else []


def test_no_module_asserts():
    faults = [
        f"{SOURCES[module]}:{node.lineno} asserts; raise a ValueError instead"
        for module in MODULES
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Assert)
    ]
    assert not faults, "\n".join(faults)


# --- the map


def test_the_map_names_every_folder_and_nothing_else():
    assert set(FLOORS) == {module.split(".")[0] for module in SOURCES if module}


FACES = ["masks", "attention", "models", "course", "plots"]


def shown_to_learners() -> dict[str, set[str]]:
    """List what the notebooks and the README import, by the folder that hands it on."""
    text = read("README.md")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text += "\n" + "".join(cell["source"])
    found = {folder: set() for folder in FACES}
    for folder, names in re.findall(r"from causal_lab\.(\w+) import (\([^)]*\)|.+)", text):
        found.setdefault(folder, set()).update(re.findall(r"\w+", names))
    return found


@pytest.mark.parametrize("folder", FACES)
def test_a_folder_hands_on_what_the_course_uses_or_names_and_nothing_else(folder):
    handed_on = {
        alias.name
        for node in TREES[folder].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    used = shown_to_learners()[folder]
    assert used <= handed_on
    assert not [name for name in handed_on - used if f"`{name}" not in pages]


def test_the_papers_names_stay_where_they_are():
    masks, attention = map(importlib.import_module, ("causal_lab.masks", "causal_lab.attention"))
    for name in ("causal_mask", "causal_logit_mask", "incremental_mask"):
        assert callable(getattr(masks, f"generate_{name}"))
    assert isclass(attention.CausalAttention)


# --- docstrings

SUMMARY = re.compile(r"(?s)[^\n]*[.?](?:\n\n.*)?")  # one line, a sentence, then a blank line
ARRAY = re.compile(r"(?:\w+\.)*(?:Tensor|ndarray)(?: \| None)?")
AXES = r"\((?:1 or )?(?:batch|head|query|key|length|vocabulary|T|…)\b[^()]*, [^()]*\)|\(…, [^()]*\)"
SHAPE = re.compile(rf"\bshapes?\b|\bbroadcast|\) = \(|\bany tensor\b|{AXES}")
SHAPELESS = ("validation", "models.inputs")  # what they check may have any shape
HOUSE_RULES = "see “Rules that are easy to forget” in CONTRIBUTING.md"


def public_things(module: str) -> dict[str, object]:
    """List the functions and classes that a module defines, and the methods that classes add."""
    things = {}
    imported = importlib.import_module(f"causal_lab.{module}".rstrip("."))
    for name, thing in vars(imported).items():
        is_here = getattr(thing, "__module__", None) == imported.__name__
        if is_here and not name.startswith("_") and (isfunction(thing) or isclass(thing)):
            things[name] = thing
            if isclass(thing):
                things |= {f"{name}.{m}": f for m, f in methods_of(thing).items()}
    return things


def methods_of(owner: type) -> dict[str, object]:
    """List the methods that a class adds: neither private, nor overriding, nor left abstract."""
    members = {name: getattr(member, "__func__", member) for name, member in vars(owner).items()}
    return {
        name: member
        for name, member in members.items()
        if isfunction(member)
        and not name.startswith("_")
        and not any(hasattr(base, name) for base in owner.__mro__[1:])
        and "raise NotImplementedError" not in inspect.getsource(member)
    }


def faults_of(name: str, thing) -> list[str]:
    """List in what a docstring is not in the style of the house."""
    docstring = inspect.getdoc(thing) if thing.__doc__ else ""
    if not docstring:
        return ["has no docstring"]
    arguments, returned = signature_of(thing)
    faults = []
    if not SUMMARY.fullmatch(docstring):
        faults.append(
            f"must begin with a line that is a sentence and stands alone: {docstring[:60]!r}"
        )
    if re.search(r"^\s*[-=]{3,}\s*$", docstring, re.MULTILINE):
        faults.append("underlines a title; write “Args:”, “Returns:”, and no title over an example")
    if "ValueError" in entries_of(docstring, "Raises"):
        faults.append("names ValueError; that every bad input raises one, the README says once")
    explained = {word.strip("* ") for e in entries_of(docstring, "Args") for word in e.split(",")}
    if unreal := explained - set(arguments):
        faults.append(f"explains what is no argument: {', '.join(sorted(unreal))}")
    if isfunction(thing):
        is_method = "." in name
        types = [returned] if is_method else [*arguments.values(), returned]
        is_array = any(ARRAY.fullmatch(inspect.formatannotation(t)) for t in types)
        is_check = thing.__module__.removeprefix("causal_lab.") in SHAPELESS
        if is_array and not is_check and not SHAPE.search(docstring):
            faults.append("takes or gives a tensor without a word on its shape")
        if not is_method and returned is not None and ">>> " not in docstring:
            faults.append("has no example that a doctest runs")
    return faults


def signature_of(thing) -> tuple[dict[str, object], object]:
    """Give the annotation of every argument, and of the result."""
    if isclass(thing) and issubclass(thing, Exception) and "__init__" not in vars(thing):
        return {}, None
    signature = inspect.signature(thing)
    return {
        p.name: p.annotation for p in signature.parameters.values()
    }, signature.return_annotation


def entries_of(docstring: str, title: str) -> list[str]:
    """List what stands before the colons of one section."""
    section = re.search(rf"^{title}:\n((?:(?: {{4}}.*)?\n)*)", docstring + "\n", re.MULTILINE)
    return re.findall(r"^ {4}(\S[^:]*):", section[1], re.MULTILINE) if section else []


@pytest.mark.parametrize("module", SOURCES)
def test_docstrings_are_short_true_and_in_the_style_of_the_house(module):
    things = public_things(module)
    faults = [
        f"{name} {fault}" for name, thing in things.items() for fault in faults_of(name, thing)
    ]
    assert not faults, "\n".join([f"{SOURCES[module]} ({HOUSE_RULES}):", *faults])


def test_a_device_is_always_given_by_its_name():
    """One way in the whole house, however many arguments stand before it."""
    positional = {
        f"{module}.{name}"
        for module in SOURCES
        for name, thing in public_things(module).items()
        if not hasattr(thing, "__dataclass_fields__")  # what was found out, not where to make it
        and "device" in signature_of(thing)[0]
        and inspect.signature(thing).parameters["device"].kind is not inspect.Parameter.KEYWORD_ONLY
    }
    assert positional == set()


# A short one that keeps every rule, and what breaks each of them.
GOOD = """Block the future.

Args:
    T: tokens.
    device, **options: as for others.

Returns:
    bool, shape (query, key), True where blocked.

>>> 1
1
"""


def sample(T: int, device=None, **options) -> Tensor: ...


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Block", "Block", None),
        (GOOD, "", "has no docstring"),
        ("future.", "future", "must begin with a line"),
        ("future.\n", "future.\nIt is.\n", "must begin with a line"),
        ("Returns:\n", "Returns\n-------\n", "underlines a title"),
        ("\n>>>", "\nRaises:\n    ValueError: if not.\n\n>>>", "names ValueError"),
        ("device,", "devices,", "no argument: devices"),
        ("shape (query, key)", "square", "without a word on its shape"),
        (">>> 1\n1\n", "", "no example"),
    ],
)
def test_each_fault_of_a_docstring_is_found(monkeypatch, old, new, fault):
    monkeypatch.setattr(sample, "__doc__", GOOD.replace(old, new))
    monkeypatch.setattr(sample, "__module__", "causal_lab.sample")
    found = faults_of("sample", sample)
    assert len(found) == (0 if fault is None else 1), found
    assert fault is None or fault in found[0]


# --- versions


def read(name: str) -> str:
    path = ROOT / name
    assert path.exists(), f"{name} is missing"
    return path.read_text(encoding="utf-8")


def lines_of(name: str) -> list[str]:
    """List the lines that are neither empty nor comments."""
    lines = (line.partition("#")[0].rstrip() for line in read(name).splitlines())
    return [line for line in lines if line.strip()]


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
WANTED = [
    Requirement(line)
    for line in (
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["lab"],
        *PROJECT["optional-dependencies"]["test"],
        *PROJECT["optional-dependencies"]["docs"],
    )
    if not line.startswith("causal-lab[")  # an extra of ours that takes in another one
]


def pins() -> dict[str, Version]:
    found = {}
    for line in lines_of("constraints.txt"):
        name, equals, version = line.partition("==")
        assert equals, f"constraints.txt must pin with ==, got {line!r}"
        assert canonical(name) not in found, f"constraints.txt pins {name} twice"
        found[canonical(name)] = Version(version)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def test_the_first_pin_is_that_of_torch():
    assert lines_of("constraints.txt")[0] == "torch==2.13.0"


def test_every_direct_dependency_is_pinned_within_its_range():
    found = pins()
    for requirement in WANTED:
        version = found.get(canonical(requirement.name))
        assert version is not None, f"constraints.txt does not pin {requirement.name}"
        assert version in requirement.specifier, f"{requirement} does not allow {version}"


def test_colab_has_all_that_running_needs():
    # August 2026: installing there must replace nothing.
    colab = {"torch": "2.11.0", "matplotlib": "3.10.0", "ipywidgets": "7.7.1"}
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"]
    requirements = {r.name: r for r in map(Requirement, needed)}
    there = {Requirement(line).name for line in lines_of("tests/colab/requirements.txt")}
    # The install cell brings anywidget, with what it stands on; Colab is a lab of its own.
    assert requirements.keys() - there == {"anywidget", "jupyterlab"}
    for name, version in colab.items():
        assert Version(version) in requirements[name].specifier
    assert Version("3.13.0") in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_the_version_is_written_once_and_is_a_version():
    assert PROJECT["dynamic"] == ["version"]
    assert str(Version(causal_lab.__version__)) == causal_lab.__version__


@pytest.mark.parametrize("name", [".ci/run", "README.md"])
def test_there_is_one_command_that_tests_everything_and_all_name_it(name):
    assert re.search(r"^test:", read("Makefile"), re.MULTILINE)
    assert "make test" in read(name)
