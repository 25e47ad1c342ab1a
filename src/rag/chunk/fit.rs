//! Cuts what is longer than a chunk into parts that fit, between words where there are any.

use std::ops::Range;

use super::{MAX_BYTES_PER_TOKEN, Ruler};

/// A sentence as pieces that fit.
pub fn parts(ruler: &Ruler, span: Range<usize>, max_tokens: usize) -> Vec<(Range<usize>, usize)> {
    // No sentence of more bytes fits: no need to have it counted.
    if span.len() <= max_tokens * MAX_BYTES_PER_TOKEN {
        let size = ruler.measure(span.clone());
        if size <= max_tokens {
            return vec![(span, size)];
        }
    }
    let mut parts = Vec::new();
    let mut rest = Some(span);
    // How many bytes a token has here, learnt from the parts before.
    let mut bytes_per_token = 4.0;
    while let Some(within) = rest {
        let (part, size) = longest_fitting(ruler, &within, max_tokens, &mut bytes_per_token);
        rest = trimmed(ruler.text, part.end..within.end);
        parts.push((part, size));
    }
    parts
}

/// A beginning of `rest` that fits: by guess, shortened until it does. Ends between words if there are any.
fn longest_fitting(
    ruler: &Ruler,
    rest: &Range<usize>,
    max_tokens: usize,
    bytes_per_token: &mut f64,
) -> (Range<usize>, usize) {
    let guess = (max_tokens as f64 * *bytes_per_token * 0.95) as usize;
    let mut len = guess
        .clamp(1, max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN))
        .min(rest.len());
    loop {
        let end = boundary(ruler.text, rest.start + len, rest);
        let end = rest.start + ruler.text[rest.start..end].trim_end().len();
        let part = rest.start..end;
        let size = ruler.measure(part.clone());
        if size <= max_tokens || is_one_character(&ruler.text[part.clone()]) {
            *bytes_per_token =
                (part.len() as f64 / size.max(1) as f64).clamp(0.5, MAX_BYTES_PER_TOKEN as f64);
            return (part, size);
        }
        // In proportion, and at least a little less.
        len = (part.len() * max_tokens / size).min(part.len() * 9 / 10);
    }
}

/// Where to cut near `end`: after the last white space before it unless that wastes half, else between characters;
/// behind the first character at least.
fn boundary(text: &str, end: usize, within: &Range<usize>) -> usize {
    let mut end = end.min(within.end);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < within.end {
        let head = &text[within.start..end];
        let before = head.rfind(char::is_whitespace).map(|at| within.start + at);
        if let Some(before) = before.filter(|before| (before - within.start) * 2 >= head.len()) {
            end = before;
        }
    }
    let first = text[within.clone()]
        .chars()
        .next()
        .map_or(0, char::len_utf8);
    end.max(within.start + first)
}

fn is_one_character(text: &str) -> bool {
    text.chars().nth(1).is_none()
}

/// A span without the white space around it; `None` when nothing is left.
pub fn trimmed(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let inside = &text[span.clone()];
    let start = span.start + (inside.len() - inside.trim_start().len());
    let end = span.start + inside.trim_end().len();
    (start < end).then_some(start..end)
}
