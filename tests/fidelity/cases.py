"""Which files are compared: each with its format, what must be found in it, and the readers beside ours."""

import gzip
import json
import re

import made
from readers import HTML, OFFICE, PDF, output
from scoring import without_markdown

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


def html_text(source):
    from bs4 import BeautifulSoup

    return BeautifulSoup(source, "html.parser").get_text(" ")


def office_cases(data, folder):
    docx = data / "docs/docx"
    for reference in sorted(docx.glob("*.docling.md")):
        if reference.stat().st_size > 100:
            text = without_markdown(reference.read_text())
            yield "docx (docling)", docx / reference.name.replace(".docling.md", ".docx"), text, OFFICE
    for reference in sorted(docx.glob("*.native")):
        yield "docx (pandoc)", reference.with_suffix(".docx"), pandoc_text(reference.read_text()), ["markitdown"]
    yield "pptx (python-pptx)", data / "docs/other/test.pptx", pptx_text(data / "docs/other/test.pptx"), ["markitdown"]
    yield "epub (EbookLib)", data / "docs/other/test.epub", epub_text(data / "docs/other/test.epub"), OFFICE
    files = []
    for name, make, others in [
        ("xlsx", made.make_xlsx, ["markitdown"]), ("ods", made.make_ods, []), ("odt", made.make_odt, ["pandoc"]),
        ("odp", made.make_odp, []), ("csv", made.make_csv, OFFICE), ("eml", made.make_eml, []),
        ("json", made.make_json, ["markitdown"]), ("ipynb", made.make_ipynb, OFFICE),
    ]:
        path = folder / f"made.{name}"
        files.append((path, make(path)))
        yield f"{name} (made)", *files[-1], others
    inside = [it for it in files if it[0].suffix in (".xlsx", ".csv", ".ipynb")]
    made.make_zip(folder / "made.zip", [path for path, _ in inside])
    yield "zip (made)", folder / "made.zip", "\n".join(f"{path.name}\n{text}" for path, text in inside), ["markitdown"]
    # pandoc's own reading of what it has written is no comparison.
    for name in ("docx", "odt", "pptx", "epub", "rtf"):
        for source in sorted((data / "docs/markdown").glob("*.md")):
            path = folder / f"{source.stem}.{name}"
            others = ["markitdown"] if name in ("docx", "pptx", "epub") else []
            yield f"{name} (written by pandoc)", path, made.written_by_pandoc(source, path), others


def page_cases(data, folder):
    docs = data / "docs"
    for reference in sorted((docs / "pdf_expected").glob("*.poppler.txt")):
        path = docs / "pdf" / reference.name.replace(".poppler.txt", ".pdf")
        if text := reference.read_text().strip():
            yield "pdf (poppler)", path, text, [it for it in PDF if it != "pdftotext"]
    for reference in sorted((docs / "pdf").glob("*.docling.md")):
        path = docs / "pdf" / reference.name.replace(".docling.md", ".pdf")
        yield "pdf (docling)", path, without_markdown(reference.read_text()), PDF
    for reference in [*sorted((docs / "pdf").glob("*.txt")), docs / "pdf/test.md", docs / "pdf/movie-theater-booking-2024.md"]:
        yield "pdf (expected text)", reference.with_suffix(".pdf"), without_markdown(reference.read_text()), PDF
    alice = (docs / "text/alice29.txt").read_text().split("\n\n")
    alice = [" ".join(paragraph.split()) for paragraph in alice if len(paragraph) > 200][:40]
    for name, make in [
        ("columns", made.make_pdf_columns),
        ("rows", lambda path, text: made.make_pdf_columns(path, text, is_row_by_row=True)),
        ("letters", made.make_pdf_letters),
        ("table", lambda path, _: made.make_pdf_table(path)),
    ]:
        path = folder / f"{name}.pdf"
        yield f"pdf (made: {name})", path, make(path, alice), PDF
    for reference in sorted((docs / "html").glob("*.docling.md")):
        path = docs / "html" / reference.name.replace(".docling.md", ".html")
        yield "html, all of it (docling)", path, without_markdown(reference.read_text()), HTML
    for reference in sorted((docs / "html_readability").glob("*.expected.html")):
        path = reference.with_name(reference.name.replace(".expected.", ".source."))
        yield "html, main part (Readability)", path, html_text(reference.read_text()), HTML
    truth = json.loads((docs / "html_article/ground-truth.json").read_text())
    for packed in sorted((docs / "html_article").glob("*.html.gz")):
        name = packed.name.removesuffix(".html.gz")
        entry = next(value for key, value in truth.items() if key.startswith(name))
        path = folder / f"{name}.html"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        yield "html, main part (articles)", path, entry["articleBody"], HTML
    for path in sorted((docs / "markdown").glob("*.md")):
        yield "markdown (pandoc)", path, output("pandoc", "-t", "plain", "--wrap=none", path), []
    for path in sorted((docs / "text").iterdir()):
        encoding = "cp1252" if "1252" in path.name else "utf-8"
        yield "text", path, path.read_bytes().decode(encoding, "replace"), ["markitdown"]
