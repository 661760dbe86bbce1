"""Drives PyPI's `wavespeed` 1.x and 2.x: `python python_1.py ORDER`, both order and answer one line of JSON."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import wavespeed  # type: ignore[import-not-found]


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Do what the order names; what the client returns."""
    client = wavespeed.Client(api_key=order["key"], base_url=order["base_url"])
    model, wanted = order.get("model"), order.get("input")
    options = {"poll_interval": 0.1, "enable_sync_mode": order.get("sync", False)}
    match order["action"]:
        case "run":
            return dict(client.run(model, wanted, **options))
        case "run_no_throw":
            return dict(client.run_no_throw(model, wanted, **options))
        case "run_by_config":
            wavespeed.config.api.base_url = order["base_url"]
            wavespeed.config.api.api_key = order["key"]
            return dict(wavespeed.run(model, wanted, poll_interval=0.1))
        case "get":
            data = client.get_result(order["id"])["data"]
            return {
                "prediction": data,
                "status": data["status"],
                "outputs": data["outputs"],
                "id": data["id"],
            }
        case "upload":
            return {"url": client.upload(order["file"])}
        case "upload_nameless":
            return {"url": client.upload(io.BytesIO(Path(order["file"]).read_bytes()))}
        case unknown:
            sys.exit(f"There is no action {unknown}.")  # no exception, which would pass for the client's


def main() -> None:
    """Carry out and answer; an exception of the client's is an answer too."""
    try:
        answer = carry_out(json.loads(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - whatever the client raises is what the test is about
        answer = {"raised": type(error).__name__, "message": str(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
