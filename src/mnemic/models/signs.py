"""Signs: a few traits that answers are known by, in English. They are kept with a text's terms. Pure."""

from __future__ import annotations

import re

# The words that tell a sign, without stops.
_WORDS = {
    "time word": """
        yesterday today tomorrow tonight ago last next week weeks weekend weekends month months year years
        day days monday tuesday wednesday thursday friday saturday sunday january february march april may
        june july august september october november december""",
    "count": "one two three four five six seven eight nine ten dozen twice once couple",
    "first person": "i i'm i've i'd i'll my me we we're we've our mine",
    "liking": """
        prefer prefers preferred favorite favorites favourite favourites love like enjoy hate always never
        allergic usually want interested fan planning""",
}
_SIGNS = {word: sign for sign, words in _WORDS.items() for word in words.split()}
SIGNS = ("asks", *_WORDS, "name", "wish")

# How somebody asks for something to be done in future.
_WISH = re.compile(
    r"\b(?:always|never|whenever|every time|from now on|in (?:the )?future|going forward|when i ask"
    r"|i(?:'d| would) (?:rather|prefer|like you)|i (?:prefer|want you|need you)"
    r"|don't (?:ever )?(?:give|tell|show|use|send|write|suggest)|stop (?:using|giving|telling)"
    r"|please (?:keep|use|don't|stick))\b"
)

_WORD = re.compile(r"[a-z']+")
_DATED = re.compile(r"\d(?:st|nd|rd|th|am|pm)\b|\b(?:19|20)\d\d\b")
# A capital inside a sentence.
_NAME = re.compile(r"[a-z,;] [A-Z][a-z]")
_DIGIT = re.compile(r"\d")


def signs_of(text: str) -> list[str]:
    """The signs that a text shows, of `SIGNS`, each once.

    >>> signs_of("I moved in 2019. Did you?")
    ['asks', 'time word', 'count', 'first person']
    >>> signs_of("From now on, write to Ana.")
    ['name', 'wish']
    """
    folded = text.lower().replace("\u2019", "'")
    shown = {_SIGNS.get(word) for word in set(_WORD.findall(folded))}
    if _NAME.search(text):
        shown.add("name")
    if folded.rstrip().endswith("?"):
        shown.add("asks")
    if _WISH.search(folded):
        shown.add("wish")
    if _DIGIT.search(folded):
        shown.add("count")
        if _DATED.search(folded):
            shown.add("time word")
    return [sign for sign in SIGNS if sign in shown]
