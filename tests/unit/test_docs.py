import inspect
import re
import runpy
from pathlib import Path

import pytest

from depthwright import errors
from depthwright.errors import DepthwrightError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "depthwright"
PAGES = runpy.run_path(str(DOCS / "tables.py"))["PAGES"]
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    """`make docs` writes it again."""
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name]()


def test_the_architecture_names_every_module_and_none_that_is_not_there() -> None:
    folders = (PACKAGE, PACKAGE / "engine", PACKAGE / "engine" / "acceleration", PACKAGE / "service")
    modules = {path.name for folder in folders for path in folder.glob("*.py")}
    layout = ARCHITECTURE.split("## The data's way")[0]
    named = set(re.findall(r"\b[a-z0-9_]+\.py\b", layout)) - {"demo.py"}
    assert named == modules - {"__init__.py", "__main__.py"}


def test_the_architecture_draws_every_error_with_its_exit_code() -> None:
    drawing = ARCHITECTURE.split("## Errors")[1]
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, DepthwrightError):
            [line] = [line for line in drawing.splitlines() if re.search(rf"(^|- ){name}\b", line)]
            assert kind.exit_code == 1 or re.search(rf"\b{kind.exit_code}\b", line), name


@pytest.mark.parametrize(
    "page", [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
