"""Classifiers that look before anything is shown: at pictures, and at prompts where a profile has a guard for them."""

from typing import Any, Protocol

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from depthwright.engine.determinism import same_bytes
from depthwright.engine.placing import place
from depthwright.engine.profiles import Part, Profile
from depthwright.engine.reading import read_folder, read_model
from depthwright.errors import WeightsInvalid

# Longer prompts are judged piece by piece, each piece overlapping the one before by a quarter.
_OVERLAP = 4


class ImageChecker(Protocol):
    """What tells pictures that must not be shown from others."""

    @property
    def name(self) -> str:
        """What answers call it."""
        ...

    def objects(self, image: Image.Image) -> bool:
        """Whether the picture must not be shown."""
        ...


class ImageClassifier:
    """An image checker: any model of transformers that classifies pictures, asked for one of its labels."""

    def __init__(self, model: Any, processor: Any, label: str, threshold: float, name: str) -> None:
        self._model, self._processor = model, processor
        self._label = _index(model, label, name)
        self._threshold = threshold
        self.name = name

    def probability(self, image: Image.Image) -> float:
        """How likely the label is, 0 to 1."""
        device = self._model.device
        pixels = self._processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        with torch.inference_mode(), same_bytes(device):
            logits = self._model(pixel_values=pixels.to(device)).logits[0]
        return float(logits.double().softmax(0)[self._label])

    def objects(self, image: Image.Image) -> bool:
        """Whether the label is at least as likely as the threshold. A probability that is no number objects too."""
        return not self.probability(image) < self._threshold


class TextClassifier:
    """A prompt guard: any model of transformers that classifies text."""

    def __init__(self, model: Any, tokenizer: Any, threshold: float, name: str) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._threshold = threshold
        self.name = name

    def labels(self, text: str) -> tuple[str, ...]:
        """The labels that some piece of the text has at the threshold or above, likeliest first."""
        longest = min(512, getattr(self._model.config, "max_position_embeddings", 512))
        pieces = self._tokenizer(
            text,
            truncation=True,
            max_length=longest,
            stride=longest // _OVERLAP,
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        device = self._model.device
        with torch.inference_mode(), same_bytes(device):
            logits = self._model(
                input_ids=pieces["input_ids"].to(device), attention_mask=pieces["attention_mask"].to(device)
            ).logits
        likely = logits.double().softmax(1).amax(0)
        found = [
            index for index in likely.argsort(descending=True).tolist() if likely[index] >= self._threshold
        ]
        return tuple(self._model.config.id2label[index] for index in found)


def load_image_checker(
    profile: Profile, device: torch.device, unchecked: str | None
) -> ImageClassifier | None:
    """The profile's image checker; None for a profile that needs none, or that the operator lets go without by name.

    Raises UncheckedProfile, WeightsMissing or WeightsInvalid.
    """
    profile.require_checker(unchecked)
    if profile.image_checker is None or unchecked == profile.name:
        return None
    model = place(
        read_model(profile, "image_checker", AutoModelForImageClassification, torch.float32), device
    )
    processor = read_folder(profile, "image_checker", AutoImageProcessor)
    wanted = profile.image_checker
    return ImageClassifier(
        model, processor, wanted.label, wanted.threshold, _called(profile, "image_checker")
    )


def load_prompt_guard(profile: Profile, device: torch.device) -> TextClassifier | None:
    """The profile's prompt guard, if it has one. Raises WeightsMissing or WeightsInvalid."""
    if profile.prompt_guard is None:
        return None
    model = place(
        read_model(profile, "prompt_guard", AutoModelForSequenceClassification, torch.float32), device
    )
    tokenizer = read_folder(profile, "prompt_guard", AutoTokenizer)
    return TextClassifier(model, tokenizer, profile.prompt_guard.threshold, _called(profile, "prompt_guard"))


def blacked(image: Image.Image) -> Image.Image:
    """What is shown instead of a picture."""
    return Image.new("RGB", image.size)


def _called(profile: Profile, part: Part) -> str:
    source = profile.sources[part]
    return source.repo or (source.path.name if source.path else part)


def _index(model: Any, label: str, name: str) -> int:
    labels: dict[int, str] = model.config.id2label
    for index, known in labels.items():
        if known == label:
            return int(index)
    raise WeightsInvalid(
        f"The image checker {name} knows no label {label!r}: the profile has to name one of "
        f"{', '.join(labels.values())}."
    )
