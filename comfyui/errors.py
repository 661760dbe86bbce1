"""What can go wrong here and nowhere else; whatever else is raised speaks for itself."""

from depthwright.errors import ServiceError, UserError


class ConnectionInvalid(UserError):
    """A connection that the user's own configuration does not allow. The message never holds a key."""


class StillWorking(ServiceError):
    """The wait is over, the server's work is not."""

    def __init__(self, request_id: str, status: str, seconds: float) -> None:
        super().__init__(
            f"After {seconds:g} seconds the request {request_id} is still {status}. It goes on at the server: the node "
            "Fetch Result gets its pictures later, or give the connection a longer timeout."
        )


class NotFetched(ServiceError):
    """The pictures are made, but did not arrive."""

    def __init__(self, request_id: str, why: Exception) -> None:
        super().__init__(
            f"The pictures are made, but did not arrive: {why} The node Fetch Result gets them, with the request id "
            f"{request_id}."
        )
