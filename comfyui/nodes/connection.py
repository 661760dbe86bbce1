"""Connection: which server the other nodes talk to."""

from typing import Any

from .. import adapter
from ..connections import DEFAULT, Connections
from ..errors import ConnectionInvalid

KIND = "DEPTHWRIGHT_CONNECTION"
_TIMEOUT, _POLL = 600.0, 1.0


class ConnectionNode(adapter.Node):
    """Names a profile of the user's configuration; the key stays there."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its widgets and outputs."""
        return adapter.schema(
            "DepthwrightConnection",
            "Depthwright Connection",
            "Which server makes the pictures. It holds no key: that stays in your configuration.",
            inputs=[
                adapter.text(
                    "profile",
                    "A connection of your configuration; `default` is DEPTHWRIGHT_SERVER and DEPTHWRIGHT_KEY.",
                    DEFAULT,
                ),
                adapter.text(
                    "base_url",
                    "Leave it empty. A workflow may tell here which server it was made for: it runs only where the "
                    "profile is that server.",
                ),
                adapter.number(
                    "timeout",
                    "For how many seconds to wait for the pictures. The server goes on after that.",
                    _TIMEOUT,
                    1,
                    86_400,
                    1,
                ),
                adapter.number(
                    "poll_interval",
                    "How many seconds to wait between two questions, where a server tells nothing by itself.",
                    _POLL,
                    0.1,
                    60,
                    0.1,
                ),
            ],
            outputs=[adapter.gives(KIND, "connection", "What the other nodes take.")],
        )

    @classmethod
    def validate_inputs(cls, profile: str | None = None, base_url: str | None = None) -> bool | str:
        """Whether the configuration has it, before anything runs."""
        try:
            Connections.read().choose(
                DEFAULT if profile is None else profile, base_url or "", _TIMEOUT, _POLL
            )
        except ConnectionInvalid as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        profile: str = DEFAULT,
        base_url: str = "",
        timeout: float = _TIMEOUT,
        poll_interval: float = _POLL,
    ) -> Any:
        """The connection."""
        return adapter.Output(Connections.read().choose(profile, base_url, timeout, poll_interval))

    @classmethod
    def fingerprint_inputs(
        cls,
        profile: str | None = None,
        base_url: str | None = None,
        timeout: float = _TIMEOUT,
        poll_interval: float = _POLL,
    ) -> str:
        """What the configuration says now: a change there counts as a change of the node."""
        try:
            chosen = Connections.read().choose(profile or DEFAULT, base_url or "", timeout, poll_interval)
        except ConnectionInvalid as error:
            return str(error)
        return f"{chosen.server} {chosen.dialect}"
