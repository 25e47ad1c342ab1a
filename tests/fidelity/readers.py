"""The other readers, as somebody would use them to get a file's text."""

import functools
import importlib.metadata
import pathlib
import subprocess

from scoring import without_markdown, without_notes


def output(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, errors="replace")
    return done.stdout


@functools.cache
def markitdown():
    from markitdown import MarkItDown

    return MarkItDown()


def pypdf_text(path):
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def pymupdf_text(path):
    import pymupdf

    with pymupdf.open(path) as document:
        return "\n".join(page.get_text(sort=False) for page in document)


def trafilatura_text(path):
    import trafilatura

    return trafilatura.extract(pathlib.Path(path).read_bytes()) or ""


def pandoc_text(path):
    text = output("pandoc", "-t", "plain", "--wrap=none", path)
    # On web pages such numbers are the page's own.
    return text if path.suffix == ".html" else without_notes(text)


READERS = {
    "pdftotext": lambda path: output("pdftotext", path, "-"),
    "pypdf": pypdf_text,
    "pymupdf": pymupdf_text,
    "pandoc": pandoc_text,
    "trafilatura": trafilatura_text,
    "markitdown": lambda path: without_markdown(markitdown().convert(str(path)).text_content),
}
PDF = ["pdftotext", "pypdf", "pymupdf", "markitdown"]
HTML = ["trafilatura", "pandoc", "markitdown"]
OFFICE = ["pandoc", "markitdown"]


def versions():
    found = [f"{name} {importlib.metadata.version(name)}" for name in ("pypdf", "pymupdf", "trafilatura", "markitdown")]
    pandoc = output("pandoc", "--version").split()[1]
    poppler = subprocess.run(["pdftotext", "-v"], capture_output=True, text=True).stderr.split()[2]
    tesseract = output("tesseract", "--version").split()[1]
    return ", ".join([f"poppler {poppler}", f"pandoc {pandoc}", f"tesseract {tesseract}", *found])
