"""A text as it is read, not as it is encoded: one spelling for all that looks the same.

Terms and prompts go through the same folding, so the tables may be coarse: what they confuse is confused on both sides.
"""
# ruff: noqa: RUF001 - look-alikes are what this is about

import re
import unicodedata

# What reads as a letter and is not led there by Unicode's own compatibility forms: Cyrillic, Greek, Armenian, Latin
# small capitals, phonetic letters. Arabic letters that are typed for one another stand here too.
_LOOK_ALIKES = {
    "a": "аαաᴀɑɐʌә",
    "b": "вьβʙɓƀ",
    "c": "сᴄƈ¢",
    "d": "ԁδᴅɗđɖð",
    "e": "еεҽᴇǝəɛɘ€",
    "f": "ꜰғⅎƒ",
    "g": "ԍցɢɠɡǥ",
    "h": "нһհʜħɦҥң",
    "i": "іιɪɨıɩӏ",
    "j": "јյᴊɉ",
    "k": "кκᴋƙқҝ",
    "l": "լʟɭłɫƚ£",
    "m": "мᴍɱ",
    "n": "ηпոռɴɲƞŋ",
    "o": "оοσςօᴏøɵɔө",
    "p": "рρᴘƥþ",
    "q": "ԛզʠ",
    "r": "гꞯʀɹʁɾ",
    "s": "ѕꜱʂƽ",
    "t": "тτᴛƭŧʈ",
    "u": "иυμսᴜʉʊ",
    "v": "ѵνᴠʋ",
    "w": "шщωԝᴡɯʍ",
    "x": "хχҳ×",
    "y": "уγүұʏƴɏყ¥",
    "z": "ζᴢƶʐʒ",
    "ae": "æӕ",
    "oe": "œ",
    "ا": "ٱ",
    "ه": "ةہھ",
    "ي": "ىی",
    "ك": "ک",
    "'": "’‘ʼʹ′´`",
}
# Capitals that look like another letter than their small forms do.
_CAPITALS = str.maketrans("ΗΜΝΥВΗ", "hmnybh")
# Squared, negative and regional letters have no compatibility form; each alphabet starts at its A.
_ALPHABETS = (0x1F150, 0x1F170, 0x1F1E6)
_ZEROS = (0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0E50)
_KATAKANA, _KANA_APART = range(0x30A1, 0x30F7), 0x60
# Neither seen nor a space: controls, joiners, fillers, directions, tags, variation selectors.
_UNSEEN = (
    "\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ue000-\uf8ff\U000e0000-\U000e0fff"
)
# Accents and what else is set over letters; Devanagari's dot is left out as carelessly as French accents are.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u093c\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_DROPPED = re.compile(f"[{_UNSEEN}{_MARKS}]+")
# Marks that other scripts cannot do without are no part of a Latin word.
_FOREIGN_MARKS = re.compile(
    "(?<=[a-z])[\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u3099\u309a]+"
)


def _table() -> dict[int, str]:
    table = {ord(sign): read for read, signs in _LOOK_ALIKES.items() for sign in signs}
    for first in _ALPHABETS:
        table |= {first + place: chr(ord("a") + place) for place in range(26)}
    for zero in _ZEROS:
        table |= {zero + digit: str(digit) for digit in range(10)}
    return table | {kana: chr(kana - _KANA_APART) for kana in _KATAKANA}


_READ_AS = _table()


def normalise(text: str) -> str:
    """The text in small letters, without accents and invisible characters, look-alikes read as what they look like.

    Normalising twice changes nothing more. Spaces, punctuation and digits stay.
    """
    if text.isascii():
        return _DROPPED.sub("", text).lower().replace("`", "'")
    seen = _DROPPED.sub("", unicodedata.normalize("NFKD", text))
    read = seen.translate(_CAPITALS).casefold().translate(_READ_AS)
    return unicodedata.normalize("NFC", _FOREIGN_MARKS.sub("", read))
