"""The Python in README and docs: what it imports is there, and what needs no files runs."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
PAGES = (HERE / "README.md", *sorted((HERE / "docs").glob("*.md")))
FOREIGN = frozenset({"README.md", "cohorts.md", "federations.md", "private-training.md"})
"""Pages whose snippets need a study, a run or a large cohort that is not there."""


def snippets_of(text):
    """Return the blocks of Python in a page of Markdown."""
    blocks = text.split("```python\n")[1:]
    return [block.split("\n```", maxsplit=1)[0] for block in blocks]


def all_snippets():
    return [
        pytest.param(page.name, code, id=f"{page.name}-{number}")
        for page in PAGES
        for number, code in enumerate(snippets_of(page.read_text(encoding="utf-8")), 1)
    ]


def test_blocks_of_python_are_found_and_no_others():
    text = "a\n```python\nx = 1\n\ny = 2\n```\n```sh\nls\n```\n```python\nz = 3\n```\n"
    assert snippets_of(text) == ["x = 1\n\ny = 2", "z = 3"]
    assert len(all_snippets()) > 8


@pytest.mark.parametrize(("page", "code"), all_snippets())
def test_what_a_snippet_imports_is_there(page, code):
    tree = ast.parse(code, page)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), page, "exec"), {})  # noqa: S102 - the project's own pages


def runnable():
    """Return the snippets that need nothing else; an audit with every attack takes most of a minute."""
    found = [one for one in all_snippets() if one.values[0] not in FOREIGN]
    return [
        pytest.param(*one.values, id=one.id, marks=pytest.mark.slow)
        if runs_all_attacks(one.values[1])
        else one
        for one in found
    ]


def runs_all_attacks(code):
    return "audit" in code and "attacks=" not in code


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(("page", "code"), runnable())
def test_a_snippet_runs_as_it_stands(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))
    exec(compile(code, page, "exec"), {"__name__": "snippet"})  # noqa: S102 - the project's own pages
