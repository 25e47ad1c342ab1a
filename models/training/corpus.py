"""Builds the training corpus from local clones of the repositories in sources.tsv, each at its pinned commit.

    git clone --bare https://github.com/OWNER/NAME CLONES/OWNER/NAME      # for every line of sources.tsv
    python corpus.py --clones CLONES --out DIR

Writes paras.jsonl.xz (paragraphs of prose), gloss.jsonl.xz (terms and what they mean) and quest.jsonl.xz (the books'
own review questions). The pins matter: many OpenStax books moved to a non-commercial licence later. A book is read only
when LICENSE and all its collections say CC BY 4.0 at the pinned commit, and a PEP only when in the public domain.
"""

import argparse
import csv
import html
import json
import lzma
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

CNX = "{http://cnx.rice.edu/cnxml}"
MATH = "{http://www.w3.org/1998/Math/MathML}"
LEFT_OUT = {CNX + name for name in "footnote figure media table equation code note-ref".split()}
# Where something stood that prose cannot show.
FORMULA, REFERENCE, LIST = "∎", "§REFERENCE§", "§LIST§"
PLAIN = str.maketrans({"\u00a0": " ", "’": "'", "‘": "'", "“": '"', "”": '"', "\u200b": "", "ﬁ": "fi"})
APPENDICES = {"preface", "references", "answer key", "index"}
NOTES = {"references", "further reading", "endnotes", "chapter references"}


class SourceError(Exception):
    pass


# ---- Repositories ----


class Repository:
    """Files of a local clone, bare or not, at one commit."""

    def __init__(self, path, commit):
        self.path, self.commit = path, commit
        if self.git("cat-file", "-t", commit).strip() != "commit":
            raise SourceError(f"{path} has no commit {commit}: fetch it")

    def git(self, *args):
        done = subprocess.run(["git", "-C", str(self.path), *args], capture_output=True)
        return done.stdout.decode("utf-8", "replace")

    def names(self):
        return self.git("ls-tree", "-r", "--name-only", "-z", self.commit).split("\0")[:-1]

    def text(self, name):
        return self.git("show", f"{self.commit}:{name}")

    def texts(self, pattern):
        """(name, text) of all files whose name matches, through one process."""
        names = [name for name in self.names() if re.search(pattern, name)]
        asked = "".join(f"{self.commit}:{name}\n" for name in names)
        command = ["git", "-C", str(self.path), "cat-file", "--batch"]
        answer = subprocess.run(command, input=asked.encode(), capture_output=True, check=True).stdout
        at = 0
        for name in names:
            line = answer.index(b"\n", at)
            size = int(answer[at:line].split()[-1])
            yield name, answer[line + 1 : line + 1 + size].decode("utf-8", "replace")
            at = line + size + 2


def is_attribution_only(repository):
    """Whether LICENSE and every collection say CC BY 4.0."""
    collections = [name for name in repository.names() if name.endswith("collection.xml")]
    licences = [re.findall(r'license url="([^"]*)"', repository.text(name)) for name in collections]
    return (
        repository.text("LICENSE").startswith("Attribution 4.0")
        and bool(licences)
        and all(found and all("/by/4.0" in url for url in found) for found in licences)
    )


# ---- Prose ----


def clean(text):
    text = html.unescape(text)
    text = text.translate(PLAIN)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(rf"\s*[(\[]([Ss]ee |as in |as shown in )?({REFERENCE}[,; and]*)+[)\]]", "", text)
    text = text.replace(REFERENCE, "the figure")
    text = re.sub(r"\s+([,.;:!?)])", r"\1", text)
    text = re.sub(r"\(\s+", "(", text)
    if re.search(r"[a-z]\.[A-Z][a-z]+ ", text):
        text = re.sub(r'\.(?=["\)]?[A-Z][a-z]+ )', ". ", text)
    return re.sub(r" +", " ", text).strip()


def is_prose(text):
    """A whole paragraph of ordinary sentences, without formulas, addresses and lists."""
    if not 18 <= len(text.split()) <= 400 or any(mark in text for mark in (FORMULA, "§", "http")):
        return False
    if not re.match(r"[\"'(]?[A-Z0-9]", text) or text[-1] not in ".!?\")'" or text.count("_") > 1:
        return False
    return sum(c.isalpha() or c in " ,." for c in text) / len(text) > 0.88


class Corpus:
    """The three files while they are written. A paragraph that begins like an earlier one is left out."""

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        names = ("paras", "gloss", "quest")
        self.files = {name: lzma.open(directory / f"{name}.jsonl.xz", "wt", encoding="utf-8") for name in names}
        self.counts = dict.fromkeys(names, 0)
        self.beginnings = set()

    def add(self, name, **row):
        self.files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
        self.counts[name] += 1

    def add_paragraph(self, source, module, title, head, text):
        if is_prose(text) and text[:120] not in self.beginnings:
            self.beginnings.add(text[:120])
            row = {"src": source["repository"], "lic": source["licence"], "mod": module}
            self.add("paras", **row, title=title, head=head, text=text)

    def close(self):
        for file in self.files.values():
            file.close()


# ---- OpenStax ----


def flat(element):
    """An element's text, with marks for what is no text."""
    parts = []

    def walk(node):
        if node.tag.startswith(MATH):
            parts.append(f" {FORMULA} ")
        elif node.tag == CNX + "link" and not (node.text or "").strip() and not len(node):
            parts.append(f" {REFERENCE} ")
        elif node.tag == CNX + "list":
            parts.append(f" {LIST} ")
        elif node.tag == CNX + "newline":
            parts.append(" ")
        elif node.tag not in LEFT_OUT:
            parts.append(node.text or "")
            for child in node:
                walk(child)
        if node is not element:
            parts.append(node.tail or "")

    walk(element)
    return clean("".join(parts))


class Module:
    """One chapter section of an OpenStax book."""

    def __init__(self, corpus, source, name, root):
        self.corpus, self.source, self.name = corpus, source, name
        title = root.find(CNX + "title")
        self.title = clean("".join(title.itertext())) if title is not None else ""
        content = root.find(CNX + "content")
        if content is None or self.title.lower() in APPENDICES:
            return
        self.walk(content, "")
        for definition in root.iter(CNX + "definition"):
            self.add_definition(definition.find(CNX + "term"), definition.find(CNX + "meaning"))

    def where(self):
        return {"src": self.source["repository"], "mod": self.name, "title": self.title}

    def walk(self, element, head):
        title = element.find(CNX + "title")
        if title is not None and element.tag in (CNX + "section", CNX + "note"):
            head = clean("".join(title.itertext()))
        if "references" in (element.get("class") or "") or head.lower() in NOTES:
            return
        for child in element:
            if child.tag == CNX + "para":
                self.corpus.add_paragraph(self.source, self.name, self.title, head, flat(child))
                self.walk(child, head)
            elif child.tag == CNX + "exercise":
                self.add_question(child.find(CNX + "problem"), child.find(CNX + "solution"))
            elif child.tag not in (CNX + "figure", CNX + "table", CNX + "equation"):
                self.walk(child, head)

    def add_question(self, problem, solution):
        if problem is None:
            return
        texts = lambda element: [] if element is None else [flat(para) for para in element.iter(CNX + "para")]
        question, answer = " ".join(texts(problem)), " ".join(texts(solution))
        is_plain = not any(mark in question for mark in ("figure", "§", "_")) and FORMULA not in question + answer
        if is_plain and question.endswith("?") and len(question.split()) < 30:
            self.corpus.add("quest", **self.where(), q=question, a=answer)

    def add_definition(self, term, meaning):
        if term is None or meaning is None:
            return
        term, meaning = flat(term), flat(meaning)
        if term and 4 <= len(meaning.split()) <= 60 and not any(mark in term + meaning for mark in (FORMULA, "§")):
            self.corpus.add("gloss", **self.where(), term=term, meaning=meaning)


def read_cnxml(corpus, source, repository):
    if not is_attribution_only(repository):
        raise SourceError(f"{source['repository']} is not wholly CC BY 4.0 at {source['commit']}")
    for name, text in repository.texts(source["files"]):
        try:
            root = ET.fromstring(text)
        except ET.ParseError:
            continue
        Module(corpus, source, name.split("/")[1], root)


# ---- Markdown and PEPs ----


def without_markup(text):
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.S)
    for pattern in (r"```.*?```", r"<!--.*?-->", r"\{%.*?%\}|\{\{.*?\}\}", r"<[^>\n]{1,200}>", r"!\[[^\]]*\]\([^)]*\)"):
        text = re.sub(pattern, "\n" if "`" in pattern else "", text, flags=re.S)
    text = re.sub(r"\[([^\]]+)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    return re.sub(r"(?<!\w)_([^_\n]+)_(?!\w)", r"\1", re.sub(r"[`*]", "", text))


def read_markdown(corpus, source, repository):
    for name, text in repository.texts(source["files"]):
        stated = re.search(r'^title:\s*"?(.+?)"?\s*$', text, flags=re.M) if text.startswith("---") else None
        title, head = stated.group(1) if stated else "", ""
        for block in re.split(r"\n\s*\n", without_markup(text)):
            block = block.strip()
            if block.startswith("#"):
                heading, _, block = block.partition("\n")
                head = heading.strip("# ").strip()
                title = title or head
            if not re.match(r"[-*+|>\[]|\d+[.)] ", block):
                corpus.add_paragraph(source, name, title or Path(name).name, head, clean(block))


def read_peps(corpus, source, repository):
    for name, text in repository.texts(source["files"]):
        if "public domain" not in text.lower():
            continue
        stated = re.search(r"^Title:\s*(.+)", text, flags=re.M)
        title, head = stated.group(1) if stated else "", ""
        text = text.partition("\n\n")[2]
        text = re.sub(r":\w+:`~?\.?([^`<]+?)( <[^`]*>)?`", r"\1", text)
        text = re.sub(r"`([^`<]+?)\s*<[^`]*>`_+", r"\1", text)
        text = re.sub(r"\[[#\w]+\]_|`+_*|\*", "", text)
        for block in re.split(r"\n\s*\n", text):
            if re.match(r"\s|\.\.|[-*+]\s|\d+\.", block):
                continue
            heading = re.match(r"(.+)\n([=\-~^\"'+#])\2{2,}\n?", block)
            if heading:
                head, block = heading.group(1).strip(), block[heading.end() :]
            if block:
                corpus.add_paragraph(source, name, title, head, clean(block.replace("::", ":")))


READERS = {"cnxml": read_cnxml, "markdown": read_markdown, "pep": read_peps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clones", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sources", type=Path, default=Path(__file__).with_name("sources.tsv"))
    args = parser.parse_args()
    with open(args.sources, encoding="utf-8", newline="") as file:
        sources = list(csv.DictReader(file, delimiter="\t"))
    corpus = Corpus(args.out)
    for source in sources:
        before = dict(corpus.counts)
        repository = Repository(args.clones / source["repository"], source["commit"])
        READERS[source["form"]](corpus, source, repository)
        new = {name: count - before[name] for name, count in corpus.counts.items()}
        print(source["repository"], source["commit"][:8], source["licence"], new, flush=True)
    corpus.close()


if __name__ == "__main__":
    main()
