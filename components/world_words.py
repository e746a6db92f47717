"""The words of the embedded world, as tables. What is done with them stands in `world.py`."""

HE = tuple(
    (
        "Adam Bruno Carl Daniel Emil Felix George Hugo Ivan Jonas Karim Leo Martin Noah Oscar "
        "Paul Robert Samuel Thomas Victor"
    ).split()
)
SHE = tuple(
    (
        "Alice Beth Clara Diana Emma Fiona Grace Helen Iris Julia Karen Laura Maria Nora Olga "
        "Petra Rosa Sara Tina Vera"
    ).split()
)
# (he, she): for analogies such as king : queen = man : woman
TITLES = (
    ("king", "queen"),
    ("prince", "princess"),
    ("duke", "duchess"),
    ("man", "woman"),
    ("boy", "girl"),
    ("actor", "actress"),
    ("waiter", "waitress"),
    ("hero", "heroine"),
)
# a relation and its inverse, each as (he, she)
RELATIONS = (
    (("father", "mother"), ("son", "daughter")),
    (("son", "daughter"), ("father", "mother")),
    (("brother", "sister"), ("brother", "sister")),
    (("uncle", "aunt"), ("nephew", "niece")),
    (("nephew", "niece"), ("uncle", "aunt")),
    (("grandfather", "grandmother"), ("grandson", "granddaughter")),
)
FEELINGS = ("loves", "admires", "visits", "misses", "trusts", "teaches", "helps", "answers")
CAPITALS = (
    ("France", "Paris"),
    ("Germany", "Berlin"),
    ("Italy", "Rome"),
    ("Spain", "Madrid"),
    ("Portugal", "Lisbon"),
    ("Greece", "Athens"),
    ("Poland", "Warsaw"),
    ("Austria", "Vienna"),
    ("Hungary", "Budapest"),
    ("Sweden", "Stockholm"),
    ("Norway", "Oslo"),
    ("Finland", "Helsinki"),
    ("Denmark", "Copenhagen"),
    ("Ireland", "Dublin"),
    ("Japan", "Tokyo"),
    ("China", "Beijing"),
    ("Egypt", "Cairo"),
    ("Kenya", "Nairobi"),
    ("Peru", "Lima"),
    ("Chile", "Santiago"),
    ("Cuba", "Havana"),
    ("Canada", "Ottawa"),
    ("Russia", "Moscow"),
    ("Turkey", "Ankara"),
)
TRAVELS = ("flies", "drives", "sails", "walks", "rides")
MONTHS = tuple(
    (
        "January February March April May June July August September October November December"
    ).split()
)
DEGREES = (
    ("big", "bigger", "biggest"),
    ("small", "smaller", "smallest"),
    ("old", "older", "oldest"),
    ("young", "younger", "youngest"),
    ("fast", "faster", "fastest"),
    ("slow", "slower", "slowest"),
    ("tall", "taller", "tallest"),
    ("short", "shorter", "shortest"),
    ("strong", "stronger", "strongest"),
    ("weak", "weaker", "weakest"),
    ("good", "better", "best"),
    ("bad", "worse", "worst"),
    ("rich", "richer", "richest"),
    ("poor", "poorer", "poorest"),
    ("loud", "louder", "loudest"),
    ("bright", "brighter", "brightest"),
)
BEINGS = tuple(
    (
        "horse dog cat cow goat sheep lion tiger bear wolf fox mouse rabbit camel donkey "
        "elephant monkey eagle frog snake"
    ).split()
)
RIVERS = ("Rhine", "Danube", "Nile", "Volga", "Thames", "Seine", "Elbe", "Tiber")
BY_WATER = ("sat", "slept", "fished", "rested", "waited")
WATER_SIGHTS = ("the water", "the boats", "the fish", "the reeds", "the mud", "the ducks")
AT_BANK = ("borrowed", "saved", "changed", "earned", "paid")
MONEY = ("the money", "the coins", "the loan", "the rent", "the savings", "the cash")
GENRES = ("drama", "comedy", "thriller", "western", "musical", "romance", "mystery", "cartoon")
MAKERS = tuple("Adler Brown Cohen Dumas Evans Fuchs Grant Hill Jones Keller Lang Moore".split())
ASPECTS = tuple("plot cast music ending script humour pace camera dialogue story".split())
PRAISE = tuple(
    (
        "brilliant clever charming funny moving lively fresh warm gripping tender elegant witty"
    ).split()
)
BLAME = tuple("dull silly weak boring stale clumsy shallow noisy tedious cold bland messy".split())
MERITS = ("charm", "wit", "grace", "merit", "beauty")
FLAWS = ("flaws", "faults", "holes", "clichés", "problems")
# (how a film begins, whether that is good)
OPENINGS = (("starts well", 1), ("begins with hope", 1), ("starts badly", 0), ("begins slowly", 0))
JUDGES = ("critics", "viewers", "people", "fans")
MANY, FEW = ("most", "many", "all"), ("few", "no", "hardly any")
THINGS = tuple("apples books coins eggs pens stones cards shells nuts stamps keys cups".split())
# English and the invented language
NOUNS = tuple(
    zip(
        "dog cat bird house tree child king river stone ship door star".split(),
        "moku tila resa vando pelu nimi kora sulo danta favi bruno zeta".split(),
        strict=True,
    )
)
ADJECTIVES = tuple(
    zip(
        "red small old white quiet happy dark tall blue young wild soft".split(),
        "rosk peti velk albin shum feliz nokt longa blav juna ferok molen".split(),
        strict=True,
    )
)
VERBS = tuple(
    zip(
        "sees finds loves follows hears moves".split(),
        "vidar trovar amar sekvar audar movar".split(),
        strict=True,
    )
)
# (what was not done, its objects, why because of the one who did not, why because of the object)
REFUSALS = (
    ("cross", ("street", "river", "bridge"), ("tired", "afraid", "lazy"), ("wide", "busy", "long")),
    ("climb", ("hill", "wall", "tower"), ("weak", "old", "sleepy"), ("steep", "high", "smooth")),
    ("enter", ("cave", "barn", "tunnel"), ("shy", "large", "fat"), ("dark", "narrow", "full")),
    ("eat", ("apple", "bread", "soup"), ("sick", "proud", "busy"), ("hot", "bitter", "hard")),
)
# of every English sentence that is translated: (from, to) by word number
SYNTAX = {
    "adjective to noun": ((1, 2), (5, 6)),
    "noun to adjective": ((2, 1), (6, 5)),
    "verb to subject": ((3, 2),),
    "verb to object": ((3, 6),),
    "object to verb": ((6, 3),),
}
