"""How public harnesses read replies, each mistake as it is published; nothing here is a good way to read one.

An extractor gives what the harness compares with the truth: "" or None where it finds nothing. The commit that was read stands beside each.
"""

import ast
import json
import re
from collections.abc import Sequence

# --- lmms-eval, thinking-in-space, SpatialStack -----------------------------------------------------------------------


def first_word(reply: str) -> str:
    """thinking-in-space 51e089c, SpatialStack af810b2 and lmms-eval 75571cf, vsibench/utils.py, fuzzy_matching.

    Up to the first blank, of which stops at the end and all white space around go: a reply that begins with a blank gives "".
    """
    return reply.split(" ")[0].rstrip(".").strip()


def as_float(text: str) -> float | None:
    """to_float of the same files: whatever Python takes for a number, "inf", "nan" and "1_000" among them."""
    try:
        return float(text)
    except ValueError:
        return None


_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_WORDS = {word: i for i, word in enumerate(_UNITS)}
_TENS = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred")
_LMMS_WORDS = _WORDS | {word: 30 + 10 * i for i, word in enumerate(_TENS)} | {"thousand": 1000}


def first_number(reply: str) -> float | None:
    """lmms-eval 75571cf, vsibench/utils.py, extract_number: the first number or run of number words anywhere.

    ".5" is 5, "1,200" is 1, "1e3" is 1, "three, four" adds to 7.
    """
    text = reply.lower()
    digits = re.search(r"-?\d+(?:\.\d+)?", text)
    words = [*re.finditer("[a-z]+", text)]
    start = next((i for i, found in enumerate(words) if found[0] in _LMMS_WORDS), None)
    if digits and (start is None or digits.start() < words[start].start()):
        return float(digits[0])
    if start is None:
        return None
    total = current = 0
    for found in words[start:]:
        word = found[0]
        if word == "and":
            continue
        if word not in _LMMS_WORDS:
            break
        if word == "hundred":
            current = max(current, 1) * 100
        elif word == "thousand":
            total, current = total + max(current, 1) * 1000, 0
        else:
            current += _LMMS_WORDS[word]
    return float(total + current)


def leading_letter(reply: str) -> str:
    """lmms-eval 75571cf and SpatialStack af810b2, blink/utils.py, _extract_answer_letter: the first character, if it is any letter.

    "The answer is (B)" gives T.
    """
    found = re.match(r"[(\s]*([A-Z])", reply.strip(), re.IGNORECASE)
    return found[1].upper() if found else ""


STOCK_PHRASES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *(
        "The best option isThe correct option is",
        "Best answer:Best option:",
    ),  # two commas are missing in the public lists
)


def first_capital(reply: str, letters: str = "ABCDEF") -> str:
    """VG-LLM, blink/utils.py, extract_characters_regex: the first such capital anywhere, once stock phrases are cut.

    "Answer: C" gives A, since "Answer:" is no phrase of the list.
    """
    text = reply.strip()
    for phrase in STOCK_PHRASES:
        text = text.replace(phrase, "")
    found = re.search(f"[{letters}]", text)
    return found[0] if found else ""


# --- MindCube ---------------------------------------------------------------------------------------------------------


def mindcube_letter(text: str) -> str | None:
    """MindCube 6d8fd9a, src/evaluation/core/extractors.py, extract_answer: the last match of the first pattern that matches.

    `X.` anywhere wins over "Answer: Y"; at last, the first letter of the lowest line that has one. lmms-eval 75571cf and SpatialStack read
    the same way (mindcube/utils.py), once white space around the reply is gone.
    """
    section = re.search(r"<Answer>(.*?)(?:<|$)", text, re.DOTALL)
    tagged = section[1] if section else ""
    tries = (
        (text, r"([A-E])\."),
        *((tagged, pattern) for pattern in (r"[Mm]y answer is ([A-E])", r"[Tt]he answer is ([A-E])", r"\b([A-E])\b")),
        *((text, pattern) for pattern in (r"(?:^|\n)(?:Answer: )?([A-E])(?:$|\s)", r'[*"]([A-E])[*"]')),
        *((text, pattern) for pattern in (r"\bAnswer:?\s*([A-E])\b", r"[Mm]y answer is ([A-E])", r"answer is ([A-E])")),
    )
    for where, pattern in tries:
        if letters := re.findall(pattern, where):
            return letters[-1]
    for line in reversed(text.split("\n")):
        if found := re.search(r"\b([A-E])\b", line):
            return found[1]
    return None


# --- OmniSpatial ------------------------------------------------------------------------------------------------------


def answer_line(reply: str) -> str | None:
    """OmniSpatial 208bac2, api_eval.py, eval_type=re: the last "Answer: X", in the case in which X is written; None where there is none."""
    letters = re.findall(r"Answer\s*:\s*([A-D])\b", reply, re.IGNORECASE)
    return letters[-1] if letters else None


def json_answer(reply: str) -> str:
    """The same with eval_type=json: the first character under "answer"; "A" where anything goes wrong."""
    text = reply.strip().removeprefix("```json").removesuffix("```").strip()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return "A"
    answer = said.get("answer", "A") if isinstance(said, dict) else "A"
    return answer.strip().upper()[:1] if isinstance(answer, str) else "A"


def first_character(reply: str) -> str:
    """The same with eval_type=direct."""
    return reply.strip().upper()[:1]


def tagged_first_character(reply: str) -> str:
    """lmms-eval 75571cf, omni_spatial/utils.py: the first character of what is tagged as the answer, or of what follows the thoughts."""
    for tag in ("think", "thought"):
        reply = re.sub(rf"^.*?</{tag}>", "", reply, flags=re.DOTALL)
    tagged = re.search(r"<answer>(.*?)</answer>", reply, re.DOTALL | re.IGNORECASE)
    return first_character(tagged[1] if tagged else reply)


# --- VLMEvalKit -------------------------------------------------------------------------------------------------------
# e8e78f0, vlmeval/dataset/utils/spatial_bench/matching_func.py

_NO_WIDTH = re.compile("[\u200b-\u200d\ufeff]")
_OPEN, _CLOSE = r"[(\[{（【]?\s*", r"\s*[)\]}）】]?"
_KIT_NUMBER = r"[-+]?(?:\d*\.\d+|\d+)(?:[eE][-+]?\d+)?"
_KIT_TAGGED = re.compile(
    r"<\s*answer\b[^>]*>\s*([A-J])(?:\s*[.．:：)\]】、])?.*?<\s*/\s*answer\s*>", re.IGNORECASE | re.DOTALL
)
_KIT_TAGGED_NUMBER = re.compile(
    rf"<\s*answer\b[^>]*>\s*({_KIT_NUMBER})(?:[^\d<][^<]*)?<\s*/\s*answer\s*>", re.IGNORECASE
)
_KIT_CLOSED = tuple(
    re.compile(rf"(?<![A-Za-z]){_OPEN}([A-F]){_CLOSE}\s*</\s*{tag}\s*>", re.IGNORECASE) for tag in ("answer", "think")
)
_KIT_OPTION = re.compile(r"^[*_>\-\s]*(?:option|选项)\s+[A-J]\s*[:：]", re.IGNORECASE)
_KIT_LONE = re.compile(r"\s*[*_`>（）\[\]【】()]*\s*([A-Fa-f])\s*[*_`（）\[\]【】()]*\s*")
_KIT_LABEL = re.compile(r"\s*([A-F])\s*[.．:：)\]】、-]\s+", re.IGNORECASE)
_KIT_WITHIN = re.compile(r"(?<![A-Za-z])[*_`（\[{(]*\s*([A-F])\s*[*_`）\]})]*(?=$|[\s.,:;!?)\]】》」』，。；、：）])")
_KIT_PHRASE = re.compile(
    r"(?:final\s*answer|the\s*answer\s*is|answer(?:\s*is)?|correct\s*answer|答案|最终答案|结论|所以|因此|我选(?:择)?|选择|选)"
    rf"\s*[:：>＝=]?\s*{_OPEN}([A-F]){_CLOSE}(?:\b|[.)、。])",
    re.IGNORECASE,
)
_KIT_ANYWHERE = re.compile(rf"(?<![A-Za-z]){_OPEN}([A-F]){_CLOSE}(?![A-Za-z])")
_KIT_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b", re.IGNORECASE)
_KIT_TAIL, _KIT_LINES = 800, 6


def kit_letter(reply: str) -> str | None:
    """can_match_option: tags, then the last lines from below, then phrases, then the only capital; None where it gives False."""
    text = _NO_WIDTH.sub("", reply.strip())
    tail = text[-_KIT_TAIL:]
    if found := _KIT_TAGGED.search(text):
        return found[1].upper()
    for closed in _KIT_CLOSED:
        if found := closed.search(tail):
            return found[1].upper()
    for part in (_behind_thoughts(text), tail):
        if letter := _letter_of_lines(part.splitlines()[-_KIT_LINES:]):
            return letter
    if found := _KIT_PHRASE.search(text):
        return found[1].upper()
    kept = "\n".join(line for line in text.splitlines() if not _KIT_OPTION.search(line))
    letters = set(_KIT_ANYWHERE.findall(kept))
    return letters.pop() if len(letters) == 1 else None


def _letter_of_lines(lines: Sequence[str]) -> str | None:
    for line in reversed([line.strip() for line in lines if line.strip()]):
        if _KIT_OPTION.search(line):
            continue
        if found := _KIT_LONE.fullmatch(line) or _KIT_LABEL.match(line):
            return found[1].upper()
        letters = set(_KIT_WITHIN.findall(line))
        if len(letters) == 1:
            return letters.pop()
    return None


def _behind_thoughts(text: str) -> str:
    for tag in (r"</\s*think\s*>", r"<\s*think\s*>"):
        if found := [*re.finditer(tag, text, re.IGNORECASE)]:
            return text[found[-1].end() :].strip()
    return text


def kit_number(reply: str) -> float | None:
    """can_match_na: the tagged number, else the last one behind the thoughts, else the last one; words to twenty count.

    "5-6" is -6, "twenty-one" is -1, "1,200" is 200.
    """
    if reply.strip().startswith("[") and reply.strip().endswith("]"):
        try:
            listed = ast.literal_eval(reply)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
        reply = str(listed[0]) if isinstance(listed, list) and listed else reply
    text = _KIT_WORD.sub(lambda found: str(_WORDS[found[1].lower()]), _NO_WIDTH.sub("", reply.strip()))
    if found := _KIT_TAGGED_NUMBER.search(text):
        return float(found[1])
    for part in (_behind_thoughts(text), text):
        if numbers := re.findall(_KIT_NUMBER, part):
            return float(numbers[-1])
    return None
