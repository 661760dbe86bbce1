"""Which GPUs this machine's workers share out, told without loading torch or a driver's library."""

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")


def gpus(environment: Mapping[str, str], driver: Path = _DRIVER) -> tuple[str, ...]:
    """Each GPU as CUDA names it: those that the environment allows, else all that the driver lists; none elsewhere."""
    allowed = environment.get(VARIABLE)
    if allowed is None:
        return tuple(map(str, range(len(list(driver.iterdir()))))) if driver.is_dir() else ()
    # CUDA reads the list up to the first entry that names no device, as -1 does.
    named: list[str] = []
    for each in (part.strip() for part in allowed.split(",")):
        if not each or each.startswith("-"):
            break
        named.append(each)
    return tuple(named)


def shares(number: int | None, found: tuple[str, ...]) -> list[Mapping[str, str]]:
    """What each worker's environment says beside the server's: one GPU each, in turns where there are more workers.

    Without a number there is a worker for every GPU, or one.
    """
    number = max(1, len(found)) if number is None else number
    return [{VARIABLE: found[slot % len(found)]} if found else {} for slot in range(number)]
