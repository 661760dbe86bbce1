"""Nothing, served by LitServe in its own environment: `python benchmarks/service_litserve.py PORT`."""

import sys

import litserve  # type: ignore[import-not-found]
from service_picture import black_base64  # type: ignore[import-not-found]


class Nothing(litserve.LitAPI):  # type: ignore[misc]
    """As LitServe's first steps show it."""

    def setup(self, _device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: dict[str, str]) -> str:
        """The prompt."""
        return request["prompt"]

    def predict(self, _prompt: str) -> str:
        """A black picture."""
        answer: str = black_base64()
        return answer

    def encode_response(self, output: str) -> dict[str, str]:
        """The picture as the service answers it."""
        return {"image": output}


if __name__ == "__main__":
    server = litserve.LitServer(Nothing(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
