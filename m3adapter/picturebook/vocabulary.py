"""The words and phrases of captions in the picture book, the plainest first."""

from __future__ import annotations

SYNONYMS = {
    "rabbit": ("bunny", "hare", "bunny rabbit"),
    "squirrel": ("chipmunk",),
    "turtle": ("tortoise",),
    "elephant": ("baby elephant",),
    "dinosaur": ("dino",),
    "duck": ("duckling",),
    "owl": ("owlet",),
    "cat": ("kitten", "kitty"),
    "dog": ("puppy", "hound", "doggy"),
    "pig": ("piglet", "piggy"),
    "sheep": ("lamb", "ewe"),
    "mouse": ("little mouse",),
    "kangaroo": ("joey",),
    "frog": ("toad",),
    "bear": ("bear cub", "grizzly"),
    "fox": ("fox cub", "vixen"),
    "lion": ("lion cub",),
    "monkey": ("ape",),
    "tiger": ("tiger cub",),
    "horse": ("pony", "foal"),
    "cow": ("calf", "bull"),
    "panda": ("panda bear",),
}
PLURALS = {"sheep": "sheep", "mouse": "mice", "fox": "foxes", "calf": "calves", "pony": "ponies", "kitty": "kitties",
           "puppy": "puppies", "bunny": "bunnies"}  # fmt: skip
NUMBERS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
LOOK_WORDS = {"grey": ("grey", "gray"), "purple": ("purple", "violet")}
ACCESSORY_PHRASES = {
    "scarf": ("with a scarf", "wearing a scarf", "in a scarf", "with a red scarf", "that wears a scarf"),
    "hat": ("with a hat", "wearing a hat", "in a hat", "with a top hat", "that wears a hat"),
    "glasses": ("with glasses", "wearing glasses", "in glasses", "with a pair of glasses", "that wears glasses"),
    "none": ("with nothing on", "without a hat", "without a scarf", "without glasses"),
}
ACCESSORY_WORDS = {
    "scarf": ("wears a scarf", "has a scarf"),
    "hat": ("wears a hat", "has a hat"),
    "glasses": ("wears glasses", "has glasses"),
    "none": ("wears nothing", "has nothing on"),
}
MOOD_WORDS = {
    "calm": ("calm", "quiet"),
    "happy": ("happy", "cheerful", "smiling", "glad", "joyful", "merry"),
    "sad": ("sad", "unhappy", "crying", "tearful", "weeping", "sorrowful"),
    "afraid": ("afraid", "scared", "frightened", "terrified", "fearful", "anxious"),
}
BEHIND_ONLY = frozenset(("afraid",))  # "the fox is afraid", but no "afraid fox"
# What characters do: as a participle, and as a verb for one or several.
DOING = {
    "stands": ("standing", "waiting", "standing still"),
    "sleeps": ("sleeping", "asleep", "sleeping in a bed", "taking a nap", "fast asleep", "dozing", "napping"),
    "jumps": ("jumping", "leaping", "hopping", "jumping high", "jumping up and down", "bouncing"),
    "runs": ("running", "racing", "running fast", "running along", "dashing", "hurrying"),
    "swims": ("swimming", "swimming in the water", "bathing", "in the water", "splashing in the water", "paddling"),
    "holds": ("holding {held}", "carrying {held}", "with {held} in its arms", "holding up {held}", "bringing {held}",
              "clutching {held}"),
    "hides": ("hiding", "hiding behind {cover}", "behind {cover}", "peeking out from behind {cover}", "hidden",
              "playing hide and seek"),
}  # fmt: skip
DOES = {
    "stands": (("stands", "stand"), ("waits", "wait"), ("is standing", "are standing")),
    "sleeps": (("is sleeping", "are sleeping"), ("sleeps", "sleep"), ("is asleep", "are asleep"),
               ("takes a nap", "take a nap"), ("lies in bed", "lie in bed"), ("naps", "nap")),
    "jumps": (("is jumping", "are jumping"), ("jumps", "jump"), ("leaps", "leap"), ("hops", "hop"),
              ("jumps for joy", "jump for joy"), ("bounces", "bounce")),
    "runs": (("is running", "are running"), ("runs", "run"), ("races", "race"), ("runs away", "run away"),
             ("hurries", "hurry"), ("dashes", "dash")),
    "swims": (("is swimming", "are swimming"), ("swims", "swim"), ("is in the water", "are in the water"),
              ("takes a bath", "take a bath"), ("goes for a swim", "go for a swim"), ("paddles", "paddle")),
    "holds": (("is holding {held}", "are holding {held}"), ("holds {held}", "hold {held}"),
              ("carries {held}", "carry {held}"), ("has {held} in its arms", "have {held} in their arms"),
              ("brings {held}", "bring {held}")),
    "hides": (("is hiding", "are hiding"), ("hides", "hide"), ("hides behind {cover}", "hide behind {cover}"),
              ("is hiding behind {cover}", "are hiding behind {cover}"), ("peeks out", "peek out")),
}  # fmt: skip
PLACE_PHRASES = {
    "forest": ("in the forest", "in the woods", "among the trees"),
    "beach": ("on the beach", "at the beach", "by the sea", "at the seaside"),
    "desert": ("in the desert", "among the cacti"),
    "mountains": ("in the mountains", "by the mountains"),
    "city": ("in the city", "in town", "in the street"),
    "meadow": ("on the meadow", "in the meadow", "in a field of flowers"),
    "castle": ("at the castle", "by the castle", "in front of a castle"),
    "village": ("in the village", "in a little village"),
    "volcano": ("by the volcano", "at the volcano", "near a volcano"),
    "camp": ("at the camp", "by the tent", "at the campfire", "camping"),
    "lake": ("by the lake", "at the lake"),
    "fair": ("at the fair", "at the circus", "at the funfair"),
}
PLACE_WORDS = {"mountains": ("mountains",), "beach": ("beach", "seaside"), "forest": ("forest", "woods")}
LIGHT_PHRASES = {
    "day": ("by day", "during the day", "in the daytime", "in broad daylight"),
    "sunset": ("at sunset", "in the evening", "at dusk", "as the sun sets", "in the evening light"),
    "night": ("at night", "by night", "in the dark", "under the moon", "in the moonlight", "under the stars"),
}
LIGHT_WORDS = {"day": ("day", "daytime"), "sunset": ("sunset", "evening"), "night": ("night",)}
WEATHER_PHRASES = {
    "clear": ("in fine weather", "without rain", "under a clear sky", "without snow", "with no rain or snow"),
    "rain": ("in the rain", "while it rains", "in rainy weather", "on a rainy day", "as it rains"),
    "snow": ("in the snow", "while it snows", "in snowy weather", "in winter", "as it snows"),
}
WEATHER_WORDS = {"clear": ("no rain", "no snow", "fine weather"), "rain": ("rain", "rainy"), "snow": ("snow", "snowy")}
BESIDE = ("with", "next to", "beside", "near", "by")
PROP_SYNONYMS = {"gift": ("present",), "cake": ("birthday cake",), "ball": ("football", "soccer ball"),
                 "bucket": ("pail",), "book": ("story book",), "lantern": ("paper lantern",)}  # fmt: skip
SPOT_PHRASES = {"left": ("on the left",), "middle": ("in the middle",), "right": ("on the right",)}
OPENINGS = ("a picture of", "show me", "please draw", "there is", "an illustration of", "i want to see", "paint",
            "a drawing of", "once there was", "look at", "imagine")  # fmt: skip
