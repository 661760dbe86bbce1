"""Where a client is missing, a sentence says what to do."""

from pathlib import Path

import pytest

from tests.acceptance import clients
from tests.acceptance.clients import CLIENTS, Client, ClientsMissing


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_a_client_that_is_not_installed_is_missed_by_name(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PLACES", tmp_path)
    with pytest.raises(ClientsMissing, match=rf"^{client} is not installed in .*: run `make clients`\.$"):
        clients.command(client, tmp_path / "driver")


def test_without_node_a_sentence_tells_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PLACES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClientsMissing, match=r"no Node\.js .* run `make clients`, which installs it"):
        clients.node()
