"""Drives PyPI's `wavespeed` 0.0.x: `python python_0.py ORDER`, both order and answer one line of JSON."""

import asyncio
import json
import sys
from typing import Any

from wavespeed import Prediction, WaveSpeed  # type: ignore[import-not-found]


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Do what the order names; the prediction as the client knows it."""
    client = WaveSpeed(api_key=order["key"], base_url=f"{order['base_url']}/api/v2/")
    client.poll_interval = 0.1
    match order["action"]:
        case "run":
            return _told(client.run(order["model"], order["input"]))
        case "run_async":
            return _told(asyncio.run(client.async_run(order["model"], order["input"])))
        case "create":
            return _told(client.create(order["model"], order["input"]))
        case "get":
            return _told(client.get_prediction(order["id"]))
        case unknown:
            sys.exit(f"There is no action {unknown}.")  # no exception, which would pass for the client's


def _told(prediction: Prediction) -> dict[str, Any]:
    # Its polling sets attributes unchecked, so the types are checked here once more.
    told: dict[str, Any] = Prediction.model_validate(prediction.model_dump()).model_dump(mode="json")
    return {"prediction": told, "status": told["status"], "outputs": told["outputs"], "id": told["id"]}


def main() -> None:
    """Carry out and answer; an exception of the client's is an answer too."""
    try:
        answer = carry_out(json.loads(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - whatever the client raises is what the test is about
        answer = {"raised": type(error).__name__, "message": str(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
