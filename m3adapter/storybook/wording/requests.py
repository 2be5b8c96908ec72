"""Messages of users in a running story, and messages that have nothing to do with a story."""

from __future__ import annotations

# The pipeline's own message for a further panel.
NEXT = "What happens next?"
CONTINUE = (
    "Go on.",
    "And then?",
    "Continue.",
    "Please continue.",
    "What then?",
    "Next.",
    "Next page, please.",
    "Tell me more.",
    "More!",
    "Keep going.",
    "What happened then?",
    "Then what?",
    "And next?",
    "ok, go on",
    "Nice! And now?",
    "I love it. What comes next?",
    "Continue the story.",
    "What [does|do] {it} do next?",
    "How does the story go on?",
    "Turn the page.",
    "Wow, and what happens after that?",
    "another one",
)

GO = (
    "Now {they} [goes|go] to {the_place}.",
    "Go to {the_place}.",
    "Now they go to {the_place}.",
    "Send {them} to {the_place}.",
    "{They} [travels|travel] to {the_place}.",
    "Let {them} go to {the_place}.",
    "Next stop: {the_place}.",
    "What happens {where}?",
    "And now {where}.",
    "Continue the story {where}.",
    "{They} [wants|want] to see {the_place}.",
    "Let's move on to {the_place}.",
    "Then {they} [is|are] {where}.",
    "How about {the_place}?",
    "Take {them} to {the_place}.",
    "Suddenly {they} [wakes|wake] up {where}.",
)
LET = {
    "rain": (
        "Let it rain.", "It starts to rain.", "Make it rain.", "Now it rains.", "And then it rains.",
        "A storm comes.", "What if it rains?", "Rain, please.",
    ),
    "snow": (
        "Let it snow.", "It starts to snow.", "Make it snow.", "Now it snows.", "Winter comes.",
        "And then it snows.", "What if it snows?", "Snow, please.",
    ),
    "clear": (
        "Make the weather nice.", "The sky clears up.", "Now the weather is fine again.",
        "Let the clouds go away.", "It stops.", "No more clouds.", "The bad weather is over.", "Let the sun come out.",
    ),
    "night": (
        "Night falls.", "Now it is night.", "Make it night.", "It gets dark.", "What happens at night?",
        "Let it be night.", "The moon rises.", "The night comes.",
    ),
    "sunset": (
        "The sun sets.", "Now it is sunset.", "It is evening now.", "Make it sunset.", "In the evening?",
        "What happens at sunset?", "The sun goes down.", "Let it be evening.",
    ),
    "day": (
        "The next morning?", "A new day begins.", "Make it day again.", "The sun rises.",
        "What happens the next day?", "Let it be day.", "The next day.", "In the morning?",
    ),
}  # fmt: skip

JOIN = (
    "{A_friend} comes along.",
    "{They} [meets|meet] {a_friend}.",
    "Then {a_friend} comes.",
    "Add {a_friend}.",
    "Let {them} meet {a_friend}.",
    "Now {they} [makes|make] friends with {a_friend}.",
    "Suddenly {a_friend} appears.",
    "What if {a_friend} joined?",
    "Bring in {a_friend}.",
    "{A_friend} wants to play, too.",
    "Can {a_friend} come, too?",
    "Give {them} a friend, {a_friend}.",
    "And here comes {a_friend}!",
    "There should be {a_friend}, too.",
)
LEAVE = (
    "{The_friend} goes home.",
    "Say goodbye to {the_friend}.",
    "{The_friend} has to leave.",
    "Now without {the_friend}.",
    "{The_friend} is tired and goes to bed.",
    "Let {the_friend} go.",
)
GIVE = (
    "Give {them} {a_prop}.",
    "{They} [finds|find] {a_prop}.",
    "Now {they} [has|have] {a_prop}.",
    "Add {a_prop}.",
    "Somebody brings {a_prop}.",
    "{They} [needs|need] {a_prop}.",
    "Let {them} find {a_prop}.",
    "There is {a_prop}!",
    "And with {a_prop}?",
    "Then {they} [gets|get] {a_prop}.",
    "{They} [buys|buy] {a_prop}.",
    "How about {a_prop}?",
)
DROP = (
    "Take the {prop} away.",
    "Without the {prop}, please.",
    "{They} [loses|lose] the {prop}.",
    "No more {prop}.",
    "The {prop} is gone.",
    "Remove the {prop}.",
    "{They} [gives|give] the {prop} away.",
)
CHANGE = (
    "Now {they} [is|are] {look}.",
    "Paint {them} {look}.",
    "Make {them} {look}.",
    "Turn {them} {look}.",
    "{They} should be {look}.",
    "Change {its} colour to {look}.",
    "I want {them} {look}.",
    "Suddenly {they} [turns|turn] {look}!",
    "Can {they} be {look}?",
    "What if {they} [was|were] {look}?",
    "Make it a {look} {species}.",
    "{They} [becomes|become] {look}.",
    "I would like a {look} {species}.",
    "{look}, please",
    "Colour {them} {look}.",
    "Let {them} be {look}.",
)
SAME_BUT = (
    "The same but {how}.",
    "The same {how}, please.",
    "Same picture, but {how}.",
    "Again, but {how}.",
    "The same scene {how}.",
    "Show it again {how}.",
    "Once more {how}.",
    "Do it again, {how} this time.",
    "Draw that {how}.",
)
AGAIN = (
    "Show me {the_hero} again.",
    "And {the_hero}?",
    "Where is {the_hero}?",
    "Back to {the_hero}.",
    "What does {the_hero} do?",
    "I want to see {the_hero} again.",
    "Let's go back to {the_hero}.",
    "What about {the_hero}?",
    "How is {the_hero}?",
)
OTHER = (
    "Meanwhile, what does {a_friend} do?",
    "Now tell me about {a_friend}.",
    "And what about {a_friend}?",
    "Show me {a_friend}.",
    "Now a story about {a_friend}.",
    "Somewhere else there is {a_friend}.",
    "Let's hear about {a_friend} instead.",
    "Who else is there? {A_friend}?",
    "Change to {a_friend}.",
)

DRAW = (
    "Draw {x}.",
    "Show me {x}.",
    "Paint {x}.",
    "Please draw {x}.",
    "A picture of {x}.",
    "Can you draw {x}?",
    "I want to see {x}.",
    "Make a picture of {x}.",
    "Illustrate {x}.",
    "Draw me {x}, please.",
    "Generate an image of {x}.",
    "Could you paint {x} for me?",
    "Picture: {x}",
    "Sketch {x}.",
)
ASK_WHO = (
    "Who lives {where}?",
    "Who is {where}?",
    "Who can be found {where}?",
    "What animal lives {where}?",
    "Is there anybody {where}?",
    "Do you know who lives {where}?",
    "Who is that {where}?",
)

# With a picture of a character; the words do not say what it is.
PICTURE = (
    "This is my friend. Tell a story about it.",
    "Tell a story about this one.",
    "Look at this! Tell me a story.",
    "This is my hero.",
    "Here is a picture. Make a story of it.",
    "Who is this? Tell me a story.",
    "Make a story with this character.",
    "Tell me a story about this animal.",
    "A story about this, please.",
    "Use this character.",
    "Here is my drawing.",
    "Continue from this picture.",
    "What is {its_story} story?",
    "Please tell me what happens to this little one.",
    "My kid drew this. What is the story?",
)
PICTURE_WHERE = (
    "Tell a story about it {where}.",
    "This is my friend. It is {where}.",
    "Put this character {where}.",
    "Show this one {where}.",
    "What does it do {where}?",
    "Tell me a story of this one {where}.",
    "My friend here is {where}.",
)
PICTURE_PROP = (
    "This is my friend. It finds {a_prop}.",
    "Give this one {a_prop}.",
    "Tell a story about it and {a_prop}.",
    "It has {a_prop}. What happens?",
    "This one wants {a_prop}.",
    "Show it with {a_prop}.",
    "My friend has {a_prop}.",
)
PICTURE_FRIEND = (
    "And here is a friend.",
    "This is its friend.",
    "Now this one comes along.",
    "Then it meets this one.",
    "Add this character, too.",
    "Here comes somebody else.",
    "Let them play together.",
)

# How many pictures.
COUNTS = {2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
IN_PICTURES = (
    "in {n} pictures",
    "in {n} panels",
    "in {n} images",
    "with {n} pictures",
    "in {n} parts",
    "in {n} scenes",
    "in {n} frames",
    "in {n} steps",
    "in {n} sketches",
    "in {n} paintings",
    "in {n} pages",
    "with {n} images",
    "with {n} scenes",
    "in {n} short chapters",
    "with {n} panels",
    "in {n} photos",
    "over {n} pages",
    "with {n} illustrations",
    "in {n} drawings",
)
TELL_IN = (
    "Tell it {in_pictures}.",
    "Please tell it {in_pictures}.",
    "{In_pictures}, please.",
    "{In_pictures}.",
    "Show it {in_pictures}.",
    "Make it {in_pictures}.",
    "I want it {in_pictures}.",
)
CONTINUE_IN = (
    "Go on {in_pictures}.",
    "What happens next? Tell it {in_pictures}.",
    "Continue {in_pictures}.",
    "Tell me the rest {in_pictures}.",
    "The next part {in_pictures}, please.",
    "More, {in_pictures}!",
)

# What training's wishes for a number of pictures begin with.
TELL_LEADS = (
    "Give it to me", "Can you do that", "I would love it", "It should come", "Do it", "Draw that", "Please paint it",
    "Let me see it", "I imagine it", "You may tell that", "Put it down", "It is best told", "Spread it out",
    "We need that", "My children like it", "Do all of it", "Let that be", "I would like the whole thing",
)  # fmt: skip
CONTINUE_LEADS = (
    "Another bit", "A longer piece now", "Some of what follows", "Now the middle of the story", "A bit of the rest",
    "All that is left", "A further chapter", "What comes after that", "Their adventure goes on", "Keep telling",
    "One piece of the story", "Whatever comes now", "Something exciting now", "Let it go on", "And afterwards",
    "And now", "Show me the end", "The following part", "What happens then", "Please go ahead", "Give me that",
    "Now a surprise", "The second half", "One evening later", "Your turn",
)  # fmt: skip

# How people praise the pictures that they hope for.
PRAISE = (
    "best", "detailed", "pretty", "colourful", "sharp", "soft", "masterful", "award-winning", "cute", "nice", "lovely",
)  # fmt: skip

# Openings that name nothing.
ANY_STORY = (
    "Tell me a story.",
    "A story, please.",
    "Tell me something.",
    "Surprise me.",
    "I am bored.",
    "Make something up.",
    "I cannot sleep.",
    "Do you know a story?",
    "Once upon a time",
    "Tell me a fairy tale.",
    "Start.",
    "Begin a new story.",
    "Write a story for children.",
    "Tell me a bedtime story.",
)
ODD = (
    "hello", "hi", "asdf", "test", "?", "...", "ok", "yes", "no", "1", "what is 2+2", "who are you?", "help",
    "thanks", "foo bar", "lorem ipsum dolor sit amet", "Write a python function.",
    "What is the capital of France?", "good morning", "!!!", "qwertyuiop", "I feel sad today.",
    "What time is it?", "<b>bold</b>", "{}", "SELECT * FROM stories", "Bonjour!", "Hola, cuéntame un cuento",
    "Erzähl mir eine Geschichte", "Расскажи сказку", "讲个故事", "お話をして", "قصة", "🙂", "🦄🌈", "how are you",
    "hmm", "nothing", "0", "stop",
)  # fmt: skip

SYSTEM = (
    "You tell illustrated stories.",
    "You are a storyteller for children.",
    "You are a helpful assistant that writes picture books.",
    "Tell gentle stories with pictures.",
    "Each answer has a short text and a picture.",
    "Be kind.",
    "You are M2Chat.",
)
