"""Compares what the readers here find in documents with what is in them, and with other readers.

    cargo build --release --example extract_text
    pip install 'markitdown[docx,pptx,xlsx,pdf]' python-docx python-pptx openpyxl odfpy ebooklib beautifulsoup4 pypdf trafilatura
    apt install poppler-utils tesseract-ocr
    python tests/fidelity/compare.py target/release/examples/extract_text SHARED_DATA          # Office, books, mails
    python tests/fidelity/compare.py target/release/examples/extract_text SHARED_DATA --pages  # PDF, HTML, Markdown, text
    python tests/fidelity/compare.py target/release/examples/extract_text SHARED_DATA --scans  # PDF pages as pictures

SHARED_DATA is the folder with the test material. Words are compared as multisets, in lower case, without punctuation:
recall is the share of the reference's words that were found, precision the share of the found words that the reference
has. Order is the share of the words standing once in both that come in the order of the reference (longest increasing
subsequence). A reference is what another program found (pandoc's and docling's expected output), what a library for the format
finds, or, for files made here, what was written into them.
"""

import bisect
import collections
import datetime
import email.message
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile


def words(text):
    return collections.Counter(re.findall(r"\w+", text.lower()))


def score(reference, found):
    reference, found = words(reference), words(found)
    both = sum((reference & found).values())
    recall = both / max(1, sum(reference.values()))
    precision = both / max(1, sum(found.values()))
    return recall, precision


def f1(recall, precision):
    return 2 * recall * precision / max(1e-9, recall + precision)


def plain_markdown(text):
    """Markdown without its marks, links' targets, pictures and HTML."""
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.S)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[\^\d+\]:?", " ", text)
    text = re.sub(r"&(amp|lt|gt|quot);", " ", text)
    return re.sub(r"\\([_*\\])", r"\1", text).replace("NaN", " ").replace("Unnamed:", " ")


def pandoc_text(native):
    return " ".join(
        json.loads('"' + re.sub(r"\\(\d+)(\\&)?", lambda m: chr(int(m[1])), s) + '"')
        for s in re.findall(r'Str "((?:[^"\\]|\\.)*)"', native)
    )


def pptx_text(path):
    from pptx import Presentation

    parts = []

    def walk(shapes):
        for shape in shapes:
            if shape.shape_type == 6:
                walk(shape.shapes)
            elif shape.has_text_frame:
                parts.append(shape.text_frame.text)
            elif getattr(shape, "has_table", False) and shape.has_table:
                parts.extend(cell.text for row in shape.table.rows for cell in row.cells)
            elif getattr(shape, "has_chart", False) and shape.has_chart:
                chart = shape.chart
                if chart.has_title:
                    parts.append(chart.chart_title.text_frame.text)
                for plot in chart.plots:
                    parts.extend(str(c) for c in plot.categories)
                    for series in plot.series:
                        parts.append(series.name)
                        parts.extend(f"{v:g}" for v in series.values if v is not None)

    for slide in Presentation(path).slides:
        walk(slide.shapes)
        if slide.has_notes_slide:
            parts.append(slide.notes_slide.notes_text_frame.text)
    return "\n".join(parts)


def epub_text(path):
    import ebooklib
    from bs4 import BeautifulSoup
    from ebooklib import epub

    book = epub.read_epub(path)
    items = [book.get_item_with_id(name) for name, _ in book.spine]
    items = [item for item in items if item and item.get_type() == ebooklib.ITEM_DOCUMENT]
    soups = [BeautifulSoup(item.get_content(), "html.parser") for item in items]
    head = [v for k in ("title", "creator") for v, _ in book.get_metadata("DC", k)]
    return "\n".join(head + [(soup.body or soup).get_text(" ") for soup in soups])


PARAGRAPHS = [
    "The lighthouse on Grauholm was built in 1874 from granite that came by barge.",
    "Its tower is 41 metres high and has 212 steps; the keeper winds the clockwork every evening.",
    "Besucher sind am ersten Sonntag jedes Monats zwischen Mai und September willkommen.",
    "Η τιμή του εισιτηρίου είναι 14 κορώνες. 渡し船は九時に出ます。",
]
FARES = [
    ("Passenger", "Since", "Share", "Fare", "Remark"),
    ("Adult", datetime.date(2019, 4, 1), 0.625, 1214.5, "daily"),
    ("Child", datetime.date(2021, 11, 30), 0.25, 7, "under 12, with an adult"),
    ("Dog", datetime.date(2024, 2, 29), 0.125, 3.2, "on a leash"),
]
FARES_SHOWN = [
    FARES[0],
    ("Adult", "2019-04-01", "62.5%", "1,214.50", "daily"),
    ("Child", "2021-11-30", "25.0%", "7.00", "under 12, with an adult"),
    ("Dog", "2024-02-29", "12.5%", "3.20", "on a leash"),
]


def table_text(rows):
    return "\n".join(" ".join(map(str, row)) for row in rows)


def make_xlsx(path):
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Fares"
    for row in FARES:
        sheet.append(row)
    for row in sheet.iter_rows(min_row=2):
        row[1].number_format, row[2].number_format, row[3].number_format = "yyyy-mm-dd", "0.0%", "#,##0.00"
    notes = book.create_sheet("Notes")
    for text in PARAGRAPHS:
        notes.append([text])
    book.save(path)
    return "\n".join(["Fares", table_text(FARES_SHOWN), "Notes", *PARAGRAPHS])


def make_ods(path):
    from odf import table, text
    from odf.opendocument import OpenDocumentSpreadsheet

    book = OpenDocumentSpreadsheet()
    sheet = table.Table(name="Fares")
    for row in FARES_SHOWN:
        line = table.TableRow()
        for value in row:
            cell = table.TableCell(valuetype="string")
            cell.addElement(text.P(text=value))
            line.addElement(cell)
        sheet.addElement(line)
    book.spreadsheet.addElement(sheet)
    book.save(path)
    return "Fares\n" + table_text(FARES_SHOWN)


def make_odt(path):
    from odf import table, text
    from odf.opendocument import OpenDocumentText

    document = OpenDocumentText()
    document.text.addElement(text.H(outlinelevel=1, text="The lighthouse"))
    for paragraph in PARAGRAPHS:
        document.text.addElement(text.P(text=paragraph))
    items = text.List()
    for word in ("granite", "barge"):
        item = text.ListItem()
        item.addElement(text.P(text=word))
        items.addElement(item)
    document.text.addElement(items)
    rows = table.Table(name="T")
    for row in FARES_SHOWN:
        line = table.TableRow()
        for value in row:
            cell = table.TableCell()
            cell.addElement(text.P(text=value))
            line.addElement(cell)
        rows.addElement(line)
    document.text.addElement(rows)
    document.save(path)
    return "\n".join(["The lighthouse", *PARAGRAPHS, "granite barge", table_text(FARES_SHOWN)])


def make_odp(path):
    from odf import draw, style, text
    from odf.opendocument import OpenDocumentPresentation

    document = OpenDocumentPresentation()
    layout = style.PageLayout(name="L")
    document.automaticstyles.addElement(layout)
    master = style.MasterPage(name="M", pagelayoutname=layout)
    document.masterstyles.addElement(master)
    for number, paragraph in enumerate(PARAGRAPHS, 1):
        page = draw.Page(masterpagename=master, name=f"p{number}")
        for words_, kind in ((f"Topic {number}", "title"), (paragraph, "outline")):
            frame = draw.Frame(width="1cm", height="1cm")
            frame.setAttrNS("urn:oasis:names:tc:opendocument:xmlns:presentation:1.0", "class", kind)
            box = draw.TextBox()
            box.addElement(text.P(text=words_))
            frame.addElement(box)
            page.addElement(frame)
        document.presentation.addElement(page)
    document.save(path)
    return "\n".join(f"Topic {n} {p}" for n, p in enumerate(PARAGRAPHS, 1))


def make_csv(path):
    lines = ["Passenger;Since;Share;Fare;Remark"] + [";".join(row) for row in FARES_SHOWN[1:]]
    pathlib.Path(path).write_bytes(("\r\n".join(lines) + "\r\nMötley;2020-01-01;1%;2;für Hunde\r\n").encode("cp1252"))
    return table_text(FARES_SHOWN) + " Mötley 2020-01-01 1% 2 für Hunde"


def make_eml(path):
    message = email.message.EmailMessage()
    message["From"], message["To"] = "Jürgen <j@example.org>", "bea@example.org"
    message["Subject"], message["Date"] = "Die Fähre", "Fri, 01 Mar 2024 10:00:00 +0100"
    message.set_content("\n".join(PARAGRAPHS))
    message.add_alternative("<p>" + "</p><p>".join(PARAGRAPHS) + "</p>", subtype="html")
    message.add_attachment(table_text(FARES_SHOWN).encode(), maintype="text", subtype="plain", filename="fares.txt")
    pathlib.Path(path).write_bytes(bytes(message))
    head = "From Jürgen j@example.org To bea@example.org Subject Die Fähre Date Fri 1 Mar 2024 10:00:00 +0100"
    return "\n".join([head, *PARAGRAPHS, "fares.txt", table_text(FARES_SHOWN)])


def make_json(path):
    rows = [dict(zip(FARES[0], row)) for row in FARES_SHOWN[1:]]
    pathlib.Path(path).write_text(json.dumps({"fares": rows, "notes": PARAGRAPHS}))
    return "\n".join(["fares notes", table_text(FARES_SHOWN), *PARAGRAPHS])


def make_ipynb(path):
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# The lighthouse\n", p]} for p in PARAGRAPHS]
    output = {"output_type": "stream", "name": "stdout", "text": ["41\n"]}
    code = {"cell_type": "code", "metadata": {}, "source": "print(tower)", "outputs": [output], "execution_count": 1}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells + [code]}
    pathlib.Path(path).write_text(json.dumps(notebook))
    return "\n".join(["The lighthouse " + p for p in PARAGRAPHS] + ["print tower 41"])


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in members:
            archive.write(file, file.name)


def cases(data, folder):
    """Format, file and reference text."""
    docx = data / "docs/docx"
    for reference in sorted(docx.glob("*.docling.md")):
        if reference.stat().st_size > 100:
            yield "docx (docling)", docx / reference.name.replace(".docling.md", ".docx"), plain_markdown(reference.read_text())
    for reference in sorted(docx.glob("*.native")):
        yield "docx (pandoc)", reference.with_suffix(".docx"), pandoc_text(reference.read_text())
    yield "pptx", data / "docs/other/test.pptx", pptx_text(data / "docs/other/test.pptx")
    yield "epub", data / "docs/other/test.epub", epub_text(data / "docs/other/test.epub")
    made = []
    for name, make in [
        ("xlsx", make_xlsx), ("ods", make_ods), ("odt", make_odt), ("odp", make_odp), ("csv", make_csv),
        ("eml", make_eml), ("json", make_json), ("ipynb", make_ipynb),
    ]:
        path = folder / f"made.{name}"
        made.append((path, make(path)))
        yield name, *made[-1]
    inside = [entry for entry in made if entry[0].suffix in (".xlsx", ".csv", ".ipynb")]
    make_zip(folder / "made.zip", [path for path, _ in inside])
    yield "zip", folder / "made.zip", "\n".join(f"{path.name}\n{text}" for path, text in inside)


def order(reference, found):
    """Of the words that stand once in both texts, the share that comes in the order of the reference."""
    sequence = re.findall(r"\w+", reference.lower())
    in_reference, in_found = words(reference), words(found)
    places = {word: at for at, word in enumerate(re.findall(r"\w+", found.lower())) if in_found[word] == 1}
    row = [places[word] for word in sequence if in_reference[word] == 1 and word in places]
    ends = []
    for place in row:
        at = bisect.bisect_left(ends, place)
        ends[at : at + 1] = [place]
    return len(ends) / max(1, len(row))


def read_by_us(program, files, *options):
    lines = subprocess.run([program, *options, *map(str, files)], capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def pdftotext(path):
    return subprocess.run(["pdftotext", str(path), "-"], capture_output=True, text=True).stdout


def pypdf_text(path):
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def trafilatura_text(path):
    import trafilatura

    return trafilatura.extract(path.read_bytes()) or ""


def html_words(source):
    from bs4 import BeautifulSoup

    return BeautifulSoup(source, "html.parser").get_text(" ")


def page_cases(data, folder):
    """Format, file, reference text, and the names of the rivals that read it."""
    import gzip

    docs = data / "docs"
    for reference in sorted((docs / "pdf_expected").glob("*.poppler.txt")):
        path = docs / "pdf" / reference.name.replace(".poppler.txt", ".pdf")
        yield "pdf (poppler)", path, reference.read_text(), ["pypdf", "markitdown"]
    for reference in sorted((docs / "pdf").glob("*.docling.md")):
        path = docs / "pdf" / reference.name.replace(".docling.md", ".pdf")
        yield "pdf (docling)", path, plain_markdown(reference.read_text()), ["pdftotext", "pypdf", "markitdown"]
    for reference in sorted((docs / "pdf").glob("*.txt")):
        yield "pdf (by hand)", reference.with_suffix(".pdf"), reference.read_text(), ["pdftotext", "pypdf", "markitdown"]
    for reference in sorted((docs / "html").glob("*.docling.md")):
        path = docs / "html" / reference.name.replace(".docling.md", ".html")
        yield "html (docling)", path, plain_markdown(reference.read_text()), ["trafilatura", "markitdown"]
    for reference in sorted((docs / "html_readability").glob("*.expected.html")):
        path = reference.with_name(reference.name.replace(".expected.", ".source."))
        yield "html (readability)", path, html_words(reference.read_text()), ["trafilatura", "markitdown"]
    truth = json.loads((docs / "html_article/ground-truth.json").read_text())
    for packed in sorted((docs / "html_article").glob("*.html.gz")):
        name = packed.name.removesuffix(".html.gz")
        entry = next(value for key, value in truth.items() if key.startswith(name))
        path = folder / f"{name}.html"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        yield "html (articles)", path, entry["articleBody"], ["trafilatura", "markitdown"]
    for path in sorted((docs / "markdown").glob("*.md")):
        yield "markdown", path, path.read_text(), []
    for path in sorted((docs / "text").iterdir()):
        encoding = "cp1252" if "1252" in path.name else "utf-8"
        yield "text", path, path.read_bytes().decode(encoding, "replace"), ["markitdown"]


def compare_pages(program, data):
    from markitdown import MarkItDown

    markitdown = MarkItDown()
    rivals = {
        "pdftotext": pdftotext,
        "pypdf": pypdf_text,
        "trafilatura": trafilatura_text,
        "markitdown": lambda path: plain_markdown(markitdown.convert(str(path)).text_content),
    }
    with tempfile.TemporaryDirectory() as folder:
        cases = list(page_cases(data, pathlib.Path(folder)))
        ours = read_by_us(program, [path for _, path, _, _ in cases])
        table = collections.defaultdict(lambda: collections.defaultdict(list))
        for (kind, path, reference, names), found in zip(cases, ours, strict=True):
            texts = {"ours": found.get("document", {}).get("text", "")}
            for name in names:
                try:
                    texts[name] = rivals[name](path)
                except Exception as error:  # whatever it does not read
                    texts[name] = ""
                    print(f"{path.name}: {name}: {type(error).__name__}", file=sys.stderr)
            for name, text in texts.items():
                scores = (*score(reference, text), order(reference, text))
                table[kind][name].append(scores)
                print(f"{kind:20} {path.name:40} {name:12} " + " ".join(f"{it:.3f}" for it in scores), file=sys.stderr)
    print("| format | files | reader | recall | precision | F1 | order |")
    print("|---|---|---|---|---|---|---|")
    for kind, readers in table.items():
        for name, scores in readers.items():
            recall, precision, in_order = (sum(it[side] for it in scores) / len(scores) for side in range(3))
            cells = [kind, str(len(scores)), name, *(f"{it:.3f}" for it in (recall, precision, f1(recall, precision), in_order))]
            print("| " + " | ".join(cells) + " |")


SCANNED = ["tracemonkey", "multicolumn", "basicapi", "normal_4pages", "scotus-transcript-p1"]


def compare_scans(program, data):
    """First pages as pictures of 150 and 300 dots per inch, recognised, against the text of the same page."""
    import difflib

    print("| page | dpi | character accuracy | word recall | order |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in SCANNED:
            pdf = data / f"docs/pdf/{name}.pdf"
            reference = subprocess.run(["pdftotext", "-l", "1", str(pdf), "-"], capture_output=True, text=True).stdout
            for dpi in (150, 300):
                picture = pathlib.Path(folder) / f"{name}-{dpi}"
                command = ["pdftoppm", "-l", "1", "-r", str(dpi), "-gray", "-png", "-singlefile", str(pdf), str(picture)]
                subprocess.run(command, check=True)
                found = read_by_us(program, [f"{picture}.png"], "--ocr")[0].get("document", {}).get("text", "")
                # Characters of words, in the order of reading; a divided word is one.
                plain = lambda text: re.sub(r"\s+", " ", re.sub(r"-\n(?=[a-z])", "", text)).strip()
                matcher = difflib.SequenceMatcher(None, plain(reference), plain(found), autojunk=False)
                same = sum(block.size for block in matcher.get_matching_blocks())
                accuracy = same / max(1, len(plain(reference)))
                recall, in_order = score(reference, found)[0], order(reference, found)
                print(f"| {name} | {dpi} | {accuracy:.3f} | {recall:.3f} | {in_order:.3f} |")


def main():
    program, data = sys.argv[1], pathlib.Path(sys.argv[2])
    if "--pages" in sys.argv:
        return compare_pages(program, data)
    if "--scans" in sys.argv:
        return compare_scans(program, data)
    from markitdown import MarkItDown

    rival = MarkItDown()
    with tempfile.TemporaryDirectory() as folder:
        all_cases = list(cases(data, pathlib.Path(folder)))
        files = [str(path) for _, path, _ in all_cases]
        ours = read_by_us(program, files)
        table = collections.defaultdict(list)
        for (kind, path, reference), found in zip(all_cases, ours, strict=True):
            text = found.get("document", {}).get("text", "")
            try:
                other = plain_markdown(rival.convert(str(path)).text_content)
            except Exception as error:  # whatever it does not read
                other = ""
                print(f"{path.name}: markitdown: {type(error).__name__}", file=sys.stderr)
            own, theirs = score(reference, re.sub(r"\[\^\d+\]:?", " ", text)), score(reference, other)
            table[kind].append((own, theirs))
            print(f"{path.name:40} ours {own[0]:.3f} {own[1]:.3f}  markitdown {theirs[0]:.3f} {theirs[1]:.3f}", file=sys.stderr)
    print("| format | files | recall | precision | F1 | markitdown: recall | precision | F1 |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, scores in table.items():
        cells = []
        for side in (0, 1):
            recall = sum(it[side][0] for it in scores) / len(scores)
            precision = sum(it[side][1] for it in scores) / len(scores)
            cells += [f"{recall:.3f}", f"{precision:.3f}", f"{f1(recall, precision):.3f}"]
        print(f"| {kind} | {len(scores)} | " + " | ".join(cells) + " |")


main()
