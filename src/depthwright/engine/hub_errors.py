"""The hub's refusals, each told with the steps to take."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from depthwright.errors import DepthwrightError, DiskFull, WeightsMissing

# The first kind that fits is told, so the special stand before the general. What a client for HTTP raises when nobody
# answers differs with its version: whatever is not the hub's own answer counts as that.
_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (
        GatedRepoError,
        (
            "it is gated. Accept its licence at https://huggingface.co/{repo}, then log in with 'hf auth login' "
            "and pull again"
        ),
    ),
    (
        RepositoryNotFoundError,
        "the hub has no such repository, or wants to know who asks. Log in with 'hf auth login', or check the profile",
    ),
    (RevisionNotFoundError, "it has no such revision: check the profile"),
    (LocalEntryNotFoundError, "the hub cannot be reached: check the network and pull again"),
    (EntryNotFoundError, "it lacks a file that the profile names: check the profile"),
    (HfHubHTTPError, "the hub refused. Log in with 'hf auth login', or pull again later"),
    (Exception, "the hub cannot be reached: check the network and pull again"),
)


@contextmanager
def asking(profile: str, repo: str) -> Iterator[None]:
    """Around one call of the hub's client: its errors become WeightsMissing or DiskFull."""
    try:
        yield
    except DepthwrightError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise no_room(repo) from error
        steps = next(words for kind, words in _STEPS if isinstance(error, kind)).format(repo=repo)
        raise WeightsMissing(f"{repo} could not be pulled for {profile}: {steps}.") from error


def no_room(what: str) -> DiskFull:
    """The error for a disk that cannot take `what`."""
    return DiskFull(f"There is no room on the disk for {what}: free some and pull again.")
