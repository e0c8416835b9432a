"""What a reply says: the option that it chooses, the number that it gives, or None where a careful reader would find neither.

None is counted as unparsed and is wrong; nothing is guessed, and an empty reply never says anything. How public harnesses read replies,
mistakes included, is in `public_answers.py`.
"""

import math
import re
from collections.abc import Iterable, Sequence

# --- what stands around an answer -------------------------------------------------------------------------------------

THINK = ("<think>", "</think>")

_THOUGHT = r"(?:think|thinking|thought|reasoning|analysis)"
THOUGHT_BEGINS = re.compile(rf"<\s*{_THOUGHT}\s*>", re.IGNORECASE)
THOUGHT_ENDS = re.compile(rf"<\s*/\s*{_THOUGHT}\s*>", re.IGNORECASE)

_WIDE = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}
"""Full-width letters, digits and signs, as the plain ones that they are."""

_INVISIBLE = re.compile(r"[\u200b-\u200d\u2060\ufeff]|</?s>|<\|[^|<>]*\|>")
"""Characters without width, and special tokens that a tokenizer left in the text."""


def without_blocks(text: str, tags: Iterable[Sequence[str]] = (THINK,)) -> str:
    """A reply without what stands between tags, as lmms-eval cuts it before it scores (`api/reasoning.py`, strip_reasoning_tags).

    Only whole blocks go: a tag that is opened or closed alone stays, with all around it. Tags within tags leave the outer end.
    """
    for start, end in tags:
        while (opened := text.find(start)) >= 0 and (closed := text.find(end, opened)) >= 0:
            text = text[:opened] + text[closed + len(end) :]
    return text.strip()


def without_thinking(text: str) -> str:
    """What is said behind the thoughts; nothing where the reply ends before its thoughts do.

    A template may have opened the block itself, so that the reply only closes it.
    """
    behind = THOUGHT_ENDS.split(text)[-1]
    return THOUGHT_BEGINS.split(behind, maxsplit=1)[0]


def plain(reply: str) -> str:
    """A reply without thoughts, invisible characters, special tokens and outer blanks, in plain letters and digits."""
    return _INVISIBLE.sub("", without_thinking(reply)).translate(_WIDE).strip()


# --- options ----------------------------------------------------------------------------------------------------------

_IS = r"(?:\s+(?:is|was|would\s+be|should\s+be|must\s+be))?"
_DECLARED = (
    rf"(?:\banswer\b{_IS}|\b(?:correct|right|best|final)\s+(?:option|choice|letter|one)\b{_IS}"
    r"|\\boxed|<answer>|答案(?:是|为)?|正解は|\bantwort\b)"
)
_CHOSEN = (
    r"\b(?:options?|choices?|choose|chose|pick|picked|select|selected|say|going\s+with|go\s+with|it\s+is|it[’']s|must\s+be)"
    rf"\b{_IS}"
)
_BETWEEN = r"""[\s:=*_`"'“”‘’(\[{<$\\>]*(?:\\?(?:text|mathrm|mathbf)\{|(?:option|choice|letter)\b)?[\s:*_`"'“‘(\[{]*"""
_LETTER = r"([A-Za-z])(?![A-Za-z0-9_]|['’][a-z])"

DECLARED = re.compile(_DECLARED + _BETWEEN + _LETTER, re.IGNORECASE)
CHOSEN = re.compile(_CHOSEN + _BETWEEN + _LETTER, re.IGNORECASE)
ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
LABEL = re.compile(
    r"""[\s*_`"'“(\[{<]*([A-Z])(?:[\s*_`"'”]*(?:[)\]}>.:,;!?](?=\W|[A-Za-z]\w|$)|[-–—](?=\s))|\s*$|[ \t]*\n)"""
    r"|[\s*_`\"']*[(\[]?([a-z])[)\]]",
    re.MULTILINE,
)
STANDING = re.compile(r"(?<![\w'’.])([A-Z])(?![\w'’]|\.\d|-\w)")
OTHER = re.compile(r"""[\s)\]}"'*.`]*(?:\bor\b|\band\b|[,/&])[\s(\[{"'*`]*(?:option\s+)?[A-Z](?![\w'’])""")
ARTICLE = re.compile(r"[ \t]+(?!(?:is|because|since|as)\b)[a-z]")
DENIED = re.compile(
    r"\b(?:not|n[’']t|neither|nor|never|than)\s+(?:be\s+)?(?:option\s+|point\s+)?[(\[\"'*]*$", re.IGNORECASE
)


def letter_of(text: str, num_options: int) -> str | None:
    """The option that a reply chooses by its letter, or None.

    In this order: a reply that is one letter ("(b)", "**B**"); the last answer that is declared ("Answer: C", "the correct option is (C)",
    r"\\boxed{C}"); a label that the reply begins with ("B. left", "B, left", "(b) left"), unless other labels or a choice follow; the last
    letter that is chosen in other words ("I would go with C", "it is C"); the only capital letter that stands alone and is not denied.
    Two letters ("A or B"), an article ("A chair"), a name ("A-frame") and letters beyond the options choose nothing.
    """
    reply = plain(text)
    for read in (_alone, _declared, _labelled, _chosen, _only):
        found = read(reply)
        if found is not None:
            return found if len(found) == 1 and ord(found) - ord("A") < num_options else None
    return None


def _alone(reply: str) -> str | None:
    found = ALONE.fullmatch(reply)
    return found[1].upper() if found else None


def _declared(reply: str) -> str | None:
    return _last_of(DECLARED, reply)


def _chosen(reply: str) -> str | None:
    return _last_of(CHOSEN, reply)


def _last_of(pattern: re.Pattern[str], reply: str) -> str | None:
    """The last letter that follows such words; "" where it is one of several."""
    for found in reversed([*pattern.finditer(reply)]):
        behind = reply[found.end() :]
        if DENIED.search(reply[: found.start(1)]):
            continue
        if found[1].islower() and re.match(r"[ \t]+\w", behind):  # "the answer is a chair"
            continue
        return "" if OTHER.match(behind) else found[1].upper()
    return None


def _labelled(reply: str) -> str | None:
    found = LABEL.match(reply)
    if found is None:
        return None
    letter = (found[1] or found[2]).upper()
    labels = {(label[1] or label[2]).upper() for line in reply.splitlines() if (label := LABEL.match(line))}
    if labels != {letter} or _chosen(reply.partition("\n")[2]):
        return None
    return "" if OTHER.match(reply[found.end(1) if found[1] else found.end(2) :]) else letter


def _only(reply: str) -> str | None:
    letters = {
        found[1]
        for found in STANDING.finditer(reply)
        if not DENIED.search(reply[: found.start()])
        and not (found[1] == "A" and ARTICLE.match(reply[found.end() :]))
        and not (found[1] == "I" and re.match(r"[ \t]+[a-z]", reply[found.end() :]))
    }
    repeated = any(OTHER.match(reply[found.end() :]) for found in STANDING.finditer(reply))
    return letters.pop() if len(letters) == 1 and not repeated else None


def choice_of(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a reply chooses, by its letter or by its words, or None.

    The words have to be all of the reply, or all behind a letter or "the answer is", or its beginning up to a comma or a stop:
    "Left." and "Yes, it is" choose, "to the left" does not.
    """
    reply = plain(text)
    words = {said: chr(ord("A") + i) for i, option in enumerate(options) if (said := _words(option))}
    if (letter := words.get(_words(reply))) is not None:
        return letter
    labelled = re.match(r"[\s*_`\"'(\[]*([A-Z])[\s)\].:,;*-]+(.*)", reply, re.DOTALL)
    if labelled and words.get(_words(labelled[2])) == labelled[1]:
        return labelled[1]
    if (letter := letter_of(text, len(options))) is not None:
        return letter
    declared = re.search(rf"{_DECLARED}[\s:*_\"'(]*([^\n]+)$", reply, re.IGNORECASE)
    behind = declared[1] if declared else re.split(r"[,.;\n]", reply, maxsplit=1)[0]
    return words.get(_words(behind))


def _words(text: str) -> str:
    return " ".join(text.strip("\"'*`. \t\n").split()).casefold()


# --- numbers ----------------------------------------------------------------------------------------------------------

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = {word: i for i, word in enumerate(_UNITS)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
SCALES = {"hundred": 100, "thousand": 1000}

_WORD = "|".join([*WORDS, *SCALES])
NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>(?:[-+−]|minus\s+|negative\s+)?"
    r"(?:\d{1,3}(?:[,_]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+)(?:e[-+]?\d+)?)(?![.,_]?\d|(?!c?m[23]\b)[a-z]\d)"
    rf"|\b(?P<words>(?:a\s+)?(?:{_WORD})(?:(?:\s+and\s+|\s+|-)(?:{_WORD}))*(?:\s+and\s+a\s+half)?|a\s+dozen|half)\b",
    re.ASCII | re.IGNORECASE,
)
JOINED = re.compile(r"\s*(?:[a-z%°\"²]{1,12}\.?)?\s*(?:or|and|to|by|[-–—~/^×'’,;&])?\s*", re.IGNORECASE)
"""What stands between two numbers of which neither is the answer: "2 or 3", "2-3 m", "6'2", two lines."""

LISTED = re.compile(r"^[ \t]*\d{1,2}[.)][ \t]+(?=\S)", re.MULTILINE)
"""What numbers the lines of a list."""

SAID = re.compile(
    r"(?:\banswer\b(?:\s+is|\s*[:=])|\\boxed\{|<answer>|\b(?:so|therefore|thus|hence)\b[^.\n]*?\bis\b)\s*([^\n<}]+)",
    re.IGNORECASE,
)


def number_of(text: str) -> float | None:
    """The number that a reply gives, or None: in digits ("1,200.5", "3,5", ".5", "-3", "2m", "2e3", "1/2") or in words.

    The first one behind the last "answer is" counts, else the first one. A digit right after a letter belongs to a name ("view2"). Ranges,
    alternatives and lists ("2-3", "4 or 5", "1.2.3") give none, nor does what is no finite number, nor what numbers the lines of a list.
    """
    reply = plain(text)
    if len(LISTED.findall(reply)) > 1:
        reply = LISTED.sub("", reply)
    said = [found[1] for found in SAID.finditer(reply)]
    for part in (*said[-1:], reply):
        found = [*NUMBER.finditer(part)]
        if found:
            return _number(part, found)
    return None


def _number(reply: str, found: Sequence[re.Match[str]]) -> float | None:
    first = _value(found[0])
    if len(found) > 1 and first is not None:
        gap = reply[found[0].end() : found[1].start()]
        second = _value(found[1])
        if gap == "/" and second and len(found) == 2:
            first /= second
        elif JOINED.fullmatch(gap):
            return None
    return first if first is not None and math.isfinite(first) else None


def _value(found: re.Match[str]) -> float | None:
    if digits := found["digits"]:
        digits = re.sub(r"−|(?:minus|negative)\s+", "-", digits, flags=re.IGNORECASE)
        if re.fullmatch(r"[-+]?\d+,\d{1,2}|[-+]?\d+,\d{4,}", digits):
            return float(digits.replace(",", "."))
        return float(re.sub("[,_]", "", digits))
    words = " ".join(found["words"].lower().split())
    if words == "half":
        return 0.5
    if words.endswith("dozen"):
        return 12.0
    whole, half, _ = words.partition(" and a half")
    value = _of_words([word for word in re.split(r"[\s-]+", whole) if word not in ("a", "and")])
    return None if value is None else value + (0.5 if half else 0)


def _of_words(words: Sequence[str]) -> float | None:
    """English number words as one number, or None where they are several ("twenty twenty", "three four")."""
    total, current, room = 0, 0, 1000
    for word in words:
        if word in SCALES:
            scale = SCALES[word]
            if scale == 1000:
                total, current, room = total + max(current, 1) * 1000, 0, 1000
            elif 0 < current < 20 or room == 1000:
                current, room = max(current, 1) * 100, 100
            else:
                return None
            continue
        value = WORDS[word]
        if value >= room:
            return None
        current += value
        room = 10 if value >= 20 else 0
        if value == 0 and len(words) > 1:
            return None
    return float(total + current)
