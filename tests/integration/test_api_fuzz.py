"""Thousands of requests made from the API's own description, good and bad: none may surprise it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.serving import serving

SEED = 1
CASES = 2_000
# What a description cannot say: whether bytes are a picture, which addresses may be used. There the contract refuses
# what the schema allows; everywhere else what fits the schema has to be accepted.
JUDGED_BEYOND_THE_SCHEMA = (
    "POST /api/v2/media/upload/binary",
    "POST /api/v3/media/upload/binary",
    "POST /api/v2/wavespeed-ai/flux-control-lora-depth",
    "POST /api/v3/wavespeed-ai/flux-control-lora-depth",
)


def test_the_api_keeps_to_its_description_in_thousands_of_cases(tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        "".join(
            f'[[operations]]\ninclude-name = "{name}"\nchecks.positive_data_acceptance.enabled = false\n\n'
            for name in JUDGED_BEYOND_THE_SCHEMA
        )
    )
    with serving(tmp_path / "data", concurrent_predictions=0) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
                *("run", f"{server.base_url}/openapi.json"),
                *("--header", f"Authorization: Bearer {server.key}"),
                *("--seed", str(SEED), "--max-examples", "60", "--continue-on-failure", "--no-color"),
                *("--generation-database", "none"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=900,
        )
    cases = re.search(r"([0-9]+) generated", done.stdout)
    assert cases is not None, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout[-8000:]
    assert int(cases[1]) >= CASES
