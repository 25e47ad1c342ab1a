"""Compares what the readers here find in documents with what is in them, and with other readers.

    cargo build --release --bin inglenook --example extract_text
    pip install 'markitdown[docx,pptx,xlsx,pdf]' python-docx python-pptx openpyxl odfpy ebooklib beautifulsoup4 pypdf \\
        pymupdf trafilatura lxml_html_clean fonttools reportlab rapidfuzz
    apt install poppler-utils tesseract-ocr pandoc
    python tests/fidelity/compare.py target/release/examples/extract_text SHARED_DATA          # Office, books, mails
    python tests/fidelity/compare.py target/release/examples/extract_text SHARED_DATA --pages  # PDF, HTML, Markdown, text
    python tests/fidelity/compare.py target/release/examples/extract_text SHARED_DATA --scans  # PDF pages as pictures

SHARED_DATA is the folder with the test material. Words are compared as multisets, in lower case, without punctuation, with
ligatures as letters and divided words joined: recall is the share of the reference's words that were found, precision the
share of the found words that the reference has. Order is the share of the words standing once in both that come in the
order of the reference (longest increasing subsequence). A reference is what another program found (expected texts beside
the files), what a library for the format finds, or, for files made here, what was written into them.

Each file's scores go to stderr; at the end those where another reader is ahead by more than 0.01. `--only WORD` takes only
files whose format or name contains it, `--texts FOLDER` keeps all texts for reading.
"""

import argparse
import collections
import json
import logging
import pathlib
import re
import subprocess
import sys
import tempfile

import cases
import readers
from scoring import plain, scores


def read_by_us(program, files, *options):
    lines = subprocess.run([program, *options, *map(str, files)], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def read_by_another(name, path):
    try:
        return readers.READERS[name](path)
    except Exception as error:  # whatever it does not read
        print(f"{path.name}: {name}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
        return ""


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows)]


def shown(numbers):
    return " | ".join(f"{number:.3f}" for number in numbers)


def compare(options, chosen):
    """`chosen` are format, file, reference and other readers' names."""
    ours = read_by_us(options.program, [path for _, path, _, _ in chosen])
    table = collections.defaultdict(lambda: collections.defaultdict(list))
    behind = []
    for (kind, path, reference, others), found in zip(chosen, ours, strict=True):
        if "error" in found:
            print(f"{path.name}: {found['error']}", file=sys.stderr)
        texts = {"ours": re.sub(r"\[\^\d+\]:?", " ", found.get("document", {}).get("text", ""))}
        texts |= {name: read_by_another(name, path) for name in others}
        if options.texts:
            for name, text in [*texts.items(), ("reference", reference)]:
                (options.texts / f"{path.name}.{name}.txt").write_text(text)
        of_file = {name: scores(reference, text) for name, text in texts.items()}
        for name, row in of_file.items():
            table[kind][name].append(row)
            print(f"{kind:28} {path.name:40} {name:12} {shown(row)}", file=sys.stderr)
        for side, what in ((2, "F1"), (3, "order")):
            best = max(of_file, key=lambda name: of_file[name][side])
            if of_file[best][side] > of_file["ours"][side] + 0.01:
                own, other = of_file["ours"][side], of_file[best][side]
                behind.append(f"{kind:28} {path.name:40} {what:5} {own:.3f}, {best} {other:.3f}")
    print("\nbehind another reader:", *behind, sep="\n", file=sys.stderr)
    print(readers.versions())
    print("| format (reference) | files | recall | precision | F1 | order | others: F1, order |")
    print("|---|---|---|---|---|---|---|")
    for kind, by_reader in table.items():
        own = by_reader.pop("ours")
        others = [(name, mean(rows)) for name, rows in by_reader.items()]
        others = "; ".join(f"{name} {row[2]:.3f}, {row[3]:.3f}" for name, row in others)
        print(f"| {kind} | {len(own)} | {shown(mean(own))} | {others} |")


SCANNED = [
    ("tracemonkey", 1), ("multicolumn", 1), ("scotus-transcript-p1", 1), ("amt_handbook_sample", 1),
    ("pdfjs_wikipedia", 1), ("test", 1), ("la-precinct-bulletin-2014-p1", 1), ("crazyones", 1),
]


def character_accuracy(reference, found):
    """One less the edits for each character; a divided word is one, and so are blanks in a row."""
    from rapidfuzz.distance import Levenshtein

    reference, found = (re.sub(r"\s+", " ", plain(text)).strip() for text in (reference, found))
    return max(0, 1 - Levenshtein.distance(reference, found) / max(1, len(reference)))


def compare_scans(options, folder):
    """Pages as pictures, recognised, against the text that they were drawn from."""
    print(readers.versions())
    print("| page | dpi | characters | words | order | tesseract: characters | words | order |")
    print("|---|---|---|---|---|---|---|---|")
    for name, page in SCANNED:
        if options.only and options.only not in name:
            continue
        pdf = options.data / f"docs/pdf/{name}.pdf"
        reference = readers.output("pdftotext", "-f", page, "-l", page, pdf, "-")
        for dpi in (100, 150, 300):
            picture = folder / f"{name}-{dpi}"
            draw = ["pdftoppm", "-f", page, "-l", page, "-r", dpi, "-gray", "-png", "-singlefile", pdf, picture]
            readers.output(*draw)
            ours = read_by_us(options.program, [f"{picture}.png"], "--ocr")[0].get("document", {}).get("text", "")
            by_hand = readers.output("tesseract", f"{picture}.png", "-")
            cells = []
            for text in (ours, by_hand):
                recall, _, _, order = scores(reference, text)
                cells += [character_accuracy(reference, text), recall, order]
            print(f"| {name}, page {page} | {dpi} | {shown(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--scans", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--texts", type=pathlib.Path)
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # what other readers have to say
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if options.scans:
            return compare_scans(options, folder)
        list_cases = cases.page_cases if options.pages else cases.office_cases
        chosen = [it for it in list_cases(options.data, folder) if options.only in f"{it[0]} {it[1].name}"]
        compare(options, chosen)


main()
