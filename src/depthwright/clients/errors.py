"""What can go wrong between a client and its server.

UserError
|- ClientNotInstalled    4   the HTTP library is missing
|- KeyInvalid            2   no key, or one that no server makes
|- ServerRefused         1   the server says what is wrong with the request
`- PredictionStopped     1   it was cancelled or deleted
ServiceError
|- ServerFailed          1   the server's own fault, or it is too busy
|- ServerUnreachable     1   nobody answers
|- AnswerInvalid         1   whoever answers is no depthwright server
|- PredictionFailed      1   it was accepted, but there will be no picture
`- TimedOut              1   it is not done yet
"""

from typing import ClassVar

from depthwright.errors import ServiceError, UserError

_LONGEST = 600


class ClientNotInstalled(UserError, ImportError):
    """The light package is installed without the library that talks to servers."""

    exit_code: ClassVar[int] = 4


class KeyInvalid(UserError):
    """There is no key, or it has characters that no key has. The message never holds the key."""

    exit_code: ClassVar[int] = 2


class ServerRefused(UserError):
    """The server answered with an HTTP `status` of 300 to 499 and a `message`."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = clean(message)
        super().__init__(f"The server refused ({status}): {self.message}")


class ServerFailed(ServiceError):
    """The server answered with an HTTP `status` of 500 or above and a `message`."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = clean(message)
        super().__init__(f"The server failed ({status}): {self.message}")


class ServerUnreachable(ServiceError):
    """No answer came: the connection was refused, broke, or was silent for too long."""


class AnswerInvalid(ServiceError):
    """An answer came that a depthwright server does not give."""


class PredictionFailed(ServiceError):
    """The prediction `prediction_id` failed, with the server's `code` and `message`."""

    def __init__(self, prediction_id: str, code: int, message: str) -> None:
        self.prediction_id = prediction_id
        self.code = code
        self.message = clean(message)
        super().__init__(f"The prediction {clean(prediction_id)} failed ({code}): {self.message}")


class PredictionStopped(UserError):
    """The prediction `prediction_id` was cancelled or deleted before it was completed."""

    def __init__(self, prediction_id: str, status: str) -> None:
        self.prediction_id = prediction_id
        self.status = status
        super().__init__(
            f"The prediction {clean(prediction_id)} was {clean(status)} before it was completed."
        )


class TimedOut(ServiceError):
    """The prediction `prediction_id` has not ended in the time given. It goes on at the server."""

    def __init__(self, prediction_id: str, status: str) -> None:
        self.prediction_id = prediction_id
        self.status = status
        super().__init__(
            f"The prediction {clean(prediction_id)} is still {clean(status)}, and the time is up: "
            "wait for it again, or cancel it."
        )


def clean(text: str) -> str:
    """A stranger's text as a message may show it: cut when long, nothing that moves a terminal's cursor."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: _LONGEST + 1]).strip()
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
