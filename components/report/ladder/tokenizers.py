"""The page of tokenizers: what each vocabulary costs, and how it cuts one sentence."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.ladder.climb import Climb
from components.lineage import read_json
from components.report.ladder.measured import NONE, shown
from components.report.ladder.page import Page, Table

if TYPE_CHECKING:
    from markupsafe import Markup

SPLIT = "test"
# of tokens side by side; pale enough for ink on a light and on a dark ground
COLOURS = ("#2563a844", "#dd7a2b44", "#3b9a7244", "#cc79a744", "#56b4e944")
UNKNOWN = "background: none; border: 1px dashed currentColor"


def page(climb: Climb) -> Page | None:
    """None where the ladder shows no vocabulary."""
    folders = climb.vocabularies()
    if not folders:
        return None
    told = {name: read_json(folder / "measures.json") for name, folder in folders.items()}
    return Page(
        title="Tokenizers",
        what="A tokenizer cuts a text into the pieces that a model knows. Whole words make short "
        "texts and leave rare words unknown, characters know all and make long ones; parts of "
        "words, learned from the text, stand between.",
        finding=_finding(told),
        blocks=[_sentence(told)],
        tables=[_table(told, climb.speeds)],
        cost="Cost: none of them is trained by gradients; pairs, parts and words are counted.",
        following="A text is numbers now. What comes next in it?",
    )


def _finding(told: Mapping[str, dict[str, Any]]) -> str:
    known = [name for name, one in told.items() if not _of(one, "unknown_tokens")["score"]]
    shortest = min(told, key=lambda name: _of(told[name], "tokens_per_word")["score"])
    none = (
        f"Nothing in the test text is unknown to {', '.join(known)}."
        if known
        else ("Each of them meets something in the test text that it does not know.")
    )
    each = _of(told[shortest], "tokens_per_word")
    tokens = f"The shortest texts are those of {shortest}: {shown(each, '%.2f')} tokens a word."
    return f"{tokens} {none}"


def _of(one: Mapping[str, Any], name: str) -> dict[str, Any]:
    return one["splits"][SPLIT][name]


def _table(told: Mapping[str, dict[str, Any]], speeds: Mapping[str, float]) -> Table:
    rows = [
        (
            name,
            f"{one['vocab_size']:,}",
            shown(_of(one, "tokens_per_word"), "%.2f"),
            shown(_of(one, "bytes_per_token"), "%.2f"),
            _percent(_of(one, "unknown_tokens")),
            _percent(_of(one, "unknown_words")),
            _percent(_of(one, "round_trip_failures")),
            f"{speeds[name] / 1e6:.1f}" if name in speeds else NONE,
        )
        for name, one in told.items()
    ]
    head = ("vocabulary", "size", "tokens a word", "bytes a token", "unknown tokens")
    said = "On the test split of the vocabulary's own data. A word is what white space parts. Not "
    said += "as they were: texts that do not come back from their tokens byte by byte. Speed: one "
    said += "run with a thread a core, beside whatever else the machine did."
    more = ("words with an unknown part", "texts not as they were", "MB a second")
    return Table((*head, *more), rows, said)


def _percent(figure: Mapping[str, Any]) -> str:
    low, high = (f"{100 * end:.1f}" for end in figure["interval"])
    return f"{100 * figure['score']:.1f} % [{low}, {high}]" if figure["score"] else "none"


def _sentence(told: Mapping[str, dict[str, Any]]) -> "Markup":
    """How each vocabulary cuts the sentence, its tokens in colour."""
    from markupsafe import Markup

    cuts = [_cut(name, one["sentence"]) for name, one in told.items()]
    return Markup("\n").join([Markup("<h3>One sentence, cut by each</h3>"), *cuts])


def _cut(name: str, sentence: Mapping[str, Any]) -> "Markup":
    from markupsafe import Markup

    text, tokens = sentence["text"], sentence["tokens"]
    heading = Markup('<p><b>{}</b> <span class="soft">{} tokens, {} characters</span><br>{}</p>')
    return heading.format(name, len(tokens), len(text), Markup("").join(_tokens(text, tokens)))


def _tokens(text: str, tokens: Sequence[Mapping[str, Any]]) -> "list[Markup]":
    from markupsafe import Markup

    form = Markup('<span class="token" style="{}" title="{}">{}</span>')
    shown_tokens = []
    for number, token in enumerate(tokens):
        style = f"background: {COLOURS[number % len(COLOURS)]}"
        piece = text[token["begin"] : token["end"]] or token["token"]
        unknown = token["unknown"]
        shown_tokens.append(form.format(UNKNOWN if unknown else style, token["token"], piece))
    return shown_tokens
