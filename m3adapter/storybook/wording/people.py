"""What users write about: adjectives, names, synonyms for what the world has, and words for what it lacks."""

from __future__ import annotations

import random

# Adjectives that the assistant may use, too. None is a colour.
ADJECTIVES = (
    "little", "brave", "curious", "sleepy", "happy", "shy", "clever", "friendly", "funny", "tiny", "gentle",
    "young", "old", "kind", "cheerful", "hungry", "quiet", "merry", "lonely", "lucky", "proud", "small", "big",
    "dreamy", "silly", "polite", "lazy", "wise",
)  # fmt: skip

# Adjectives that users type, for which the assistant has no word of its own.
OTHER_ADJECTIVES = (
    "fluffy", "grumpy", "adventurous", "beautiful", "magical", "mysterious", "naughty", "cute", "adorable",
    "sweet", "stubborn", "clumsy", "wild", "giant", "fat", "skinny", "angry", "sad", "worried", "nervous",
    "talented", "famous", "royal", "lost", "forgotten", "white", "black", "brown", "golden", "silver", "spotted",
    "striped", "chubby", "noble", "mischievous", "homeless", "tired", "excited", "enchanted", "invisible", "rich",
    "poor", "elderly", "baby", "grown-up", "one-eyed", "super", "smart", "courageous", "soft", "cold", "wet",
    "muddy", "dirty", "fast", "slow", "strong", "weak", "weird", "strange", "fancy", "scruffy",
)  # fmt: skip

NAMES = (
    "Luna", "Max", "Mia", "Leo", "Lily", "Oscar", "Ruby", "Finn", "Bella", "Toby", "Rosie", "Milo", "Daisy",
    "Charlie", "Poppy", "Otto", "Clara", "Hugo", "Emma", "Felix", "Nora", "Sam", "Lucy", "Theo", "Molly", "Benny",
    "Anna", "Jack", "Ella", "Pip", "Coco", "Bruno", "Sophie", "Teddy", "Maya", "Ollie", "Hazel", "Rufus", "Ida",
    "Gus", "Olive", "Ziggy", "Nina", "Momo", "Kiki", "Barnaby", "Penny", "Archie", "Willow", "Jasper", "Tilly",
    "Biscuit", "Pepper", "Mochi", "Juno", "Simon", "Greta", "Yuki", "Ravi", "Amara", "Diego", "Freya", "Igor",
    "Zoe", "Fritz", "Lotte", "Wanda", "Ned", "Sunny", "Bo", "Ferdinand", "Matilda",
)  # fmt: skip
NAME_SYLLABLES = (
    "ba", "be", "bo", "da", "di", "fi", "fa", "go", "ka", "ki", "la", "li", "lo", "ma", "mi", "mo", "na", "ni",
    "no", "pa", "pi", "po", "ra", "ri", "ro", "sa", "si", "ta", "ti", "to", "va", "vi", "za", "zo", "lu", "tu",
    "nu", "ru",
)  # fmt: skip

SPECIES_SYNONYMS: dict[str, tuple[str, ...]] = {
    "rabbit": ("bunny", "hare", "bunny rabbit", "bunnies"),
    "squirrel": ("chipmunk", "squirel"),
    "hedgehog": ("porcupine", "hedgie"),
    "turtle": ("tortoise", "sea turtle"),
    "elephant": ("baby elephant", "elefant"),
    "dinosaur": ("dino", "t-rex", "dragon", "tyrannosaurus"),
    "snail": ("slug",),
    "duck": ("duckling", "goose", "drake"),
    "penguin": ("pinguin", "emperor penguin"),
    "owl": ("owlet", "barn owl"),
    "cat": ("kitten", "kitty", "tomcat"),
    "dog": ("puppy", "doggy", "hound"),
    "pig": ("piglet", "piggy"),
    "sheep": ("lamb", "ewe"),
    "mouse": ("mice", "field mouse"),
    "giraffe": ("girafe",),
    "kangaroo": ("wallaby", "kangaroos"),
    "frog": ("toad", "froggy"),
    "bear": ("teddy bear", "bear cub", "grizzly"),
    "fox": ("vixen", "fox cub"),
    "lion": ("lioness", "lion cub"),
    "monkey": ("ape", "chimpanzee", "chimp"),
}
PLURALS = {"sheep": "sheep", "mouse": "mice", "fox": "foxes"}

PROP_SYNONYMS: dict[str, tuple[str, ...]] = {
    "umbrella": ("parasol",),
    "guitar": ("ukulele", "banjo"),
    "cake": ("birthday cake", "pie"),
    "gift": ("present", "surprise present"),
    "ball": ("football", "beach ball"),
    "drum": ("drums",),
    "book": ("storybook", "notebook"),
    "sunflower": ("flower", "big flower"),
    "bucket": ("pail",),
    "balloon": ("baloon", "hot-air balloon"),
}

# Who cannot be drawn.
STRANGERS = (
    "unicorn", "robot", "girl", "boy", "princess", "prince", "pirate", "knight", "wizard", "witch", "fairy",
    "astronaut", "queen", "king", "whale", "dolphin", "shark", "crocodile", "tiger", "zebra", "horse", "pony",
    "cow", "goat", "chicken", "rooster", "parrot", "eagle", "snake", "spider", "bee", "ant", "butterfly", "crab",
    "octopus", "fish", "koala", "panda", "wolf", "deer", "moose", "raccoon", "bat", "hamster", "mermaid", "ghost",
    "monster", "alien", "snowman", "farmer", "sailor", "baker", "grandmother", "scientist", "child", "family",
    "camel", "hippo", "rhino", "flamingo", "swan", "crow", "lizard", "worm", "beaver", "badger", "otter", "seal",
    "car", "train",
)  # fmt: skip

# What cannot be drawn, either, but may be told.
THINGS = (
    "mirror", "lamp", "boat", "shell", "crown", "map", "hat", "rope", "clock", "bicycle", "lantern", "stone",
    "feather", "coin", "treasure", "letter", "sword", "spaceship", "telescope", "violin", "trumpet", "apple",
    "carrot", "banana", "pizza", "sandwich", "scarf", "boot", "ring", "bottle", "candle", "chair", "ladder",
    "bell", "box", "camera", "phone", "computer", "backpack", "pillow", "blanket", "nut", "acorn", "mushroom",
    "leaf", "pebble", "star", "button", "sock", "spoon", "teapot", "wand", "broom", "puzzle", "swing", "sled",
    "skateboard",
)  # fmt: skip

PLACE_VARIANTS: dict[str, tuple[str, ...]] = {
    "forest": (
        "in a forest",
        "in the woods",
        "in a dark forest",
        "deep in the forest",
        "in an old forest",
        "in the jungle",
    ),
    "beach": (
        "on a beach",
        "at the beach",
        "by the sea",
        "at the seaside",
        "on a sandy beach",
        "on the shore",
        "by the ocean",
    ),
    "desert": (
        "in a desert",
        "in the hot desert",
        "in the middle of the desert",
        "among the dunes",
        "in a sandy desert",
    ),
    "mountains": (
        "in the high mountains",
        "up in the mountains",
        "on a mountain",
        "high on a mountain",
        "in the hills",
        "in the alps",
    ),
    "city": ("in a city", "in a big city", "in the middle of the city", "in town", "in the big town", "in a busy city"),
    "meadow": (
        "in the meadow",
        "in a meadow",
        "on a meadow",
        "in a field",
        "in a field of flowers",
        "on the grass",
        "in the garden",
    ),
    "castle": ("in the castle", "in a castle", "at a castle", "in an old castle", "near the castle", "in a palace"),
    "village": ("in a village", "in a small village", "in a little village", "near the village", "in a quiet village"),
    "volcano": (
        "near the volcano",
        "at the volcano",
        "by a volcano",
        "on the volcano",
        "near a volcano",
        "under the volcano",
    ),
    "camp": ("at a camp", "in the camp", "at the campsite", "in a tent", "while camping", "at summer camp"),
}
UNKNOWN_PLACES = (
    "on the moon", "at school", "in the kitchen", "in space", "under water", "in a library", "on an island",
    "in Paris", "in London", "on Mars", "at the zoo", "in a cave", "in the swamp", "in the clouds",
    "at the museum", "in the bathtub", "on a ship", "on a farm", "in fairyland", "in a supermarket", "at home",
    "in the attic", "on a bridge", "at the station", "in Japan", "in the park",
)  # fmt: skip

LIGHT_VARIANTS = {
    "sunset": (
        "at sunset",
        "in the evening",
        "at dusk",
        "one evening",
        "when the sun goes down",
        "while the sun sets",
        "at twilight",
    ),
    "night": (
        "at night",
        "one night",
        "in the dark",
        "under the stars",
        "by moonlight",
        "in the middle of the night",
        "at midnight",
    ),
    "day": ("by day", "in the morning", "one sunny day", "at noon", "on a sunny day", "one morning"),
}
WEATHER_VARIANTS = {
    "rain": (
        "in the rain",
        "on a rainy day",
        "while it is raining",
        "in a storm",
        "in heavy rain",
        "when it rains",
        "in the pouring rain",
    ),
    "snow": (
        "in the snow",
        "on a snowy day",
        "while it is snowing",
        "in winter",
        "in deep snow",
        "when it snows",
        "at christmas",
    ),
    "clear": ("on a clear day", "in good weather", "in the sunshine", "under a clear sky", "in summer"),
}


def invented_name(rng: random.Random) -> str:
    """Return a first name that hardly anybody has."""
    return "".join(rng.choice(NAME_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()
