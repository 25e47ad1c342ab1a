"""Files that are made here, each with the words that were written into it."""

import datetime
import email.message
import json
import pathlib
import subprocess
import zipfile

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


def make_pdf_columns(path, paragraphs, is_row_by_row=False):
    """Two columns under a title and over a page number. Row by row, both columns' lines are drawn from top to bottom."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.utils import simpleSplit
    from reportlab.pdfgen.canvas import Canvas

    width, height, leading, column = *A4, 12, 235
    lines = []
    for paragraph in paragraphs:
        lines += simpleSplit(paragraph, "Times-Roman", 10, column) + [""]
    canvas = Canvas(str(path))
    per_column, text = 52, ["The book in two columns"]
    canvas.setFont("Times-Bold", 18)
    canvas.drawCentredString(width / 2, height - 60, text[0])
    for page, start in enumerate(range(0, len(lines), 2 * per_column), 1):
        canvas.setFont("Times-Roman", 10)
        on_page = lines[start : start + 2 * per_column]
        places = [(55 + 250 * (at // per_column), height - 100 - leading * (at % per_column)) for at in range(len(on_page))]
        drawn = sorted(zip(on_page, places), key=lambda it: -it[1][1] if is_row_by_row else 0)
        for line, (x, y) in drawn:
            canvas.drawString(x, y, line)
        canvas.drawCentredString(width / 2, 40, f"page {page}")
        canvas.showPage()
        text += [*on_page, f"page {page}"]
    canvas.save()
    return "\n".join(text)


def make_pdf_letters(path, paragraphs):
    """Ligatures as letters of their own, and words divided at the ends of lines."""
    import reportlab
    from reportlab.lib.utils import simpleSplit
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    font = pathlib.Path(reportlab.__file__).parent / "fonts/Vera.ttf"
    pdfmetrics.registerFont(TTFont("Vera", str(font)))
    canvas = Canvas(str(path))
    y = 780
    canvas.setFont("Vera", 10)
    for paragraph in paragraphs:
        rest = paragraph
        while rest:
            line = simpleSplit(rest, "Vera", 10, 400)[0]
            rest = rest[len(line) :]
            # The next word is divided where that leaves three letters on either side.
            word = rest.split()[0] if rest.split() else ""
            if len(word) >= 8 and word.isalpha() and word.islower():
                line, rest = line.rstrip() + " " + word[:4] + "-", rest.lstrip()[4:]
            canvas.drawString(70, y, line.strip().replace("fi", "\ufb01").replace("fl", "\ufb02"))
            y -= 13
            rest = rest.lstrip()
            if y < 60:
                canvas.showPage()
                canvas.setFont("Vera", 10)
                y = 780
        y -= 10
    canvas.save()
    return "\n\n".join(paragraphs)


def make_pdf_table(path):
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

    style = getSampleStyleSheet()["BodyText"]
    rows = [[str(cell) for cell in row] for row in FARES_SHOWN]
    parts = [Paragraph(PARAGRAPHS[0], style), Table(rows), Paragraph(PARAGRAPHS[1], style)]
    SimpleDocTemplate(str(path)).build(parts)
    return "\n".join([PARAGRAPHS[0], table_text(rows), PARAGRAPHS[1]])


def written_by_pandoc(source, path):
    """A Markdown file as another format, and its words."""
    subprocess.run(["pandoc", "-s", "--metadata", f"title={source.stem}", str(source), "-o", str(path)], check=True)
    plain = subprocess.run(["pandoc", "-t", "plain", "--wrap=none", str(source)], capture_output=True, text=True, check=True)
    return source.stem + "\n" + plain.stdout
