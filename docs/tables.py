"""Write docs/parameters.md, docs/request.md and docs/settings.md from the tables in the code; `make docs` runs it."""

from collections.abc import Iterable
from pathlib import Path

from depthwright.parameters import PARAMETERS
from depthwright.request import REQUEST_PARAMETERS
from depthwright.settings import Settings, variable

FOLDER = Path(__file__).parent
# Their defaults depend on whose machine it is.
_FOLDERS = {"cache": "~/.cache/depthwright", "data_dir": "~/.local/share/depthwright"}
_ORIGIN = "<!-- Made by `make docs` from the code; edit it there. -->"


def parameters_page() -> str:
    """The parameters of a generation, as the command, the Python API and the documentation know them."""
    rows = [
        (
            f"`{row.name}`",
            f"`{row.flag}`",
            row.allowed,
            _default(row.shown_default, required=row.required),
            row.help,
        )
        for row in PARAMETERS
    ]
    return _page(
        "Parameters",
        "What `Engine.generate` takes by name and `depthwright generate` by option.",
        ("Name", "Option", "Must be", "Default", "Meaning"),
        rows,
    )


def request_page() -> str:
    """The fields of a request over HTTP."""
    rows = [
        (f"`{row.name}`", row.allowed, _default(row.shown_default, required=row.required), row.help)
        for row in REQUEST_PARAMETERS
    ]
    return _page(
        "Fields of a request",
        "What `POST /api/v2/wavespeed-ai/flux-control-lora-depth` takes as JSON; `null` counts as absent, and any "
        "other field is ignored and named in the answer's `warnings`. A control image of other proportions than the "
        "picture is resized to cover it and cropped at its centre, never stretched.",
        ("Field", "Must be", "Default", "Meaning"),
        rows,
    )


def settings_page() -> str:
    """The settings of an installation."""
    schema = Settings.model_json_schema()["properties"]
    rows = [
        (
            f"`{variable(name)}`",
            schema[name]["allowed"],
            _default(_FOLDERS.get(name, field.default)),
            schema[name]["description"],
        )
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "Environment variables that an operator may set; an option of the command wins over them.",
        ("Variable", "Must be", "Default", "Meaning"),
        rows,
    )


PAGES = {"parameters.md": parameters_page, "request.md": request_page, "settings.md": settings_page}


def _default(value: object, *, required: bool = False) -> str:
    if required:
        return "required"
    if isinstance(value, bool):
        value = str(value).lower()
    return "none" if value in (None, "") else f"`{value}`"


def _page(title: str, introduction: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    table = [head, ["---"] * len(head), *rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([_ORIGIN, "", f"# {title}", "", introduction, "", *lines, ""])


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
