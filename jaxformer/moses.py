"""The tokens of the Moses toolkit, which published BLEU figures count, for one language."""

import functools
from collections.abc import Sequence


class Moses:
    """Text to Moses's tokens and back.

    The tokenizer divides punctuation from words by rules of the language, such as its
    abbreviations. Tokens are not escaped for XML. Needs the package sacremoses.

    Raises: ValueError if sacremoses is not installed.
    """

    def __init__(self, language: str) -> None:
        try:
            from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer
        except ImportError as error:
            raise ValueError(
                "Moses's tokens need sacremoses, which is not installed. Install jaxformer[moses]."
            ) from error
        self.language = language
        self._normalizer = MosesPunctNormalizer(language)
        self._tokenizer = MosesTokenizer(language)
        self._detokenizer = MosesDetokenizer(language)

    def tokenise(self, text: str, *, lowercase: bool = False, normalise: bool = False) -> list[str]:
        """Divides a line of text into tokens.

        Args:
          lowercase, normalise: first make the letters small, then give every kind of quotation
            mark, dash and space its plain form, as the lower-cased form of Multi30k has been.
        """
        if lowercase:
            text = text.lower()
        if normalise:
            text = self._normalizer.normalize(text)
        return self._tokenizer.tokenize(text, escape=False)

    def detokenise(self, tokens: Sequence[str]) -> str:
        """Joins tokens to a line of text."""
        return self._detokenizer.detokenize(list(tokens), unescape=False)


@functools.cache
def moses(language: str) -> Moses:
    """Returns the Moses of a language, whose rules are read once. Raises: as `Moses`."""
    return Moses(language)
