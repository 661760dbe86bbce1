"""A key goes to the server that the user's own configuration names, and nowhere else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.fake import Invalid
from tests.comfyui.pack import Pack

KEY = "dw_a-key-that-nobody-may-see"
STRANGER = "https://evil.example"


def configure(pack: Pack, folder: Path, text: str, name: str = "connections.toml") -> Path:
    place = folder / "config" / "depthwright" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def connect(pack: Pack, **widgets: Any) -> Any:
    (connection,) = pack.run("DepthwrightConnection", **widgets)
    return connection


def key_of(pack: Pack, connection: Any) -> str:
    key: str = pack.module("connections").Connections.read().key(connection).get_secret_value()
    return key


def test_without_any_configuration_it_is_the_server_of_this_machine(pack: Pack) -> None:
    assert connect(pack).server == "http://127.0.0.1:8000"


def test_the_environment_makes_the_default_profile(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_SERVER", "https://pictures.example/api/v3/")
    monkeypatch.setenv("DEPTHWRIGHT_KEY", KEY)
    connection = connect(pack)
    assert connection.server == "https://pictures.example"
    assert key_of(pack, connection) == KEY


def test_a_file_names_servers_with_their_keys_wherever_those_are(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{KEY}-of-a-file\n")
    configure(
        pack,
        tmp_path,
        f'[plain]\nbase_url = "https://a.example"\nkey = "{KEY}"\n'
        '[env]\nbase_url = "https://b.example"\nkey_env = "MY_KEY"\n'
        f'[file]\nbase_url = "https://c.example"\nkey_file = "{secret}"\n',
    )
    monkeypatch.setenv("MY_KEY", f"{KEY}-of-a-variable")
    found = {name: key_of(pack, connect(pack, profile=name)).strip() for name in ("plain", "env", "file")}
    assert found == {"plain": KEY, "env": f"{KEY}-of-a-variable", "file": f"{KEY}-of-a-file"}


def test_the_file_may_be_json_and_lie_elsewhere(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mine.json"
    place.write_text(json.dumps({"mine": {"base_url": "https://a.example", "key": KEY}}))
    monkeypatch.setenv("DEPTHWRIGHT_CONNECTIONS", str(place))
    assert key_of(pack, connect(pack, profile="mine")) == KEY


def test_the_hosted_api_is_known_by_its_host_and_others_by_what_is_said(pack: Pack, tmp_path: Path) -> None:
    configure(
        pack,
        tmp_path,
        '[hosted]\nbase_url = "https://api.wavespeed.ai"\n'
        '[lookalike]\nbase_url = "https://notwavespeed.ai"\n'
        '[proxied]\nbase_url = "https://proxy.example"\ndialect = "wavespeed"\n',
    )
    dialects = {name: connect(pack, profile=name).dialect for name in ("hosted", "lookalike", "proxied")}
    assert dialects == {"hosted": "wavespeed", "lookalike": "depthwright", "proxied": "wavespeed"}


@pytest.mark.parametrize(
    "base_url",
    [
        STRANGER,
        "http://pictures.example",
        "https://pictures.example:444",
        "https://pictures.example.evil.example",
        "https://pictures.example@evil.example",
        "https://pictures.example/elsewhere",
        "//evil.example",
        "nonsense",
    ],
)
def test_a_workflow_that_names_another_server_is_refused_before_it_runs(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_SERVER", "https://pictures.example")
    monkeypatch.setenv("DEPTHWRIGHT_KEY", KEY)
    with pytest.raises(Invalid, match="default") as refused:
        connect(pack, base_url=base_url)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "base_url", ["", "https://pictures.example", "https://PICTURES.example/", "https://pictures.example/api"]
)
def test_a_workflow_may_name_the_server_it_was_made_for(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_SERVER", "https://pictures.example")
    assert connect(pack, base_url=base_url).server == "https://pictures.example"


def test_a_connection_made_in_any_other_way_gets_no_key_either(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_KEY", KEY)
    module = pack.module("connections")
    forged = module.Connection("default", STRANGER, "depthwright", 10.0, 1.0)
    with pytest.raises(module.ConnectionInvalid, match="nothing was sent") as refused:
        key_of(pack, forged)
    assert KEY not in str(refused.value)


def test_no_key_is_a_sentence_that_says_where_to_put_it(pack: Pack) -> None:
    with pytest.raises(
        pack.module("errors").ConnectionInvalid, match="put it in the variable DEPTHWRIGHT_KEY"
    ):
        key_of(pack, connect(pack))


def test_an_unknown_profile_is_refused_with_those_there_are(pack: Pack, tmp_path: Path) -> None:
    configure(pack, tmp_path, '[mine]\nbase_url = "https://a.example"\n')
    with pytest.raises(Invalid, match=r"no connection 'yours' in .*there are default, mine"):
        connect(pack, profile="yours")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'[mine]\nkey = "{KEY}"\n', "address of the connection 'mine'"),
        (f'[mine]\nbase_url = "https://a.example"\nkey = "{KEY}"\nkey_env = "X"\n', "several keys"),
        (f'[mine]\nbase_url = "https://a.example"\nkey = {KEY}\n', "not of its form"),
        (f'[mine]\nbase_url = "https://a.example"\nkay = "{KEY}"\n', "there are base_url, key"),
        ('[mine]\nbase_url = "https://a.example"\ndialect = "latin"\n', "depthwright or wavespeed"),
        ("mine = 1\n", "a table of texts"),
        ('[mine]\nbase_url = "https://me:pw@a.example"\n', "without name and password"),
    ],
)
def test_a_wrong_configuration_is_told_without_its_keys(
    pack: Pack, tmp_path: Path, text: str, words: str
) -> None:
    configure(pack, tmp_path, text)
    with pytest.raises(Invalid, match=words) as refused:
        connect(pack, profile="mine")
    assert KEY not in str(refused.value)


def test_a_connection_shows_no_key_whoever_prints_it(pack: Pack, tmp_path: Path) -> None:
    configure(pack, tmp_path, f'[mine]\nbase_url = "https://a.example"\nkey = "{KEY}"\n')
    module = pack.module("connections")
    assert KEY not in repr(connect(pack, profile="mine"))
    assert KEY not in repr(module.Connections.read())


def test_a_changed_configuration_counts_as_a_change_of_the_node(pack: Pack, tmp_path: Path) -> None:
    node = pack.nodes["DepthwrightConnection"]
    configure(pack, tmp_path, '[mine]\nbase_url = "https://a.example"\n')
    before = node.fingerprint_inputs(profile="mine")
    configure(pack, tmp_path, '[mine]\nbase_url = "https://b.example"\n')
    assert node.fingerprint_inputs(profile="mine") != before
