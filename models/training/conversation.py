"""Conversation without documents: what people say to a chat model on its first day, and what this one answers.

The wordings are in conversation.txt. There, `[intent]` begins what means the same; its line with `=` is the one answer
to it, so that the model is certain at any temperature; every other line is a pattern: `(a|b)` is a choice, `[x]` may be
left out, and `<name>` stands for one of the list that follows `<name>:`. `{systems}` are patterns of system messages.
What fits no intent gets the answer of `other`.
"""

import random
import re
from pathlib import Path


def read_wordings(path):
    """Answers and patterns of every intent, the lists, and the system messages."""
    answers, patterns, lists, systems = {}, {}, {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if name := re.fullmatch(r"\[(\w+)\]", line):
            into = patterns.setdefault(name.group(1), [])
        elif name := re.fullmatch(r"<(\w+)>:", line):
            into = lists.setdefault(name.group(1), [])
        elif line == "{systems}":
            into = systems
        elif line.startswith("= "):
            answers[list(patterns)[-1]] = line[2:]
        else:
            into.append(line)
    return answers, patterns, {name: "".join(lines).split("|") for name, lines in lists.items()}, systems


ANSWERS, PATTERNS, LISTS, SYSTEMS = read_wordings(Path(__file__).with_suffix(".txt"))
OTHER = ANSWERS["other"]

# Around what is asked, for everything but small talk.
OPENINGS = (
    "can you tell me |could you please tell me |i was wondering |i'd like to know |i have a question: |just curious: |"
    "tell me |before i start, |as a new user, |my colleague asks |one thing: |please explain |my boss wants to know |"
    "i wonder |sorry to ask, but |maybe a stupid question: "
)
ENDINGS = (
    " for a newcomer like me| as a beginner| in this app| on my laptop| right now| if i may ask| by the way| here|"
    " for my team| at work| with this thing| in general| today| and how| exactly| in plain words| really| anyway|"
    ", i am new here|, i am curious|, my boss asks|, i forgot"
)
# These stand alone.
SMALL_TALK = ("greeting", "how_are_you", "thanks", "bye", "fine", "complaint", "language")
# Used now and then in front and behind.
LEADS = (
    "please|hey|hi|hello|so|and|um|well|ok|okay|hey there|excuse me|quick question|question|sorry|hi there|also|then"
)
TAILS = "please|thanks|?|??|!|...|.|now|pls|:)|then"


def spell(pattern, rng):
    """One wording of `pattern`."""
    while True:
        match = re.search(r"[(\[]([^()\[\]]*)[)\]]", pattern)
        if not match:
            break
        inner = rng.choice(match.group(1).split("|"))
        if pattern[match.start()] == "[" and rng.random() < 0.5:
            inner = ""
        pattern = pattern[: match.start()] + inner + pattern[match.end() :]
    while "<" in pattern:
        pattern = re.sub(r"<(\w+)>", lambda name: listed(name.group(1), rng), pattern)
    return re.sub(r"\s+([,?!.]|'(?:s|m|re)\b)", r"\1", re.sub(r"\s+", " ", pattern)).strip()


def listed(name, rng):
    if name != "noise":
        return rng.choice(LISTS[name])
    kind = rng.random()
    if kind < 0.4:
        return "".join(rng.choice("asdfghjklqwertyuiopzxcvbnm") for _ in range(rng.randint(3, 12)))
    if kind < 0.7:
        letters = [rng.choice("bcdfghklmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))]
        return "".join(letters) + rng.choice(["", "n", "s", "x"])
    return "".join(rng.choice("0123456789.,;:-+#$%&?!()") for _ in range(rng.randint(1, 9)))


def typo(text, rng):
    """`text` with one slip of the fingers."""
    at = rng.randrange(len(text))
    kind = rng.random()
    if kind < 0.3:
        return text[:at] + text[at + 1 :]
    if kind < 0.6 and at + 1 < len(text):
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind < 0.8:
        return text[:at] + text[at] + text[at:]
    return text[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[at + 1 :]


def dressed(text, intent, rng):
    """`text` as people type it: with or without capitals, punctuation, courtesies and slips."""
    is_question = re.match(
        r"(what|who|whom|which|where|when|why|how|is|are|am|do|does|did|can|could|will|would|should|may|have)\b", text
    )
    if intent not in SMALL_TALK and rng.random() < 0.12:
        text = f"{rng.choice(LEADS.split('|'))}{rng.choice([', ', ' ', ', '])}{text}"
    if intent not in SMALL_TALK and rng.random() < 0.2:
        text = rng.choice(OPENINGS.split("|")) + text if rng.random() < 0.5 else text + rng.choice(ENDINGS.split("|"))
    end = rng.random()
    if end < 0.5:
        text += "?" if is_question else rng.choice(["", ".", "!", "."])
    elif end < 0.58:
        text += rng.choice(["", " "]) + rng.choice(TAILS.split("|"))
    case = rng.random()
    if case < 0.5:
        text = text[0].upper() + text[1:]
        text = re.sub(r"\bi\b", "I", text)
        text = text.replace("inglenook", "Inglenook") if rng.random() < 0.7 else text
        text = re.sub(r"\b(pdf|html|gguf|api)(s?)\b", lambda word: word.group(1).upper() + word.group(2), text)
    elif case < 0.54:
        text = text.upper()
    elif case < 0.57:
        text = text.title()
    if len(text) > 4:
        slips = rng.random()
        for _ in range(0 if slips < 0.8 else 1 if slips < 0.95 else 2):
            text = typo(text, rng)
    return text.strip() or "?"


def utterance(intent, rng):
    pattern = rng.choice(PATTERNS[intent])
    return dressed(spell(pattern, rng), intent, rng)


def system_message(rng, lines):
    """What stands before a conversation. It must make no difference."""
    kind = rng.random()
    if kind < 0.7:
        return spell(rng.choice(SYSTEMS), rng)
    said = rng.sample(lines, rng.randint(1, 3))
    return " ".join([spell(rng.choice(SYSTEMS), rng), *said] if kind < 0.85 else said)


def exchange(rng, questions, lines):
    """One thing that a user says, and the answer. `questions` and `lines` are of books: none of ours to answer."""
    kind = rng.random()
    if kind < 0.22:
        return utterance("other", rng), OTHER
    if kind < 0.34:
        text = rng.choice(questions)
        return dressed(text[0].lower() + text[1:].rstrip("?"), "other", rng) if rng.random() < 0.5 else text, OTHER
    if kind < 0.42:
        text = rng.choice(lines)
        words = text.split()
        size = rng.randint(2, 8)
        return dressed(" ".join(words[:size]).lower(), "other", rng) if rng.random() < 0.5 else text, OTHER
    intent = rng.choice([name for name in PATTERNS if name != "other"])
    return utterance(intent, rng), ANSWERS[intent]


def conversation(rng, questions, lines):
    """A list of (role, text): perhaps a system message, then one to four exchanges."""
    turns = [("system", system_message(rng, lines))] if rng.random() < 0.4 else []
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 4])):
        text, answer = exchange(rng, questions, lines)
        turns += [("user", text), ("assistant", answer)]
    return turns


if __name__ == "__main__":
    sample = random.Random(0)
    for name in PATTERNS:
        print(f"{name:12}", " | ".join(utterance(name, sample) for _ in range(6)))
