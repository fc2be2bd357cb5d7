"""The times a question names ("last May", "two weeks ago", "before Christmas"), as UTC windows.

It does not understand sentences: English words only, and whatever it is not sure of names no time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Literal, NamedTuple

_LOOK_AT = 2000  # characters: a question says its time early; a pasted megabyte must cost nothing
_TICK, _DAY, _WEEK = timedelta(microseconds=1), timedelta(days=1), timedelta(days=7)
_Relation = Literal["in", "before", "after"]
_Span = tuple[datetime, datetime]  # both in the asker's own wall time, without a zone


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A stretch of time that a question names: `end` is exclusive, both are UTC."""

    start: datetime
    end: datetime
    phrase: str
    relation: _Relation = "in"


def find_windows(text: str, at: datetime) -> tuple[TimeWindow, ...]:
    """Find the times that a text, asked at a moment, names; in the order of the text.

    >>> asked = datetime(2023, 11, 7, 12, tzinfo=UTC)
    >>> [(w.phrase, f"{w.start:%F}", w.relation) for w in find_windows("What since May?", asked)]
    [('since May', '2023-05-01', 'after')]
    """
    if at.tzinfo is None or at.utcoffset() is None:
        raise ValueError("`at` must know its time zone")
    asked = _Asked(_plain(text[:_LOOK_AT]), at.tzinfo, at.replace(tzinfo=None))
    windows, pos = [], 0
    while start := _WORD_START.search(asked.text, pos):
        pos = start.end()
        if hit := _window(asked, text, start.start()):
            windows.append(hit[0])
            pos = hit[1]
    return tuple(windows)


# --- calendars: things that come round, each with a number ---
class _Cycle(NamedTuple):
    nth: Callable[[int], _Span]
    number: Callable[[datetime], int]  # of the one around a moment, give or take one


def _month_start(number: int) -> datetime:
    return datetime(number // 12, number % 12 + 1, 1)


def _months(every: int, first: int = 0, width: int = 0) -> _Cycle:
    until = first + (width or every)
    return _Cycle(
        lambda n: (_month_start(n * every + first), _month_start(n * every + until)),
        lambda moment: (moment.year * 12 + moment.month - 1) // every,
    )


def _days(every: int, first: int = 0, width: int = 0) -> _Cycle:
    day, begin, until = datetime.fromordinal, first + 1, first + 1 + (width or every)
    return _Cycle(  # ordinal 1 is a Monday, so sevens counted from there are ISO weeks
        lambda n: (day(n * every + begin), day(n * every + until)),
        lambda moment: (moment.toordinal() - 1) // every,
    )


def _yearly(first: Callable[[int], datetime], days: int = 1) -> _Cycle:
    return _Cycle(lambda y: (first(y), first(y) + _DAY * days), lambda moment: moment.year)


def _thanksgiving(year: int) -> datetime:
    return datetime(year, 11, 28) - _DAY * ((datetime(year, 11, 1).weekday() + 3) % 7)


def _easter(year: int) -> datetime:
    # The Sunday after the paschal full moon, from the golden number and Gregory's corrections.
    century, golden = year // 100, year % 19
    moon = (century - century // 4 - (8 * century + 13) // 25 + 19 * golden + 15) % 30
    moon -= (moon // 28) * (1 - (29 // (moon + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + moon + 2 - century + century // 4) % 7
    return datetime(year, 3, 28) + _DAY * (moon - weekday)


_MONTHS = "january february march april may june july august september october november december"
_MONTH_NAMES = _MONTHS.split()
_WEEKDAY_NAMES = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_SEASONS = {"spring": 2, "summer": 5, "autumn": 8, "fall": 8, "winter": 11}
_FIXED = {"christmas": (12, 25), "christmas day": (12, 25), "christmas eve": (12, 24)}
_FIXED |= {"new year": (1, 1), "new years": (1, 1), "new years day": (1, 1)}
_FIXED |= {"new years eve": (12, 31), "halloween": (10, 31), "valentines day": (2, 14)}
_UNITS = {"day": _days(1), "week": _days(7), "weekend": _days(7, 5, 2), "month": _months(1)}
_UNITS |= {"quarter": _months(3), "year": _months(12)}
_CYCLES = _UNITS | {name: _months(12, n, 1) for n, name in enumerate(_MONTH_NAMES)}
_CYCLES |= {name: _months(12, first, 3) for name, first in _SEASONS.items()}
_CYCLES |= {name: _days(7, n, 1) for n, name in enumerate(_WEEKDAY_NAMES)}
_CYCLES |= {n: _yearly(partial(datetime, month=m, day=d)) for n, (m, d) in _FIXED.items()}
_CYCLES |= {"thanksgiving": _yearly(_thanksgiving), "easter": _yearly(_easter)}


def _pick(cycle: _Cycle, now: datetime, choice: str) -> _Span | None:
    """Choose the last one over by now, this one, the next to begin, or the latest to have begun."""
    spans, near = [], cycle.number(now)
    for number in range(near - 9, near + 10):  # 29 February can be eight years off
        with suppress(ValueError, OverflowError):  # no such day that year, or no such year
            spans.append(cycle.nth(number))
    if choice == "this":  # a Friday or a May that is not now is this week's, this year's
        return next((span for span in spans if span[0] <= now < span[1]), None) or cycle.nth(near)
    if choice == "next":
        return next((span for span in spans if span[0] > now), None)
    past = [span for span in spans if span[1 if choice == "last" else 0] <= now]
    return past[-1] if past else None


_STEP_DAYS = {"day": 1, "week": 7, "weekend": 7, "fortnight": 14}
_STEP_MONTHS = {"month": 1, "quarter": 3, "year": 12}
# Days that "two weeks ago" reaches either way of the very day.
_REACH = {"day": 0, "week": 3, "fortnight": 7, "month": 15, "quarter": 45}


def _shift(moment: datetime, number: float, unit: str, zone: tzinfo) -> datetime:
    if unit == "hour":  # as a stopwatch counts, also on the night the clocks change
        passed = moment.replace(tzinfo=zone).astimezone(UTC) + timedelta(hours=number)
        return passed.astimezone(zone).replace(tzinfo=None)
    if unit in _STEP_DAYS:
        return moment + _DAY * number * _STEP_DAYS[unit]
    count = moment.year * 12 + moment.month - 1 + int(number) * _STEP_MONTHS[unit]
    last_day = (_month_start(count + 1) - _DAY).day
    return moment.replace(count // 12, count % 12 + 1, min(moment.day, last_day))


def _ago(now: datetime, number: int, unit: str, zone: tzinfo) -> _Span:
    """Give the span, as wide as the unit, around the moment that many units ago."""
    if unit == "hour":
        return _shift(now, -number - 0.5, unit, zone), _shift(now, -number + 0.5, unit, zone)
    there = _shift(now, -number, unit, zone)
    if unit in ("year", "weekend"):  # the calendar's
        return _UNITS[unit].nth(_UNITS[unit].number(there))
    day = datetime(there.year, there.month, there.day)
    return day - _DAY * _REACH[unit], day + _DAY * (_REACH[unit] + 1)


# --- words ---
def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))  # else "week" would eat "weekend"


_COUNTS = "a one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
_COUNTS += "fifteen sixteen seventeen eighteen nineteen twenty"
_NUMBERS = {word: max(n, 1) for n, word in enumerate(_COUNTS.split())}
_NUMBERS |= {"an": 1, "couple": 2, "few": 3, "several": 3, "thirty": 30, "forty": 40, "fifty": 50}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}
_ALIASES = {n[:3]: n for n in _MONTH_NAMES + _WEEKDAY_NAMES[:5]} | {"sept": "september"}
_ALIASES |= {"tues": "tuesday", "thurs": "thursday", "xmas": "christmas"}
_RELATIONS: dict[str, _Relation] = {"since": "after", "after": "after"}
_RELATIONS |= {"before": "before", "until": "before", "till": "before", "by": "before"}
# Verbs, first names, or too short to trust: they need a word of time, a day or a year beside them.
_SHY = {"march", "april", "may", "june", "august", *_ALIASES}
_IN = {"in", "during", "of", "from", "between", "around", "throughout", "to", *_RELATIONS}
_AT = {"on", "at", "for", "over", *_IN}
# After these a lower-case "may" or "march" is the month ("those after may ..." is the verb).
_SURE = {"in", "on", "since", "during", "until", "till", "last", "next", "to"}

_NUMBER = rf"(?P<n>(?:a\s+)?(?:couple(?:\s+of)?|few)|{_any(_NUMBERS)}|\d{{1,4}})\s+"
_STEP = _any({*_STEP_DAYS, *_STEP_MONTHS, "hour"})
_CHOICE = r"(?:(?P<choice>(?:this\s+)?(?:past|coming)|last|this|next)\s+)?"
_MONTH = _any({*_MONTH_NAMES, *(a for a, name in _ALIASES.items() if name in _MONTH_NAMES)})
_WEEKDAY = _any({*_WEEKDAY_NAMES, *(a for a, n in _ALIASES.items() if n in _WEEKDAY_NAMES)})
_NAME = _any({"weekend", *_ALIASES, *(set(_CYCLES) - set(_UNITS) - {"fall"})})
_NAME = _NAME.replace(" ", r"\s+").replace("years", "year'?s").replace("tines", "tine'?s")
_NAME += r"|fall(?!\s+(?:apart|asleep|back|behind|down|from|into|off|out|over|short|under)\b)"
# "2000 dollars", "8 people" and "2023.1" are counts and versions, not years and days.
_NOT_COUNT = (
    r"(?![\d%]|[.,:/]\d|-\d{1,3}(?!\d)|\s*(?:%|(?:people|percent|usd|eur|k[mg]|feet|of\s+us)\b)"
)
_NOT_COUNT += r"|\s+(?!(?:was|has|does|his|its|this|always|plus|yes)\b)(?-i:[a-z]+[a-rt-z]s)\b)"
_YEAR = rf"(?:,?\s+(?:(?:of|in)\s+)?(?P<year>\d{{4}}\b{_NOT_COUNT}|(?:last|this|next)\s+year\b))?"
_YEAR += r"(?!,?\s*(?:of\s+)?\d{5})"
_NTH_DAY = r"(?P<day>\d{1,2})(?P<th>st|nd|rd|th)?\b"
_NTH_DAY += r"(?:\s*(?:-|to|and|until)\s*(?:the\s+)?(?P<to>\d{1,2})(?:st|nd|rd|th)?\b)?"
_THE = rf"(?:the\s+(?!(?:{_MONTH})\b))?"  # "in the March" is no month
_WORD_START = _words(r"(?<![\w@#$/\\-])(?<!\w[.'])(?<!\d[,:])(?<!every\s)(?<!each\s)(?<!any\s)\w+")
_CLOSE = _words(r"\s*(?:$|[^\w\s])|\s+(?:and|or|to|until)\b")
_AUXILIARY = _words(r"\s+(?:be|have|not|also|well|never)\b")
_LEAD = _words(
    r"(?!(?:of|from|since|after|before|by|until)\s+the\s+fall\b)"  # a mishap, not a season
    rf"(?:(?P<word>{_any(_AT - {'to'})})\s+)?{_THE}(?:(?:day|night|month)\s+of\s+(?!the\b))?"
    r"(?P<part>(?:early|mid|late)(?:\s+in\s+|[\s-]+)|(?:beginning|start|middle|end)\s+of\s+"
    r"|(?:earlier|later)\s+(?:in\s+)?)?"
)
_JOIN = _words(rf"(?:\s+(?:and|to|until|till|through)\s+|\s*-\s*){_THE}")


def _plain(text: str) -> str:
    """Make a text ASCII at its own length: offsets stay, and folding case cannot surprise."""
    known = {"\u2019": "'", "\u2018": "'", "\u2013": "-", "\u00a3": "$", "\u20ac": "$"}
    other = [" " if c.isspace() else "_" if c.isalnum() else known.get(c, ";") for c in text]
    return "".join(c if c.isascii() else plain for c, plain in zip(text, other, strict=True))


# --- reading ---
@dataclass(frozen=True, slots=True)
class _Asked:
    text: str
    zone: tzinfo
    now: datetime  # wall time, without the zone
    bare: str = ""  # how to choose where no "last" or "next" says so


class _Found(NamedTuple):
    end: int
    span: _Span
    floating: bool = False  # a bare name: which one it is depends on what stands beside it
    ranged: bool = False


def _window(asked: _Asked, text: str, pos: int) -> tuple[TimeWindow, int] | None:
    m = _LEAD.match(asked.text, pos)
    word, part = ((m["word"] or "").lower(), (m["part"] or "").lower()) if m else ("", "")
    with suppress(ValueError, OverflowError):  # 31 June, the end of 9999, a month before year 1
        if m and (found := _range(asked, m.end(), "in" if part else word)):
            first = asked.now if part.startswith("later") else found.span[0]
            last = asked.now if part.startswith("earlier") else found.span[1]
            start, end = (t.replace(tzinfo=asked.zone).astimezone(UTC) for t in (first, last))
            relation = _RELATIONS.get("" if found.ranged else word, "in")
            if start < end:  # else "earlier today" at midnight, or "between 2023 and 2021"
                return TimeWindow(start, end, text[pos : found.end], relation), found.end
    return None


def _range(asked: _Asked, pos: int, lead: str) -> _Found | None:
    """Read "A", or, where the word before it allows, "A to B"."""
    first = _read(asked, pos, lead)
    if first is None or first.ranged or lead not in ("between", "from", "since"):
        return first
    join = _JOIN.match(asked.text, first.end)
    second = _read(asked, join.end(), "to") if join else None
    if join is None or second is None:  # "between June and Bob": half of it may be anybody
        return first if lead != "between" else None
    if second.floating:
        later = replace(asked, now=first.span[0], bare="next")
        second = _read(later, join.end(), "to") or second
    elif first.floating:
        first = _read(replace(asked, now=second.span[0]), pos, lead) or first
    return _Found(second.end, (first.span[0], second.span[1]), ranged=True)


def _read(asked: _Asked, pos: int, lead: str, skip: int = 0) -> _Found | None:
    for pattern, rule in _RULES[skip:]:
        if (match := pattern.match(asked.text, pos)) and (found := rule(asked, match, lead)):
            return found
    return None


# --- rules: the first that finds wins; each gets its pattern's match and the word before it ---
_Rule = Callable[[_Asked, re.Match[str], str], _Found | None]
_RULES: list[tuple[re.Pattern[str], _Rule]] = []


def _rule(pattern: str) -> Callable[[_Rule], _Rule]:
    def add(rule: _Rule) -> _Rule:
        _RULES.append((_words(pattern), rule))
        return rule

    return add


@_rule(
    rf"(?P<nth>{_any(_ORDINALS)}|1st|2nd|3rd|4th|5th)\s+"
    rf"(?:(?P<unit>{_any({*_UNITS, *_WEEKDAY_NAMES})})\s+(?:of|in)|of)\s+{_THE}"
)
def _nth_of(asked: _Asked, m: re.Match[str], _: str) -> _Found | None:
    if (body := _read(asked, m.end(), "of", skip=1)) is None:  # skips this rule: it must not nest
        return None
    start, end = body.span
    nth, unit = _ORDINALS.get(m["nth"].lower()) or int(m["nth"][0]), (m["unit"] or "day").lower()
    if unit == "week":  # sevens from its first day, not the calendar's weeks
        first = start + _WEEK * (nth - 1) if nth > 0 else end - _WEEK
        return _Found(body.end, (first, min(first + _WEEK, end))) if first >= start else None
    cycle = _CYCLES[unit]
    span = _pick(cycle, end - _TICK, "") if nth < 0 else _pick(cycle, start - _TICK, "next")
    if span and nth > 1:
        span = cycle.nth(cycle.number(span[0]) + nth - 1)
    return _Found(body.end, span) if span and start <= span[0] < end else None


@_rule(
    rf"(?P<the>(?<=\bthe\s))?{_CHOICE}(?:{_NUMBER})?(?P<unit>{_STEP})s?\b"
    r"(?:\s+(?P<ago>ago)\b|(?!\s+of\b))"
)
def _counted(asked: _Asked, m: re.Match[str], _: str) -> _Found | None:
    unit, choice = m["unit"].lower(), (m["choice"] or "").lower().split()[-1:]
    words = (m["n"] or "0").lower().split()
    number = max(int(w) if w.isdigit() else _NUMBERS.get(w, 0) for w in words)
    if not choice:
        back = m["ago"] and number
        return _Found(m.end(), _ago(asked.now, number, unit, asked.zone)) if back else None
    loose = unit in ("day", "hour", "fortnight", "weekend") and not number
    if m["ago"] or loose or words in (["a"], ["an"]) or (number and choice == ["this"]):
        return None  # "does it last a week", "the last day"; weekends are names
    if number or choice == ["past"] or (m["the"] is not None and choice == ["last"]):
        sign = 1 if choice[0] in ("next", "coming") else -1
        there = _shift(asked.now, sign * (number or 1), unit, asked.zone)
        return _Found(m.end(), (asked.now, there) if sign > 0 else (there, asked.now))
    span = _pick(_UNITS[unit], asked.now, choice[0].replace("coming", "next"))
    return _Found(m.end(), span) if span else None


@_rule(
    r"(?:(?:day\s+before\s+)?yesterday|(?:day\s+after\s+)?tomorrow|today|tonight"
    r"|recently|lately|last\s+night|this\s+(?:morning|afternoon|evening))\b"
)
def _day_word(asked: _Asked, m: re.Match[str], _: str) -> _Found | None:
    word, now = " ".join(m[0].lower().split()), asked.now
    today = datetime(now.year, now.month, now.day)
    if word in ("recently", "lately", "last night"):
        night = (today - _DAY / 4, today + _DAY / 4)
        return _Found(m.end(), night if word == "last night" else (now - _DAY * 30, now))
    away = {"yesterday": -1, "day before yesterday": -2, "tomorrow": 1, "day after tomorrow": 2}
    start = today + _DAY * away.get(word, 0)
    return _Found(m.end(), (start, start + _DAY))


@_rule(
    r"(?:(?P<year>\d{4})(?P<sep>[-/])(?P<month>\d\d?)(?P=sep)(?P<day>\d\d?)"
    r"|(?P<a>\d\d?)/(?P<b>\d\d?)/(?P<y>\d{4}))(?![\d/-])"
)
def _numeric(asked: _Asked, m: re.Match[str], _: str) -> _Found | None:
    month, day = int(m["month"] or m["a"]), int(m["day"] or m["b"])
    month, day = (day, month) if m["a"] and month > 12 else (month, day)
    start = datetime(int(m["year"] or m["y"]), month, day)
    return _Found(m.end(), (start, start + _DAY))


def _occurrence(asked: _Asked, m: re.Match[str], cycle: _Cycle) -> _Found | None:
    if year := m["year"]:
        away = {"l": -1, "t": 0, "n": 1}.get(year[0].lower())  # "in May last year"
        return _Found(m.end(), cycle.nth(int(year) if away is None else asked.now.year + away))
    choice = m["choice"].lower().split()[-1] if m["choice"] else asked.bare
    span = _pick(cycle, asked.now, {"past": "last", "coming": "next"}.get(choice, choice))
    return _Found(m.end(), span, floating=not m["choice"]) if span else None


def _is_verb(asked: _Asked, word: str, before: str, end: int) -> bool:
    if word.lower() not in ("may", "march") or word.istitle() or _CLOSE.match(asked.text, end):
        return False
    return before not in _SURE or bool(_AUXILIARY.match(asked.text, end))


@_rule(
    rf"(?:(?:{_WEEKDAY}),?\s+)?{_CHOICE}(?P<name>{_MONTH})\b\.?\s+(?:the\s+)?"
    rf"{_NTH_DAY}{_NOT_COUNT}{_YEAR}"
)
@_rule(
    rf"(?:(?:{_WEEKDAY}),?\s+{_THE})?{_NTH_DAY}(?:\s+of)?\s+{_CHOICE}(?P<name>{_MONTH})\b{_YEAR}"
)
def _dated(asked: _Asked, m: re.Match[str], lead: str) -> _Found | None:
    if not (m["year"] or m["th"] or m["choice"]) and _is_verb(asked, m["name"], lead, m.end()):
        return None
    month = _MONTH_NAMES.index(_ALIASES.get(m["name"].lower(), m["name"].lower())) + 1
    first, last = int(m["day"]), int(m["to"] or m["day"])
    cycle = _yearly(partial(datetime, month=month, day=first), last - first + 1)
    found = _occurrence(asked, m, cycle) if last <= 31 else None
    return found and found._replace(ranged=bool(m["to"]))


@_rule(rf"{_CHOICE}(?P<name>{_NAME})\b(?:\.(?=\s+\d))?{_YEAR}")
def _named(asked: _Asked, m: re.Match[str], lead: str) -> _Found | None:
    word = " ".join(m["name"].lower().replace("'", "").split())
    name = _ALIASES.get(word, word)
    month, weekday = name in _MONTH_NAMES, name in _WEEKDAY_NAMES
    if m["year"]:
        return None if weekday or name == "weekend" else _occurrence(asked, m, _CYCLES[name])
    if _is_verb(asked, m["name"], (m["choice"] or lead).lower(), m.end()):
        return None
    shy = not m["choice"] and (word in _SHY or not (month or weekday))
    owner = month and asked.text.startswith("'s", m.end())  # "in June's house"
    if shy and (owner or lead not in (_IN if month else _AT)):
        return None
    return _occurrence(asked, m, _CYCLES[name])


@_rule(rf"(?P<said>year\s+)?(?P<year>(?:1[89]|2[01])\d\d)\b{_NOT_COUNT}")
def _year(asked: _Asked, m: re.Match[str], lead: str) -> _Found | None:
    span = _UNITS["year"].nth(int(m["year"]))
    return _Found(m.end(), span) if m["said"] or lead in _IN else None
