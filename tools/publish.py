"""Name the repository that Colab installs from, in all notebooks at once, or take it out again.

Usage: python tools/publish.py owner/name [--branch main] [--without-outputs]
       python tools/publish.py --remove

Needs nothing but Python. Only the install cells, the badges under the titles and the badges in
the README's table are written; outputs and the answers to predictions stay as they are, unless
outputs are to be taken out: then the answers are veiled, too.
"""

import argparse
import ast
import hashlib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GITHUB = "https://github.com/"
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{name})"
)
ANY_BADGE = r"\[!\[Open in Colab\]\([^)\s]*\)\]\([^)\s]*\)"
COMPARING = re.compile(r"""predict\.compare\(("[^"]*"|'[^']*')\)""")
FIELD = re.compile(r'^REPOSITORY = "([^"]*)"(?=  # @param \{type:"string"\}$)', re.M)


def parse_address(text: str) -> str:
    """Bring the address of a repository into the form that is stamped.

    Args:
        text: ``owner/name`` on GitHub, alone or as the address of its page, or the https or file
            address of a git repository elsewhere.

    Returns:
        ``owner/name`` for GitHub, else the address.

    >>> parse_address(" https://github.com/owner/name.git/ ")
    'owner/name'
    """
    address = text.strip().rstrip("/").removesuffix(".git")
    short = address.removeprefix(GITHUB)
    if re.fullmatch(r"[A-Za-z0-9-]+/[\w.-]*\w[\w.-]*", short, re.ASCII):
        return short
    # The address ends up in Python code and on a command line: no quote, space, { or $.
    if re.fullmatch(r"(https://[\w.:-]+|file://)/[\w./:~%+-]+", address, re.ASCII) and (
        not address.startswith(GITHUB)
    ):
        return text.strip().rstrip("/")
    raise ValueError(
        "the repository that learners install from must be owner/name (on GitHub) or the https "
        f"address of a git repository, without a password; got {text!r}. "
        "For example: make publish REPOSITORY=owner/name"
    )


def badge(address: str, name: str, branch: str = "main") -> str:
    """Write the badge that opens one notebook; empty where Colab could not open it.

    Args:
        address: as :func:`parse_address` gives it; empty for none. Colab opens notebooks from
            GitHub alone.
        name: the notebook's file name.
        branch: the branch that the badge opens.

    Returns:
        Markdown, or nothing.

    >>> badge("owner/lab", "00_start_here.ipynb").partition("github")[2]
    '/owner/lab/blob/main/notebooks/00_start_here.ipynb)'
    """
    if not address or "://" in address:
        return ""
    return BADGE.format(repository=address, branch=branch, name=name)


def stamp_notebook(text: str, name: str, address: str, branch: str = "main") -> str:
    """Stamp one notebook, given as the text of its file.

    Args:
        text: what the file holds.
        name: the file's name.
        address: as :func:`parse_address` gives it; empty to take the stamp away.
        branch: the branch that the badge opens.

    Returns:
        What the file should hold. Without a stamp before and after, the same text.
    """
    notebook = json.loads(text)
    if _as_file(notebook) != text:
        raise ValueError(f"{name} is not saved as nbformat saves it; run make notebooks first")
    first = notebook["cells"][0]
    install = next((c for c in notebook["cells"] if c["cell_type"] == "code"), {"source": []})
    first["source"] = _lines(_stamp_title("".join(first["source"]), name, address, branch))
    install["source"] = _lines(_stamp_field("".join(install["source"]), name, address))
    return _as_file(notebook)


def strip_outputs(text: str) -> str:
    """Take out what the cells of a notebook printed and drew, and veil what answers a prediction.

    Args:
        text: what the notebook's file holds.

    Returns:
        What it should hold.
    """
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            lines = [COMPARING.sub(_veiled, line) for line in cell["source"]]
            cell |= {"source": lines, "outputs": [], "execution_count": None}
    return _as_file(notebook)


def _veiled(found: re.Match) -> str:
    """Write an answer as ``course.predictions.veil`` does, which may not be installed."""
    answer = ast.literal_eval(found[1])
    return f'predict.compare("#{hashlib.sha256(answer.encode()).hexdigest()[:6]}")'


def address_of(text: str) -> str:
    """Read the address that a notebook is stamped with.

    Args:
        text: what the notebook's file holds.

    Returns:
        The address, empty if there is none.
    """
    code = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return FIELD.search("".join(next(code)["source"]))[1]


def stamp_readme(text: str, address: str, branch: str = "main") -> str:
    """Put a badge beside every notebook in the README's table, or take them away.

    Args:
        text: the README.
        address: as :func:`parse_address` gives it; empty to take the badges away.
        branch: the branch that the badges open.

    Returns:
        What it should hold.
    """
    text = re.sub(rf"^(\| \[.*?\]\(notebooks/.*?\)) {ANY_BADGE}", r"\1", text, flags=re.M)

    def row(match: re.Match) -> str:
        return f"{match[0]} {badge(address, match[1], branch)}".rstrip()

    return re.sub(r"^\| \[.*?\]\(notebooks/(.*?)\)", row, text, flags=re.M)


def publish(root: Path, address: str, branch: str = "main", outputs: bool = True) -> None:
    """Stamp every notebook and the README under a folder, or none of them.

    Args:
        root: the repository's folder.
        address: as :func:`parse_address` gives it; empty to take the stamps away.
        branch: the branch that the badges open.
        outputs: leave them in the notebooks.
    """
    if not re.fullmatch(r"[\w./-]+", branch, re.ASCII):
        raise ValueError(f"a branch is letters, digits and . _ / -, got {branch!r}")
    readme = root / "README.md"
    new = {readme: stamp_readme(readme.read_text(encoding="utf-8"), address, branch)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        stamped = stamp_notebook(text, path.name, address, branch)
        new[path] = stamped if outputs else strip_outputs(stamped)
    for path, text in new.items():
        path.write_text(text, encoding="utf-8", newline="\n")


def _stamp_title(source: str, name: str, address: str, branch: str) -> str:
    """Put the badge under the title: what reads a page's title still finds it first."""
    title, gap, rest = re.sub(rf"\n\n{ANY_BADGE}", "", source, count=1).partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"{name} must begin with its title, '# …', got {title!r}")
    mark = badge(address, name, branch)
    return title + (f"\n\n{mark}" if mark else "") + gap + rest


def _stamp_field(source: str, name: str, address: str) -> str:
    new, count = FIELD.subn(lambda match: f'REPOSITORY = "{address}"', source)
    if count != 1:
        raise ValueError(
            f"the first code cell of {name} must be the install cell, with one line "
            f'REPOSITORY = "…"  # @param {{type:"string"}}; found {count}'
        )
    return new


def _lines(source: str) -> list[str]:
    return source.splitlines(keepends=True)


def _as_file(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Run the command line; say what was done, or what is needed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("repository", nargs="?", default="", help="owner/name")
    parser.add_argument("--branch", default="main", help="the branch that the badges open")
    parser.add_argument("--remove", action="store_true", help="take every stamp away")
    parser.add_argument("--without-outputs", action="store_true", help="take the outputs out too")
    chosen = parser.parse_args(arguments)
    try:
        address = "" if chosen.remove else parse_address(chosen.repository)
        publish(ROOT, address, chosen.branch, outputs=not chosen.without_outputs)
    except ValueError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    print(f"All notebooks now install from {address}." if address else "All stamps are taken away.")
    if "://" in address:
        print("No badges: Colab opens notebooks from GitHub alone; learners upload theirs.")
    if chosen.without_outputs:
        print("The outputs are taken out; git has them.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
