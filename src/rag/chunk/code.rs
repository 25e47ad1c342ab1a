//! Code: which texts are programs, and where in code a chunk may begin. Knows no language; goes by blank lines,
//! indentation and the marks that most languages share.

use std::ops::Range;

use super::fit::trimmed;
use super::pieces::Break;

/// How much of a text is looked at to tell whether it is a program.
const SAMPLE_BYTES: usize = 32 << 10;
/// Fewer lines do not tell.
const MIN_LINES: usize = 4;

/// Whether at least half of the lines look like those of a program.
pub fn is_program(text: &str) -> bool {
    let mut end = text.len().min(SAMPLE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let lines = text[..end].lines().filter(|line| !line.trim().is_empty());
    let (mut num_lines, mut num_code) = (0, 0);
    for line in lines {
        num_lines += 1;
        num_code += usize::from(is_code(line));
    }
    num_lines >= MIN_LINES && num_code * 2 >= num_lines
}

fn is_code(line: &str) -> bool {
    const BEGINS: &[&str] = &[
        "//",
        "/*",
        "* ",
        "*/",
        "#include",
        "#define",
        "#!",
        "import ",
        "from ",
        "use ",
        "package ",
        "def ",
        "class ",
        "fn ",
        "pub ",
        "func ",
        "function ",
        "return",
        "const ",
        "let ",
        "var ",
        "static ",
        "struct ",
        "enum ",
        "impl ",
        "if ",
        "elif ",
        "else",
        "for ",
        "while ",
        "try",
        "except",
        "end",
        "@",
        "namespace ",
        "using ",
        "public ",
        "private ",
        "protected ",
    ];
    let words = line.trim();
    let is_indented = line.starts_with([' ', '\t']);
    words.ends_with(['{', '}', ';'])
        || words.ends_with("):")
        || words == ")"
        // Words that prose begins lines with, too, count only in a line that has a mark of code.
        || (BEGINS.iter().any(|begin| words.starts_with(begin))
            && (words.contains(['(', '=', '{', '<', '"', '/', ':', '@', '#']) || words.split(' ').count() <= 3))
        || (is_indented && words.contains(['(', '=']) && !words.ends_with('.'))
}

/// The lines of code in a span, each trimmed.
pub fn lines(text: &str, span: Range<usize>) -> Vec<Range<usize>> {
    let mut offset = span.start;
    let mut found = Vec::new();
    for line in text[span].split_inclusive('\n') {
        found.extend(trimmed(text, offset..offset + line.len()));
        offset += line.len();
    }
    found
}

/// How good a place the beginning of a paragraph of code is: between functions, or within one.
pub fn break_after_blank(text: &str, paragraph: &Range<usize>) -> Break {
    let is_indented = text[..paragraph.start].ends_with([' ', '\t']);
    let closes = text[paragraph.clone()].starts_with(['}', ')', ']']);
    match (is_indented, closes) {
        (_, true) => Break::Within,
        (true, _) => Break::Item,
        (false, _) => Break::Block,
    }
}

/// How good a place the beginning of a line of code is, whatever stands before it.
pub fn break_before(text: &str, line: &Range<usize>) -> Break {
    match text[line.clone()].starts_with(['}', ')', ']', '`']) {
        true => Break::Within,
        false => Break::Line,
    }
}
