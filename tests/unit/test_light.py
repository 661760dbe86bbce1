"""The light package: what importing it and asking for help may load, and what it says without the engine."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "diffusers", "transformers", "numpy", "scipy", "huggingface_hub", "matplotlib", "rich")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import depthwright",
        "import depthwright.assembly, depthwright.cli, depthwright.images, depthwright.ports",
        "from depthwright.cli import run; assert run(['--help']) == 0",
        "from depthwright.cli import run; assert run(['--version']) == 0",
        "from depthwright.cli import run; assert run(['generate', '--help']) == 0",
        "from depthwright.cli import run; assert run(['models', '--help']) == 0",
        "from depthwright.cli import run; assert run(['generate', '--prompt', '']) == 2",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    done = python(
        f"import sys\n{statement}\nprint([n for n in {HEAVY} if n in sys.modules], file=sys.stderr)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["torch", "numpy", "diffusers"])
def test_without_the_engines_libraries_the_command_says_how_to_get_them(missing: str, tmp_path: Path) -> None:
    """A None in sys.modules is how Python blocks an import."""
    done = python(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from depthwright.cli import run\n"
        f"sys.exit(run(['generate', '--prompt', 'x', '--output', {str(tmp_path / 'never.png')!r}]))"
    )
    assert done.returncode == 4
    assert (
        f"The engine is not installed ({missing} missing): pip install 'depthwright[engine]'" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_without_the_engines_libraries_the_import_fails_as_imports_do() -> None:
    done = python(
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    from depthwright import Engine\n"
        "except ImportError as error:\n    print(error)"
    )
    assert done.stdout == "The engine is not installed (torch missing): pip install 'depthwright[engine]'\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import depthwright

    with pytest.raises(AttributeError, match="Engin"):
        depthwright.Engin  # noqa: B018
