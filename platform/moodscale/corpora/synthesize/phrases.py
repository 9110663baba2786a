"""What is said: the interviewer's questions, and answers by questionnaire item and level.

Invented for this purpose. The questions are the same for everyone; an answer to an item's question depends on the
level (0 to 3) of that item alone, every other answer on nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Topic:
    """Questions that may open a topic and the phrases an answer is made of.

    Attributes:
        answers: one pool of phrases a level; a topic that no item shapes has one pool.
        item: index of the questionnaire item (0-7), or ``None``.
    """

    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] = field(repr=False)
    item: int | None = None


GREETING = (
    "hi there, i'm ellie, thank you for coming in today, i'm going to ask a few questions about how you are doing"
)
CLOSING = "okay, those are all the questions i have, thank you for talking with me, goodbye"
ACKNOWLEDGEMENTS = ("okay", "i see", "mhm", "alright", "thanks for telling me", "that makes sense", "got it")
FOLLOW_UPS = (
    "can you tell me a little more about that",
    "can you give me an example of that",
    "how long has it been like that",
    "what do you think is behind that",
    "and how is that for you",
)
FILLERS = ("um", "uh", "well", "hmm", "i mean")
CHATTER = ("is it recording already", "just sit back and look at the screen please", "okay can you hear me from there")
"""Said in the room before the interview: the middle one by a bystander."""
INTERRUPTION = (
    "sorry to burst in, we have to check the cables for a moment",
    "the picture is gone on our side, give me a second",
    "could you move the chair a bit to the left, thank you",
    "right, the other microphone is still off, hold on please",
)

ITEM_TOPICS = (
    Topic(
        ("what do you like to do for fun these days", "what have you been looking forward to lately"),
        (
            ("i go climbing with friends every week", "i love cooking for people, i try new dishes all the time",
             "there is a concert on friday, i can hardly wait", "i have started to paint and it is really good fun"),
            ("i still see my friends, though not as often", "some days i would rather skip my hobbies",
             "i like the garden, when i get around to it", "mostly i enjoy things once i have started"),
            ("i used to play guitar, i rarely pick it up now", "more than half the time i can't be bothered",
             "people invite me and i find a reason to say no", "films that i loved feel a bit empty"),
            ("nothing really interests me any more", "i have not enjoyed anything in weeks",
             "i gave up all of it, there is no point", "i just sit there, i don't want to do anything"),
        ),
        item=0,
    ),
    Topic(
        ("how have you been feeling lately", "how would you describe your mood over the last two weeks"),
        (
            ("i feel good, quite cheerful in fact", "i have been happy, things are going my way",
             "my mood is fine, i laugh a lot", "honestly i feel great at the moment"),
            ("mostly alright, with a gloomy day here and there", "a bit down on some evenings",
             "i am okay, a little blue now and then", "up and down, but more up than down"),
            ("i feel down more often than not", "it is a heavy mood that keeps coming back",
             "i have been sad most of the week", "i don't see things getting better soon"),
            ("i feel hopeless almost every day", "everything is dark, it does not lift",
             "i cry nearly every day and i can't say why", "there is nothing ahead of me"),
        ),
        item=1,
    ),
    Topic(
        ("how easy is it for you to get a good night's sleep", "how have you been sleeping"),
        (
            ("i sleep very well, like a stone", "eight hours a night, no trouble at all",
             "i fall asleep as soon as i lie down", "sleep has always been easy for me"),
            ("a rough night once in a while", "it takes me some time to drop off on some nights",
             "mostly fine, i wake up early on occasion", "i sleep okay, not every night though"),
            ("i lie awake on most nights", "i wake at three and then i can't go back to sleep",
             "more nights are bad than good", "i toss and turn for hours"),
            ("i hardly sleep at all", "every night is the same, i stare at the ceiling",
             "i have not slept through in weeks", "either i don't sleep or i sleep all day"),
        ),
        item=2,
    ),
    Topic(
        ("how is your energy during the day", "what are you like when you have to get things done"),
        (
            ("i have plenty of energy", "i get up early and i am full of ideas",
             "i run in the morning and still have fuel left", "i get a lot done, it feels good"),
            ("i get tired in the afternoon at times", "some days i am a bit worn out",
             "energy is fair, i could do with a break", "a little tired after work, nothing much"),
            ("i am tired most days", "i have to push myself through the day",
             "by noon i want to lie down again", "small things cost me a lot of strength"),
            ("i am exhausted all the time", "getting out of bed is more than i can manage",
             "i have no energy for anything, none", "i feel like i carry a weight every single day"),
        ),
        item=3,
    ),
    Topic(
        ("how has your appetite been", "what about food, are you eating as usual"),
        (
            ("i eat well, three meals a day", "my appetite is good, i enjoy my food",
             "nothing has changed there, i eat as always", "i love breakfast, i never miss it"),
            ("i skip a meal on a few days", "sometimes i snack more than i should",
             "appetite comes and goes a little", "mostly normal, less on stressful days"),
            ("i often forget to eat", "on most days i eat far too much in the evening",
             "food does not taste of much lately", "i have lost some weight without trying"),
            ("i can't get food down", "i hardly eat, nearly every day it is like that",
             "i eat and eat and i don't even notice", "the thought of food makes me feel sick"),
        ),
        item=4,
    ),
    Topic(
        ("how do you feel about yourself", "what would you say about yourself, as a person"),
        (
            ("i am proud of what i have done", "i like who i am, by and large",
             "i feel good about myself", "i think i am a decent friend to people"),
            ("i am a bit hard on myself at times", "i could do better on some things",
             "mostly fine, i doubt myself now and then", "i compare myself with others a little"),
            ("i feel that i let people down", "i keep thinking about what i did wrong",
             "most days i am not good enough", "my family deserves better than me, i think"),
            ("i am a failure, that is what i am", "i have let everybody down",
             "i can't stand myself any more", "there is nothing good about me to tell"),
        ),
        item=5,
    ),
    Topic(
        ("how is your concentration, say when you read", "can you follow a film or a book to the end"),
        (
            ("i read a book a week, it is easy for me", "my head is clear, i focus well",
             "i can work for hours without a break", "yes, no problem, i finish what i start"),
            ("my mind wanders a little", "i have to read a page twice on some days",
             "mostly yes, if it is not too long", "i get distracted by my phone at times"),
            ("i lose the thread quite often", "more often than not i can't follow a film",
             "i start things and then i forget about them", "it is hard to keep my mind on anything"),
            ("i can't concentrate at all", "i read the same line again and again, every day",
             "my head is full of fog", "even the news is too much, i can't follow it"),
        ),
        item=6,
    ),
    Topic(
        ("do you feel restless or slowed down at times", "have others noticed you moving differently"),
        (
            ("no, i move about as always", "not that i know of, i feel quite calm",
             "nobody has said anything like that", "no, my body feels fine"),
            ("i fidget a little when i am nervous", "some days i am a bit slow to get going",
             "now and then i pace around", "a little restless, not much"),
            ("people say i talk slower than before", "i can't sit still on most evenings",
             "i often pace through the flat", "everything takes me longer than it did"),
            ("i move like i am under water", "my friends ask why i speak so slowly",
             "i can't sit still, it is every day now", "i sit for hours without moving at all"),
        ),
        item=7,
    ),
)  # fmt: skip

NEUTRAL_TOPICS = (
    Topic(("where are you from originally", "where did you grow up"),
          (("i grew up in a small town near the coast", "we moved around, my father worked for the railway",
            "i was born here in the city", "my family is from further north"),)),
    Topic(("what do you do for a living", "what kind of work do you do"),
          (("i work in a hardware store on main street", "i do the books for two small companies",
            "i drive a delivery van in the mornings", "at the moment i take classes in design"),)),
    Topic(("how did you get here today", "how was the way to this place"),
          (("i took the bus, it was on time", "i drove, there was a lot of traffic on the bridge",
            "i walked from the station", "my cousin dropped me off at the corner"),)),
    Topic(("tell me about the place where you live", "who do you live with"),
          (("it is a flat on the second floor with a balcony", "i share a house with two other people",
            "we have a yard and an old apple tree", "it is close to the park, the rent is okay"),)),
    Topic(("what is your favourite season", "what kind of weather do you like"),
          (("i like the autumn, when the leaves turn", "summer, because the evenings are long",
            "i don't mind the rain", "spring i suppose, it is not too hot then"),)),
    Topic(("do you have any pets", "do you like animals"),
          (("we have a cat, she is twelve years old", "there was a dog when i was a child",
            "my neighbour has two parrots", "i feed the birds on the window sill"),)),
    Topic(("what did you have for breakfast", "what do you usually cook"),
          (("toast with cheese and a cup of tea", "i make soup on sundays and it lasts for days",
            "coffee and a banana, as always", "rice and vegetables, it is quick"),)),
    Topic(("tell me about your family", "do you have brothers or sisters"),
          (("i have an older sister, she is a nurse", "my parents live two hours from here",
            "we are four children, i am the second", "my brother works abroad, in shipping"),)),
    Topic(("what was the last trip you took", "where would you like to travel"),
          (("we went to the lake for a weekend", "i have never been to the mountains in winter",
            "last year i visited a friend in the south", "i would like to see japan one day"),)),
    Topic(("what did you study", "what was school like for you"),
          (("i studied history for two years", "maths was easy, languages were not",
            "our school had a big library", "i learned a trade right after school"),)),
    Topic(("what kind of music do you listen to", "what is on your television at the moment"),
          (("mostly the radio, whatever is on", "there is a series about a ship that i watch",
            "old jazz records from my uncle", "i listen to podcasts on the bus"),)),
    Topic(("what does a normal weekday look like for you", "what did you do yesterday"),
          (("i got up at seven and went to the office", "in the evening i did the laundry",
            "i called my mother, as i do on tuesdays", "i went to the market and then home"),)),
    Topic(("who do you talk to when you need advice", "tell me about a close friend of yours"),
          (("i have known my best friend since school", "i ask my sister, she lives around the corner",
            "there is a colleague who knows about these things", "we meet at the same cafe each month"),)),
    Topic(("how do you travel to work", "what is your neighbourhood like"),
          (("by bike if it is dry, else by train", "it is quiet, with a bakery and a school",
            "they are building a new road there", "about twenty minutes, door to door"),)),
    Topic(("what was your first job", "what did you want to be as a child"),
          (("i wanted to be a pilot, like everybody", "i sold newspapers on saturdays",
            "my first job was in a kitchen", "i wanted to work on a farm with horses"),)),
    Topic(("what would you change about this city", "what is the best thing about this city"),
          (("the river, you can walk along it for miles", "more trees, i would say",
            "the buses should run later at night", "there is a good library downtown"),)),
)  # fmt: skip
