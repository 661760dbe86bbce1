"""Nothing, served by BentoML in its own environment: `python -m bentoml serve service_bentoml:Nothing`."""

import bentoml  # type: ignore[import-not-found]
from service_picture import black_base64  # type: ignore[import-not-found]


@bentoml.service(workers=1)
class Nothing:
    """As BentoML's first steps show it."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, prompt: str) -> dict[str, str]:
        """A black picture."""
        del prompt
        return {"image": black_base64()}
