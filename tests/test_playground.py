"""The playground in a real browser, and the endpoints behind it against the models themselves."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from components.adapters import load_adapter
from components.lineage import read_json, write_json
from components.models import llama
from components.serving import inside, tokenizing
from components.serving.engine import RequestError
from components.serving.inspection import PAGE, Outlook
from tests.serving import listening, make_gateway

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FEW = ("base", "zero_shot", "lora", "soft_prompt", "prefix", "head")
SIZES = {"desk": (1280, 860), "phone": (390, 844)}


def lineage(identity):
    """As `kindling trace` tells it: a base of a corpus of data, and an adapter of that base."""
    return {
        "id": identity,
        "kind": "answer",
        "record": {"adapter": {"name": "lora", "path": "tiny/adapters/lora"}, "commit": "c0ffee"},
        "chain": [
            _made("artifacts/tiny/adapters/lora", "a" * 64, {"tiny/base": "b" * 64}),
            _made("artifacts/tiny/base", "b" * 64, {"datasets/world": "d" * 64}),
            _made("artifacts/datasets/world", "d" * 64, {}, {"data/world.txt": "e" * 32}),
        ],
    }


def _made(artifact, content, inputs, data=None):
    return {"artifact": artifact, "content": content, "inputs": inputs, "data": data, "runs": []}


@pytest.fixture(scope="module")
def served(folders, tmp_path_factory):
    few = {name: folders[name] for name in FEW}
    gateway = make_gateway(few, tmp_path_factory.mktemp("workspace"))
    outlook = Outlook({"other": folders["tokenizer"]}, lineage)
    with listening(gateway, outlook) as address:
        yield address, gateway


def post(served, path, **body):
    return httpx.post(f"{served[0]}/v1/{path}", json=body, timeout=30)


# -- the endpoints ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["base", "lora", "soft_prompt", "prefix"])
def test_predictions_are_those_of_a_forward_pass(served, folders, name):
    told = post(served, "inspect/predictions", model=name, prompt="the film was a").json()
    model = llama.load(folders["base"])
    if name != "base":
        model = load_adapter(folders["base"], folders[name])
    ids = [position["token"] for position in told["positions"]]
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0]
    chances = logits[-len(ids) :].softmax(-1)
    for place, position in enumerate(told["positions"]):
        best = position["expected"][0]
        assert best["token"] == int(chances[place].argmax())
        assert best["probability"] == pytest.approx(float(chances[place].max()), abs=2e-5)
        if place + 1 < len(ids):
            follows = float(chances[place, ids[place + 1]])
            assert position["next"] == pytest.approx(follows, abs=2e-5)
    assert told["positions"][-1]["next"] is None


def test_a_model_is_opened_once_for_all_who_ask_at_once(monkeypatch):
    """Each of them loaded a copy of the base."""
    opened, about = [], {"path": "base", "method": None, "content": "c"}

    def open_slowly(*asked):
        opened.append(asked)
        time.sleep(0.2)
        return None, None

    monkeypatch.setattr(inside, "_opened", open_slowly)
    monkeypatch.setattr(inside, "MODELS", inside._Models())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: inside.Inside("base", about, about, 1), range(4)))
    assert len(opened) == 1


def test_open_models_take_no_more_than_is_granted(folders, monkeypatch):
    """Any key could have two whole models opened beside the engine's, of whatever size."""
    monkeypatch.setattr(inside, "_opened", lambda *asked: asked)
    base, models = folders["base"], inside._Models()
    model = llama.load(base)
    size = inside._bytes(base)
    held = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    assert size == sum(held.values())
    with pytest.raises(RequestError, match=r"serving\.inspect_bytes"):
        models.get(base, None, "a", size - 1)
    for content, room, left in (("a", size, 1), ("b", size, 1), ("c", 2 * size, 2), ("d", size, 1)):
        models.get(base, None, content, room)
        assert len(models._open) == left
    assert next(iter(models._open))[2] == "d"


def test_a_tokenizer_is_that_of_its_folder_now(folders, tmp_path):
    """The first one was kept for ever, and one that was being made anew failed the whole list."""
    place = {"mine": tmp_path / "mine", "other": folders["tokenizer"]}
    shutil.copytree(folders["tokenizer"], place["mine"])
    before = tokenizing.tokenize(place, None, "the film", 99)
    tokens = read_json(place["mine"] / tokenizing.FILE)
    tokens["pre_tokenizer"], tokens["normalizer"] = None, {"type": "Lowercase"}
    tokens["model"]["merges"] = []
    write_json(place["mine"] / tokenizing.FILE, tokens)
    assert tokenizing.tokenize(place, None, "the film", 99) != before
    shutil.rmtree(place["mine"])
    assert [one["id"] for one in tokenizing.described(place)] == ["other"]
    with pytest.raises(RequestError, match="not there at the moment"):
        tokenizing.tokenize(place, "mine", "the film", 99)
    assert not tokenizing.there(place["mine"])


@pytest.mark.parametrize(("name", "virtual"), [("base", 0), ("soft_prompt", 4), ("prefix", 4)])
def test_attention_adds_up_to_one_and_sees_no_future(served, name, virtual):
    ask = {"model": name, "prompt": "the film was a", "layer": 1, "head": 1}
    told = post(served, "inspect/attention", **ask).json()
    assert told["virtual"] == virtual and (told["layers"], told["heads"]) == (2, 2)
    for place, row in enumerate(told["weights"]):
        assert sum(row) == pytest.approx(1, abs=1e-3)
        assert not any(row[virtual + place + 1 :])
    other = post(served, "inspect/attention", **{**ask, "head": 0}).json()
    assert other["weights"] != told["weights"]


def test_a_soft_prompt_lies_near_what_it_began_as(served, folders):
    told = httpx.get(f"{served[0]}/v1/inspect/neighbours/soft_prompt").json()
    assert len(told["vectors"]) == 4
    model = load_adapter(folders["base"], folders["soft_prompt"])
    with torch.no_grad():
        vectors = model.get_prompt(batch_size=1)[0]
    table = model.get_input_embeddings().weight
    for vector, told_of in zip(vectors, told["vectors"], strict=True):
        cosines = torch.nn.functional.cosine_similarity(vector, table)
        assert told_of["nearest"][0]["token"] == int(cosines.argmax())
        assert told_of["nearest"][0]["cosine"] == pytest.approx(float(cosines.max()), abs=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("inspect/predictions", {"model": "head", "prompt": "x"}, "expects no next token"),
        ("inspect/predictions", {"model": "base", "prompt": "the film " * 60}, "can be shown"),
        ("inspect/attention", {"model": "base", "prompt": "x", "layer": 2}, "no layer 2"),
        ("inspect/attention", {"model": "base", "prompt": "x", "head": 2}, "no head 2"),
        ("tokenize", {"input": "x", "tokenizer": "nothing"}, "there are: tiny, other"),
    ],
)
def test_what_cannot_be_shown_is_said(served, path, body, said):
    response = post(served, path, **body)
    assert response.status_code in (400, 404) and said in response.json()["error"]["message"]
    for name in ("prefix", "lora"):
        refused = httpx.get(f"{served[0]}/v1/inspect/neighbours/{name}")
        assert refused.status_code == 400


def test_tokens_stand_where_they_say(served):
    text = "the film — a é"
    for name in ("tiny", "other"):
        told = post(served, "tokenize", input=text, tokenizer=name).json()
        assert told["tokenizer"] == name and told["characters"] == len(text)
        for piece, (start, end) in zip(told["pieces"], told["spans"], strict=True):
            assert "\ufffd" in piece or text[start:end] == piece
    names = [one["id"] for one in httpx.get(f"{served[0]}/v1/tokenizers").json()["data"]]
    assert names == ["tiny", "other"]


def test_the_page_takes_nothing_from_elsewhere(served):
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        elsewhere = [
            w for w in ("https://", "http://") if w in text.replace("http://www.w3.org", "")
        ]
        assert not elsewhere, path
        assert ".innerHTML" not in text and "eval(" not in text, path
    response = httpx.get(f"{served[0]}/playground")
    assert "default-src 'self'" in response.headers["content-security-policy"]


# -- the page --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=["desk", "phone"])
def page(served, browser, request, tmp_path):
    """The open page, at desktop and phone width; nothing may go wrong on it unseen."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    opened.goto(f"{served[0]}/playground")
    opened.wait_for_selector("form")
    yield opened
    # nothing sticks out of the page at its side
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    opened.screenshot(path=str(tmp_path / "page.png"))
    context.close()
    assert wrong == []


def go_to(page, name):
    page.click(f"nav a:has-text('{name}')")
    # the view changes at the next turn of the browser's loop: until then the old one stands
    page.wait_for_selector(f"nav a[aria-current]:has-text('{name}')")


@pytest.mark.slow
def test_writing_streams_an_answer_and_keeps_what_one_thinks_of_it(page, served):
    page.select_option("form select >> nth=0", "lora")
    page.select_option("form select >> nth=1", "ask")
    assert page.input_value("[name=text]") == ""
    page.fill("[name=text]", "<img src=x onerror=alert(1)>")
    page.click("button.primary")
    page.wait_for_selector("article .print")
    assert "<img src=x" in page.inner_text("article .asked")  # as text, never as an element
    assert page.query_selector("article img") is None
    page.click("[aria-label='good answer']")
    page.wait_for_selector(".thanks:has-text('kept')")
    assert page.inner_text("article .print").startswith("fp_")


@pytest.mark.slow
def test_chat_keeps_its_turns(page):
    page.click("button:has-text('chat')")
    page.fill(".triple input >> nth=0", "5")
    for number in (1, 2):
        page.fill("[aria-label=prompt]", f"the film {number}")
        page.keyboard.press("Enter")
        page.wait_for_selector(f".answers article:nth-child({number}) .print")
    assert page.locator("p.said").all_inner_texts() == ["the film 1", "the film 2"]


@pytest.mark.slow
def test_adapters_stand_side_by_side(page):
    go_to(page, "Side by side")
    boxes = page.locator(".picks input")
    for number in range(boxes.count()):
        boxes.nth(number).evaluate("box => { if (box.checked) box.click(); }")
    assert page.is_disabled("button.primary")
    for name in ("zero_shot", "lora", "head"):
        page.click(f".pick:has-text('{name}')")
    page.fill("[aria-label=input]", "the film was a .")
    page.click("button.primary")
    page.wait_for_selector("article:nth-child(3) .facts")
    page.wait_for_selector("article:nth-child(1) .facts")
    page.wait_for_selector("article:nth-child(2) .facts")
    prints = page.locator("article .print").all_inner_texts()
    assert len(set(prints)) == 3
    shares = page.locator("article:nth-child(1) .value").all_inner_texts()
    assert sum(float(each.split()[0]) for each in shares) == pytest.approx(100, abs=1)
    page.click("button:has-text('texts')")
    page.click("button.primary")
    for number in (1, 2):
        page.wait_for_selector(f"article:nth-child({number}) .made")
        page.wait_for_selector(f"article:nth-child({number}) .facts")


def test_the_servers_top_leads_to_the_playground(served):
    told = httpx.get(served[0], follow_redirects=True)
    assert told.status_code == 200 and told.url.path == "/playground"
    assert "<title>" in told.text


@pytest.mark.slow
def test_tokens_inside_and_lineage_are_drawn(page):
    go_to(page, "Tokens")
    page.fill("[aria-label=text]", "the film — was")
    page.wait_for_selector(".tokenizers article:nth-child(2) .token")
    go_to(page, "Inside")
    page.select_option("form select", "soft_prompt")
    page.wait_for_selector(".vectors .token")
    page.wait_for_selector(".map td")
    assert page.locator(".vectors li").count() == 4
    with page.expect_response("**/inspect/attention") as told:
        page.select_option(".pair select >> nth=0", "1")
    assert told.value.json()["layer"] == 1
    go_to(page, "Write")
    page.fill("[aria-label=prompt]", "the film")
    page.click("button.primary")
    page.click("article .print")
    page.wait_for_selector(".node.answer")
    kinds = page.locator(".node .kind").all_text_contents()
    assert {"file", "data set", "base", "adapter", "answer"} <= set(kinds)
    assert page.locator("path.edge").count() >= 4


@pytest.mark.slow
def test_a_server_with_keys_asks_for_one(browser, folders, tmp_path):
    gateway = make_gateway({"base": folders["base"]}, tmp_path)
    key = gateway.keys.add("alice", None, None)
    with listening(gateway) as address:
        page = browser.new_context().new_page()
        page.goto(f"{address}/playground")
        page.fill("[name=key]", "kd-wrong")
        page.click("button.primary")
        page.wait_for_selector(".error:has-text('unknown')")
        page.fill("[name=key]", key)
        page.click("button.primary")
        page.wait_for_selector("[aria-label=prompt]")
        page.context.close()
