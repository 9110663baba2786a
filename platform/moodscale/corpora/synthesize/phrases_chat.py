"""What is said in a chat with an assistant, beside the topics of an interview: the PHQ-9's last item, hellos."""

from __future__ import annotations

from moodscale.corpora.synthesize.phrases import ITEM_TOPICS, NEUTRAL_TOPICS, Topic

_SELF_HARM = Topic(
    ("do you ever have thoughts that you would be better off dead", "have there been thoughts of hurting yourself"),
    (
        ("no, never, i want to be here", "no thoughts like that at all",
         "no, i have plans for the summer", "no, that is not something i think about"),
        ("once or twice i wondered if anyone would miss me", "a dark thought on a bad day, it went away",
         "it crossed my mind, i would not do it", "on a few days i was tired of being alive"),
        ("on most days i think it would be easier not to be here", "the thought keeps coming back",
         "more often than not i feel i am a burden to everyone", "i think about not waking up quite often"),
        ("every day i think about being dead", "i don't want to live any more, it is there all the time",
         "there is no day without that thought", "i think everyone would be better off without me, always"),
    ),
    item=8,
)  # fmt: skip

PHQ9_TOPICS = (*ITEM_TOPICS, _SELF_HARM)
SMALL_TALK = NEUTRAL_TOPICS[1:9]
HELLOS = ("hi", "hello", "hey, are you there", "good evening", "can we talk for a bit")
GREETINGS = ("hello, good to hear from you", "hi, i am here", "welcome back")
REPLIES = ("thank you for telling me", "i see", "that helps me understand", "okay, i hear you", "alright")
GOODBYES = ("thank you, we can go on another day", "take care, write whenever you like", "goodbye for now")
