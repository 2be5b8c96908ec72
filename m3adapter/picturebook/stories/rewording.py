"""Other words that people type for what the picture book has: ages, breeds, times of day, kinds of weather."""

from __future__ import annotations

import random
import re

from ...storybook.wording.choose import Split, allowed

# Only messages have these words. Each says what the words of captions say.
OTHER_WORDS: dict[str, tuple[str, ...]] = {
    "rabbit": ("bunny", "hare", "cottontail", "young rabbit", "bunny rabbit", "little hare"),
    "squirrel": ("chipmunk", "red squirrel", "baby squirrel", "young squirrel", "old squirrel"),
    "hedgehog": ("little hedgehog", "baby hedgehog", "old hedgehog", "hoglet", "hedgehog child"),
    "turtle": ("tortoise", "sea turtle", "old turtle", "baby turtle", "little tortoise"),
    "elephant": ("baby elephant", "little elephant", "elephant calf", "big elephant", "old elephant"),
    "dinosaur": ("dino", "t-rex", "baby dinosaur", "little dino", "T. rex", "tyrannosaurus"),
    "snail": ("little snail", "slow snail", "garden snail", "tiny snail", "old snail"),
    "duck": ("duckling", "drake", "mallard", "baby duck", "little duck", "mother duck"),
    "penguin": ("little penguin", "baby penguin", "penguin chick", "young penguin", "old penguin"),
    "owl": ("owlet", "barn owl", "little owl", "wise old owl", "young owl"),
    "cat": ("kitten", "kitty", "pussycat", "tomcat", "pussy cat", "young cat", "kitty cat"),
    "dog": ("puppy", "doggy", "hound", "pup", "pooch", "young dog", "old dog", "doggie"),
    "pig": ("piglet", "piggy", "hog", "little pig", "young pig", "old sow"),
    "sheep": ("lamb", "ewe", "ram", "little lamb", "young sheep"),
    "mouse": ("little mouse", "field mouse", "baby mouse", "tiny mouse", "young mouse"),
    "giraffe": ("baby giraffe", "little giraffe", "tall giraffe", "giraffe calf", "young giraffe"),
    "kangaroo": ("joey", "baby kangaroo", "wallaby", "young kangaroo", "little kangaroo"),
    "frog": ("toad", "tree frog", "froggy", "little frog", "froglet", "old toad"),
    "bear": ("bear cub", "grizzly", "brown bear", "teddy bear", "grizzly bear", "little bear", "old bear"),
    "fox": ("fox cub", "vixen", "young fox", "little fox", "red fox cub", "old fox"),
    "lion": ("lion cub", "lioness", "little lion", "young lion", "old lion"),
    "monkey": ("ape", "chimp", "little monkey", "baby monkey", "chimpanzee", "young monkey"),
    "tiger": ("tiger cub", "tigress", "little tiger", "young tiger", "old tiger"),
    "horse": ("pony", "foal", "mare", "stallion", "young horse", "colt", "old horse"),
    "cow": ("calf", "bull", "little cow", "heifer", "milk cow", "old cow"),
    "panda": ("panda bear", "baby panda", "little panda", "giant panda", "panda cub"),
    "gift": ("present", "parcel", "package", "wrapped present", "surprise gift"),
    "cake": ("birthday cake", "cream cake", "chocolate cake", "big cake", "pie"),
    "ball": ("football", "soccer ball", "beach ball", "toy ball", "round ball"),
    "bucket": ("pail", "little bucket", "water bucket", "sand bucket", "small pail"),
    "book": ("story book", "picture book", "old book", "thick book", "storybook"),
    "lantern": ("paper lantern", "lamp", "little lantern", "light", "glowing lantern"),
    "sunflower": ("flower", "big sunflower", "yellow flower", "tall sunflower", "sun flower"),
    "umbrella": ("brolly", "parasol", "big umbrella", "rain umbrella", "small umbrella"),
    "rocket": ("toy rocket", "space rocket", "rocket ship", "little rocket", "spaceship toy"),
    "drum": ("toy drum", "little drum", "big drum", "tin drum", "snare drum"),
    "key": ("golden key", "old key", "little key", "magic key", "secret key"),
    "happy": ("glad", "merry", "cheerful", "smiling", "laughing", "joyful", "delighted"),
    "sad": ("unhappy", "crying", "weeping", "tearful", "gloomy", "miserable", "heartbroken"),
    "afraid": ("scared", "frightened", "terrified", "fearful", "anxious", "frightened", "full of fear"),
    "beach": ("seaside", "shore", "sea", "coast", "sandy beach"),
    "forest": ("woods", "wood", "woodland", "deep forest", "dark woods"),
    "lake": ("pond", "lakeside", "blue lake", "little lake", "quiet lake"),
    "city": ("town", "big city", "streets", "town centre", "old town"),
    "meadow": ("field", "flower meadow", "fields", "pasture", "green meadow"),
    "castle": ("palace", "old castle", "castle garden", "big castle", "king's castle"),
    "fair": ("circus", "funfair", "carnival", "fairground", "amusement park"),
    "camp": ("campsite", "tent", "campfire", "tents", "camping site"),
    "village": ("little village", "small town", "hamlet", "old village", "village square"),
    "mountains": ("hills", "high mountains", "Alps", "rocky mountains", "peaks"),
    "at night": ("at midnight", "by moonlight", "after dark", "late at night", "in the middle of the night", "under the stars"),
    "at sunset": ("in the evening", "at dusk", "at twilight", "at nightfall", "as the sun goes down"),
    "by day": ("in the morning", "at noon", "in the daytime", "around noon", "in the sunshine"),
    "in the rain": ("in a downpour", "in the drizzle", "on a wet day", "on a rainy day", "in pouring rain", "as it rains"),
    "in the snow": ("in winter", "in wintertime", "in a snowstorm", "on a snowy day", "while snow falls", "in the deep snow"),
    "is sleeping": ("naps", "is asleep", "snores", "dozes", "slumbers", "is having a nap"),
    "is running": ("races", "sprints", "rushes along", "runs very fast", "dashes off"),
    "is jumping": ("hops about", "bounces", "leaps up", "jumps around", "skips"),
    "is swimming": ("takes a bath", "goes for a swim", "paddles", "has a swim", "splashes about"),
    "is hiding": ("hides", "keeps out of sight", "cannot be seen", "hides away", "is playing hide and seek"),
}  # fmt: skip
_WORDS = re.compile(r"\b(" + "|".join(sorted(map(re.escape, OTHER_WORDS), key=len, reverse=True)) + r")\b")
_ARTICLE = re.compile(r"\b([Aa])n? (?=([A-Za-z]))")


def reworded(rng: random.Random, text: str, split: Split, amount: float = 0.13) -> str:
    """Return a message with some of its words replaced by others for the same."""

    def replaced(found: re.Match[str]) -> str:
        if rng.random() >= amount:
            return found[0]
        return rng.choice(allowed(OTHER_WORDS[found[0]], split))

    changed = _WORDS.sub(replaced, text)
    return _with_articles(changed) if changed != text else text


def _with_articles(text: str) -> str:
    return _ARTICLE.sub(lambda found: f"{found[1]}{'n' if found[2] in 'aeiouAEIOU' else ''} ", text)
