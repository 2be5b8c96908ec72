"""The sentences of the assistant's paragraphs, by what happens in them.

Slots: {hero} with its article, {a_hero} when it is new, {it} {its} {them} for it, {place} ("in the forest"),
{the_place} ("the forest"), {a_prop}, {prop}, {act} (a predicate from props.py), {sky} ("at night in the rain"),
{friend} and {a_friend} (a companion).
"""

from __future__ import annotations

# The first paragraph: who it is and where.
OPENING = (
    "{place} [lives|live] {a_hero}.",
    "{a_hero} [lives|live] {place}.",
    "once upon a time there [was|were] {a_hero} who lived {place}.",
    "this is the story of {a_hero} {place}.",
    "far away, {place}, [lives|live] {a_hero}.",
    "{a_hero} [wakes|wake] up {place}.",
    "{a_hero} [is|are] out for a walk {place}.",
    "listen: {place} [lives|live] {a_hero}.",
    "do you see {a_hero} {place}?",
    "our story begins {place}, and it is about {a_hero}.",
    "{a_hero} [sits|sit] {place}.",
    "look, there [is|are] {a_hero} {place}!",
    "not so long ago, {a_hero} came to {the_place}.",
    "{place} everybody knows {a_hero}.",
    "somewhere {place} [lives|live] {a_hero}.",
    "{a_hero} [has|have] come all the way to {the_place}.",
    "here is a story about {a_hero} {place}.",
    "{a_hero} [takes|take] a little rest {place}.",
    "meet {a_hero}, at home {place}.",
    "it all starts {place}, with {a_hero}.",
)

# The same with the prop, or with the sky, in one breath.
OPENING_RICH = (
    "{place} [lives|live] {a_hero} with {a_prop}.",
    "{a_hero} [sits|sit] {place} with {a_prop}.",
    "{a_hero} [finds|find] {a_prop} {place}.",
    "this is the story of {a_hero} and {a_prop} {place}.",
    "{place}, {a_hero} [finds|find] {a_prop}.",
    "one day {a_hero} [discovers|discover] {a_prop} {place}.",
    "{a_hero} [carries|carry] {a_prop} {place}.",
    "{sky}, {a_hero} [sits|sit] {place}.",
    "{sky}, {a_hero} [walks|walk] around {place}.",
    "{sky}, {a_hero} [finds|find] {a_prop} {place}.",
    "{sky}, {a_hero} [is|are] still awake {place}.",
    "{place}, {sky}, [sits|sit] {a_hero}.",
    "{place}, {sky}, [stands|stand] {a_hero} with {a_prop}.",
    "there [is|are] {a_hero} {place} {sky}.",
    "once {a_hero} [has|have] {a_prop}, {the_place} is never dull again.",
    "{a_hero} [is|are] {place} {sky}, and [it|they] [has|have] {a_prop}.",
    "who has {a_prop} {place}? It is {a_hero}!",
)

# The story moves to a new place.
GOING = (
    "{hero} [walks|walk] on, and soon [it|they] [is|are] {place}.",
    "the way leads to {the_place}, and {hero} [looks|look] around.",
    "{hero} [comes|come] to {the_place}.",
    "next, {hero} [sets|set] out for {the_place}.",
    "{hero} [travels|travel] all the way to {the_place}.",
    "after a long walk {hero} [arrives|arrive] {place}.",
    "now {hero} [is|are] {place}.",
    "off to {the_place}! {hero} cannot wait.",
    "{hero} [has|have] never been to {the_place} before.",
    "and then {hero} [stands|stand] {place}, full of wonder.",
    "{hero} [reaches|reach] {the_place} at last.",
    "so {hero} [goes|go] to {the_place}.",
    "step by step, {hero} [gets|get] to {the_place}.",
    "{hero} [follows|follow] a little path to {the_place}.",
    "it is a long way to {the_place}, but {hero} [is|are] not tired.",
    "{place}, {hero} [takes|take] a deep breath.",
)
GOING_RICH = (
    "{hero} [takes|take] the {prop} to {the_place}.",
    "with the {prop}, {hero} [travels|travel] to {the_place}.",
    "{sky}, {hero} [arrives|arrive] {place}.",
    "{sky}, {hero} [comes|come] to {the_place} with the {prop}.",
    "{hero} [carries|carry] the {prop} all the way to {the_place}.",
    "now {hero} [is|are] {place} {sky}.",
    "{place}, {sky}, {hero} [looks|look] around.",
    "{place}, {hero} [shows|show] everybody the {prop}.",
)

# It stays where it is.
STAYING = (
    "{place}, {hero} {act}.",
    "{hero} {act} {place}.",
    "{hero} {act}, right there {place}.",
    "still {place}, {hero} {act}.",
    "{hero} [stays|stay] {place} and {act}.",
    "now {hero} {act}. It is lovely {place}.",
    "{place} there is much to do: {hero} {act}.",
    "all at once {hero} {act}, {place} of all places.",
    "then {hero} {act} {place}.",
    "{sky}, {hero} {act} {place}.",
    "{place}, {sky}, {hero} {act}.",
    "look at {hero} {place}: [it|they] {act}!",
    "for a while {hero} {act} {place}.",
)

# What an actor does without any prop: predicates.
ACTIONS = (
    "[takes|take] a little nap",
    "[dances|dance] in a circle",
    "[hums|hum] a happy tune",
    "[looks|look] for a good hiding place",
    "[makes|make] a wish",
    "[counts|count] the clouds",
    "[tells|tell] a funny joke",
    "[builds|build] a tiny house of stones",
    "[plays|play] hide and seek",
    "[listens|listen] very closely",
    "[has|have] a wonderful idea",
    "[laughs|laugh] out loud",
    "[sings|sing] as loudly as possible",
    "[practises|practise] a somersault",
    "[thinks|think] about home",
    "[looks|look] up at the sky",
    "[finds|find] a secret path",
    "[eats|eat] a sweet berry",
    "[stretches|stretch] and [yawns|yawn]",
    "[waves|wave] at a passing cloud",
)

# A companion comes: both are in the picture.
MEETING = (
    "{place}, {hero} [meets|meet] {a_friend}.",
    "{hero} [meets|meet] {a_friend} {place}.",
    "{a_friend} comes along, and {hero} [is|are] not alone {place} any more.",
    "who is that {place}? It is {a_friend}! {hero} [says|say] hello.",
    "{a_friend} wants to play with {hero} {place}.",
    "{hero} [sees|see] {a_friend} {place} and [waves|wave].",
    "then {a_friend} comes to {the_place}, and {hero} [has|have] a friend.",
    "{hero} and {a_friend} become friends {place}.",
    '"May I come too?" asks {a_friend}. {hero} [nods|nod], and they play {place}.',
    "{place}, {a_friend} sits down beside {hero}.",
    "suddenly {a_friend} stands {place}, and {hero} [smiles|smile].",
    "{hero} [shares|share] everything with {a_friend} {place}.",
    "{hero} and {a_friend} say hello {place}.",
    "from now on {hero} and {a_friend} are together {place}.",
)

# The companion says goodbye, without being named: the picture does not show it.
PARTING = (
    "the friend has to go home, and {hero} [waves|wave] goodbye {place}.",
    "now {hero} [is|are] alone again {place}.",
    "after a long goodbye, {hero} [is|are] alone {place}.",
    "the friend goes home, but {hero} [stays|stay] {place}.",
    "{hero} [waves|wave] until the friend is gone, and [stays|stay] {place}.",
    "{place}, {hero} [thinks|think] of the friend who went home.",
)

# Another character, alone: the story looks elsewhere.
ELSEWHERE = (
    "meanwhile, {place}, {a_hero} [is|are] wide awake.",
    "at the same time, {a_hero} {act} {place}.",
    "somewhere else, {place}, {a_hero} {act}.",
    "but who is this {place}? It is {a_hero}.",
    "meanwhile {a_hero} [waits|wait] {place}.",
    "and {place} [sits|sit] {a_hero}, who has heard everything.",
    "far from there, {a_hero} [sits|sit] {place}.",
    "now we look at {the_place}: there [is|are] {a_hero}.",
    "{place} [lives|live] {a_hero}, all alone.",
    "not far away, {place}, {a_hero} {act}.",
    "{a_hero} {act} {place}, and nobody knows about it.",
    "elsewhere, {a_hero} [walks|walk] around {place}.",
)

# And back to the hero.
RETURNING = (
    "back to {hero}: [it|they] [is|are] {place}.",
    "and {hero}? [it|they] {act} {place}.",
    "but where is {hero}? Here, {place}!",
    "now {hero} [is|are] here again, {place}.",
    "here [is|are] {hero} again, {place}.",
    "{hero} [has|have] been {place} all the time.",
    "and here comes {hero} again {place}.",
    "{place}, {hero} {act} once more.",
)

# Short answers to "draw ...".
DRAWING = (
    "here [is|are] {a_hero} {place}.",
    "with pleasure: {a_hero} {place}.",
    "of course! This [is|are] {a_hero} {place}.",
    "here you go, {a_hero} {place}.",
    "look, {a_hero} {place}!",
    "gladly. Here [comes|come] {a_hero} {place}.",
    "ta-da! {a_hero} {place}.",
    "there [is|are] {a_hero} {place} now.",
    "I have drawn {a_hero} {place}.",
    "my crayons are ready: {a_hero} {place}.",
)
DRAWING_RICH = (
    "here [is|are] {a_hero} with {a_prop} {place}.",
    "with pleasure: {a_hero} with {a_prop} {place}.",
    "of course! This [is|are] {a_hero} {place} {sky}.",
    "here you go, {a_hero} with {a_prop} {place}.",
    "look, {a_hero} {place} {sky}!",
    "gladly. Here [comes|come] {a_hero} with {a_prop} {place}.",
    "ta-da! {a_hero} {place} {sky}, with {a_prop}.",
    "there [is|are] {a_hero} {place} {sky} now.",
    "I have drawn {a_hero} with {a_prop} {place}.",
)

# Answers to "who lives ...?".
ANSWERING = (
    "{a_hero} [lives|live] {place}.",
    "that is {a_hero}! [it|they] [has|have] always been {place}.",
    "I know who: {a_hero} [lives|live] {place}.",
    "{place}? There [lives|live] {a_hero}.",
    "it is {a_hero}, at home {place}.",
    "nobody but {a_hero}, who [is|are] {place} all year.",
    "it is {a_hero} who [can|can] be seen {place}.",
)

# The look changes; {look} names it.
CHANGING = (
    "just like that, {hero} [turns|turn] {look}. {place} everyone stares.",
    "puff! Now {hero} [is|are] {look}, right there {place}.",
    "{hero} [looks|look] down and [is|are] {look} all over. What fun {place}!",
    "one blink, and {hero} [is|are] {look}. {place} nobody has seen that before.",
    "with a bit of magic, {hero} [becomes|become] {look} {place}.",
    "a drop of paint, and {hero} [is|are] {look} from head to toe, {place}.",
    "hocus pocus! {hero} [is|are] {look} now, still {place}.",
    "and so {hero} [turns|turn] {look} {place}.",
    "as you wish: {hero} [is|are] {look} now, {place}.",
)

# The one of two that has not changed.
WITNESSING = (
    "{other} looks on and laughs.",
    "{other} claps and claps.",
    "{other} cannot believe it.",
    "{other} rubs its eyes.",
    "{other} wants to see it again.",
    "{other} giggles.",
    "{other} says: how lovely!",
)

# Answers to a wish for the same scene with something else.
VARYING = (
    "the same again: {hero} {place} {sky}.",
    "here [is|are] {hero} {place} {sky}.",
    "as you wish: {hero} {place} {sky}.",
    "once more {hero} {place}, but now {sky}.",
    "{hero} [is|are] still {place}, now {sky}.",
    "this time {hero} [is|are] {place} {sky}.",
    "again {hero} {place}, and this time it is {sky}.",
)
VARYING_PLAIN = (
    "the same again: {hero} {place}.",
    "here [is|are] {hero} {place}.",
    "as you wish: {hero} {place}.",
    "once more {hero}, and this time {place}.",
    "now {hero} [is|are] {place}.",
    "this time {hero} [is|are] {place}.",
    "again {hero}, this time {place}.",
)
EMPTY_HANDED = (
    "{hero} [puts|put] everything away and [is|are] {place} with nothing at all.",
    "{hero} [has|have] nothing to carry now, {place}.",
    "it is gone, and {hero} [hops|hop] about {place}.",
    "{hero} [gives|give] it away and [stays|stay] {place}.",
    "gone! {hero} [does|do] not mind {place}.",
    "without it, {hero} [feels|feel] very light {place}.",
)

# A user's picture of a character.
WELCOMING = (
    "what a lovely picture! It is {a_hero}, and {place} the story begins.",
    "hello, {species}! {a_hero} like this [lives|live] {place}.",
    "what a fine {species}! [it|they] [wakes|wake] up {place}.",
    "I see {a_hero}. [it|they] [lives|live] {place}.",
    "that is {a_hero}! One day [it|they] [comes|come] to {the_place}.",
    "oh, {a_hero}! [it|they] [sits|sit] {place}.",
    "what a nice {species}. This is how it came to {the_place}.",
    "I like your {species}. [it|they] [is|are] {place} now.",
    "{a_hero} has come to visit! [it|they] [is|are] {place}.",
)

# The user asked for something that the world does not have.
UNKNOWN = (
    "I cannot draw that one yet, so here comes another hero.",
    "my crayons do not know that one, so I picked a friend.",
    "I have never drawn that one, but I know somebody else.",
    "that one is too hard for my crayons, so meet a friend.",
    "I do not know how to draw that one, so here is a friend.",
)

# Feelings and last sentences, for any scene.
CLOSING = (
    "how happy [it|they] [is|are]!",
    "what a joy!",
    "[it|they] [smiles|smile] from ear to ear.",
    "nobody has ever been so proud.",
    "it is the best feeling in the world.",
    "what a wonderful surprise!",
    "[it|they] [feels|feel] very brave.",
    "everything is just right.",
    "[it|they] [laughs|laugh] and [laughs|laugh].",
    "what will happen next?",
    "[it|they] could stay here for ever.",
    "that tickles!",
    "[it|they] cannot stop smiling.",
    "this is how adventures begin.",
    "[its|their] heart beats fast.",
    "what a lovely little moment.",
    '"Hooray!"',
    '"I like it here," [it|they] [says|say].',
    '"What fun!" [it|they] [says|say].',
    '"Come and look!" [it|they] [calls|call].',
    '"I am not afraid," [it|they] [whispers|whisper].',
    "[it|they] will remember this for a long time.",
    "and everybody is glad.",
    "it could not be better.",
)
