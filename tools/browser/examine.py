"""Do to a notebook what learners do, and write down what went wrong."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator

from tools.browser.page import Control, NotebookPage
from tools.browser.server import Lab

FORWARD = {"range": ["ArrowRight"], "select": ["ArrowDown"]}
BACK = {"range": ["ArrowLeft"], "select": ["ArrowUp"]}
DESK = {"width": 1300, "height": 1000}
KINDS = (
    *("cells", "console", "callbacks", "unmoved", "not_back", "late", "stacked", "access"),
    "speechless",
)


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
    speechless: list[str] = field(default_factory=list)
    screenshots: dict[str, bytes] = field(default_factory=dict)
    focused: set[tuple[int, str]] = field(default_factory=set)

    @property
    def complaints(self) -> dict[str, list[str]]:
        """All that is wrong, by kind; nothing if all is well."""
        return {kind: getattr(self, kind) for kind in KINDS if getattr(self, kind)}


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
        cells = dict.fromkeys(control.cell for control in controls)
        heaps = {cell: notebook.ask("lab.heap(a)", cell) for cell in cells}
        for cell in cells:
            name = f"{path.stem[:2]}-{len(seen.screenshots) + 1}"
            seen.screenshots[name] = notebook.screenshot(cell)
            seen.access += barriers(notebook, cell)
            point(notebook, cell, seen)
        for control in controls:
            (play if control.kind == "play" else move)(notebook, control, seen)
        for control in controls:
            if control.kind == "range" and not notebook.is_disabled(control):
                pull(notebook, control, seen)
        for cell in cells:
            now = notebook.ask("lab.heap(a)", cell)
            if now != heaps[cell]:
                seen.stacked.append(f"cell {cell}: {heaps[cell]} became {now}")
            seen.callbacks += [f"cell {cell}: {e}" for e in notebook.ask("lab.complaints(a)", cell)]
        seen.callbacks += notebook.ask("lab.heard()")
        seen.console = notebook.console
    finally:
        context.close()
        lab.stop_kernels()
    return seen


def move(notebook: NotebookPage, control: Control, seen: Examination) -> None:
    """Move one control by keyboard to another value and back."""
    if not free(notebook, control):
        seen.unmoved.append(f"{control} is greyed out")
        return
    first, value = notebook.shows(control.cell), notebook.value(control)
    there, back = keys_of(notebook, control)
    focus_is_seen(notebook, control.cell, control.kind, notebook.handle(control), seen)
    notebook.press(control, there)
    moved = notebook.shows(control.cell)
    if notebook.value(control) == value:
        seen.unmoved.append(f"{control} does not move by keyboard")
    elif moved == first:
        seen.unmoved.append(f"{control} moves and changes nothing")
    notebook.press(control, back)
    if (notebook.shows(control.cell), notebook.value(control)) != (first, value):
        seen.not_back.append(f"{control} went back to {value!r}, its picture did not")


def free(notebook: NotebookPage, control: Control) -> bool:
    """Put another control elsewhere if this one is greyed out: it may mean something there."""
    for other in notebook.controls():
        if not notebook.is_disabled(control):
            break
        if other.cell != control.cell or notebook.is_disabled(other):
            continue
        for place in [*notebook.ask("lab.places(a)", other.index), notebook.value(other)]:
            notebook.ask("lab.put(a, b)", other.index, place)
            notebook.settle()
            if not notebook.is_disabled(control):
                break
    return not notebook.is_disabled(control)


def keys_of(notebook: NotebookPage, control: Control) -> tuple[list[str], list[str]]:
    """Say which keys lead to another value, and which lead back."""
    if control.kind in FORWARD:
        ways = [FORWARD[control.kind], BACK[control.kind]]
        return tuple(reversed(ways) if notebook.at_end(control) else ways)
    return ["End", "Backspace"], ["End", notebook.value(control)[-1]]


def play(notebook: NotebookPage, control: Control, seen: Examination) -> None:
    """Let a slider walk by itself for two steps, stop it, and bring it back."""
    if not free(notebook, control):
        seen.unmoved.append(f"{control} is greyed out")
        return
    first, value = notebook.shows(control.cell), notebook.value(control)
    focus_is_seen(notebook, control.cell, control.kind, notebook.handle(control), seen)
    places = {value}
    notebook.press(control, ["Space"])
    notebook.until(lambda: places.add(notebook.value(control)) or len(places) > 2, 6)
    notebook.press(control, ["Space"])
    moved, stopped = notebook.shows(control.cell), notebook.value(control)
    if len(places) < 3 or moved == first:
        seen.unmoved.append(f"{control} does not walk by itself")
    notebook.page.wait_for_timeout(600)
    if notebook.value(control) != stopped:
        seen.unmoved.append(f"{control} does not stop")
    bring_back(notebook, control, int(value))
    if (notebook.shows(control.cell), notebook.value(control)) != (first, value):
        seen.not_back.append(f"{control} went back to {value}, its picture did not")


def bring_back(notebook: NotebookPage, control: Control, value: int) -> None:
    """Walk the slider of a play button to a value."""
    field = notebook.controls()[control.index - 1]  # the slider stands before its button
    far = value - int(notebook.value(field))
    notebook.press(field, ["ArrowRight" if far > 0 else "ArrowLeft"] * abs(far))


def pull(notebook: NotebookPage, control: Control, seen: Examination) -> None:
    """Pull a slider fast. The last picture must be that of the value where it was let go."""
    notebook.drag(control)
    value, let_go = notebook.value(control), notebook.shows(control.cell)
    if notebook.value(control) != value:
        seen.late.append(f"{control} was let go at {value} and went to {notebook.value(control)}")
    there, back = keys_of(notebook, control)
    value = notebook.value(control)
    notebook.press(control, there)
    notebook.settle()
    notebook.press(control, back)
    shown = notebook.shows(control.cell)
    if notebook.value(control) != value:
        seen.late.append(f"{control} did not stay at {value}")
    elif shown != let_go:
        seen.late.append(f"{control} was let go at {value}, the picture was another one's")


def point(notebook: NotebookPage, cell: int, seen: Examination) -> None:
    """Walk over every canvas by keyboard, point at it, and pin a place; all of it in words."""
    for name, canvas in notebook.canvases(cell).items():
        where = f"canvas {name} in cell {cell}"
        focus_is_seen(notebook, cell, "canvas", canvas, seen)
        canvas.focus()
        walked = []
        for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
            notebook.page.keyboard.press(key)
            walked.append(notebook.ask("lab.words(a)", cell))
        stuck = len(set(walked)) == 1 and not notebook.ask("lab.alone(a)", name)
        if not all(walked) or stuck:
            seen.speechless.append(f"{where} says nothing to who walks there: {walked}")
            continue
        place = notebook.ask("lab.framed(a)", name)
        canvas.blur()
        silent = notebook.ask("lab.words(a)", cell)
        notebook.page.mouse.move(*place)
        pointed = notebook.ask("lab.words(a)", cell)
        if silent or pointed != walked[-1]:
            seen.speechless.append(f"{where}: {pointed!r} under the pointer, not {walked[-1]!r}")
        notebook.page.mouse.click(*place)
        notebook.page.mouse.move(0, 0)
        notebook.settle()  # a click may move controls
        pinned = notebook.ask("lab.words(a)", cell)
        notebook.page.mouse.click(*place)
        notebook.page.mouse.move(0, 0)
        if walked[-1] not in pinned or notebook.ask("lab.words(a)", cell):
            seen.speechless.append(f"{where} is not pinned by a click and freed by another")


def focus_is_seen(notebook: NotebookPage, cell: int, kind: str, handle: Locator, seen: Examination):
    """Lead the keyboard to the first of a kind in a cell, and look whether it looks different."""
    if (cell, kind) in seen.focused:
        return
    seen.focused.add((cell, kind))
    handle.evaluate("lab.before")
    blurred = notebook.close_up(handle)
    notebook.page.keyboard.press("Tab")
    if notebook.close_up(handle) == blurred:
        seen.access.append(f"{kind} in cell {cell}: focus cannot be seen")


def barriers(notebook: NotebookPage, cell: int) -> list[str]:
    """Ask axe-core what keeps people from using the outputs of a cell."""
    notebook.ask("lab.name(a)", cell)
    answer = Axe().run(notebook.page, context=f"#lab-cell-{cell}")
    found = [
        f"cell {cell}: {violation['id']}: {node['html'][:160]}"
        for violation in answer.response["violations"]
        for node in violation["nodes"]
        # JupyterLab gives a figure's saved picture no words, and a cell cannot say any.
        if not (violation["id"] == "image-alt" and 'src="data:image/png' in node["html"])
    ]
    nameless = [c for c in notebook.controls() if c.cell == cell and not c.label]
    return found + [f"{control} has no label" for control in nameless]
