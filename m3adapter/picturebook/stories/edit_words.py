"""How users say what should change, as clauses that can be said alone or together ("make it night and add a kite").

Slots: {it}, {them}, {who}, {the_one} (whom the change is about), {species}, {place} ("in the forest") and {spot}
("forest").
"""

from __future__ import annotations

TO_PLACE = (
    "now {place}", "{it} goes to the {spot}", "take {them} to the {spot}", "the same {place}",
    "put {them} {place} instead", "move {them} to the {spot}", "same {kind}, but {place}", "off to the {spot}!",
    "{place} instead", "and now {place}, please", "what about {place}?", "{who} travels to the {spot}",
    "not {old_place}, {place}!", "swap the {old_spot} for the {spot}", "{it} wants to see the {spot}",
    "change the place: {place}", "only change the place to the {spot}", "do it again, but {place}",
    "another one, but {place}", "one more {place}", "draw the same thing {place}",
    "and then {it} walked to the {spot}", "let {them} visit the {spot}", "no {old_spot} this time, the {spot} please",
)  # fmt: skip
TO_NIGHT = (
    "make it night", "at night instead", "now at night", "the same at night", "only change the time to night",
    "turn off the sun", "let it be night", "it gets dark", "later that night", "what about midnight?",
    "and at night?", "put the moon in the sky", "the same under the stars", "night time please",
    "what does {it} do at night?",
)  # fmt: skip
TO_SUNSET = (
    "make it evening", "at sunset instead", "the same at dusk", "let the sun set", "now it is evening",
    "in the evening light, please", "same thing, but at sunset", "make it a sunset", "what about the evening?",
    "then evening comes",
)  # fmt: skip
TO_DAY = (
    "the next morning", "same {kind} the next morning", "make it day again", "not at night, by day!",
    "but it isn't night", "in the daytime instead", "the sun comes up", "it is morning", "same again, next morning",
    "let there be light", "no night this time", "by day, please", "and when the sun is up?", "now it's bright day",
)  # fmt: skip
TO_RAIN = (
    "make it rain", "let it rain", "now it rains", "with rain, please", "it starts to rain", "the same in the rain",
    "same, but on a rainy day", "add some rain", "and suddenly it pours", "what if it rained?", "bad weather please",
)  # fmt: skip
TO_SNOW = (
    "make it snow", "let it snow", "now it snows", "with snow, please", "it begins to snow", "the same in winter",
    "same, but in the snow", "add some snow", "winter comes", "what if it snowed?", "make it a winter picture",
)  # fmt: skip
TO_CLEAR = (
    "no {weather} this time", "without the {weather}", "the {weather} stops", "do it again but without {weather}",
    "the {weather} is over", "stop the {weather}", "lose the {weather}", "make the weather nice again",
    "it doesn't {weather} any more", "same again, no {weather} please", "now the {weather} has gone",
    "I don't want {weather}", "leave out the {weather}",
)  # fmt: skip
ADD_PROP = (
    "add {a_prop}", "with {a_prop}, please", "give {them} {a_prop}", "put {a_prop} next to {them}",
    "{it} finds {a_prop}", "there should be {a_prop}", "and {a_prop}", "I miss {a_prop}", "where is {the_prop}?",
    "with {a_prop} too", "now with {a_prop}", "please add {a_prop} to the picture", "but with {a_prop}",
)  # fmt: skip
SWAP_PROP = (
    "{a_prop} instead of the {old_prop}", "with {a_prop} instead", "swap the {old_prop} for {a_prop}",
    "not {an_old_prop}, {a_prop}!", "replace the {old_prop} with {a_prop}", "turn the {old_prop} into {a_prop}",
    "the {old_prop} becomes {a_prop}", "lose the {old_prop}, add {a_prop}", "make the {old_prop} {a_prop}",
    "no {old_prop}, I said {a_prop}", "only change the {old_prop} to {a_prop}",
    "it should be {a_prop}, not {an_old_prop}",
)  # fmt: skip
DROP_PROP = (
    "no {old_prop} this time", "without the {old_prop}", "remove the {old_prop}", "take the {old_prop} away",
    "leave out the {old_prop}", "the {old_prop} is gone", "same again without {an_old_prop}", "lose the {old_prop}",
    "I don't want the {old_prop}", "{it} loses the {old_prop}", "please no {old_prop}",
)  # fmt: skip
TO_ACTION = {
    "sleeps": ("now {it} sleeps", "let {them} sleep", "{who} is tired and falls asleep", "put {them} to bed",
         "{it} takes a nap", "time for bed", "{it} should be asleep", "make {them} sleep", "good night, {who}!"),
    "jumps": ("now {it} jumps", "let {them} jump", "{who} jumps for joy", "make {them} hop", "{it} should be jumping",
         "and {it} leaps into the air", "jumping, please", "{it} bounces up and down"),
    "runs": ("now {it} runs", "let {them} run", "{who} runs away", "make {them} run", "{it} should be running",
         "and {it} hurries home", "running, please", "faster, {it} must run!", "{it} races off"),
    "swims": ("now {it} swims", "let {them} swim", "{who} goes swimming", "make {them} swim",
         "{it} should be in the water", "and {it} takes a bath", "swimming, please", "{it} goes for a swim"),
    "hides": ("now {it} hides", "let {them} hide", "{who} is hiding", "make {them} hide", "{it} should be hiding",
         "and {it} plays hide and seek", "hiding, please", "{it} hides behind something"),
    "stands": ("wake {them} up", "now {it} just stands there", "let {them} stand still",
         "stop! {it} should stand still", "{who} stops", "{it} waits", "standing, please", "make {them} stand"),
}  # fmt: skip
HOLDING = (
    "now {it} holds {a_prop}", "let {them} carry {a_prop}", "give {them} {a_prop} to hold",
    "{who} is holding {a_prop}", "{it} carries {a_prop}", "put {a_prop} into its arms", "{it} brings {a_prop}",
    "and {it} plays with {a_prop}", "{it} picks up {a_prop}",
)  # fmt: skip
TO_MOOD = {
    "happy": ("cheer {them} up", "make {them} happy", "{it} should be happy", "now {it} smiles", "let {them} laugh",
         "happier, please", "{who} is glad", "and {it} is happy again", "with a smile",
         "why so serious? make {them} smile"),
    "sad": ("make {them} sad", "{it} should be sad", "now {it} cries", "let {them} cry", "sadder, please",
         "{who} is unhappy", "and {it} gets very sad", "with tears", "{it} weeps"),
    "afraid": ("make {them} afraid", "{it} should be scared", "now {it} is frightened", "something scares {them}",
         "{who} is afraid", "and {it} gets scared", "{it} trembles", "let {them} be afraid",
         "{it} hears a noise and is scared"),
    "calm": ("{it} is not {mood} any more", "not {mood} this time", "calm {them} down", "{it} should not be {mood}",
         "no need to be {mood}", "less {mood}, please"),
}  # fmt: skip
TO_LOOK = (
    "make {the_one} {look}", "{the_one} should be {look}", "paint {the_one} {look}", "{the_one} is {look}",
    "in {look}, please", "can {the_one} be {look}?", "actually, {look}", "turn {the_one} {look}",
    "I want {the_one} in {look}", "change the colour to {look}", "a {look} {species}, please",
    "{the_one} turns {look}", "no, a {look} one",
)  # fmt: skip
TO_WEAR = (
    "give {the_one} {a_worn}", "let {the_one} wear {a_worn}", "put {a_worn} on {the_one}", "with {a_worn}, please",
    "{the_one} gets {a_worn}", "and {a_worn}", "{the_one} needs {a_worn}", "add {a_worn}",
    "{the_one} should wear {a_worn}", "now in {a_worn}",
)  # fmt: skip
TO_BARE = (
    "take the {worn} off", "without the {worn}", "no {worn} this time", "{the_one} takes off the {worn}",
    "remove the {worn}", "lose the {worn}", "{the_one} doesn't wear {a_worn}", "{it} has no {worn}",
    "the {worn} is gone",
)  # fmt: skip
TO_FACE = (
    "look to the {side}", "let {the_one} look {side}", "turn {the_one} to the {side}", "facing {side}, please",
    "{the_one} should face the other way", "the other way round", "{the_one} looks to the {side}",
)  # fmt: skip
CLOSER = (
    "closer, please", "come closer", "zoom in", "a close-up", "make {them} bigger", "nearer",
    "show {them} from up close", "bring {them} to the front",
)  # fmt: skip
FARTHER = (
    "farther away, please", "step back", "zoom out", "from far away", "make {them} smaller", "in the distance",
    "show {them} from afar", "farther off",
)  # fmt: skip
MORE = (
    "two of them", "make it two", "one more {species}", "add another {species}", "now there are two",
    "{number} {plural}, please", "give {them} a twin", "with another {species}", "a second {species} comes",
    "draw {number} of them", "make {number} of them", "{number} instead of one",
)  # fmt: skip
FRIEND = (
    "{it} meets {a_friend}", "{a_friend} comes along", "add {a_friend}", "give {them} a friend, {a_friend}",
    "with {a_friend}, please", "{a_friend} visits {them}", "together with {a_friend}", "and {a_friend}",
    "now {a_friend} is there too", "{who} plays with {a_friend}", "someone comes. It is {a_friend}",
    "{it} is not alone: {a_friend} is there", "but {a_friend} should be with {them}", "then {a_friend} arrives",
)  # fmt: skip
LEAVE = (
    "leave out the {gone}", "without the {gone}", "the {gone} goes home", "remove the {gone}",
    "only the {stays}, please", "just the {stays}", "no {gone} this time", "the {gone} says goodbye",
    "the {stays} alone", "send the {gone} away", "I only want the {stays}",
)  # fmt: skip
SWAP = (
    "make it {a_new} instead", "not {an_old}, {a_new}!", "{a_new} instead", "same place, but {a_new}",
    "the same with {a_new}", "swap the {old} for {a_new}", "turn the {old} into {a_new}", "I meant {a_new}",
    "no, {a_new}", "replace the {old} with {a_new}", "the {old} should be {a_new}",
    "only change the {old} to {a_new}", "now {a_new}, same place", "and with {a_new}?",
)  # fmt: skip
NAME_IT = (
    "call {them} {name}", "{the_one} is called {name}", "its name is {name}", "name the {species} {name}",
    "let's call the {species} {name}", "the {species} needs a name: {name}", "from now on {the_one} is {name}",
    "{name} is its name",
)  # fmt: skip
OPENERS = (
    "actually, {x}", "please {x}", "{x}", "{x}", "{x}", "{x}", "{x}", "and {x}", "hm, {x}", "can you change it: {x}",
    "nothing else changes but {x}", "ok, now {x}", "great! {x}", "{x}, please", "I'd rather: {x}", "one change: {x}",
    "wait, {x}", "this time {x}",
)  # fmt: skip
JOINTS = (" and ", ", ", ", and ", "; ", ". Also, ", ". And ", " + ", " but ", ", then ")
