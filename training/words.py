"""The tokenizers of the embedded model: every word of the captions is one token, any other word falls to letters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from training.captions import caption
from training.scenes import random_scene

T5_LENGTH = 40
CLIP_LENGTH = 48

# Words people put into prompts that no scene of ours obeys: known, so that they stay single tokens and do no harm.
OTHER_WORDS = Path(__file__).with_name("other_words.txt").read_text().split()


def corpus(count: int = 6_000) -> list[str]:
    """Captions in all their wordings."""
    rng = np.random.default_rng(11)
    return [caption(random_scene(rng), rng) for _ in range(count)]


def build(folder: Path, onto: Path | None = None) -> None:
    """Write `tokenizer` (CLIP, byte-pair encoding) and `tokenizer_2` (T5, unigram) into the folder.

    `onto` holds tokenizers that trained weights know already: their ids stay, and new words are appended.
    """
    texts = corpus()
    words = sorted({word.strip(",:") for text in texts for word in text.split()} | set(OTHER_WORDS))
    if onto is None:
        _clip([*texts, *(" ".join(words) for _ in range(50))]).save_pretrained(folder / "tokenizer")
        _t5(words).save_pretrained(folder / "tokenizer_2")
        return
    for name, append in (("tokenizer", _append_clip), ("tokenizer_2", _append_t5)):
        shutil.copytree(onto / name, folder / name, dirs_exist_ok=True)
        path = folder / name / "tokenizer.json"
        written = json.loads(path.read_text())
        append(written["model"], Tokenizer.from_file(str(path)), words)
        path.write_text(json.dumps(written, ensure_ascii=False, indent=2))


def _append_t5(model: dict[str, Any], _tokenizer: Tokenizer, words: list[str]) -> None:
    known = {piece for piece, _ in model["vocab"]}
    model["vocab"] += [["\u2581" + word, -4.0] for word in words if "\u2581" + word not in known]


def _append_clip(model: dict[str, Any], tokenizer: Tokenizer, words: list[str]) -> None:
    """Merges of the lowest rank, from the pieces that a word falls into today: older words stay as they are."""
    vocabulary = model["vocab"]
    joined = isinstance(model["merges"][0], str)
    for word in words:
        pieces = tokenizer.encode(word, add_special_tokens=False).tokens
        for end in range(1, len(pieces)):
            left, right = "".join(pieces[:end]), pieces[end]
            if left + right not in vocabulary:
                model["merges"].append(f"{left} {right}" if joined else [left, right])
                vocabulary[left + right] = len(vocabulary)


def _clip(texts: list[str]) -> CLIPTokenizer:
    empty = CLIPTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.normalizer = empty.backend_tokenizer.normalizer
    learner.pre_tokenizer = empty.backend_tokenizer.pre_tokenizer
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    # A lone character the captions never end a word with must still be a token of its own.
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        model["vocab"].setdefault(character + "</w>", len(model["vocab"]))
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split()) for pair in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=CLIP_LENGTH)


def _t5(words: list[str]) -> PreTrainedTokenizerFast:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.-'!?:;()\"/&+*#%_"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -6.0)]
    pieces += [("\u2581" + word, -4.0) for word in words]
    pieces += [(letter, -5.0 if letter in ",." else -9.0) for letter in letters]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=T5_LENGTH,
    )
