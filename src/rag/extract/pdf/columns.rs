//! Puts columns one behind the other that a page draws across, a line of each at a time. Only for columns of running text:
//! what could be a table is left as it is, since its rows belong together.

use super::layout::Line;

/// Columns with fewer lines side by side may be anything.
const MIN_ROWS: usize = 6;
/// How far a block is looked at, so that a page of rows cannot make this take long.
const MAX_ROWS: usize = 400;
const MAX_GUTTERS: usize = 4;
/// Running text has longer lines, in letters on average.
const MIN_LETTERS: usize = 20;
/// In units of the font size: how far a column's lines begin from each other, and how far lines of a block are apart.
const SAME_EDGE: f64 = 0.5;
const NEXT_LINE: f64 = 1.7;
const NEXT_PARAGRAPH: f64 = 4.0;

/// Where two lines stand to a gutter.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
    /// Split at this one of its gaps.
    Both(usize),
    Across,
}

/// The lines of a page in the order in which they are read.
pub fn in_order_of_reading(lines: Vec<Line>) -> Vec<Line> {
    let mut read = Vec::with_capacity(lines.len());
    let mut rest = lines.as_slice();
    while let Some(first) = rest.first() {
        let edges = first.gaps.iter().take(MAX_GUTTERS).map(|gap| gap.start.0);
        let block = edges
            .map(|edge| block(rest, edge))
            .find(|block| is_running_text(block, rest));
        let Some(block) = block else {
            read.push(first.clone());
            rest = &rest[1..];
            continue;
        };
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (line, side) in rest.iter().zip(&block) {
            match side {
                Side::Left => left.push(line.clone()),
                Side::Both(gap) => {
                    let (before, after) = line.split(*gap);
                    left.push(before);
                    right.push(after);
                }
                Side::Right | Side::Across => right.push(line.clone()),
            }
        }
        rest = &rest[block.len()..];
        read.append(&mut left);
        // There may be a third column.
        read.append(&mut in_order_of_reading(right));
    }
    read
}

/// How many of the first lines go on beside a gutter whose right edge is at `edge`, and on which side each is.
fn block(lines: &[Line], edge: f64) -> Vec<Side> {
    let mut sides: Vec<Side> = Vec::new();
    let mut num_sure = 0;
    for (index, line) in lines.iter().take(MAX_ROWS).enumerate() {
        let side = side(line, edge);
        if side == Side::Across {
            break;
        }
        if index > 0 {
            let distance = lines[index - 1].distance(line.origin) / line.size;
            if !(0.0..NEXT_PARAGRAPH).contains(&distance) {
                break;
            }
            // What follows the columns may be short enough to look like one of their lines.
            if !matches!(side, Side::Both(_)) && distance > NEXT_LINE && num_sure < index {
                break;
            }
        }
        sides.push(side);
        if matches!(side, Side::Both(_)) {
            num_sure = sides.len();
        }
    }
    sides
}

fn side(line: &Line, edge: f64) -> Side {
    let is_upright = line.direction.0 > 0.99;
    let near = SAME_EDGE * line.size;
    let at_edge = |gap: &super::layout::Gap| (gap.start.0 - edge).abs() < near;
    if !is_upright {
        Side::Across
    } else if let Some(gap) = line.gaps.iter().position(at_edge) {
        Side::Both(gap)
    } else if line.end.0 < edge {
        Side::Left
    } else if line.origin.0 > edge - near {
        Side::Right
    } else {
        Side::Across
    }
}

/// Lines that fill their column and mostly begin inside a sentence.
fn is_running_text(block: &[Side], lines: &[Line]) -> bool {
    let rows: Vec<(Line, Line)> = lines
        .iter()
        .zip(block)
        .filter_map(|(line, side)| match side {
            Side::Both(gap) => Some(line.split(*gap)),
            _ => None,
        })
        .collect();
    if rows.len() < MIN_ROWS || rows.len() * 2 < block.len() {
        return false;
    }
    let left: Vec<&Line> = rows.iter().map(|(left, _)| left).collect();
    // The first of several columns on the right.
    let right: Vec<Line> = rows
        .iter()
        .map(|(_, right)| match right.gaps.is_empty() {
            true => right.clone(),
            false => right.split(0).0,
        })
        .collect();
    is_column(&left) && is_column(&right.iter().collect::<Vec<_>>())
}

fn is_column(lines: &[&Line]) -> bool {
    let width = |line: &Line| line.end.0 - line.origin.0;
    let widest = lines.iter().map(|line| width(line)).fold(0.0, f64::max);
    let texts: Vec<String> = lines.iter().map(|line| line.text()).collect();
    let num_letters: usize = texts.iter().map(|text| text.chars().count()).sum();
    let num_full = lines
        .iter()
        .filter(|line| width(line) > 0.7 * widest)
        .count();
    let goes_on = |text: &&String| text.chars().next().is_some_and(char::is_lowercase);
    let num_going_on = texts.iter().filter(goes_on).count();
    num_letters >= MIN_LETTERS * lines.len()
        && num_full * 10 >= lines.len() * 6
        && num_going_on * 10 >= lines.len() * 4
}
