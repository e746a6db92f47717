"""The page of GPT: the decoder alone, and all language models on one text."""

from components.ladder.climb import Climb
from components.report.ladder import language_plots, near
from components.report.ladder.beyond import swept
from components.report.ladder.measured import cost, figures, first, shown
from components.report.ladder.neural import FAMILIES, table
from components.report.ladder.page import Page, Picture


def page(climb: Climb) -> Page | None:
    """None where the ladder has no decoder that stands for itself."""
    sizes = swept(climb)
    decoders = [name for name in climb.of("decoder") if name not in sizes]
    if not decoders:
        return None
    corpus = climb.rungs[decoders[0]].corpus
    alike = [
        name
        for name in climb.of(*FAMILIES, "decoder")
        if climb.rungs[name].corpus == corpus and name not in sizes
    ]
    bits = {name: figures(climb.measures(name), "bits_per_byte") for name in alike}
    best, doubt = first(bits, lower=True)
    return Page(
        title="GPT",
        what="The decoder of the Transformer, without an encoder, predicts the next token of plain "
        "text (Radford et al. 2018). It is the model that kindling's pipelines pretrain, adapt and "
        "serve.",
        finding=f"Of all that read {corpus}, {best} needs the fewest bits: "
        f"{shown(bits[best])} a byte.{doubt}",
        pictures=[
            Picture(
                "gpt_bits",
                language_plots.scores(bits, f"Bits per byte on the test split of {corpus}", "bits"),
                "Lower is better. Bits per byte compare models whatever their tokens are: what a "
                "vocabulary lacks is spelled.",
            ),
            Picture(
                "gpt_losses",
                language_plots.losses({n: climb.models(n) for n in alike}),
                "Only models of one vocabulary compare here: a token is not the same for others.",
            ),
            Picture(
                "gpt_memory",
                language_plots.over_distance(
                    {n: climb.measures(n) for n in alike},
                    "memory",
                    "How much of a word that lies back is remembered",
                    "change of the prediction, nats",
                ),
                "Attention reaches any token of its context in one step.",
            ),
        ],
        tables=[
            table(climb, alike),
            *near.table({n: climb.measures(n) for n in decoders}, near.OF_TOKENS),
        ],
        cost=cost(climb, decoders),
        following="All of these are small. What changes when the same model grows?",
    )
