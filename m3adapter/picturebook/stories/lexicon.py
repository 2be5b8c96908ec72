"""Names that people give to characters, and things that the picture book does not have."""

from __future__ import annotations

import random

from ...storybook.wording.choose import Split, allowed

HE = (
    "Milo", "Bruno", "Oscar", "Max", "Tom", "Otto", "Sam", "Paul", "Felix", "Leo", "Hugo", "Finn", "Theo", "Jack",
    "Charlie", "Oliver", "Ben", "Henry", "Noah", "Teddy", "Archie", "Barney", "Rufus", "Toby", "George", "Albert",
    "Emil", "Karl", "Pedro", "Mateo", "Ali", "Omar", "Ravi", "Kenji", "Ivan", "Igor", "Lars", "Sven", "Gus", "Ernie",
    "Bert", "Harvey", "Stanley", "Winston", "Monty", "Fritz", "Anton", "Nico", "Diego", "Bobby", "Billy", "Mr Brown",
    "Jerry", "Ollie", "Percy", "Wilbur", "Rocco", "Samir",
)  # fmt: skip
SHE = (
    "Lily", "Rosie", "Ella", "Nala", "Zoe", "Ruby", "Anna", "Clover", "Mia", "Emma", "Luna", "Bella", "Daisy",
    "Molly", "Lucy", "Sophie", "Olga", "Greta", "Heidi", "Frida", "Maya", "Aisha", "Yuki", "Mei", "Lola", "Nina",
    "Carla", "Ines", "Poppy", "Hazel", "Ivy", "Olive", "Pearl", "Stella", "Tilly", "Wilma", "Fiona", "Penny", "Betty",
    "Dora", "Nora", "Alma", "Amelie", "Tess", "Paula", "Sara", "Kiki", "Momo", "Lulu", "Mimi", "Miss Moss", "Pip",
    "Pepper", "Willow", "Juno", "Matilda", "Edith", "Selma",
)  # fmt: skip
_WORDS = frozenset(
    (
        "zoo",
        "too",
        "see",
        "boo",
        "moo",
        "poo",
        "bee",
        "tree",
        "free",
        "bad",
        "tea",
        "sea",
        "she",
        "try",
        "fly",
        "shy",
        "pee",
        "wee",
        "gee",
    )
)
_FIRST = (
    "B", "D", "F", "G", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Z", "Br", "Fl", "Tr", "Gr", "Ch", "Sh",
    "J",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "oo", "ee", "ai", "y")
_MIDDLE = (
    "b", "d", "f", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "ll", "mm", "nn", "tt", "bb", "lk", "nd", "rt",
)  # fmt: skip
_LAST = ("", "", "", "n", "x", "s", "l", "r", "lo", "na", "bert", "kin", "to")

ANIMALS = (
    "unicorn", "dragon", "wolf", "shark", "crocodile", "alligator", "hippo", "rhino", "zebra", "camel", "llama",
    "alpaca", "goat", "donkey", "chicken", "hen", "rooster", "goose", "swan", "parrot", "eagle", "hawk", "pigeon",
    "crow", "raven", "seagull", "flamingo", "peacock", "ostrich", "bat", "rat", "hamster", "guinea pig", "ferret",
    "badger", "beaver", "otter", "raccoon", "skunk", "deer", "reindeer", "moose", "elk", "buffalo", "bison", "koala",
    "sloth", "gorilla", "lemur", "leopard", "cheetah", "jaguar", "lynx", "hyena", "jackal", "coyote", "seal",
    "walrus", "whale", "dolphin", "octopus", "squid", "jellyfish", "crab", "lobster", "starfish", "fish", "goldfish",
    "salmon", "snake", "cobra", "lizard", "gecko", "chameleon", "iguana", "worm", "caterpillar", "butterfly", "moth",
    "bee", "wasp", "ant", "spider", "beetle", "ladybird", "ladybug", "fly", "mosquito", "dragonfly", "grasshopper",
    "cricket", "scorpion", "anteater", "armadillo", "platypus", "wombat", "meerkat", "polar bear", "mole", "weasel",
    "stork", "toucan", "woodpecker", "hummingbird", "turkey", "narwhal", "mammoth", "pegasus", "phoenix", "griffin",
    "yak",
)  # fmt: skip
PEOPLE = (
    "boy", "girl", "man", "woman", "baby", "child", "princess", "prince", "king", "queen", "knight", "pirate",
    "wizard", "witch", "fairy", "mermaid", "giant", "elf", "dwarf", "troll", "ghost", "monster", "robot", "alien",
    "astronaut", "doctor", "teacher", "policeman", "fireman", "farmer", "cook", "clown", "superhero", "ninja",
    "cowboy", "angel", "dancer", "singer", "football player", "soldier", "president", "vampire", "zombie", "snowman",
    "doll", "scarecrow",
)  # fmt: skip
OWN = (
    "my grandmother", "my mum", "my dad", "my brother", "my little sister", "my grandpa", "our teacher",
    "my friend Tim", "me and my wife", "my husband", "my son", "my boss", "me", "myself", "us", "my neighbour",
    "my baby", "my uncle", "Superman", "Batman", "Elsa", "Mickey Mouse", "Harry Potter", "Pikachu", "Santa Claus",
    "Peppa Pig", "Shrek", "the president", "the pope", "Taylor Swift", "Albert Einstein", "Napoleon", "Cinderella",
    "Snow White", "Jesus", "Winnie the Pooh", "Barbie", "Mario", "Sonic", "Darth Vader", "the king of Spain", "Messi",
    "the Gruffalo",
)  # fmt: skip
THINGS = (
    "car", "train", "bus", "lorry", "tractor", "bicycle", "motorbike", "aeroplane", "helicopter", "ship", "boat",
    "submarine", "house", "skyscraper", "bridge", "lighthouse", "church", "square", "circle", "triangle", "logo",
    "map", "chart", "spoon", "chair", "table", "lamp", "computer", "phone", "television", "clock", "watch", "sword",
    "crown", "ring", "rose", "tulip", "tree", "mushroom", "banana", "pizza", "burger", "bowl of soup", "sandwich",
    "planet", "rainbow", "portrait", "selfie", "wedding", "pair of shoes", "handbag", "bottle of wine", "coffee cup",
    "piano", "violin", "football match", "birthday card", "tattoo", "spaceship", "waterfall", "kitchen", "bathroom",
)  # fmt: skip
SIGHTS = (
    "the Eiffel Tower", "Big Ben", "the Great Wall of China", "the Statue of Liberty", "the pyramids",
    "Mount Everest", "Paris", "London", "Tokyo", "New York", "the Mona Lisa", "the Titanic", "the earth from space",
    "Mars", "the Moon landing",
)  # fmt: skip
PATTERNS = (
    "striped", "spotted", "black", "white", "golden", "rainbow-coloured", "checked", "silver", "brown", "turquoise",
)  # fmt: skip


def name(rng: random.Random, split: Split, *taken: str) -> tuple[str, bool]:
    """Return a name that nobody in the story has, and whether it is a she's; every third one is made up."""
    while True:
        she = rng.random() < 0.5
        found = invented(rng) if rng.random() < 0.35 else rng.choice(allowed(SHE if she else HE, split))
        if found not in taken and found.lower() not in _WORDS:
            return found, she


def invented(rng: random.Random) -> str:
    """Return a name that nobody has ever had, so that names are copied and not guessed."""
    middle = rng.choice(_MIDDLE) + rng.choice(_VOWELS) if rng.random() < 0.75 else ""
    return rng.choice(_FIRST) + rng.choice(_VOWELS) + middle + rng.choice(_LAST)
