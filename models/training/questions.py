"""Makes questions that one sentence of a paragraph answers: by rule from tagged sentences, from glossaries, and
people's own, as textbooks print them after a chapter.

    python questions.py --corpus DIR --tagger averaged_perceptron_tagger.zip --out questions.jsonl [--count 40000]

A line of the result is a paragraph and its questions: {"title", "src", "text", "asked": [[sentence, question], ...]}.
The rules are a few turns of English ("X was founded by Y" -> "Who was X founded by?"); some of their questions are
clumsy, as people's are.
"""

import argparse
import collections
import io
import json
import math
import pickle
import random
import re
import zipfile
from pathlib import Path

from text import read_jsonl, sentences

WORD = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*|\d+(?:,\d{3})*(?:\.\d+)?%?|[^\sA-Za-z0-9]")
YEAR = re.compile(r"(1[0-9]{3}|20[0-2][0-9])s?")
NOUNS = ("NN", "NNS", "NNP", "NNPS")
PLAIN_FORMS = dict(
    pair.split(":")
    for pair in """was:be were:be is:be are:be has:have had:have did:do does:do began:begin became:become came:come
    went:go gave:give took:take made:make found:find led:lead left:leave held:hold brought:bring bought:buy built:build
    caught:catch chose:choose drew:draw drove:drive fell:fall felt:feel fought:fight got:get grew:grow heard:hear
    kept:keep knew:know laid:lay lost:lose meant:mean met:meet paid:pay put:put ran:run read:read rose:rise said:say
    saw:see sold:sell sent:send set:set showed:show sought:seek spent:spend spoke:speak spread:spread stood:stand
    struck:strike taught:teach thought:think told:tell understood:understand won:win wore:wear wrote:write broke:break
    cost:cost cut:cut let:let hit:hit shot:shoot sang:sing sank:sink split:split threw:throw withdrew:withdraw
    bore:bear overthrew:overthrow underwent:undergo arose:arise undertook:undertake""".split()
)
SAME = [
    line.split()
    for line in """founded established created|began started commenced|large big huge|small little tiny
    important key significant crucial|people individuals persons|show demonstrate reveal|shows demonstrates reveals
    increase rise grow|increased rose grew|decrease fall drop decline|decreased fell dropped|help assist aid
    helps assists aids|use employ utilize|used employed utilized|made produced created|called named termed
    usually typically generally normally|located situated found|country nation state|method technique way approach
    built constructed|killed murdered|job occupation work|goal aim purpose objective|idea concept notion
    argued claimed said|war conflict|leader head chief|city town|law legislation|company firm business corporation
    money funds cash|children kids|doctor physician|main primary chief principal|difficult hard|quickly rapidly fast
    often frequently|get obtain receive|require need|requires needs|required needed|allow permit let|contains includes
    area region|begin start|end finish|buy purchase|error mistake|function routine|file document|fix repair
    change alter modify|changed altered modified|choose select pick|improve better enhance""".replace("\n", "|")
    .split("|")
]
SYNONYMS = {word: [other for other in group if other != word] for group in SAME for word in group}
# Sentences that begin with these hang on the one before.
HANGING = set(
    "This These Those It They He She His Her Their Its That However But And So Thus We You I Such There Here Another "
    "Both Also Then Or Yet If Other Similarly Furthermore Moreover Finally Therefore Instead Let Note Consider".split()
)


# ---- Words and their kinds ----


class Unpickler(pickle.Unpickler):
    """Of the tagger's file only plain containers are let in."""

    def find_class(self, module, name):
        if name == "set":
            return set
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a tagger's file")


class Tagger:
    """The averaged perceptron tagger of NLTK (Apache-2.0) in Penn Treebank tags."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".pickle"))
            self.weights, self.known, classes = Unpickler(io.BytesIO(archive.read(name))).load()
        self.classes = sorted(classes)

    def tag(self, words):
        context = ["-START-", "-START2-", *(self.normal(word) for word in words), "-END-", "-END2-"]
        tags, last, before = [], "-START-", "-START2-"
        for at, word in enumerate(words, 2):
            tag = self.known.get(words[at - 2]) or self.likeliest(word, at, context, last, before)
            tags.append(tag)
            last, before = tag, last
        return tags

    def likeliest(self, word, at, context, last, before):
        features = (
            "bias",
            f"i suffix {word[-3:]}",
            f"i pref1 {word[:1]}",
            f"i-1 tag {last}",
            f"i-2 tag {before}",
            f"i tag+i-2 tag {last} {before}",
            f"i word {context[at]}",
            f"i-1 tag+i word {last} {context[at]}",
            f"i-1 word {context[at - 1]}",
            f"i-1 suffix {context[at - 1][-3:]}",
            f"i-2 word {context[at - 2]}",
            f"i+1 word {context[at + 1]}",
            f"i+1 suffix {context[at + 1][-3:]}",
            f"i+2 word {context[at + 2]}",
        )
        scores = collections.Counter()
        for feature in features:
            for name, weight in self.weights.get(feature, {}).items():
                scores[name] += weight
        return max(self.classes, key=lambda name: (scores[name], name))

    @staticmethod
    def normal(word):
        if "-" in word and word[0] != "-":
            return "!HYPHEN"
        if word.isdigit() and len(word) == 4:
            return "!YEAR"
        return "!DIGITS" if word[0].isdigit() else word.lower()


def cut(sentence):
    out = []
    for word in WORD.findall(sentence):
        out += [word[:-2], "'s"] if word.lower().endswith("'s") and len(word) > 2 else [word]
    return out


def joined(words):
    text = re.sub(r" ([,.;:!?%)\]]|'s\b)", r"\1", " ".join(words))
    return re.sub(r" ?([–—/]) ?", r"\1", re.sub(r"([(\[$]) ", r"\1", text))


def plain_form(verb, tag):
    """The verb as it follows "did" or "does"."""
    word = verb.lower()
    if word in PLAIN_FORMS:
        return PLAIN_FORMS[word]
    if tag == "VBZ":
        if word.endswith("ies"):
            return word[:-3] + "y"
        return word[:-2] if re.search(r"(ss|sh|ch|x|zz|o)es$", word) else word.removesuffix("s")
    if tag == "VBD" and word.endswith("ed"):
        if word.endswith("ied"):
            return word[:-3] + "y"
        base = word[:-2]
        if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "sl":
            return base[:-1]
        silent = re.search(r"([vcsuzg]|[aeiou]r|at|iz|[bpt]l|nc|rc|rs|[^aeiou]in|ib|[aeiou][dkm])$", base)
        return base + "e" if silent and not re.search(r"(ss|er|or|en|on|ain|oin|ea\w|ee\w|oo\w|ai\w)$", base) else base
    return word


# ---- Questions by rule ----


class Clause:
    """A main clause: subject, finite verb and what follows, up to where the next clause begins."""

    def __init__(self, words, tags):
        self.lead = []
        if tags[0] in ("IN", "RB", "TO", "VBG", "VBN") and "," in words[:10]:
            comma = words.index(",")
            self.lead, words, tags = words[:comma], words[comma + 1 :], tags[comma + 1 :]
        verb = next((i for i, tag in enumerate(tags) if tag in ("VBZ", "VBD", "VBP", "MD")), 0)
        before = list(zip(words[:verb], tags[:verb]))
        breaks = ("WDT", "WP", "WRB", "CC", ":", "PRP", "EX")
        self.is_plain = (
            1 <= verb <= 9
            and verb < len(words) - 2
            and any(tag in NOUNS for _, tag in before)
            and not any(tag in breaks or word in (",", "(", ";") for word, tag in before)
        )
        if not self.is_plain:
            return
        if before[-1][1] == "RB" and len(before) > 1:
            before.pop()
        first = before[0][0]
        keeps_capital = before[0][1] in ("NNP", "NNPS") or first == "I" or first[1:2].isupper()
        first = first if keeps_capital else first[0].lower() + first[1:]
        self.subject = joined([first, *(word for word, _ in before[1:])])
        self.is_person = 2 <= len(before) <= 4 and all(tag == "NNP" for _, tag in before)
        self.verb, self.verb_tag = words[verb], tags[verb]
        rest = list(zip(words[verb + 1 :], tags[verb + 1 :]))
        stops = (",", ";", ":", "—", "–", "(", "because", "although", "while", "whereas", "since", "but")
        ends = (i for i, (word, tag) in enumerate(rest) if i > 1 and (word in stops or tag in breaks[:3]))
        end = next(ends, len(rest))
        self.rest, self.after = rest[:end], rest[end:]


def shortened(words, rng):
    if len(words) > 6 and rng.random() < 0.5:
        words = words[: rng.randint(4, min(len(words), 12))]
    return joined(words)


def without_year(rest):
    """The words of `rest` less "in 1848"; `None` when there is no year."""
    words = [word for word, _ in rest]
    at = next((i for i, word in enumerate(words) if YEAR.fullmatch(word)), None)
    if at is None:
        return None
    start = at
    while start > 0 and rest[start - 1][1] in ("CD", "NNP", "IN", "TO", "DT") and start > at - 4:
        start -= 1
    return words[:start] + words[at + 1 :]


def clause_questions(clause, rng):
    """(weight, question) for what the clause says: who or what, when, where, how, why and how many."""
    subject, verb, rest = clause.subject, clause.verb, clause.rest
    words = [word for word, _ in rest]
    kind = rest[0][1]
    who = "Who" if clause.is_person else rng.choice(["What", "What", "Which"])
    dated = without_year(rest) or (words if any(YEAR.fullmatch(word) for word in clause.lead) else None)
    when = rng.choice(["When", "In what year", "In which year", "What year"])
    is_being = verb.lower() in ("is", "are", "was", "were")
    if is_being or clause.verb_tag == "MD" or (verb.lower() in ("has", "had", "have") and kind == "VBN"):
        helper, action = verb, words
    else:
        helper = {"VBD": "did", "VBZ": "does"}.get(clause.verb_tag, "do")
        action = [plain_form(verb, clause.verb_tag), *words]
    ask = lambda word, tail: f"{word} {helper} {subject} {shortened(tail, rng)}?"
    yield 1.5, f"{who} {verb} {shortened(words, rng)}?"
    if is_being and kind in ("DT", "JJ", "CD", "VBG", "JJR", "RBS", *NOUNS):
        yield 3, f"{'Who' if clause.is_person else 'What'} {verb} {subject}?"
        forms = "Define {}.|Tell me about {}.|Explain {}.|what is meant by {}"
        yield 1, rng.choice(forms.split("|")).format(subject)
    elif is_being and "by" in words[:8]:
        yield 3, f"{rng.choice(['Who', 'What'])} {verb} {subject} {joined(words[: words.index('by')])} by?"
    elif not is_being and action:
        yield 2, f"What {helper} {subject} {action[0]}?"
    yield 0.8, ask(rng.choice(["How", "In what way", "Why"]), action)
    if dated:
        yield 4, f"{when} {helper} {subject} {shortened(dated if action is words else [action[0], *dated], rng)}?"
    places = (i for i in range(1, len(rest) - 1) if words[i] in ("in", "at", "on", "near", "to"))
    place = next((i for i in places if rest[i + 1][1] == "NNP"), None)
    if place and not YEAR.fullmatch(words[place + 1]):
        offset = len(action) - len(words)
        yield 3, f"Where {helper} {subject} {joined(action[: place + offset])}?"
    everything = [word.lower() for word, _ in rest + clause.after]
    if {"because", "due", "since", "so", "therefore", "order"} & set(everything):
        yield 4, ask("Why", action)
    number = next((i for i in range(len(rest) - 1) if rest[i][1] == "CD" and rest[i + 1][1] == "NNS"), None)
    if number is not None and not YEAR.fullmatch(words[number]):
        yield 4, f"How many {words[number + 1]} {helper} {subject}{'' if action is words else ' ' + action[0]}?"
    if "percent" in words or any("%" in word for word in words):
        kept = [word for word in words if "%" not in word and word != "percent" and not word[0].isdigit()]
        yield 4, f"What percentage of {subject} {verb} {shortened(kept, rng)}?"


def topic_questions(words, tags, rng):
    """(weight, question) about things that the sentence names."""
    names, at = [], 0
    while at < len(words):
        end = at
        while end < len(words) and tags[end].startswith(("NN", "JJ")):
            end += 1
        if end > at and tags[end - 1].startswith("NN"):
            names.append(joined(words[at:end]))
        at = max(end, at + 1)
    names = [name for name in names if len(name) > 4]
    if len(names) >= 2:
        a, b = rng.sample(names, 2)
        forms = "How is {a} related to {b}?|What about {a} and {b}?|How does {a} affect {b}?|{a} {b}|{a} and {b}"
        yield 0.7, rng.choice(forms.split("|")).format(a=a, b=b)
    content = [word for word, tag in zip(words, tags) if tag.startswith(("NN", "JJ", "VB", "CD")) and len(word) > 2]
    if len(content) >= 3:
        kept = sorted(rng.sample(range(len(content)), min(len(content), rng.randint(2, 5))))
        yield 0.7, " ".join(content[i] for i in kept).lower()


def rule_question(sentence, tagger, rng):
    words = cut(sentence)[:-1]
    tags = tagger.tag(words)
    clause = Clause(words, tags)
    found = list(topic_questions(words, tags, rng))
    if clause.is_plain:
        found += clause_questions(clause, rng)
    found = [(weight, question) for weight, question in found if 2 <= len(question.split()) <= 24]
    if not found:
        return None
    return rng.choices([question for _, question in found], [weight for weight, _ in found])[0]


def reworded(question, rng):
    """`question` as someone else might put it."""
    words = question.split(" ")
    if rng.random() < 0.4:
        words = [rng.choice(SYNONYMS[word]) if word in SYNONYMS and rng.random() < 0.6 else word for word in words]
    question = " ".join(words)
    kind = rng.random()
    if kind < 0.12:
        return question.lower().rstrip("?")
    if kind < 0.2:
        leads = "Can you tell me |Please tell me: |According to the documents, |Do you know |Quick question: |And |So "
        return rng.choice(leads.split("|")) + question[0].lower() + question[1:]
    return question


# ---- Questions by people ----


def stems(text):
    return {re.sub(r"(ing|ed|es|s|ly|ment)$", "", word) for word in re.findall(r"[a-z0-9]{3,}", text.lower())}


class Alignment:
    """Finds the sentence of a chapter that says what a question or a glossary entry is about."""

    def __init__(self, rows):
        self.chapters = collections.defaultdict(list)
        counts = collections.Counter()
        for place, row in enumerate(rows):
            for number, sentence in enumerate(row["found"]):
                if is_askable(sentence):
                    has = stems(sentence)
                    counts.update(has)
                    self.chapters[row["src"], row["mod"]].append((place, number, has, sentence))
        total = sum(counts.values())
        self.weight = lambda stem: math.log(total / (1 + counts[stem]))

    def best(self, row, text, threshold, must_have=""):
        asked = stems(text)
        whole = sum(map(self.weight, asked)) or 1.0
        found = [
            (sum(map(self.weight, asked & has)) / whole / (1 + 0.012 * max(0, len(has) - 12)), place, number)
            for place, number, has, sentence in self.chapters[row["src"], row["mod"]]
            if must_have.lower() in sentence.lower()
        ]
        score, place, number = max(found, default=(0, 0, 0))
        return (place, number) if score >= threshold else None


def is_askable(sentence):
    words = sentence.split()
    is_whole = 7 <= len(words) <= 40 and sentence[-1] == "." and sentence[0].isupper()
    return is_whole and words[0].rstrip(",") not in HANGING


def peoples_questions(rows, corpus, rng):
    """(place, sentence number, question) from the books' own questions and glossaries."""
    alignment = Alignment(rows)
    for row in read_jsonl(corpus / "quest.jsonl"):
        if re.search(r"following|above|figure|table|\byou\b", row["q"]):
            continue
        answer = row["a"] if len(row["a"]) > 12 else ""
        if found := alignment.best(row, f"{row['q']} {answer[:200]}", 0.45 if answer else 0.55):
            yield (*found, row["q"])
    for row in read_jsonl(corpus / "gloss.jsonl"):
        term, meaning = re.sub(r"\s*\(.*?\)", "", row["term"]), row["meaning"].rstrip(".").split(";")[0]
        if found := alignment.best(row, f"{term} {meaning}", 0.45, must_have=term):
            forms = "What is {}?|Define {}.|What does {} mean?|what is {}|Explain the term {}.|{}|What is meant by {}?"
            yield (*found, rng.choice(forms.split("|")).format(term))
            meaning = re.sub(re.escape(term), "it", meaning, flags=re.I)
            forms = "What is the term for {}?|Which term means {}?|What do we call {}?|What is {} called?|{}"
            yield (*found, rng.choice(forms.split("|")).format(meaning))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tagger", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40_000, help="paragraphs to ask about by rule")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    tagger = Tagger(args.tagger)
    rows = read_jsonl(args.corpus / "paras.jsonl")
    for row in rows:
        row["found"], row["asked"] = sentences(row["text"]), []
    for place, number, question in peoples_questions(rows, args.corpus, rng):
        rows[place]["asked"].append([number, question])
    print(sum(len(row["asked"]) for row in rows), "questions by people", flush=True)
    for row in rng.sample(rows, min(args.count, len(rows))):
        askable = [number for number, sentence in enumerate(row["found"]) if is_askable(sentence)]
        for number in rng.sample(askable, min(4, len(askable))):
            if question := rule_question(row["found"][number], tagger, rng):
                row["asked"].append([number, reworded(question, rng)])
    asked = [row for row in rows if row["asked"]]
    rng.shuffle(asked)
    with open(args.out, "w", encoding="utf-8") as out:
        for row in asked:
            kept = {"title": row["title"], "src": row["src"], "text": row["text"], "asked": row["asked"]}
            out.write(json.dumps(kept, ensure_ascii=False) + "\n")
    print(sum(len(row["asked"]) for row in asked), "questions on", len(asked), "paragraphs")


if __name__ == "__main__":
    main()
