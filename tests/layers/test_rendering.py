"""Messages as an API takes them, their exact size, and cutting a text to a size."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import InputError, Message
from mnemic.layers.working.rendering import CUT, INTERRUPTED, ChatCounter, to_openai
from mnemic.models import tokens
from mnemic.models.tokens import ENCODINGS, count_tokens

pytestmark = pytest.mark.usefixtures("tokens_ready")

NOW = datetime(2023, 5, 8, tzinfo=UTC)
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/boat.png"}}


def message(role: Any = "user", content: str = "Hi", **more: Any) -> Message:
    return Message("m1", "s1", role, content, NOW, NOW, **more)


# --- rendering ------------------------------------------------------------------------------------


def test_a_plain_message_is_its_role_and_its_words() -> None:
    assert to_openai(message()) == {"role": "user", "content": "Hi"}
    assert to_openai(message("developer", "Be brief.")) == {
        "role": "developer",
        "content": "Be brief.",
    }


def test_a_name_is_made_one_that_the_api_takes() -> None:
    assert to_openai(message(name="Ana Maria <x>"))["name"] == "Ana_Maria_x"
    assert len(to_openai(message(name="n" * 200))["name"]) == 64
    assert "name" not in to_openai(message(name="安娜"))
    assert "name" not in to_openai(message("tool", "42", name="look", extra={"tool_call_id": "c"}))


def test_calls_without_words_have_no_content() -> None:
    rendered = to_openai(message("assistant", "", extra={"tool_calls": [CALL]}))
    assert rendered == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    older = {"name": "look", "arguments": "{}"}
    rendered = to_openai(message("assistant", "", extra={"function_call": older}))
    assert rendered == {"role": "assistant", "content": None, "function_call": older}
    rendered = to_openai(message("assistant", "", extra={"refusal": "No."}))
    assert rendered == {"role": "assistant", "content": None, "refusal": "No."}


def test_a_calls_arguments_are_a_text_of_json() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": {"at": "praça"}}}
    rendered = to_openai(message("assistant", "", extra={"tool_calls": [call, "junk"]}))
    function = {"name": "look", "arguments": '{"at": "praça"}'}
    assert rendered["tool_calls"] == [{"type": "function", "id": "c1", "function": function}]
    junks: list[Any] = ["x", {"a": 1}, [], ["x"], [{}]]
    for junk in junks:
        rendered = to_openai(message("assistant", "Hm.", extra={"tool_calls": junk}))
        assert rendered == {"role": "assistant", "content": "Hm."}


def test_only_answers_carry_calls_and_only_results_their_id() -> None:
    extra = {"tool_calls": [CALL], "tool_call_id": "c1", "annotations": [1], "refusal": "No."}
    assert to_openai(message(extra=extra)) == {"role": "user", "content": "Hi"}
    assert to_openai(message("tool", "42", extra=extra)) == {
        "role": "tool",
        "content": "42",
        "tool_call_id": "c1",
    }


def test_a_functions_result_always_has_its_name() -> None:
    assert to_openai(message("function", "42", name="look"))["name"] == "look"
    assert to_openai(message("function", "42"))["name"] == "function"


def test_parts_stand_behind_the_words_and_are_nobody_elses() -> None:
    told = message(content="Look:", extra={"parts": [IMAGE]})
    rendered = to_openai(told)
    assert rendered["content"] == [{"type": "text", "text": "Look:"}, IMAGE]
    rendered["content"][1]["image_url"]["url"] = "changed"
    assert told.extra["parts"] == [IMAGE]
    assert to_openai(message(content="", extra={"parts": [IMAGE]}))["content"] == [IMAGE]


def test_what_broke_off_is_marked_and_what_goes_on_is_open() -> None:
    assert to_openai(message("assistant", "I th", state="interrupted"))["content"] == (
        f"I th{INTERRUPTED}"
    )
    assert to_openai(message("assistant", "I th", state="streaming"))["content"] == f"I th{CUT}"
    assert to_openai(message("assistant", "", state="streaming"))["content"] == "[...]"
    told = message("user", "Look", state="interrupted", extra={"parts": [IMAGE]})
    assert to_openai(told)["content"] == [
        {"type": "text", "text": f"Look{INTERRUPTED}"},
        IMAGE,
    ]


def test_a_spoken_answer_is_its_words() -> None:
    spoken = message("assistant", "", extra={"audio": {"id": "a1", "transcript": "Good morning."}})
    assert to_openai(spoken) == {"role": "assistant", "content": "Good morning."}


# --- counting -------------------------------------------------------------------------------------


def test_all_that_is_sent_is_counted() -> None:
    counter = ChatCounter()
    plain = {"role": "user", "content": "I moved to Lisbon."}
    assert counter.message(plain) == 3 + 1 + count_tokens("I moved to Lisbon.")
    named = {**plain, "name": "Ana"}
    assert counter.message(named) == counter.message(plain) + count_tokens("Ana") + 1
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert counter.message(call) == 3 + 1 + count_tokens(json.dumps([CALL]))
    result = {"role": "tool", "content": "42", "tool_call_id": "c1"}
    assert counter.message(result) == 3 + sum(count_tokens(t) for t in ("tool", "42", "c1"))
    assert counter.messages([]) == 3
    everything: list[dict[str, Any]] = [plain, named, call, result]
    assert counter.messages(everything) == 3 + sum(map(counter.message, everything))


def test_each_counter_counts_as_its_models_do() -> None:
    text = "我住在里斯本, and I like it."
    assert ChatCounter("cl100k_base").text(text) == count_tokens(text, "cl100k_base")
    assert ChatCounter("o200k").text(text) == ChatCounter().text(text) == count_tokens(text)
    assert ChatCounter(lambda text: len(text.split())).text("one two") == 2


@pytest.mark.parametrize("counter", ["gpt-4", "", 5, None, b"o200k_base", ["o200k_base"]])
def test_what_is_no_counter_is_refused(counter: Any) -> None:
    with pytest.raises(InputError, match="counter"):
        ChatCounter(counter)


@pytest.mark.parametrize("count", [-1, 1.5, True, None, "3"])
def test_a_counter_that_gives_no_number_is_refused(count: Any) -> None:
    with pytest.raises(InputError, match="whole number"):
        ChatCounter(lambda text: count).text("Hi")


def test_only_texts_and_messages_of_json_are_counted() -> None:
    counter: Any = ChatCounter()
    for wrong in (None, b"Hi", 5):
        with pytest.raises(InputError, match="counted"):
            counter.text(wrong)
        with pytest.raises(InputError, match="mapping"):
            counter.message(wrong)
    with pytest.raises(InputError, match="JSON"):
        counter.message({"role": "user", "content": [object()]})


LONG = {
    "prose": "I moved to Lisbon last year, and I like it. " * 45_000,
    "one word": "a" * 2_000_000,
    "blank": " " * 2_000_000,
    "Chinese": "我" * 2_000_000,
    "stops": "." * 2_000_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_the_longest_text_can_be_counted_and_cut(text: str) -> None:
    counter = ChatCounter()
    size = counter.text(text)
    assert size > 1_000
    for most in (10, 1_000, size - 1):
        assert counter.text(counter.cut(text, most)) <= most


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_long_text_has_as_many_tokens_in_pieces(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = ["hello", " world", "  ", "'s", "I'M", "\n", ".", "!!", "我们", "。", "e\u0301"]
    pieces += ["1234", "-", "\t", "🙂", "camelCase", "\u00a0", ")\n"]
    rng = random.Random(7)
    texts = ["".join(rng.choices(pieces, k=40)) + " end. " for _ in range(100)]
    text = "".join(texts)
    whole = count_tokens(text, encoding)
    monkeypatch.setattr(tokens, "_PIECE", 500)
    monkeypatch.setattr(tokens, "_LOOK_BACK", 400)
    assert count_tokens(text, encoding) == whole


# --- cutting --------------------------------------------------------------------------------------


def test_a_text_is_cut_where_a_sentence_ends() -> None:
    counter = ChatCounter(len)
    text = "One is short. Two is longer. Three is the longest of them all."
    assert counter.cut(text, 40) == "One is short. Two is longer. [...]"
    assert counter.cut(text, len(text)) == text


def test_without_a_sentence_that_ends_in_time_it_is_cut_behind_a_word() -> None:
    counter = ChatCounter(len)
    assert counter.cut("one two three four five six", 20) == "one two three [...]"
    # A heading alone is too little of what there is room for.
    text = "Log:\n" + "word " * 100
    assert counter.cut(text, 100).count("word") > 10
    assert counter.cut("a" * 100, 20) == "a" * 14 + CUT


def test_what_has_no_room_beside_the_mark_is_left_out() -> None:
    counter = ChatCounter(len)
    assert counter.cut("word " * 10, 6) == ""
    assert counter.cut("word " * 10, 7) == "w [...]"
    assert counter.cut("word", 0) == counter.cut("word", -5) == ""
    assert counter.cut("", 0) == ""


def test_no_character_is_parted_from_its_marks() -> None:
    counter = ChatCounter(len)
    assert counter.cut("abcde\u0301fghijklmnopq", 11) == "abcd [...]"
    family = "👩\u200d👩\u200d👧"
    assert not counter.cut("xyz" + family + "x" * 50, 12).endswith(f"\u200d{CUT}")


def test_cutting_counts_little_more_than_the_text_and_what_is_kept() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return len(text) // 4

    text = "I moved to Lisbon last year. " * 60_000
    kept = ChatCounter(count).cut(text, 500)
    assert 1_500 < len(kept) <= 2_003
    assert sum(counted) < len(text) + 40 * len(kept)


def odd(text: str) -> int:
    """A counter by which a longer text may have fewer tokens."""
    return len(text) + (7 * len(text)) % 13 - 5 * (len(text) % 3 == 0) + 5


COUNTERS = st.sampled_from(["o200k_base", "cl100k_base", len, odd, lambda t: len(t.split())])


@given(st.text(max_size=300), st.integers(-3, 200), COUNTERS)
def test_a_cut_text_is_never_over_its_number_of_tokens(text: str, most: int, counting: Any) -> None:
    counter = ChatCounter(counting)
    cut = counter.cut(text, most)
    if counter.text(text) <= most:
        assert cut == text
    else:
        assert cut == "" or counter.text(cut) <= most
        assert cut == "" or (cut.endswith(CUT) and text.startswith(cut.removesuffix(CUT)))
