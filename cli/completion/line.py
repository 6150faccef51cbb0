"""The command line up to the cursor, as its words: what has been typed, and what is half typed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The whole words after the program's name, and the word under the cursor.

    `raw` is that word as it stands on the line, from after the quote that it begins with, which
    is `quote`; both may be empty.
    """

    words: tuple[str, ...] = ()
    incomplete: str = ""
    raw: str = ""
    quote: str = ""


def split_line(line: str) -> Typed:
    """What is on the line, read as a shell reads it; an unfinished quote or escape is no error."""
    words: list[str] = []
    word, raw, quote, opening = "", "", "", ""
    begun = escaped = False
    for letter in line:
        if escaped:
            word, raw, escaped = word + letter, raw + letter, False
        elif letter == "\\" and quote != "'":
            raw, escaped, begun = raw + letter, True, True
        elif quote:
            quote = "" if letter == quote else quote
            word, raw = word + (letter if quote else ""), raw + letter
        elif letter in "'\"":
            opening = opening if begun else letter
            raw = raw + letter if begun else ""
            quote, begun = letter, True
        elif letter.isspace():
            words += [word] if begun else []
            word, raw, opening, begun = "", "", "", False
        else:
            word, raw, begun = word + letter, raw + letter, True
    return Typed(words=_arguments(words), incomplete=word, raw=raw, quote=opening if quote else "")


def _arguments(words: list[str]) -> tuple[str, ...]:
    """The words after the program, which may have variables set before it."""
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if not (equals and name.isidentifier()):
            return tuple(words[place + 1 :])
    return ()


def escape(text: str) -> str:
    """The text as bash and zsh read it outside of quotes; a `~/` at its beginning stays one."""
    home, rest = ("~/", text[2:]) if text.startswith("~/") else ("", text)
    return home + "".join(
        letter if letter.isalnum() or letter in "_@%+=:,./-" else f"\\{letter}" for letter in rest
    )
