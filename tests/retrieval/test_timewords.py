"""What times a question names, and, as often, that it names none."""

from __future__ import annotations

import doctest
import time
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemic.retrieval import timewords
from mnemic.retrieval.timewords import TimeWindow, find_windows

TUESDAY = datetime(2023, 11, 7, 15, 30, tzinfo=UTC)
IN_MAY = datetime(2023, 5, 20, 9, tzinfo=UTC)  # a Saturday
JANUARY = datetime(2024, 1, 10, 9, tzinfo=UTC)
MONDAY = datetime(2023, 11, 6, 0, tzinfo=UTC)  # the very first moment of it
FRIDAY = datetime(2023, 11, 10, 8, tzinfo=UTC)
NEW_YORK = datetime(2023, 11, 7, 12, tzinfo=ZoneInfo("America/New_York"))
BERLIN_SPRING = datetime(2024, 3, 31, 12, tzinfo=ZoneInfo("Europe/Berlin"))  # clocks went ahead
BERLIN_AUTUMN = datetime(2023, 10, 29, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
TOKYO = datetime(2023, 11, 7, 3, tzinfo=timezone(timedelta(hours=9)))  # still the 6th in UTC

# The question, when it was asked, then for each time it names: words, first, end, relation.
Named = tuple[str, str, str, str]
NAMED: list[tuple[str, datetime, list[Named]]] = [
    # months
    ("What did Ana do last May?", TUESDAY, [("last May", "2023-05-01", "2023-06-01", "in")]),
    ("What did Ana do last May?", IN_MAY, [("last May", "2022-05-01", "2022-06-01", "in")]),
    ("What happened in May?", IN_MAY, [("in May", "2023-05-01", "2023-06-01", "in")]),
    ("what happened in may?", TUESDAY, [("in may", "2023-05-01", "2023-06-01", "in")]),
    ("In may we moved", TUESDAY, [("In may", "2023-05-01", "2023-06-01", "in")]),
    ("What will she do next June?", TUESDAY, [("next June", "2024-06-01", "2024-07-01", "in")]),
    (
        "Plans for this December?",
        TUESDAY,
        [("for this December", "2023-12-01", "2024-01-01", "in")],
    ),
    ("in December", TUESDAY, [("in December", "2022-12-01", "2023-01-01", "in")]),
    ("the July trip", TUESDAY, [("July", "2023-07-01", "2023-08-01", "in")]),
    ("June 2022 was hot", TUESDAY, [("June 2022", "2022-06-01", "2022-07-01", "in")]),
    ("in May of 2021", TUESDAY, [("in May of 2021", "2021-05-01", "2021-06-01", "in")]),
    ("in May last year", TUESDAY, [("in May last year", "2022-05-01", "2022-06-01", "in")]),
    ("in Feb. 2020", TUESDAY, [("in Feb. 2020", "2020-02-01", "2020-03-01", "in")]),
    ("early March", TUESDAY, [("early March", "2023-03-01", "2023-04-01", "in")]),
    ("mid-April", TUESDAY, [("mid-April", "2023-04-01", "2023-05-01", "in")]),
    ("during August", TUESDAY, [("during August", "2023-08-01", "2023-09-01", "in")]),
    # days
    ("on 8 May 2023", TUESDAY, [("on 8 May 2023", "2023-05-08", "2023-05-09", "in")]),
    ("May 8th", TUESDAY, [("May 8th", "2023-05-08", "2023-05-09", "in")]),
    ("May 8, 2021", TUESDAY, [("May 8, 2021", "2021-05-08", "2021-05-09", "in")]),
    ("on the 8th of May", TUESDAY, [("on the 8th of May", "2023-05-08", "2023-05-09", "in")]),
    (
        "Friday, May 8th, 2020",
        TUESDAY,
        [("Friday, May 8th, 2020", "2020-05-08", "2020-05-09", "in")],
    ),
    ("on december 25", TUESDAY, [("on december 25", "2022-12-25", "2022-12-26", "in")]),
    ("on Feb 29", TUESDAY, [("on Feb 29", "2020-02-29", "2020-03-01", "in")]),
    ("the first of May", TUESDAY, [("the first of May", "2023-05-01", "2023-05-02", "in")]),
    ("in the morning of 8 May", TUESDAY, [("of 8 May", "2023-05-08", "2023-05-09", "in")]),
    ("2023-05-08", TUESDAY, [("2023-05-08", "2023-05-08", "2023-05-09", "in")]),
    ("since 2023/05/08", TUESDAY, [("since 2023/05/08", "2023-05-08", "2023-05-09", "after")]),
    ("at 2023-05-08T10:00", TUESDAY, [("at 2023-05-08", "2023-05-08", "2023-05-09", "in")]),
    ("05/08/2023", TUESDAY, [("05/08/2023", "2023-05-08", "2023-05-09", "in")]),
    ("25/08/2023", TUESDAY, [("25/08/2023", "2023-08-25", "2023-08-26", "in")]),
    ("8\u00a0May 2023", TUESDAY, [("8\u00a0May 2023", "2023-05-08", "2023-05-09", "in")]),
    # years
    ("Where did he live in 2023?", TUESDAY, [("in 2023", "2023-01-01", "2024-01-01", "in")]),
    ("the year 1999", TUESDAY, [("the year 1999", "1999-01-01", "2000-01-01", "in")]),
    ("late 2022", TUESDAY, [("late 2022", "2022-01-01", "2023-01-01", "in")]),
    ("What changed in 2023 was big", TUESDAY, [("in 2023", "2023-01-01", "2024-01-01", "in")]),
    # words for days near now
    ("What did I say yesterday?", TUESDAY, [("yesterday", "2023-11-06", "2023-11-07", "in")]),
    ("today", TUESDAY, [("today", "2023-11-07", "2023-11-08", "in")]),
    ("this morning", TUESDAY, [("this morning", "2023-11-07", "2023-11-08", "in")]),
    ("tomorrow", TUESDAY, [("tomorrow", "2023-11-08", "2023-11-09", "in")]),
    (
        "the day before yesterday",
        TUESDAY,
        [("the day before yesterday", "2023-11-05", "2023-11-06", "in")],
    ),
    ("last night", TUESDAY, [("last night", "2023-11-06T18", "2023-11-07T06", "in")]),
    ("lately?", TUESDAY, [("lately", "2023-10-08T15:30", "2023-11-07T15:30", "in")]),
    ("Recently", TUESDAY, [("Recently", "2023-10-08T15:30", "2023-11-07T15:30", "in")]),
    # weekdays and weekends
    ("last Friday", TUESDAY, [("last Friday", "2023-11-03", "2023-11-04", "in")]),
    ("last Friday", FRIDAY, [("last Friday", "2023-11-03", "2023-11-04", "in")]),
    ("on Friday", FRIDAY, [("on Friday", "2023-11-10", "2023-11-11", "in")]),
    ("this Friday", TUESDAY, [("this Friday", "2023-11-10", "2023-11-11", "in")]),
    ("this past Friday", TUESDAY, [("this past Friday", "2023-11-03", "2023-11-04", "in")]),
    ("next monday", MONDAY, [("next monday", "2023-11-13", "2023-11-14", "in")]),
    ("on Thurs", TUESDAY, [("on Thurs", "2023-11-02", "2023-11-03", "in")]),
    ("last weekend", TUESDAY, [("last weekend", "2023-11-04", "2023-11-06", "in")]),
    ("last weekend", IN_MAY, [("last weekend", "2023-05-13", "2023-05-15", "in")]),
    ("this weekend", TUESDAY, [("this weekend", "2023-11-11", "2023-11-13", "in")]),
    ("over the weekend", TUESDAY, [("over the weekend", "2023-11-04", "2023-11-06", "in")]),
    # units
    ("this week", TUESDAY, [("this week", "2023-11-06", "2023-11-13", "in")]),
    ("last week", MONDAY, [("last week", "2023-10-30", "2023-11-06", "in")]),
    ("last month", JANUARY, [("last month", "2023-12-01", "2024-01-01", "in")]),
    ("this quarter", TUESDAY, [("this quarter", "2023-10-01", "2024-01-01", "in")]),
    ("last year", TUESDAY, [("last year", "2022-01-01", "2023-01-01", "in")]),
    ("next year", TUESDAY, [("next year", "2024-01-01", "2025-01-01", "in")]),
    ("last 2 weeks", TUESDAY, [("last 2 weeks", "2023-10-24T15:30", "2023-11-07T15:30", "in")]),
    (
        "in the past month",
        TUESDAY,
        [("in the past month", "2023-10-07T15:30", "2023-11-07T15:30", "in")],
    ),
    (
        "over the last year",
        TUESDAY,
        [("over the last year", "2022-11-07T15:30", "2023-11-07T15:30", "in")],
    ),
    (
        "earlier this month",
        TUESDAY,
        [("earlier this month", "2023-11-01", "2023-11-07T15:30", "in")],
    ),
    ("earlier today", TUESDAY, [("earlier today", "2023-11-07", "2023-11-07T15:30", "in")]),
    ("later this year", TUESDAY, [("later this year", "2023-11-07T15:30", "2024-01-01", "in")]),
    # so long ago
    ("two weeks ago", TUESDAY, [("two weeks ago", "2023-10-21", "2023-10-28", "in")]),
    ("3 days ago", TUESDAY, [("3 days ago", "2023-11-04", "2023-11-05", "in")]),
    (
        "a couple of months ago",
        TUESDAY,
        [("a couple of months ago", "2023-08-23", "2023-09-23", "in")],
    ),
    ("a few weeks ago", TUESDAY, [("a few weeks ago", "2023-10-14", "2023-10-21", "in")]),
    ("a fortnight ago", TUESDAY, [("a fortnight ago", "2023-10-17", "2023-11-01", "in")]),
    ("two weekends ago", TUESDAY, [("two weekends ago", "2023-10-28", "2023-10-30", "in")]),
    ("ten years ago", TUESDAY, [("ten years ago", "2013-01-01", "2014-01-01", "in")]),
    ("about a year ago", TUESDAY, [("a year ago", "2022-01-01", "2023-01-01", "in")]),
    ("3 hours ago", TUESDAY, [("3 hours ago", "2023-11-07T12", "2023-11-07T13", "in")]),
    # parts of something
    (
        "in the first week of June",
        TUESDAY,
        [("in the first week of June", "2023-06-01", "2023-06-08", "in")],
    ),
    (
        "the last week of May 2022",
        TUESDAY,
        [("the last week of May 2022", "2022-05-25", "2022-06-01", "in")],
    ),
    ("last Friday in May", TUESDAY, [("last Friday in May", "2023-05-26", "2023-05-27", "in")]),
    (
        "the second weekend of June",
        TUESDAY,
        [("the second weekend of June", "2023-06-10", "2023-06-12", "in")],
    ),
    # seasons
    ("this summer", TUESDAY, [("this summer", "2023-06-01", "2023-09-01", "in")]),
    ("last summer", TUESDAY, [("last summer", "2023-06-01", "2023-09-01", "in")]),
    ("this winter", JANUARY, [("this winter", "2023-12-01", "2024-03-01", "in")]),
    ("last winter", JANUARY, [("last winter", "2022-12-01", "2023-03-01", "in")]),
    ("in the fall", TUESDAY, [("in the fall", "2023-09-01", "2023-12-01", "in")]),
    ("spring of 2021", TUESDAY, [("spring of 2021", "2021-03-01", "2021-06-01", "in")]),
    # holidays
    ("before Christmas", TUESDAY, [("before Christmas", "2022-12-25", "2022-12-26", "before")]),
    (
        "on Christmas Eve 2020",
        TUESDAY,
        [("on Christmas Eve 2020", "2020-12-24", "2020-12-25", "in")],
    ),
    (
        "on New Year\u2019s Eve",
        TUESDAY,
        [("on New Year\u2019s Eve", "2022-12-31", "2023-01-01", "in")],
    ),
    ("last Halloween", TUESDAY, [("last Halloween", "2023-10-31", "2023-11-01", "in")]),
    ("on Valentine's Day", TUESDAY, [("on Valentine's Day", "2023-02-14", "2023-02-15", "in")]),
    ("Thanksgiving 2022", TUESDAY, [("Thanksgiving 2022", "2022-11-24", "2022-11-25", "in")]),
    ("at Easter", TUESDAY, [("at Easter", "2023-04-09", "2023-04-10", "in")]),
    # before, after, between
    ("since March", TUESDAY, [("since March", "2023-03-01", "2023-04-01", "after")]),
    ("after 2020", TUESDAY, [("after 2020", "2020-01-01", "2021-01-01", "after")]),
    ("until last week", TUESDAY, [("until last week", "2023-10-30", "2023-11-06", "before")]),
    ("by June", TUESDAY, [("by June", "2023-06-01", "2023-07-01", "before")]),
    (
        "between May and July 2023",
        TUESDAY,
        [("between May and July 2023", "2023-05-01", "2023-08-01", "in")],
    ),
    (
        "between November and February 2023",
        TUESDAY,
        [("between November and February 2023", "2022-11-01", "2023-03-01", "in")],
    ),
    ("from 2019 to 2021", TUESDAY, [("from 2019 to 2021", "2019-01-01", "2022-01-01", "in")]),
    ("between 8 and 12 May", TUESDAY, [("between 8 and 12 May", "2023-05-08", "2023-05-13", "in")]),
    (
        "between Christmas and New Year",
        TUESDAY,
        [("between Christmas and New Year", "2022-12-25", "2023-01-02", "in")],
    ),
    (
        "from Monday to Friday",
        TUESDAY,
        [("from Monday to Friday", "2023-11-06", "2023-11-11", "in")],
    ),
    # more than one, in the order of the text
    (
        "Did she move in 2021 or last summer?",
        TUESDAY,
        [
            ("in 2021", "2021-01-01", "2022-01-01", "in"),
            ("last summer", "2023-06-01", "2023-09-01", "in"),
        ],
    ),
    # the asker's own clock
    ("yesterday", NEW_YORK, [("yesterday", "2023-11-06T05", "2023-11-07T05", "in")]),
    ("last weekend", NEW_YORK, [("last weekend", "2023-11-04T04", "2023-11-06T05", "in")]),
    ("in November", NEW_YORK, [("in November", "2023-11-01T04", "2023-12-01T05", "in")]),
    ("today", BERLIN_SPRING, [("today", "2024-03-30T23", "2024-03-31T22", "in")]),
    (
        "12 hours ago",
        BERLIN_SPRING,
        [("12 hours ago", "2024-03-30T21:30", "2024-03-30T22:30", "in")],
    ),
    ("today", BERLIN_AUTUMN, [("today", "2023-10-28T22", "2023-10-29T23", "in")]),
    (
        "earlier today",
        BERLIN_AUTUMN,
        [("earlier today", "2023-10-28T22", "2023-10-29T01:30", "in")],
    ),
    ("today", TOKYO, [("today", "2023-11-06T15", "2023-11-07T15", "in")]),
]

NOT_A_TIME = [
    "",
    "What does Ana like?",
    "she may come",
    "May I ask something?",
    "It may 100% work",
    "this may be wrong",
    "those of you who may go",
    "the day after may come",
    "May said hello",
    "they march on",
    "March forward!",
    "during the march on Rome",
    "wait a second",
    "the second of them",
    "in seconds",
    "the sun was out",
    "we sat there",
    "prices fall",
    "did this fall apart?",
    "after the fall he could not walk",
    "I spring out of bed",
    "April said hi",
    "June is my sister",
    "a fight between June and Bob",
    "in June's house",
    "give it to August",
    "Jan and Mar",
    "I have 3 of 5",
    "python 3.11 in use",
    "version 2023.1",
    "release v2023-05-08",
    "in 2023.1",
    "call 555-2023",
    "+1 202 555 0123",
    "it cost 2000 dollars",
    "after 2000 dollars",
    "from $2000",
    "room 2023",
    "in 2023%",
    "by 2000 people",
    "May 2 people come?",
    "is June 5 years old?",
    "every Friday",
    "each May",
    "on Fridays",
    "how long does it last a week?",
    "the last day",
    "the last week of school",
    "years ago",
    "a long time ago",
    "3.5 years ago",
    "in 99999",
    "in May 99999",
    "May 8, 99999",
    "1000000000 years ago",
    "9999 years ago",
    "2023-13-45",
    "13/13/2023",
    "on 31/06/2023",
    "0000-01-01",
    "9999-12-31",
    "between 2023 and 2021",
    "since then",
    "before lunch",
]


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("text", "at", "named"), NAMED)
def test_a_question_names_these_times(text: str, at: datetime, named: list[Named]) -> None:
    found = [(w.phrase, w.start, w.end, w.relation) for w in find_windows(text, at)]
    assert found == [(words, _utc(a), _utc(b), relation) for words, a, b, relation in named]


@pytest.mark.parametrize("text", NOT_A_TIME)
def test_a_text_without_a_time_names_none(text: str) -> None:
    assert find_windows(text, TUESDAY) == ()


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        find_windows("yesterday", datetime(2023, 11, 7))


def test_a_day_that_a_zone_skipped_leaves_its_month() -> None:
    samoa = datetime(2012, 1, 5, tzinfo=ZoneInfo("Pacific/Apia"))
    assert [w.phrase for w in find_windows("on 30 December 2011", samoa)] == ["December 2011"]


def test_a_day_that_never_is_leaves_its_month() -> None:
    assert [w.phrase for w in find_windows("31 June 2023", TUESDAY)] == ["June 2023"]


def test_earlier_today_is_all_of_today_at_midnight() -> None:
    assert [w.phrase for w in find_windows("earlier today", MONDAY)] == ["today"]


@pytest.mark.parametrize(
    ("year", "month", "day"),
    [(1961, 4, 2), (2000, 4, 23), (2008, 3, 23), (2019, 4, 21), (2024, 3, 31), (2038, 4, 25)],
)
def test_easter_is_where_the_almanac_has_it(year: int, month: int, day: int) -> None:
    (window,) = find_windows(f"Easter {year}", TUESDAY)
    assert window.start == datetime(year, month, day, tzinfo=UTC)


@pytest.mark.parametrize(("year", "day"), [(2018, 22), (2019, 28), (2021, 25), (2023, 23)])
def test_thanksgiving_is_the_fourth_thursday(year: int, day: int) -> None:
    (window,) = find_windows(f"Thanksgiving {year}", TUESDAY)
    assert window.start == datetime(year, 11, day, tzinfo=UTC)


def test_only_the_beginning_of_a_text_is_read() -> None:
    assert find_windows("x " * 1000 + "yesterday", TUESDAY) == ()
    assert len(find_windows("yesterday " + "x " * 1000, TUESDAY)) == 1


@pytest.mark.parametrize(
    "piece",
    ["a", " ", "1", "between May and ", "first week of ", "the ", "May ", "8 ", "'", "\u0130", "-"],
)
def test_a_megabyte_costs_little(piece: str) -> None:
    began = time.perf_counter()
    find_windows(piece * (1_000_000 // len(piece)), TUESDAY)
    assert time.perf_counter() - began < 2  # generous: it takes milliseconds


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(timewords).failed == 0


_WORDS = st.sampled_from(
    [words for text, _, _ in NAMED for words in text.split()]
    + "9999 0001 99999 31 minus hours decades ago back of and to - , / the in".split()
)
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(_WORDS, max_size=12).map(" ".join),
    st.sampled_from([text for text, _, _ in NAMED] + NOT_A_TIME),
)
_MOMENTS = st.one_of(
    st.datetimes(timezones=st.timezones()),
    st.builds(
        lambda moment, minutes: moment.replace(tzinfo=timezone(timedelta(minutes=minutes))),
        st.one_of(
            st.datetimes(),
            st.datetimes(max_value=datetime(12, 1, 1)),
            st.datetimes(min_value=datetime(9985, 1, 1)),
            st.sampled_from([datetime.min, datetime.max]),
        ),
        st.integers(-1439, 1439),
    ),
)


@settings(deadline=None, max_examples=400)
@given(text=_TEXTS, at=_MOMENTS)
@example(text="last decade, 3 hours ago, recently", at=datetime.min.replace(tzinfo=UTC))
@example(text="next year and next 9999 years", at=datetime.max.replace(tzinfo=UTC))
@example(text="last May", at=datetime.max.replace(tzinfo=ZoneInfo("America/New_York")))
@example(text="\u017funday in \u212aM, \u0130n May", at=TUESDAY)
def test_any_text_at_any_moment_gives_only_whole_windows(text: str, at: datetime) -> None:
    for window in find_windows(text, at):
        assert isinstance(window, TimeWindow)
        assert window.start < window.end
        assert window.start.tzinfo is UTC
        assert window.end.tzinfo is UTC
        assert window.phrase
        assert window.phrase in text
        assert window.relation in ("in", "before", "after")


@settings(deadline=None)
@given(at=_MOMENTS, text=st.sampled_from([text for text, _, _ in NAMED]))
def test_the_windows_come_in_the_order_of_the_text(at: datetime, text: str) -> None:
    places = [text.index(window.phrase) for window in find_windows(text, at)]
    assert places == sorted(places)
