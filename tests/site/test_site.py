"""The site is built once, without a warning, and all of it is there: links, pictures, pages."""

import base64
import importlib
import importlib.util
import io
import json
import pkgutil
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from build_site import MOVED
from lxml import html
from PIL import Image

import causal_lab.exercises

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Pages that Sphinx writes and nobody links to.
OWN_PAGES = {"genindex.html", "py-modindex.html", "search.html"}
TERM = re.compile(r"^- \*\*(.+?)\*\* · \*(.+?)\*  \n  (.+?) \[(\d\d) “(.+?)”\]\((.+?)\)$", re.M)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return html.fromstring(path.read_bytes())


@pytest.fixture(scope="session")
def pages(site):
    """Every page, by its address within the site."""
    return {path.relative_to(site).as_posix(): read(path) for path in sorted(site.rglob("*.html"))}


def page_of(pages, notebook):
    return pages[f"notebooks/{notebook.stem}.html"]


def text_of(element):
    return re.sub(r"\s+", " ", element.text_content())


def saved(notebook, kind):
    """List the outputs of a notebook that have a part of this kind."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"] for output in outputs if kind in output.get("data", {})]


# --- links


def dead_links(site, pages):
    """List links, pictures, scripts and styles of the site that lead nowhere."""
    anchors = {
        name: {*page.xpath("//@id"), *page.xpath("//a/@name"), ""} for name, page in pages.items()
    }
    dead = []
    for name, page in pages.items():
        for target in page.xpath(
            "//a/@href | //img/@src | //script/@src | //link/@href | //@data-src"
        ):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (site / name).parent / unquote(parts.path) if parts.path else site / name
            if not place.is_file() or not place.resolve().is_relative_to(site.resolve()):
                dead.append(f"{name}: {target}")
                continue
            there = place.resolve().relative_to(site.resolve()).as_posix()
            # Of what is no page, only that it is there can be asked.
            if there in anchors and unquote(parts.fragment) not in anchors[there]:
                dead.append(f"{name}: {target}")
    return dead


def test_every_link_leads_to_a_page_and_a_place_on_it(site, pages):
    assert len(pages) > 40
    assert dead_links(site, pages) == []


def test_a_dead_link_a_missing_heading_and_a_missing_picture_would_be_seen(tmp_path):
    body = '<p id="here"><a href="b.html">no page</a><a href="#there">no place</a>'
    body += '<a href="#here">fine</a><a href="https://example.org/x">not asked</a>'
    body += '<img src="c.png"><a href="../out.html">outside</a><i data-src="d.js"></i></p>'
    (tmp_path / "site").mkdir()
    (tmp_path / "out.html").write_text("<p>", encoding="utf-8")
    (tmp_path / "site" / "a.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    page = read(tmp_path / "site" / "a.html")
    dead = dead_links(tmp_path / "site", {"a.html": page})
    assert dead == [
        f"a.html: {target}" for target in ("b.html", "#there", "c.png", "../out.html", "d.js")
    ]


def test_nothing_is_fetched_from_elsewhere(pages):
    for name, page in pages.items():
        styles = "//link[@rel='stylesheet']/@href"
        fetched = page.xpath(f"//img/@src | //script/@src | //@data-src | {styles}")
        # The badge of a published notebook may be missing without harm.
        foreign = [target for target in fetched if re.match(r"(https?:)?//", target)]
        assert not [target for target in foreign if "colab-badge" not in target], name


def test_every_page_can_be_reached_from_the_first_one(site, pages):
    reached, waiting = set(), ["index.html"]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in pages:
            continue
        reached.add(name)
        # The text and the list of pages beside it; a search or an index does not count.
        for target in pages[name].xpath("//article//a/@href | //*[@class='sidebar-tree']//a/@href"):
            path = urlsplit(target).path
            if path and not urlsplit(target).scheme:
                place = ((site / name).parent / unquote(path)).resolve()
                waiting.append(place.relative_to(site.resolve()).as_posix())
    moved = {f"notebooks/{old}.html" for old in MOVED}
    assert set(pages) - reached - OWN_PAGES == moved


def test_a_page_that_has_another_number_now_leads_there(pages):
    for old in MOVED:
        page = pages[f"notebooks/{old}.html"]
        (new,) = page.xpath("//a/@href")
        assert page.xpath("//meta/@content") == [f"0; url={new}"]
        assert (f"notebooks/{new}" in pages, new[2:]) == (True, f"{old[2:]}.html")


def test_no_page_shows_an_error(pages):
    for name, page in pages.items():
        assert not page.xpath("//*[contains(@class, 'system-message')]"), name
        assert not page.xpath("//*[contains(@class, 'problematic')]"), name
        prose = " ".join(page.xpath("//article//text()[not(ancestor::pre)][not(ancestor::code)]"))
        assert "WARNING" not in prose, name


# --- notebooks


def test_the_notebooks_stand_in_their_order_beside_the_first_page(pages):
    targets = pages["index.html"].xpath("//*[@class='sidebar-tree']//a/@href")
    wanted = [f"notebooks/{path.stem}.html" for path in NOTEBOOKS]
    assert [target for target in targets if target.startswith("notebooks/")] == wanted


@each_notebook
def test_a_page_shows_every_picture_of_its_notebook(pages, site, path):
    shown = page_of(pages, path).xpath("//*[contains(@class, 'cell_output')]//img")
    saved_here = saved(path, "image/png")
    assert len(shown) == len(saved_here)
    kinds = [re.match(r"<(\w+Explorer)", "".join(data["text/plain"])) for data in saved_here]
    last = {kind[1]: data for kind, data in zip(kinds, saved_here, strict=True) if kind}
    for image, data, kind in zip(shown, saved_here, kinds, strict=True):
        place = site / "notebooks" / unquote(image.get("src"))
        # An explorer that is shown twice stands where it was left.
        data = last[kind[1]] if kind else data
        picture = io.BytesIO(base64.b64decode(data["image/png"]))
        assert Image.open(place).tobytes() == Image.open(picture).tobytes()
        assert image.get("alt").startswith(f"{kind[1] if kind else 'Picture'} under the heading")


@each_notebook
def test_every_explorer_has_its_record_and_a_page_one_module(pages, site, path):
    page = page_of(pages, path)
    plain = ["".join(data["text/plain"]) for data in saved(path, "text/plain")]
    kinds = [kind[1] for text in plain if (kind := re.match(r"<(\w+Explorer)", text))]
    roots = page.xpath("//div[@class='causal-explorer']")
    assert [root.get("data-explorer") for root in roots] == kinds != []
    for root in roots:
        script = (site / "notebooks" / root.get("data-src")).read_text(encoding="ascii")
        assert script.startswith(f'(window.causalRecords ??= {{}})["{root.get("data-record")}"] = ')
        assert len(root.findall("img")) == 1
    modules = page.xpath("//script[@type='module'][contains(., 'wake(document)')]")
    assert len(modules) == 1
    assert not page.xpath("//script[@type='module'][@src]")  # a page from disk could not load it


@each_notebook
def test_the_code_of_the_install_cell_is_folded_and_no_other(pages, path):
    page = page_of(pages, path)
    folded = page.xpath("//details[contains(@class, 'hide')][.//*[contains(@class, 'cell_input')]]")
    assert len(folded) == 1
    assert "The install cell, for Colab" in text_of(folded[0].find("summary"))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = next(cell["source"] for cell in cells if cell["cell_type"] == "code")
    assert text_of(folded[0].xpath(".//pre")[0]).startswith("".join(first).partition("\n")[0])


@each_notebook
def test_what_a_notebook_folds_stays_folded(pages, path):
    prose = [
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    ]
    folds = page_of(pages, path).xpath("//article//details[not(@class)]")
    assert len(folds) == sum(text.count("<details>") for text in prose)
    for fold in folds:
        assert fold.get("open") is None
        assert not fold.xpath(".//h2 | .//h3"), "the fold swallows what comes after it"
    solutions = [fold for fold in folds if text_of(fold.find("summary")) == "Solution"]
    assert len(solutions) >= 2
    for solution in solutions:
        assert solution.xpath(".//pre"), "the code is outside of its fold"


# --- formulas


@pytest.mark.parametrize(
    ("formula", "parts"),
    [
        (r"\tfrac12 (I + A)", ["<mfrac", "<mn>1</mn>", "<mn>2</mn>"]),
        (r"x_12", ["<msub>", "<mn>1</mn>", "<mn>2</mn>"]),
        (r"0, \dots, T", ["…"]),
        ("0, …, i", ["…"]),
    ],
)
def test_a_formula_is_read_as_tex_reads_it(formula, parts):
    from docutils.utils.math.latex2mathml import tex2mathml

    spec = importlib.util.spec_from_file_location("conf", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    written = tex2mathml(conf.as_docutils_reads(formula))
    for part in parts:
        assert part in written


def test_formulas_are_drawn_by_the_browser(pages):
    assert (
        len(pages["docs/theory/07-linear-algebra.html"].xpath("//article//*[name()='math']")) > 90
    )
    for name, page in pages.items():
        left = page.xpath("//article//*[contains(@class, 'math')][contains(text(), '\\(')]")
        assert not left, name


# --- what has to be complete


def rows(page):
    return page.xpath("//article//table//tbody/tr")


def test_the_map_leads_from_every_row_to_a_heading(pages):
    source = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
    wanted = len(re.findall(r"^\| (?:\d|B\.)", source, re.M))
    shown = rows(pages["docs/paper-map.html"])
    assert len(shown) == wanted > 40
    for row in shown:
        targets = row.xpath(".//a/@href")
        assert any(re.match(r"\.\./notebooks/\d\d_\w+\.html#.", target) for target in targets)


def terms():
    return TERM.findall((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))


def test_every_term_is_there_in_both_languages_with_a_sentence_and_a_link(pages):
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert len(terms()) == len(re.findall(r"^- ", text, re.M)) >= 50
    assert len({english for english, *_ in terms()}) == len(terms())
    vietnamese = re.compile(
        r"[ăâđêôơưàáảãạầấẩẫậằắẳẵặèéẻẽẹềếểễệìíỉĩịòóỏõọồốổỗộờớởỡợùúủũụừứửữựỳýỷỹỵ]"
    )
    for english, foreign, sentence, *_ in terms():
        assert not vietnamese.search(english), english
        assert vietnamese.search(foreign), foreign
        assert sentence.endswith((".", ".)")), sentence
    entries = pages["docs/glossary.html"].xpath("//article//li")
    assert len(entries) == len(terms())
    for entry, (english, *_, heading, target) in zip(entries, terms(), strict=True):
        assert entry.xpath(".//strong")[0].text == english
        (link,) = entry.xpath(".//a/@href")
        place, anchor = link.split("#")
        there = pages[f"notebooks/{Path(place).stem}.html"]
        assert Path(target).stem == Path(place).stem
        (section,) = there.xpath(f"//*[@id='{anchor}']/ancestor-or-self::section[1]")
        assert text_of(section.xpath("./*[self::h2 or self::h3]")[0]).startswith(
            heading.replace('"', "“", 1).replace('"', "”", 1)
        )


def test_every_word_that_the_series_leans_on_is_a_term():
    needed = {
        *("attention", "query", "key", "value", "mask", "causal mask", "softmax", "head", "leak"),
        *("row-stochastic", "residual path", "KV cache", "prefill", "decoding", "sliding window"),
        *("attention sink", "prefix-LM", "packed documents", "cross-attention", "encoder", "cut"),
        *("decoder", "positional encoding", "ALiBi", "receptive field", "entropy", "padding"),
        *("teacher forcing", "exposure bias", "bits per character", "score, logit"),
    }
    assert needed <= {english for english, *_ in terms()}


def test_every_module_has_its_page_and_private_names_have_none(pages):
    documented = {
        anchor
        for name, page in pages.items()
        if name.startswith("docs/api/")
        for anchor in page.xpath("//dt/@id")
    }
    for module in pkgutil.walk_packages(causal_lab.__path__, "causal_lab."):
        room = module.name.split(".")[1]
        assert f"module-{module.name}" in pages[f"docs/api/{room}.html"].xpath("//@id")
        public = {
            f"{module.name}.{name}"
            for name, thing in vars(importlib.import_module(module.name)).items()
            if getattr(thing, "__module__", None) == module.name
            and not name.startswith("_")
            and (isinstance(thing, type) or callable(thing))
            and getattr(thing, "__name__", None) == name
        }
        assert public - documented == set()
    assert not [anchor for anchor in documented if re.search(r"\._", anchor)]


def sentences():
    """List every sentence that a checker can print."""
    found = []
    package = causal_lab.exercises
    for module in pkgutil.iter_modules(package.__path__):
        check = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "check", None)
        for exercise in getattr(check, "exercises", ()):
            found += [(exercise.name, wrong.message) for wrong in exercise.misconceptions]
    return found


def test_the_teaching_guide_quotes_what_a_checker_prints():
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    exercise, quoted = None, 0
    for entry in re.split(r"^- \*\*", text, flags=re.M)[1:]:
        quotes = re.findall(r"\*Prints:\* “([^”]+)”", entry)
        if not quotes:
            continue
        named = re.search(r"Exercise `(\w+)`", entry)
        exercise = named[1] if named else exercise
        quote = re.sub(r"\s+", " ", quotes[0])
        assert any(name == exercise and quote in message for name, message in sentences()), quote
        quoted += 1
    assert quoted >= 12


# --- broken on purpose: each must end the build


def copy(tmp_path):
    """Copy what the site is made of; few notebooks, so that it is quick."""
    root = tmp_path / "copy"
    shutil.copytree(ROOT / "docs", root / "docs")
    (root / "causal_lab").mkdir()
    # Only its rooms' table is read: without rows, no page of the API is built.
    (root / "causal_lab" / "__init__.py").write_text('"""Nothing."""\n', encoding="utf-8")
    for folder in ("notebooks", "benchmarks"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("*.py"))
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    for path in root.glob("notebooks/*.ipynb"):  # without explorers: records take their time
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r'"<(\w+)Explorer', r'"<\1Picture', text), encoding="utf-8")
    return root


def change(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_what_is_broken_is_named_and_ends_the_build(tmp_path, build):
    root = copy(tmp_path)
    docs = root / "docs"
    change(docs / "causality.md", "## What is tried", "[nowhere](nowhere.md)\n\n## What is tried")
    change(docs / "paper-map.md", "“How large is a score?”", "“How small is a score?”")
    change(docs / "index.md", "/notebooks/*", "/notebooks/0*")
    change(docs / "glossary.md", "# ", "![a picture](images/gone.png)\n\n# ")
    change(docs / "theory" / "README.md", "$M$ is 0", r"$\nonsense$ is 0")
    run = build(root, tmp_path / "site")
    assert run.returncode != 0
    for complaint in (
        "nowhere.md",
        "how-small-is-a-score",
        "15_masks_that_learn",
        "gone.png",
        "nonsense",
    ):
        assert complaint in run.stderr, complaint
    warnings = [line for line in run.stderr.splitlines() if "WARNING" in line]
    left_out = [path for path in NOTEBOOKS if path.name.startswith("1")]
    assert len(warnings) == 4 + len(left_out), warnings
