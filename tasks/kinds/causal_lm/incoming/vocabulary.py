"""A tokenizer built from what a GGUF file itself holds: tokens, scores, merges, and how text is cut before them.

Four kinds are known, by llama.cpp's names: `llama` (SentencePiece's pairs with byte tokens), `gpt2` (pairs of bytes),
`t5` (SentencePiece's unigrams), `bert` (WordPiece). What is built is compared with llama.cpp's own ids by whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of tokens in GGUF
SPACE = "▁"

# How a byte-level tokenizer cuts text into words before it joins pairs: one pattern after the other, in the notation
# of Oniguruma. A file names its own by `tokenizer.ggml.pre`; names are llama.cpp's.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_ENDINGS}?|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_ENDINGS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (_WORDS,),
    "smollm": (r"\p{N}", _WORDS),  # each digit alone, then GPT-2's words
    "llama-bpe": (rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{{1,3}}{_TAIL}",),
    "qwen2": (rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{_TAIL}",),
    "qwen35": (
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "gpt-4o": (_O200K,),
    "tekken": (_TEKKEN,),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _WORDS, r"[0-9][0-9][0-9]"),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _WORDS, r"\p{N}+", r"[0-9][0-9][0-9]"),
    "bloom": (r" ?[^(\s|.,!?…。，、।۔،)]+",),
    "deepseek-llm": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}+"),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
SAME_AS: Mapping[str, str] = {  # other names of the same cut
    "phi-2": "gpt-2", "mpt": "gpt-2", "olmo": "gpt-2", "jais": "gpt-2", "gpt-neox": "gpt-2",
    "starcoder": "smollm", "refact": "smollm", "command-r": "smollm", "codeshell": "smollm", "exaone": "smollm",
    "granite-docling": "smollm", "minerva-7b": "smollm", "llama3": "llama-bpe", "llama-v3": "llama-bpe",
    "falcon3": "llama-bpe", "dbrx": "llama-bpe", "smaug-bpe": "llama-bpe", "pixtral": "llama-bpe",
    "chatglm-bpe": "llama-bpe", "glm4": "llama-bpe", "lfm2": "llama-bpe", "stablelm2": "qwen2", "hunyuan": "qwen2",
    "deepseek-r1-qwen": "qwen2", "megrez": "qwen2", "llama4": "gpt-4o", "poro-chat": "bloom",
    "gpt3-finnish": "bloom",
}  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer, with what llama.cpp makes of what is left unsaid."""

    model: str  # llama, gpt2, t5 or bert
    pre: str  # how text is cut first, of gpt2
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float]
    merges: Sequence[str]
    unknown: int | None
    bos: int | None
    eos: int | None
    add_bos: bool
    add_eos: bool
    space_prefix: bool  # a space is put before a text
    squeeze: bool = False  # spaces at the ends and after another are left out, of t5
    charsmap: bytes = b""  # SentencePiece's compiled normalization

    @property
    def special(self) -> tuple[str, ...]:
        """Tokens that mean something else than their text."""
        return tuple(token for token, kind in zip(self.tokens, self.types, strict=True) if kind in (UNKNOWN, CONTROL))


def candidates(words: Vocabulary) -> Iterator[Any]:
    """Each a `tokenizers.Tokenizer` that may be the file's, the likeliest first; raises ModelError for another kind.

    A byte-level one whose cut is not known by its name is tried with each of the known ones.
    """
    if words.model == "gpt2":
        yield from _byte_level(words)
    elif words.model in ("llama", "t5"):
        yield _finished(_pairs(words) if words.model == "llama" else _unigrams(words), words)
    elif words.model == "bert":
        yield _finished(_word_pieces(words), words)
    else:
        raise ModelError(
            f"its tokenizer is of the kind {words.model!r}; allowed: llama, gpt2, t5, bert. Give the original Hugging "
            "Face directory instead"
        )


def _byte_level(words: Vocabulary) -> Iterator[Any]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = _numbered(words)
    merges = [
        (a, b) for a, b in map(_pair, words.merges) if a in vocabulary and b in vocabulary and a + b in vocabulary
    ]  # of others llama.cpp makes nothing either
    named = SAME_AS.get(words.pre, words.pre)
    for name in (*(cut for cut in CUTS if cut == named), *(cut for cut in CUTS if cut != named)):
        for whole in (name in ("llama-bpe", "gpt-4o", "tekken"), name not in ("llama-bpe", "gpt-4o", "tekken")):
            made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole, fuse_unk=False))
            splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in CUTS[name]]
            made.pre_tokenizer = pre_tokenizers.Sequence(
                [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
            )
            made.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
            yield _finished(made, words)


def _pairs(words: Vocabulary) -> Any:
    """SentencePiece's byte pairs: of two neighbours whose text together is a token, those with the best score join.

    Each way of making a token of two others is a merge, in the order of the scores.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = _numbered(words)
    ranked = []
    for token, number in vocabulary.items():
        if words.types[number] not in (NORMAL, USER, UNUSED):
            continue
        parts = [(token[:at], token[at:]) for at in range(1, len(token))]
        made = [(a, b) for a, b in parts if a in vocabulary and b in vocabulary]
        made.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        ranked += [(-words.scores[number], pair) for pair in made]
    ranked.sort(key=lambda one: one[0])  # stable: of one token in the order of its parts
    unknown = None if words.unknown is None else words.tokens[words.unknown]
    model = models.BPE(
        vocab=vocabulary, merges=[pair for _, pair in ranked], unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    made = Tokenizer(model)
    replaced = normalizers.Replace(" ", SPACE)
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replaced]) if words.space_prefix else replaced
    shown = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*shown, *([decoders.Strip(" ", 1, 0)] if words.space_prefix else [])])
    return made


def _unigrams(words: Vocabulary) -> Any:
    """SentencePiece's unigrams: the cut with the best sum of scores."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = list(zip(words.tokens, map(float, words.scores), strict=True))
    bytes_known = any(kind == BYTE for kind in words.types)
    made = Tokenizer(models.Unigram(pieces, unk_id=words.unknown, byte_fallback=bytes_known))
    steps: list[Any] = [normalizers.Precompiled(words.charsmap)] if words.charsmap else []
    if words.squeeze:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    made.normalizer = normalizers.Sequence(steps)
    scheme = "always" if words.space_prefix else "never"
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False)
    shown = [decoders.ByteFallback()] if bytes_known else []
    made.decoder = decoders.Sequence([*shown, decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)])
    return made


def _word_pieces(words: Vocabulary) -> Any:
    """WordPiece: of each word the longest beginning that is a token, over and over.

    GGUF writes a token that begins a word with SentencePiece's mark, and one inside of a word bare.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {}
    for number, token in enumerate(words.tokens):
        plain = words.types[number] not in (UNKNOWN, CONTROL)
        text = token.removeprefix(SPACE) if token.startswith(SPACE) else f"##{token}" if plain else token
        vocabulary[text] = number
    unknown = words.tokens[words.unknown] if words.unknown is not None else "[UNK]"
    made = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token=unknown, max_input_chars_per_word=1000))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return made


def _finished(made: Any, words: Vocabulary) -> Any:
    """The tokenizer with the tokens that are found before anything is cut, and with what is put at a text's ends."""
    from tokenizers import AddedToken, processors

    def added(*kinds: int) -> list[Any]:
        named = zip(words.tokens, words.types, strict=True)
        return [
            AddedToken(token, normalized=False, special=kind != USER)
            for token, kind in named
            if kind in kinds and token
        ]

    made.add_special_tokens(added(CONTROL, UNKNOWN))
    made.add_tokens(added(USER))
    begin = [words.tokens[words.bos]] if words.add_bos and words.bos is not None else []
    end = [words.tokens[words.eos]] if words.add_eos and words.eos is not None else []
    if begin or end:
        numbers = {token: words.tokens.index(token) for token in (*begin, *end)}
        made.post_processor = processors.TemplateProcessing(
            single=[*begin, "$A", *end],
            pair=[*begin, "$A", *end, *begin, "$B", *end],
            special_tokens=list(numbers.items()),
        )
    return made


def _numbered(words: Vocabulary) -> dict[str, int]:
    """Numbers of tokens; of two of one name the first counts, as in llama.cpp the later could not be reached either."""
    numbered: dict[str, int] = {}
    for number, token in enumerate(words.tokens):
        numbered.setdefault(token, number)
    return numbered


def _pair(merge: str) -> tuple[str, str]:
    """Both sides of a merge: the space between them is one that begins none of both."""
    at = merge.index(" ", 1)
    return merge[:at], merge[at + 1 :]
