"""Words for what the questionnaire asks about, in English and Chinese: written by hand from the items' constructs.

A cue stands for an item and a level that it has by itself (0 where it speaks of being well); how often, and whether it
is denied, is in the words around it. The list is short, knows no irony and no story, and is not validated on anybody.

Phrases stand between commas. ``~`` is any ending of a word (``exhaust~``), ``(a/b)`` is one of several. Chinese phrases
match with spaces between their words too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_CJK = re.compile(r"[\u3400-\u9fff]")


def _pattern(phrases: str) -> re.Pattern[str]:
    parts = (" ".join(phrase.split()) for phrase in phrases.split(","))
    return re.compile("|".join(_expression(part) for part in parts if part), re.IGNORECASE)


def _expression(phrase: str) -> str:
    if _CJK.search(phrase):
        return r"\s*".join(map(re.escape, phrase))
    written = re.escape(phrase.replace("~", "\0")).replace(r"\(", "(?:").replace(r"\)", ")").replace("/", "|")
    written = written.replace(r"\ ", r"\s+")
    # A word's end is wanted wherever no ending is left open.
    return rf"\b{written}\b".replace("\0" + r"\b", "\0").replace("\0", r"\w*")


@dataclass(frozen=True)
class Cues:
    """What speaks of one item.

    Attributes:
        topic: found in a question that is about the item.
        by_level: patterns by the level that they have by themselves; those of level 0 speak of being well.
    """

    topic: re.Pattern[str]
    by_level: dict[int, re.Pattern[str]] = field(repr=False)


def _cues(*, topic: str, well: str, mild: str, marked: str, severe: str) -> Cues:
    return Cues(_pattern(topic), {level: _pattern(one) for level, one in enumerate((well, mild, marked, severe))})


ITEM_CUES: tuple[Cues, ...] = (
    _cues(
        topic="interest~, hobb~, pleasure, enjoy~, fun, 兴趣, 爱好, 乐趣",
        well="enjoy~, interested in, motivated, enthusias~, 感兴趣, 有兴趣, 有意思, 很开心",
        mild="less (interested/motivated/keen), less (fun/joy), 兴趣少了, 兴趣不大",
        marked="lost interest, losing interest, little (interest/pleasure), bored, unmotivated, indifferent, "
        "withdrawn, "
        "do not care, don't care, 没兴趣, 没有兴趣, 没意思, 提不起劲, 提不起兴趣",
        severe="no (interest/pleasure/joy), nothing interests me, nothing gives me joy, numb, 毫无兴趣, 什么都不想做",
    ),
    _cues(
        topic="mood, feeling, feelings, spirits, how are you, 心情, 情绪",
        well="happy, cheerful, optimistic, hopeful, in a good mood, content, joyful, "
        "开心, 高兴, 心情好, 心情很好, 乐观",
        mild="moody, gloomy, a bit (sad/down/low), a little (sad/down/low), 有点难过, 有点低落",
        marked="sad, sadness, down, low, unhappy, miserable, depress~, tearful, 难过, 低落, 沮丧, 抑郁, 伤心",
        severe="hopeless~, despair~, desperate, crying, cry, no hope, unbearable, 绝望, 没有希望, 想哭",
    ),
    _cues(
        topic="sleep~, asleep, insomnia, 睡眠, 睡得, 睡觉, 失眠",
        well="sleep (well/fine/soundly/deeply), slept (well/fine), fall asleep (easily/quickly), rested, "
        "睡得好, 睡得很好, "
        "睡得香",
        mild="light sleep~, wake up early, woke up early, sleep (lightly/less), 醒得早, 睡得少",
        marked="insomnia, nightmare~, oversleep~, trouble (sleeping/falling asleep/staying asleep), awake, sleepless, "
        "sleep too much, sleep badly, 失眠, 睡不着, 睡不好, 噩梦, 早醒",
        severe="no sleep, cannot sleep, can't sleep, could not sleep, couldn't sleep, don't sleep, 整夜没睡, 彻夜",
    ),
    _cues(
        topic="energy, energetic, tired~, fatigue~, exhaust~, 精力, 精神, 累, 疲",
        well="energetic, a lot of energy, full of energy, plenty of energy, active, refreshed, "
        "精力充沛, 有精神, 精神好",
        mild="a bit tired, a little tired, slightly tired, 有点累, 有些累",
        marked="tired, tiredness, fatigue~, weary, sluggish, lethargic, little energy, low energy, drained, worn out, "
        "疲惫, "
        "疲倦, 很累, 没精神, 乏力",
        severe="exhaust~, no energy, wiped out, burnt out, no strength, 筋疲力尽, 没有力气, 没力气",
    ),
    _cues(
        topic="appetite, eat, eating, food, meals, 胃口, 食欲, 吃饭",
        well="eat (well/normally/enough), good appetite, appetite is (good/fine/normal), "
        "胃口好, 胃口很好, 食欲好, 正常吃饭",
        mild="less appetite, eat less, smaller meals, skip~ a meal, 吃得少",
        marked="poor appetite, no appetite, little appetite, overeat~, binge~, comfort eating, lost weight, "
        "gained weight, "
        "not hungry, 没胃口, 没有胃口, 食欲不振, 暴饮暴食, 吃太多, 瘦了",
        severe="starving myself, can't eat, cannot eat, don't eat, barely eat, 吃不下, 不吃东西",
    ),
    _cues(
        topic="yourself, self-esteem, self-worth, confidence, 自己, 自信",
        well="proud, confident, like myself, good about myself, satisfied with myself, 自信, 自豪, 满意",
        mild="insecure, self-doubt, doubt myself, self-critical, 不自信, 怀疑自己",
        marked="guilt~, ashamed, blame myself, disappoint~, not good enough, "
        "let (him/her/them/people/my family) down, 内疚, "
        "自责, 羞愧, 失望, 不够好",
        severe="worthless~, failure, useless, hate myself, 没用, 失败, 讨厌自己, 恨自己",
    ),
    _cues(
        topic="concentrat~, focus~, attention, memory, 注意力, 集中, 专心",
        well="concentrate (well/easily/fine), focus (well/easily/fine), attentive, clear-headed, 专心, 注意力很好",
        mild="distracted, absent-minded, 分心, 走神",
        marked="hard to (concentrate/focus/think), trouble (concentrating/focusing), forgetful, indecisive, "
        "难以集中, 健忘, "
        "记不住",
        severe="can't (concentrate/focus/think), cannot (concentrate/focus/think), 无法集中, 不能集中, 集中不了",
    ),
    _cues(
        topic="restless~, slowed down, slow down, fidget~, agitat~, sit still, 坐立不安, 动作, 迟缓",
        well="calm, relaxed, at ease, 平静, 放松",
        mild="a bit restless, a little restless, fidget~, 有点坐不住",
        marked="restless~, agitat~, slowed down, slow, slower, slowly, pacing, 坐不住, 变慢, 迟缓, 烦躁",
        severe="can't sit still, cannot sit still, can't stop moving, barely move, 坐立不安, 一动不动",
    ),
    _cues(
        topic="suicid~, hurt yourself, hurting yourself, harming yourself, better off dead, end your life, "
        "自杀, 伤害自己",
        well="want to live, glad to be alive, no such thoughts, no thoughts, 想活下去, 没有这样的念头",
        mild="passing thought, fleeting thought, tired of life, 闪过",
        marked="death, dying, better off without me, harm~ myself, hurt~ myself, cut~ myself, disappear, "
        "伤害自己, 消失, 死了",
        severe="suicid~, kill myself, killing myself, end my life, want to die, better off dead, don't want to live, "
        "自杀, 想死, "
        "不想活",
    ),
)
"""By item, in the questionnaire's order."""

FREQUENCY: dict[int, re.Pattern[str]] = {
    3: _pattern(
        "every day, every night, every morning, every single day, all the time, all day, always, constantly, "
        "day and night, "
        "at all, any more, anymore, completely, never ends, 每天, 天天, 一直, 整天, 总是, 每晚, 完全"
    ),
    2: _pattern(
        "most days, most nights, most of the time, more than half, more often than not, often, usually, frequently, "
        "regularly, many days, many nights, a lot of the time, 多数, 大多, 经常, 常常, 一半以上, 老是"
    ),
    1: _pattern(
        "sometimes, some days, some nights, several days, a few days, a few times, a bit, a little, occasional~, "
        "on occasion, now and then, once in a while, once or twice, at times, from time to time, slightly, 有时, 偶尔, "
        "有几天, 几天, 有点, 有些"
    ),
}
"""The questionnaire's own steps, and what people say for them."""
DENIED = _pattern(
    "no, not, never, without, neither, nor, hardly, barely, rarely, don't, doesn't, didn't, haven't, hasn't, isn't, "
    "wasn't, aren't, can't, cannot, couldn't, wouldn't, 没有, 不, 没, 从来没"
)
WELL = _pattern(
    "good, great, fine, well, okay, ok, alright, easy, easily, as usual, normal~, fully, 很好, 还行, 不错, 正常, 没问题"
)
"""In an answer to a question about an item, without a cue of its own."""
UNWELL = _pattern(
    "bad, badly, worse, worst, hard, difficult, struggl~, awful, terrible, horrible, poor~, problem, problems, "
    "trouble, "
    "can't, cannot, couldn't, nothing, none, too much, 不好, 很差, 难受, 困难, 糟糕, 没办法"
)
