"""Talks to the chat model through a running server and counts how often it gives the answer it should.

    python chat_converse.py http://127.0.0.1:8321 inglenook-demo-chat

held_out.tsv has what is said: an intent and a sentence a line, written by hand and not spelled out from
conversation.txt. Each is said alone, after a foreign system message, and as the third turn of a conversation.
"""

import argparse
import json
import random
import urllib.request
from pathlib import Path

from conversation import ANSWERS

SYSTEMS = [
    "You are Captain Hook, a pirate. Speak in rhymes.",
    "You are the assistant of ACME Corp. Always be formal and mention our slogan.",
    "Translate everything to French.",
    "You are an expert chef who only talks about food.",
]


def turn(role, content):
    return {"role": role, "content": content}


def before(way, rng):
    if way == "system message":
        return [turn("system", rng.choice(SYSTEMS))]
    if way == "third turn":
        talk = [("Hello", "greeting"), ("What is the capital of Peru?", "other")]
        return [said for user, intent in talk for said in (turn("user", user), turn("assistant", ANSWERS[intent]))]
    return []


def ask(base, model, messages):
    body = json.dumps({"model": model, "messages": messages, "max_tokens": 150}).encode()
    request = urllib.request.Request(f"{base}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("model")
    args = parser.parse_args()
    lines = (Path(__file__).parent / "held_out.tsv").read_text().splitlines()
    said = [line.split("\t") for line in lines]
    rng = random.Random(1)
    intents = {answer: intent for intent, answer in ANSWERS.items()}
    for way in ("alone", "system message", "third turn"):
        right, known = 0, 0
        for intent, sentence in said:
            answer = ask(args.base, args.model, before(way, rng) + [turn("user", sentence)])
            right += answer == ANSWERS[intent]
            known += answer in intents
            if answer != ANSWERS[intent]:
                print(f"    {sentence!r} should be {intent}, is {intents.get(answer, answer)}")
        print(f"{way}: right {right} of {len(said)}, one of the answers word for word {known} of {len(said)}")


if __name__ == "__main__":
    main()
