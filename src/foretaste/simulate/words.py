"""The words of the simulated shop: what it sells, how it describes it, and how its customers judge it."""

from typing import NamedTuple

__all__ = ["AGE_GROUPS", "CATEGORIES", "DEVICES", "PAGES", "QUALITIES", "REGIONS", "REVIEWS", "STYLES", "CategoryWords"]


class ThemeWords(NamedTuple):
    """A sub-theme of a category."""

    nouns: tuple[str, ...]
    purposes: tuple[str, ...]


class CategoryWords(NamedTuple):
    """A department: what a typical item costs, who makes it, and its themes in the order in which people shop."""

    name: str
    price: float
    brands: tuple[str, ...]
    themes: tuple[ThemeWords, ...]


def _theme(nouns: str, purposes: str) -> ThemeWords:
    return ThemeWords(tuple(nouns.split(", ")), tuple(purposes.split("; ")))


CATEGORIES = (
    CategoryWords(
        "Camping",
        60.0,
        ("Tarnvale", "Larkfell", "Norrpine", "Gritstone"),
        (
            _theme("tent, tarp shelter, bivouac, dome tent", "keeps two people dry in heavy rain; pitches in minutes"),
            _theme("sleeping bag, down quilt, sleeping mat, bag liner", "warm on frosty nights; packs down small"),
            _theme("camp stove, gas burner, cooking set, kettle", "boils water fast; simmers in the wind"),
            _theme("lantern, head torch, string light, beacon", "lights a whole camp; lasts three nights on a charge"),
            _theme("backpack, rucksack, duffel, rain cover", "carries a week of food; sits close on the hips"),
        ),
    ),
    CategoryWords(
        "Kitchen",
        40.0,
        ("Millstead", "Ondine", "Copperby", "Hearthline"),
        (
            _theme("chef knife, paring knife, bread knife, whetstone", "slices tomatoes cleanly; holds its edge"),
            _theme("frying pan, saucepan, casserole, wok", "browns evenly; goes from hob to oven"),
            _theme("mixing bowl, whisk, rolling pin, cake tin", "for bread and cakes; makes dough lighter"),
            _theme(
                "espresso maker, milk frother, coffee grinder, filter cone", "a rich cup each morning; grinds evenly"
            ),
            _theme("tea pot, tea strainer, tea caddy, cup set", "draws leaves gently; keeps green tea fresh"),
        ),
    ),
    CategoryWords(
        "Music",
        120.0,
        ("Verasound", "Oakstring", "Tonetree", "Pulsar"),
        (
            _theme("guitar, ukulele, bass, banjo", "sings in small rooms; easy on the fingertips"),
            _theme("guitar strings, capo, tuner, plectrum set", "stays in tune; clips on in a second"),
            _theme("amplifier, effect pedal, speaker cabinet, preamp", "from clean to fuzzy; loud enough for a stage"),
            _theme("microphone, pop filter, mic stand, audio interface", "records voices clearly; plugs into a laptop"),
            _theme(
                "headphones, earbuds, monitor speakers, turntable", "hears every detail; for long evenings of records"
            ),
        ),
    ),
    CategoryWords(
        "Garden",
        30.0,
        ("Fernhollow", "Greenwick", "Loamy", "Petalworks"),
        (
            _theme("seed mix, bulb set, herb seeds, wildflower seeds", "blooms until autumn; brings bees"),
            _theme("plant pot, raised bed, hanging basket, planter", "drains well; looks good on a balcony"),
            _theme("spade, hand trowel, garden fork, hoe", "cuts through clay; lies well in the hand"),
            _theme("pruning shears, hedge trimmer, lopper, saw", "makes clean cuts; for roses and old branches"),
            _theme("watering can, garden hose, sprinkler, rain barrel", "waters gently; saves rain for dry weeks"),
        ),
    ),
    CategoryWords(
        "Games",
        35.0,
        ("Dicewright", "Meeplehall", "Ravenboard", "Quillgate"),
        (
            _theme("board game, strategy game, tile game, worker game", "an evening of plotting; plays in an hour"),
            _theme("game expansion, scenario pack, hero pack, map pack", "adds new paths; for those who know the base"),
            _theme("dice set, card sleeves, game tray, score pad", "keeps the table tidy; rolls true"),
            _theme("jigsaw puzzle, wooden puzzle, logic cube, maze box", "a thousand pieces of calm; hard to put down"),
            _theme("party game, word game, quiz cards, bluffing game", "laughter for eight; explained in a minute"),
        ),
    ),
    CategoryWords(
        "Sport",
        55.0,
        ("Swiftly", "Kestrel", "Ironbrook", "Paceline"),
        (
            _theme("running shoes, trail shoes, racing flats, insoles", "springs on asphalt; grips on wet roots"),
            _theme("running shirt, tights, wind jacket, race belt", "dries quickly; light on long runs"),
            _theme("yoga mat, yoga block, stretch strap, bolster", "does not slip; for slow mornings"),
            _theme("dumbbell, kettlebell, pull-up bar, resistance band", "builds strength at home; solid grip"),
            _theme("bike light, cycling helmet, bike pump, saddle bag", "seen from afar; fits every ride"),
        ),
    ),
    CategoryWords(
        "Wardrobe",
        70.0,
        ("Linden & Loom", "Halden", "Ateljé Nord", "Moss"),
        (
            _theme("wool sweater, cardigan, turtleneck, knit vest", "soft against wind; warm without weight"),
            _theme("rain coat, parka, trench coat, quilted jacket", "keeps out storms; deep pockets"),
            _theme("linen shirt, blouse, tunic, summer dress", "airy in the heat; falls nicely"),
            _theme("leather boots, sneakers, loafers, sandals", "walks all day; can be resoled"),
            _theme("scarf, beanie, gloves, tote bag", "finishes an outfit; a gift that fits"),
        ),
    ),
    CategoryWords(
        "Books",
        18.0,
        ("Harbour Press", "Northlight", "Papertrail", "Saltwood"),
        (
            _theme("crime novel, detective story, thriller, mystery", "a body in the fog; a twist on the last page"),
            _theme(
                "space opera, dystopia, time travel novel, robot tale", "far stars and old wars; asks what is human"
            ),
            _theme("travel memoir, walking guide, atlas, island diary", "from pass to coast; makes one pack a bag"),
            _theme(
                "cookbook, baking book, fermentation guide, soup book", "a hundred dishes; for weeknights and feasts"
            ),
            _theme("picture book, fairy tale, pirate story, animal book", "read aloud at bedtime; for small explorers"),
        ),
    ),
)

# Style of an item -> words of its title and of its description.
STYLES = (
    (("Classic", "Heritage", "Traditional"), "A timeless shape that one's grandparents would have known."),
    (("Modern", "Minimal", "Sleek"), "Clean lines, nothing that is not needed."),
    (("Playful", "Colourful", "Cheerful"), "Bright colours that make people smile."),
    (("Natural", "Organic", "Recycled"), "Made of honest, renewable material."),
)

# Plain, decent and excellent items.
QUALITIES = (
    ("A basic finish for occasional use.", "Simple and no more than that.", "An entry to the subject."),
    ("Well made for its purpose.", "Solid work throughout.", "A dependable choice."),
    ("Award-winning craftsmanship.", "Superbly finished and made to last.", "Outstanding in every test."),
)

AGE_GROUPS = ("18-24", "25-34", "35-44", "45-59", "60+")
REGIONS = ("north", "east", "south", "west", "islands")
PAGES = ("home", "category", "product")
DEVICES = ("desktop", "mobile", "tablet")

# Stars, worst first -> three parts of a review, each chosen on its own.
REVIEWS = (
    (
        ("Terrible.", "A complete disappointment.", "Awful, I want my money back.", "Useless."),
        ("It broke at once", "The quality is dreadful", "Nothing about it works", "It looks nothing like the picture"),
        ("and I returned it.", "and I regret buying it.", "so avoid this one.", "and support was rude."),
    ),
    (
        ("Disappointing.", "Not good.", "I expected more.", "Rather poor."),
        ("It feels flimsy", "The finish is sloppy", "It is worse than it looks", "It does its job badly"),
        ("and I would not buy it again.", "for this price.", "and I hardly use it.", "so I cannot advise it."),
    ),
    (
        ("It is okay.", "Average.", "So-so.", "Neither good nor bad."),
        (
            "It does what it should",
            "The finish is acceptable",
            "It is fine for now",
            "Some things are nice, some are not",
        ),
        ("but no more.", "and that is all.", "though there are better ones.", "for occasional use."),
    ),
    (
        ("Good.", "Nice buy.", "I like it.", "Pleased with it."),
        ("It works well", "The finish is good", "It is handy", "It looks like the picture"),
        ("and I use it often.", "with small flaws only.", "for a fair price.", "and it came quickly."),
    ),
    (
        ("Excellent!", "I love it!", "Fantastic!", "Perfect."),
        ("It is beautifully made", "The quality is superb", "It works wonderfully", "It is even better than hoped"),
        ("and I would buy it again.", "and a joy every day.", "so highly recommended.", "and worth every cent."),
    ),
)
