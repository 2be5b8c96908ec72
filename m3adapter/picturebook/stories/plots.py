"""The sentences of plots: of each the trouble and the ending as premises say them, and what the pictures do not show.

Slots: {who} (as somebody new), {it}, {its}, {them}; {name} and {thing} as told of before; {friend} somebody new.
"""

from __future__ import annotations

JOURNEY_TROUBLE = (
    "{who} wants to see {spot}", "{who} dreams of {spot}", "{who} has never been to {spot}",
    "{who} sets out for {spot}", "{who} would love to go to {spot}", "{who} longs for {spot}",
)  # fmt: skip
JOURNEY_ENDING = (
    "{it} gets there", "{it} is there", "{it} arrives", "{it} reaches {spot}", "{it} sees {spot}",
    "{it} makes it to {spot}",
)  # fmt: skip
JOURNEY_TRIES = (
    "The way is long.", "On and on it goes.", "It is still far.", "Not there yet!", "A little farther now.",
    "Is this it? Not yet.",
)  # fmt: skip
JOURNEY_LAST = ("At last!", "There it is!", "What a moment!", "Finally!", "The wish has come true.")
JOURNEY_FIRST = (
    "{name} dreams of {spot}.", "how far is it to {spot}?", "{name} wants to see {spot}.",
    "{name} has never seen {spot}.", "one wish is left: to see {spot}.",
)  # fmt: skip
LOST_TROUBLE = (
    "{who} is lost {where}", "{who} cannot find the way home {where}", "{who} has lost its way {where}",
    "{who} got lost {where}", "{who} does not know where home is",
)  # fmt: skip
LOST_TRIES = (
    "Is home over there? No.", "Perhaps this way?", "It looks left and right.", "This is not home, either.",
    "On with the search!",
)  # fmt: skip
LOST_ENDING = (
    "{friend} shows the way home to the {home}", "{friend} brings {them} home to the {home}",
    "{friend} helps and they get to the {home}",
)  # fmt: skip
LOST_ENDING_2 = (
    "{it} is home at the {home}", "{it} finds the {home}", "{it} gets home to the {home}",
    "{it} sees the {home}, home again",
)  # fmt: skip
LOST_FIRST = (
    "Which way is home?", "Where is the way home?", "Everything looks the same here.", "Nobody knows the way.",
    "Home is far away.",
)  # fmt: skip
LOST_MIDDLE = (
    "Help has come!", "Somebody knows the way.", "There is help!", "What luck!", "“I know the way!” says somebody.",
)  # fmt: skip
LOST_LAST = (
    "Home at last!", "There is home!", "That is home!", "The way was long, but here is home.", "Home, sweet home!",
)  # fmt: skip
SEARCH_TROUBLE = (
    "{who} loses {own}{where}", "{who} has lost {own}{where}", "{who} is looking for {own}{where}",
    "{who} cannot find {own}{where}", "{who} misses {own}{where}", "{who} searches everywhere for {a_prop}{where}",
)  # fmt: skip
SEARCH_TRIES = (
    "No {prop} far and wide.", "Is {thing} here? No.", "The search goes on.", "{thing} is not here.",
    "Not here, either!",
)  # fmt: skip
SEARCH_ENDING = ("{friend} finds it", "{friend} brings it back", "{friend} has the {prop}")
SEARCH_ENDING_2 = (
    "{it} finds it", "{it} finds the {prop}", "the {prop} is found", "there it is", "{it} has the {prop} again",
)  # fmt: skip
SEARCH_FIRST = (
    "{thing} is gone!", "where is {thing}?", "{name} has lost {thing}.", "{name} misses {thing}.",
    "{thing} is nowhere to be seen.",
)  # fmt: skip
SEARCH_LAST = ("Here is {thing}!", "{thing} is found!", "The search is over!", "Look, {thing}!", "Hooray!")
COMFORT_TROUBLE = (
    "{who} is sad", "{who} is very unhappy", "{who} cries all day", "{who} has a bad day", "{who} is in tears",
    "{who} feels sad",
)  # fmt: skip
COMFORT_ENDING = (
    "{it} gets {a_prop} and is happy again", "{it} finds {a_prop} and smiles", "{a_prop} makes everything good",
    "{a_prop} cheers {them} up", "{it} laughs because of {a_prop}",
)  # fmt: skip
COMFORT_FIRST = (
    "What a bad day.", "Nothing is any fun.", "Who can help?", "Even the best place looks grey today.",
    "If only something nice would happen!",
)  # fmt: skip
COMFORT_TRIES = (
    "A walk does not help.", "It does not get better.", "No luck today.", "Not even this is fun.", "Still no smile.",
)  # fmt: skip
COMFORT_LAST = (
    "What a surprise!", "But look, {a_prop}!", "All the tears are gone.", "Now everything is good.",
    "And the sadness is over.",
)  # fmt: skip
COURAGE_TROUBLE = (
    "{who} is afraid of the {fear}", "{who} fears the {fear}", "{who} is scared of the {fear}",
    "{who} does not dare to go out in the {fear}", "{who} hates the {fear}", "{who} hides from the {fear}",
)  # fmt: skip
COURAGE_ENDING = (
    "{it} learns to love it", "{it} is not afraid any more", "{it} loves the {fear}", "{it} dances in the {fear}",
    "{it} is brave and happy", "{it} likes it",
)  # fmt: skip
COURAGE_FIRST = (
    "If only it were over!", "What was that sound?", "Is there something out there?", "How long will it last?",
    "It is not easy to be brave.",
)  # fmt: skip
COURAGE_LAST = (
    "The {fear} is wonderful!", "Nothing to be afraid of!", "Who is afraid of the {fear}? Nobody!",
    "Now that is brave.", "The fear is gone.",
)  # fmt: skip
REST_ENDING = ("{it} falls asleep", "{it} sleeps", "{it} is fast asleep", "{it} goes to bed", "{it} sleeps well")
REST_TRIES = ("Perhaps this makes one tired.", "Not tired yet!", "One more round.", "A yawn, at last.", "And now?")
REST_TROUBLE = (
    "{who} cannot sleep", "{who} is not tired at all", "{who} does not want to go to bed", "{who} is wide awake",
    "{who} tries to fall asleep", "{who} looks for a place to sleep",
)  # fmt: skip
REST_FIRST = (
    "Sleep will not come.", "How does one fall asleep?", "Wide awake!", "Is anybody tired? Not yet.",
    "No yawn, not even a small one.",
)  # fmt: skip
REST_LAST = ("Now it is time to rest.", "The eyes fall shut.", "What a day!", "Good night!", "At last, sleep.")
FRIENDSHIP_TROUBLE = (
    "{who} is lonely", "{who} has no friends", "{who} is all alone and sad", "{who} wants a friend",
    "{who} looks for somebody to play with",
)  # fmt: skip
FRIENDSHIP_ENDING = (
    "{it} meets {friend}", "{friend} becomes a friend", "{it} finds a friend, {friend}", "{friend} comes to play",
    "{it} plays with {friend}",
)  # fmt: skip
FRIENDSHIP_FIRST = (
    "Nobody is there to play.", "All alone!", "How nice a friend would be!", "It is quiet, too quiet.",
    "Is there nobody?",
)  # fmt: skip
FRIENDSHIP_TRIES = (
    "Nobody here, either.", "Hello? No answer.", "Still alone.", "Where are all the others?", "On and on, all alone.",
)  # fmt: skip
FRIENDSHIP_LAST = (
    "Friends for ever!", "Not alone any more!", "“Shall we play?”", "That is what a friend is.", "Now there are two.",
)  # fmt: skip
LEARNING_TROUBLE = (
    "{who} wants to learn to {verb}", "{who} cannot {verb}", "{who} wishes to {verb}", "{who} is too shy to {verb}",
    "{who} would like to {verb}",
)  # fmt: skip
LEARNING_ENDING = (
    "{it} can do it", "{it} {action}", "{it} learns to {verb}", "{it} dares to {verb}", "{it} {action} and is happy",
)  # fmt: skip
LEARNING_FIRST = (
    "{name} wants to {verb}.", "can {name} learn to {verb}?", "to {verb} is not easy.", "how do the others {verb}?",
    "{name} has never dared to {verb}.",
)  # fmt: skip
LEARNING_LAST = ("It works!", "Who would have thought it!", "Look at that!", "Hooray!", "And suddenly it is easy.")
HIDING_TROUBLE = (
    "{first_name} and {second} play hide and seek {where}", "{first_name} hides from {second} {where}",
    "{second} is looking for {first_name} {where}", "a game of hide and seek {where} with {first_name} and {second}",
    "{second} seeks, {first_name} hides {where}",
)  # fmt: skip
HIDING_ENDING = (
    "{the_friend} finds {the_hero}", "both are happy", "they laugh together",
    "the game is over and they jump for joy", "everybody is found",
)  # fmt: skip
HIDING_FIRST = (
    "Let the game begin!", "One, two, three, I am coming!", "Who is the better one at this game?",
    "Close your eyes and count!", "A game begins.",
)  # fmt: skip
HIDING_MIDDLE = (
    "Where can it be?", "Left? Right? Nobody.", "Warm, warmer...", "The search takes a while.", "So close!",
)  # fmt: skip
HIDING_LAST = ("Found!", "There you are!", "What a good game!", "Got you!", "Again, again!")
SHELTER_TROUBLE = (
    "it {verb} and {who} runs away", "{who} runs from the {weather}", "{who} does not like the {weather} and runs",
    "{who} runs home because it {verb}", "when it {verb}, {who} runs",
)  # fmt: skip
SHELTER_ENDING = (
    "{it} hides at the {cover} until the night", "{it} hides at the {cover}", "{it} sleeps at the {cover}",
    "{it} finds a dry place at the {cover}",
)  # fmt: skip
SHELTER_FIRST = (
    "Quick, quick!", "Nobody likes to get wet.", "Away from here!", "What weather!", "Home, as fast as possible!",
)  # fmt: skip
SHELTER_TRIES = ("On and on!", "Where is a good place?", "Not here.", "It does not stop.", "Still so far to go.")
SHELTER_LAST = (
    "Safe at last!", "A good place to stay.", "Here it is dry.", "That was close!",
    "Let the weather do what it likes.",
)  # fmt: skip
FLIGHT_TROUBLE = (
    "{who} wants to fly to {sky}", "{who} dreams of flying", "{who} wants to touch {sky}",
    "{who} wishes to see {sky} from close by", "{who} tries to fly",
)  # fmt: skip
FLIGHT_ENDING = (
    "{it} flies with {a_prop}", "{a_prop} carries {them} up", "{it} takes {a_prop}", "{it} finds {a_prop}",
    "{a_prop} helps",
)  # fmt: skip
FLIGHT_TRIES = (
    "Higher, even higher!", "That was not high enough.", "Without wings it is hard.", "Run, jump, and... no.",
    "Once more!",
)  # fmt: skip
FLIGHT_FIRST = (
    "{name} wants to fly.", "how does one fly to {sky}?", "{name} dreams of {sky}.", "{sky} is so far away!",
    "flying must be wonderful.",
)  # fmt: skip
FLIGHT_LAST = (
    "Up and away!", "It is flying!", "With {a_prop} it works.", "Goodbye, ground!", "{sky} is coming closer.",
)  # fmt: skip
SHARING_TROUBLE = (
    "{first_name} has {a_prop} and {second} has none", "{first_name} brings {a_prop} for {second}",
    "{first_name} and {second} both want the {prop}", "{second} is sad and {first_name} has {a_prop}",
    "{first_name} finds {a_prop} that {second} has lost",
)  # fmt: skip
SHARING_ENDING = (
    "they share the {prop}", "they share", "both are happy", "they are friends", "both are happy about the {prop}",
)  # fmt: skip
SHARING_TRIES = (
    "They think about it.", "Perhaps there is a way.", "A long walk, and a good talk.", "Side by side, they think.",
    "What would a friend do?",
)  # fmt: skip
SHARING_FIRST = (
    "There is only one {prop}.", "What to do?", "One for two, how can that be?", "Whose {prop} is it?",
    "Somebody looks sad.",
)  # fmt: skip
SHARING_LAST = (
    "Sharing is best!", "Now the {prop} is for both.", "What is shared is twice as good.", "All is well.",
    "One for two is enough.",
)  # fmt: skip
