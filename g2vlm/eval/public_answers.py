"""How public harnesses read replies, each mistake as it is published; nothing here is a good way to read one.

An extractor gives what the harness compares with the truth: "" or None where it finds nothing. The commit that was read stands beside each.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence

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


# e8e78f0, vlmeval/utils/matching_util.py, can_infer; All-Angles Bench's copy is older and still reads long replies

_REFUSALS = (
    *("Sorry, I can't help with images of people yet.", "I can't process this file."),
    *("I'm sorry, but without the image provided", "Cannot determine the answer"),
)
_FAILURE = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_REFUSED = "Z"


def inferred_option(reply: str, options: Mapping[str, str], *, doubts_articles: bool) -> str | None:
    """All-Angles Bench, VLMEvalkit/vlmeval/utils/matching_util.py, can_infer: the only letter that is a word, else the only option said.

    options: text by letter. doubts_articles: what the environment variable VERBOSE switches on in passing: a reply of more than three
    words with an A is not read by its letters. "Z" is a refusal; None is what falls through to a judge.
    """
    return _lone_word(reply, options, doubts_articles=doubts_articles) or _lone_option(reply, options)


def _lone_word(reply: str, options: Mapping[str, str], *, doubts_articles: bool) -> str | None:
    if _FAILURE in reply:
        return None
    if any(refusal in reply for refusal in _REFUSALS):
        return _REFUSED
    words = reply.translate(_MARKS).split()
    said = [letter for letter in options if letter in words]
    if not said:
        return _REFUSED if _REFUSED in words else None
    if len(said) > 1 or (doubts_articles and "A" in words and len(words) > 3):
        return None
    return said[0]


def _lone_option(reply: str, options: Mapping[str, str]) -> str | None:
    said = [letter for letter, option in options.items() if option.lower() in reply.lower()]
    return said[0] if len(said) == 1 else None


# --- MMSI-Bench -------------------------------------------------------------------------------------------------------

_QUOTED = (re.compile("``([^`]*)``"), re.compile("`([^`]*)`"), re.compile(r"\{([^}]*)\}"))
_MMSI_LETTER = re.compile(r"\b[A-D]\b(?!\s[a-zA-Z])")
_MMSI_LETTER_LMMS = re.compile(r"\b[A-F]\b(?!\s[a-zA-Z])", re.IGNORECASE)


def quoted_letter(reply: str) -> str | None:
    """MMSI-Bench 026beb1, README.md, and SpatialStack e39601e, mmsibench/utils.py, extract_single_choice_with_word_boundary.

    Within double, then single back-ticks, then braces, where there are any: the first capital A to D that stands alone and is no article.
    """
    found = _MMSI_LETTER.search(_quoted(reply))
    return found[0] if found else None


def quoted_letter_of_any_case(reply: str) -> str | None:
    """lmms-eval 0.7.3, mmsi_bench/utils.py: the same for A to F in either case."""
    found = _MMSI_LETTER_LMMS.search(_quoted(reply))
    return found[0].upper() if found else None


def _quoted(reply: str) -> str:
    for quotes in _QUOTED:
        if found := quotes.search(reply):
            reply = found[1]
    return reply


# --- Video-MME in lmms-eval -------------------------------------------------------------------------------------------

_ANSWER_PHRASES = (
    *(
        "the answer is",
        "answer is",
        "my answer is",
        "the choice is",
        "choice is",
        "my choice is",
        "i choose",
        "i select",
        "i pick",
    ),
    *("the correct answer is", "correct answer is", "the best answer is", "best answer is"),
    *("the correct option is", "correct option is", "the best option is", "best option is"),
    *(
        "the correct choice is",
        "correct choice is",
        "옵션",
        "정답은",
        "답은",
        "답:",
        "答案是",
        "答案为",
        "选",
        "答えは",
    ),
)
_FORMS = ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} "))
_START, _END, _PHRASE = 10, 9, 7


def ranked_letter(reply: str, letters: str = "ABCD") -> str:
    """lmms-eval 0.7.3, _task_utils/mcq_extract.py, extract_mcq_answer: the letter in the most trusted form, of several the last one.

    A letter that the reply begins with, then one that it ends with, then any that follows an answer phrase (each letter's first place
    counts, so a word behind the answer may win), then "(B)", "B.", "B:", "B)" and "B "; and any capital at all if there is none of these.
    """
    text = reply.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    core, text = text.strip(), f" {text} "
    found = [(rank, text.rfind(form.format(each)), each) for rank, form in _FORMS for each in letters]
    lowered = text.lower()
    for phrase in _ANSWER_PHRASES:
        if (start := lowered.find(phrase)) >= 0:
            found += [(_PHRASE, text.find(each, start + len(phrase)), each) for each in letters]
    found += [(_START, 0, each) for each in letters if core.startswith(each) and not core[1:2].isalpha()]
    found += [(_END, len(text), each) for each in letters if core.endswith(each) and not core[-2:-1].isalpha()]
    placed = [each for each in found if each[1] >= 0] or [
        (0, text.rfind(each), each) for each in letters if each in text
    ]
    return max(placed, key=lambda each: each[:2], default=(0, 0, ""))[2]
