"""What requests may hold: whatever OpenAI's clients send; and what is said of the rest."""

import json

import httpx
import openai
import pytest

from components.serving.generation_schemas import ChatRequest, CompletionRequest
from tests.serving import listening, make_gateway


@pytest.fixture(scope="module")
def gateway(folders, tmp_path_factory):
    few = {name: folders[name] for name in ("base", "zero_shot", "soft_prompt", "head")}
    return make_gateway(few, tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def address(gateway):
    with listening(gateway) as found:
        yield f"{found}/v1"


@pytest.fixture
def client(address):
    return openai.OpenAI(base_url=address, api_key="none", max_retries=0)


SAID = [{"role": "user", "content": "hello"}]
CHAT = {"model": "base", "messages": SAID, "max_tokens": 3, "temperature": 0}
TEXT = {"model": "base", "prompt": "the", "max_tokens": 3, "temperature": 0}


def post(address, path, **body):
    return httpx.post(f"{address}/{path}", json=body, timeout=30)


def refused(response) -> dict:
    assert response.status_code == 400, response.text
    return response.json()["error"]


@pytest.mark.parametrize("dumped", [False, True])
def test_an_answer_goes_back_as_a_message(client, dumped):
    """Its nulls were refused, so that no conversation had a second turn."""
    answer = client.chat.completions.create(**CHAT).choices[0].message
    turn = answer.model_dump() if dumped else answer
    assert not dumped or {"refusal", "tool_calls", "annotations", "audio"} <= turn.keys()
    asked = {**CHAT, "messages": [*SAID, turn, *SAID]}
    again = client.chat.completions.create(**asked)
    plain = {"role": "assistant", "content": answer.content}
    same = client.chat.completions.create(**{**CHAT, "messages": [*SAID, plain, *SAID]})
    assert again.choices[0].message == same.choices[0].message
    assert again.usage == same.usage


@pytest.mark.parametrize(
    ("message", "same"),
    [
        ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        ({"role": "user", "content": "x", "name": "Ann"}, {"role": "user", "content": "x"}),
        (
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("the ", "film")]},
            {"role": "user", "content": "the film"},
        ),
        ({"role": "assistant", "content": "x", "tool_calls": [], "annotations": []},
         {"role": "assistant", "content": "x"}),
    ],
)  # fmt: skip
def test_messages_are_read_in_every_form(address, message, same):
    told = [
        post(address, "chat/completions", **{**CHAT, "messages": [one]}).json()
        for one in (message, same)
    ]
    assert told[0]["choices"] == told[1]["choices"] and told[0]["usage"] == told[1]["usage"]


def test_a_name_reaches_the_template_and_absent_fields_do_not():
    told = [
        one.told()
        for one in ChatRequest(
            model="base", messages=[{**SAID[0], "name": "Ann", "refusal": None}, SAID[0]]
        ).messages
    ]
    assert told == [{**SAID[0], "name": "Ann"}, SAID[0]]


def test_null_is_a_fields_default():
    """OpenAI's clients send it for what their users left out."""
    for kind, given in ((CompletionRequest, TEXT), (ChatRequest, CHAT)):
        needed = {key: given[key] for key in ("model", "prompt", "messages") if key in given}
        optional = dict.fromkeys(kind.model_fields.keys() - needed.keys())
        assert kind(**needed, **optional) == kind(**needed)


NEUTRAL = {
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "user": "ann",
    "stop": [],
}


@pytest.mark.parametrize(
    ("path", "given", "more"),
    [
        ("completions", TEXT, {"echo": False, "best_of": 1, "suffix": "", "prompt": ["the"]}),
        ("completions", TEXT, {"best_of": 2, "n": 2, "stream": False}),
        (
            "chat/completions",
            CHAT,
            {"tools": [], "tool_choice": "none", "store": False, "metadata": {"a": "b"}},
        ),
    ],
)
def test_what_asks_for_nothing_is_taken(address, path, given, more):
    answer = post(address, path, **{**given, **NEUTRAL, **more}).json()
    plain = post(address, path, **{**given, "n": more.get("n", 1)}).json()
    assert answer["choices"] == plain["choices"]


@pytest.mark.parametrize(
    ("path", "given", "field", "said"),
    [
        ("completions", {"frequency_penalty": 0.5}, "frequency_penalty", "0.5; this server takes"),
        ("completions", {"frequency_penalty": False}, "frequency_penalty", "only null or 0"),
        ("completions", {"echo": True}, "echo", "echo is true; this server takes only null or fa"),
        ("completions", {"best_of": 2}, "best_of", "best_of is 2, n is 1"),
        ("completions", {"logit_bias": {"5": 1}}, "logit_bias", "{'5': 1}; this server takes only"),
        ("completions", {"prompt": ["a", "b"]}, "prompt", "prompt holds 2 prompts"),
        ("completions", {"prompt": [[1], [2]]}, "prompt", "prompt holds 2 prompts"),
        ("completions", {"max_tokens": 0}, "max_tokens", "max_tokens is 0; it should be greater"),
        ("completions", {"stream_options": {}}, "stream_options", "with stream: true alone"),
        ("chat/completions", {"top_logprobs": 3}, "top_logprobs", "with logprobs: true alone"),
        ("chat/completions", {"tools": [{"type": "function"}]}, "tools", "only null or []"),
    ],
)
def test_what_would_change_the_answer_is_refused(address, path, given, field, said):
    error = refused(post(address, path, **{**(TEXT if path == "completions" else CHAT), **given}))
    assert error["param"] == field and said in error["message"]


def test_token_numbers_may_stand_in_a_list(address):
    asked = {**TEXT, "prompt": [5, 6, 7]}
    plain = post(address, "completions", **asked).json()
    listed = post(address, "completions", **{**asked, "prompt": [[5, 6, 7]]}).json()
    assert listed["choices"] == plain["choices"]
    assert plain["usage"]["prompt_tokens"] == listed["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must alt"),
        ("{{ messages[0].nothing.at.all }}", "refuses these messages: "),
        (None, "this base has no chat template"),
    ],
)
def test_messages_that_the_chat_template_refuses_are_refused(
    address, gateway, monkeypatch, template, said
):
    """Mistral's and Gemma's raise an error where two turns are of the same role."""
    texts = gateway.current.now.engine.texts
    monkeypatch.setattr(texts._for_chats, "chat_template", template)
    error = refused(post(address, "chat/completions", **CHAT))
    assert error["param"] == "messages" and said in error["message"]


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63, 2**63 - 1, 10**30])
def test_any_whole_number_is_a_seed(address, seed):
    asked = {**TEXT, "temperature": 1, "max_tokens": 12, "seed": seed, "n": 2}
    first, second = (post(address, "completions", **asked).json()["choices"] for _ in range(2))
    assert first == second and first[0]["text"] != first[1]["text"]


@pytest.mark.parametrize(
    ("path", "given", "field", "said"),
    [
        (
            "completions",
            {"temprature": 1},
            "temprature",
            "unknown field 'temprature'; did you mean 'temperature'? known: ",
        ),
        ("completions", {"temperature": 3}, "temperature", "temperature is 3; it should be less"),
        ("completions", {"repetition_penalty": 1e-300}, "repetition_penalty", "equal to 0.01"),
        ("completions", {"prompt": 12}, "prompt", "prompt is 12; it should be a valid string or"),
        ("completions", {"stop": ["a", 3]}, "stop[1]", "stop[1] is 3; it should be a valid str"),
        ("completions", {"stop": list("abcde")}, "stop", "at most 4 items"),
        ("completions", {"stop": "x" * 1001}, "stop", "; String should have at most 1000 char"),
        ("completions", {"stop": ["a", "x" * 1001]}, "stop[1]", "should have at most 1000 char"),
        ("completions", {"model": None}, "model", "model is null"),
        ("completions", {"stream": "yes"}, "stream", "stream is 'yes'; it should be a valid bool"),
        (
            "completions",
            {"template": {"id": "x", "varables": {}}},
            "template.varables",
            "did you mean 'variables'? known: id, variables, version",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "bot", "content": "x"}]},
            "messages[0].role",
            "messages[0].role is 'bot'; it should be 'system', 'developer', 'user' or 'assistant'",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user"}]},
            "messages[0].content",
            "messages[0].content is missing",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "messages[0].content[0].type is 'image_url'; it should be 'text'",
        ),
        ("completions", {"user": "x" * 9999, "n": "y" * 9999}, "n", "n is 'yyyy"),
    ],
)
def test_an_error_names_the_field_its_value_and_what_there_is(address, path, given, field, said):
    error = refused(post(address, path, **{**(TEXT if path == "completions" else CHAT), **given}))
    assert error["param"] == field and said in error["message"]
    assert len(error["message"]) < 900


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b'{"model": ', "application/json", "the body is no JSON: Expecting value at character 10"),
        (b'{"model": "base"}', "text/plain", "its Content-Type is 'text/plain', not application/j"),
        (b'{"model": "base"}', None, "its Content-Type is missing, not application/json"),
        (b"[1]", "application/json", "the body is [1]; it should be a JSON object"),
        (b"", "application/json", "the body is null; it should be a JSON object"),
        (b'{"x": "\xff"}', "application/json", "the body is no UTF-8"),
    ],
)
def test_an_error_says_why_a_body_cannot_be_read(address, content, kind, said):
    headers = {"Content-Type": kind} if kind else {}
    error = refused(httpx.post(f"{address}/completions", content=content, headers=headers))
    assert said in error["message"] and error["param"] is None


@pytest.mark.parametrize("field", ["x", "messages", "response_format"])
def test_no_depth_of_a_body_breaks_the_server(address, field):
    """From 950 on, Python could read it and not write it again: a 500."""
    for depth in (500, *range(900, 1000, 6), 20_000):
        body = json.dumps({**CHAT, field: 0})[:-2] + "[" * depth + "]" * depth + "}"
        headers = {"Content-Type": "application/json"}
        refused(httpx.post(f"{address}/chat/completions", content=body, headers=headers))


@pytest.mark.parametrize("model", ["zero_shot", "soft_prompt", "head"])
def test_a_text_to_label_is_answered_whole_or_refused(address, gateway, model):
    """It lost its beginning without a word."""
    engine = gateway.current.now.engine
    room = engine.room("base" if model == "head" else model)
    label = max(len(engine.encode(text)) for text in (" good", " bad")) * (model != "head")
    wording = len(engine.encode(" it was"))
    word = " film"
    assert len(engine.encode(word * 9 + " it was")) == 9 + wording
    fits = word * (room - wording - label)
    assert post(address, "classify", model=model, input=fits).status_code == 200
    error = refused(post(address, "classify", model=model, input=["x", fits + word]))
    assert error["param"] == "input" and error["code"] == "context_length_exceeded"
    assert f"input[1] has {room - label + 1} tokens" in error["message"]
    assert f"room for {room - label} before" in error["message"]


@pytest.mark.parametrize("given", [{}, {"max_tokens": 1}, {"max_tokens": 60}])
def test_an_answer_is_a_choice_and_no_part_of_one(address, given):
    """The default of 16 tokens cut a longer one."""
    texts = ["yes, please tell me the whole truth about it", "no, I had rather not hear of it all"]
    asked = {"model": "base", "prompt": "the", "choices": texts, "temperature": 2}
    for seed in range(4):
        found = post(address, "completions", **asked, **given, seed=seed).json()["choices"][0]
        assert found["text"] in texts and found["finish_reason"] == "stop"
    said = {"model": "base", "messages": SAID, "choices": texts, "temperature": 2, **given}
    found = post(address, "chat/completions", **said).json()["choices"][0]
    assert found["message"]["content"] in texts


def test_a_choice_that_has_no_room_is_refused(address, gateway):
    """One that had room as the tokenizer cuts it was cut short where the model wrote its letters
    one by one.
    """
    engine = gateway.current.now.engine
    text = " film" * 4
    assert len(engine.encode(text)) == 4
    asked = {**TEXT, "choices": [text], "prompt": [5] * (engine.room("base") - len(text) - 1)}
    found = post(address, "completions", **asked).json()["choices"][0]
    assert found["text"] == text and found["finish_reason"] == "stop"
    error = refused(post(address, "completions", **{**asked, "prompt": [5, *asked["prompt"]]}))
    assert error["param"] == "choices" and error["code"] == "context_length_exceeded"
    assert "the longest of choices has 20 bytes" in error["message"]
    assert "there is room for 20 tokens" in error["message"]


def test_a_choice_may_have_any_character(address):
    """DEL was a grammar's error about response_format."""
    for code in [*range(0x20), *range(0x7E, 0xA1), 0x2028, 0xFFFD, 0x1F600]:
        found = post(address, "completions", **TEXT, choices=[f"a{chr(code)}b"])
        assert found.json()["choices"][0]["text"] == f"a{chr(code)}b", hex(code)
