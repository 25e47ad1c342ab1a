"""How near a found text is to a reference: words found, words added, and the order in which they stand."""

import bisect
import collections
import re
import unicodedata


def plain(text):
    """As it is compared: ligatures as letters, words that a line end divides as one, in lower case."""
    text = unicodedata.normalize("NFKC", text).replace("\u00ad\n", "").replace("\u00ad", "").replace("\u2010", "-")
    return re.sub(r"(?<=[^\W\d_])-[ \t]*\n\s*(?=[a-zà-ÿ])", "", text).lower()


def sequence(text):
    return re.findall(r"\w+", plain(text))


def scores(reference, found):
    """Recall, precision, F1 and order."""
    reference, found = sequence(reference), sequence(found)
    counted, counted_found = collections.Counter(reference), collections.Counter(found)
    both = sum((counted & counted_found).values())
    recall, precision = both / max(1, len(reference)), both / max(1, len(found))
    f1 = 2 * recall * precision / max(1e-9, recall + precision)
    # Of the words that stand once in both: the longest row of them that stands in both in the same order.
    places = {word: at for at, word in enumerate(found) if counted_found[word] == 1}
    row = [places[word] for word in reference if counted[word] == 1 and word in places]
    ends = []
    for place in row:
        at = bisect.bisect_left(ends, place)
        ends[at : at + 1] = [place]
    return recall, precision, f1, len(ends) / len(row) if row else float(bool(both))


def without_markdown(text):
    """Markdown without its marks, links' targets, pictures and HTML."""
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.S)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^\]]*)\]\((?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)", r"\1", text)
    text = re.sub(r"\[\^\d+\]:?", " ", text)
    text = re.sub(r"&(amp|lt|gt|quot);", " ", text)
    return re.sub(r"\\([_*\\])", r"\1", text).replace("NaN", " ").replace("Unnamed:", " ")


def without_notes(text):
    """Without the numbers of notes."""
    return re.sub(r"\[\^?\d+\]:?", " ", text)
