"""Do to a notebook what learners do, and write down what went wrong."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tools.browser.page import Control, NotebookPage
from tools.browser.server import Lab

# A menu opens with the space bar: JupyterLab takes the arrows of a closed one for its own.
FORWARD = {"slider": ["ArrowRight"], "select": ["Space", "ArrowDown", "Enter"]}
BACK = {"slider": ["ArrowLeft"], "select": ["Space", "ArrowUp", "Enter"]}
DESK = {"width": 1300, "height": 1000}


@dataclass
class Examination:
    """What was seen in one notebook: the controls, and what is wrong with cells and controls."""

    controls: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)
    unmoved: list[str] = field(default_factory=list)
    not_back: list[str] = field(default_factory=list)
    stacked: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    access: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    screenshots: dict[str, bytes] = field(default_factory=dict)

    @property
    def complaints(self) -> dict[str, list[str]]:
        """All that is wrong, by kind; nothing if all is well."""
        kinds = (
            "cells",
            "console",
            "callbacks",
            "unmoved",
            "not_back",
            "late",
            "stacked",
            "access",
        )
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def examine(path: Path, browser: Browser, lab: Lab) -> Examination:
    """Run a copy of a notebook in JupyterLab, move everything, and say what was seen."""
    shutil.copy(path, lab.root / path.name)
    context = browser.new_context(viewport=DESK)
    seen = Examination()
    try:
        notebook = NotebookPage(context.new_page(), lab)
        notebook.open(path.name)
        notebook.run_all()
        controls = notebook.controls()
        seen.controls = [str(control) for control in controls]
        seen.cells = [*notebook.ask("lab.errors()"), *notebook.ask("lab.failed()")]
        if not notebook.ask("lab.ran()"):
            seen.cells.append("not all cells were run")
        pictures = {c.cell: len(notebook.shows(c.cell)) for c in controls}
        outputs = {c.cell: notebook.ask("lab.outputs(a)", c.cell) for c in controls}
        for cell in pictures:
            name = f"{path.stem[:2]}-{len(seen.screenshots) + 1}"
            seen.screenshots[name] = notebook.screenshot(cell)
            seen.access += barriers(notebook, cell)
        for control in controls:
            move(notebook, control, seen)
        for control in controls:
            if control.kind == "slider" and not notebook.is_disabled(control):
                pull(notebook, control, seen)
        for cell in pictures:
            now = len(notebook.shows(cell)), notebook.ask("lab.outputs(a)", cell)
            if now != (pictures[cell], outputs[cell]):
                seen.stacked.append(f"cell {cell}: {pictures[cell]} pictures became {now[0]}")
            seen.callbacks += notebook.ask("lab.complaints(a)", cell)
        seen.callbacks += notebook.ask("lab.heard()")
        seen.console = notebook.console
    finally:
        context.close()
        lab.stop_kernels()
    return seen


def move(notebook: NotebookPage, control: Control, seen: Examination) -> None:
    """Move one control by keyboard to another value and back."""
    if notebook.is_disabled(control):
        seen.unmoved.append(f"{control} is greyed out at first")
        return
    first, value = notebook.shows(control.cell), notebook.value(control)
    there, back = keys_of(notebook, control)
    blurred = notebook.close_up(control)
    notebook.handle(control).focus()
    if notebook.close_up(control) == blurred:
        seen.access.append(f"{control}: focus cannot be seen")
    times = [notebook.press(control, there)]
    moved = notebook.shows(control.cell)
    if notebook.value(control) == value:
        seen.unmoved.append(f"{control} does not move by keyboard")
    elif moved == first:
        seen.unmoved.append(f"{control} moves and changes nothing")
    times.append(notebook.press(control, back))
    if (notebook.shows(control.cell), notebook.value(control)) != (first, value):
        seen.not_back.append(f"{control} went back to {value!r}, its picture did not")
    seen.milliseconds += [time for time in times if time is not None]


def keys_of(notebook: NotebookPage, control: Control) -> tuple[list[str], list[str]]:
    """Say which keys lead to another value, and which lead back."""
    if control.kind in FORWARD:
        ways = [FORWARD[control.kind], BACK[control.kind]]
        return tuple(reversed(ways) if notebook.ask("lab.atEnd(a)", control.index) else ways)
    return ["End", "Backspace"], ["End", notebook.value(control)[-1]]


def pull(notebook: NotebookPage, control: Control, seen: Examination) -> None:
    """Pull a slider fast. The last picture must be that of the value where it was let go."""
    notebook.drag(control)
    value, let_go = notebook.value(control), notebook.shows(control.cell)
    there, back = keys_of(notebook, control)
    notebook.press(control, there)
    notebook.press(control, back)
    if notebook.value(control) != value:
        seen.late.append(f"{control} did not stay at {value}")
    elif notebook.shows(control.cell) != let_go:
        seen.late.append(f"{control} was let go at {value}, the picture was another one's")


def barriers(notebook: NotebookPage, cell: int) -> list[str]:
    """Ask axe-core what keeps people from using the outputs of a cell."""
    notebook.ask("lab.name(a)", cell)
    answer = Axe().run(notebook.page, context=f"#lab-cell-{cell}")
    found = [
        f"cell {cell}: {violation['id']}: {node['html'][:160]}"
        for violation in answer.response["violations"]
        for node in violation["nodes"]
        if not is_stock(violation["id"], node["html"])
    ]
    nameless = [c for c in notebook.controls() if c.cell == cell and not c.label]
    return found + [f"{control} has no label" for control in nameless]


def is_stock(rule: str, element: str) -> bool:
    """Say whether a barrier is one that no notebook can take away."""
    if rule == "aria-input-field-name":
        # ipywidgets gives a slider's handle no name for screen readers and no way to set one; its
        # visible label is asked for instead.
        return "noUi-handle" in element
    # JupyterLab gives a figure's saved picture no words, and a cell cannot say any.
    return rule == "image-alt" and 'src="data:image/png' in element
