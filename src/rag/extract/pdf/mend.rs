//! Writes a damaged PDF anew from the objects that are really in it: with true offsets, and streams as long as they
//! are. Reads the bytes only, never trusts a number in them.

/// Objects at the top of a file, in order, and what the trailer must name.
pub fn rewritten(bytes: &[u8]) -> Vec<u8> {
    let start = find(bytes, b"%PDF-", 0).unwrap_or(0);
    let bytes = &bytes[start..];
    let objects = objects(bytes);
    let mut out = b"%PDF-1.7\n".to_vec();
    // A later object with the same number replaces an earlier one.
    let mut places = std::collections::BTreeMap::new();
    for object in &objects {
        places.insert(object.number, (out.len(), object.generation));
        out.extend_from_slice(format!("{} {} obj\n", object.number, object.generation).as_bytes());
        write_body(&mut out, object.body);
        out.extend_from_slice(b"\nendobj\n");
    }
    let xref = out.len();
    out.extend_from_slice(b"xref\n");
    for (number, (place, generation)) in &places {
        out.extend_from_slice(format!("{number} 1\n{place:010} {generation:05} n \n").as_bytes());
    }
    let size = places.keys().next_back().map_or(0, |number| number + 1);
    out.extend_from_slice(format!("trailer\n<< /Size {size}").as_bytes());
    write_trailer(&mut out, bytes, &objects);
    out.extend_from_slice(format!(" >>\nstartxref\n{xref}\n%%EOF\n").as_bytes());
    out
}

struct Found<'a> {
    number: u32,
    generation: u16,
    /// Between `obj` and `endobj`, or as far as it goes.
    body: &'a [u8],
}

/// Numbers above this are an attack on memory, not objects.
const MAX_OBJECT: u32 = 8_388_607;

/// Every `12 0 obj ... endobj` that is not inside a stream.
fn objects(bytes: &[u8]) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = find(bytes, b"obj", from) {
        from = at + 3;
        let Some((number, generation)) = number_before(bytes, at) else {
            continue;
        };
        let end = end_of_object(bytes, from);
        found.push(Found {
            number,
            generation,
            body: &bytes[from..end],
        });
        from = end;
    }
    found
}

/// The two numbers before `obj`.
fn number_before(bytes: &[u8], at: usize) -> Option<(u32, u16)> {
    let head = &bytes[at.saturating_sub(24)..at];
    let head = String::from_utf8_lossy(head);
    let mut words = head.split_ascii_whitespace().rev();
    let generation = words.next()?.parse().ok()?;
    let number = words.next()?;
    // The number may follow the object before without a space.
    let digits = number.len() - number.bytes().rev().take_while(u8::is_ascii_digit).count();
    let number: u32 = number[digits..].parse().ok()?;
    (number <= MAX_OBJECT).then_some((number, generation))
}

/// Behind the stream if there is one, else at `endobj`, the next object or the end.
fn end_of_object(bytes: &[u8], from: usize) -> usize {
    let end = find(bytes, b"endobj", from).unwrap_or(bytes.len());
    match find(&bytes[..end], b"stream", from) {
        // An `endobj` inside a stream's data is not the object's.
        Some(stream) => match find(bytes, b"endstream", stream + 6) {
            Some(end) => end + 9,
            None => end,
        },
        None => end,
    }
}

/// The object with its stream's true length.
fn write_body(out: &mut Vec<u8>, body: &[u8]) {
    let data = find(body, b"stream", 0).map(|at| (at, after_line_end(body, at + 6)));
    let Some((keyword, data)) = data else {
        return out.extend_from_slice(body);
    };
    let end = find(body, b"endstream", data).unwrap_or(body.len());
    let stream = &body[data..end];
    let stream = stream.strip_suffix(b"\n").unwrap_or(stream);
    let stream = stream.strip_suffix(b"\r").unwrap_or(stream);
    write_dictionary(out, &body[..keyword], stream.len());
    out.extend_from_slice(b"stream\n");
    out.extend_from_slice(stream);
    out.extend_from_slice(b"\nendstream");
}

fn after_line_end(body: &[u8], at: usize) -> usize {
    match &body[at..] {
        [b'\r', b'\n', ..] => at + 2,
        [b'\n' | b'\r', ..] => at + 1,
        _ => at,
    }
}

/// The dictionary with `/Length` replaced.
fn write_dictionary(out: &mut Vec<u8>, dictionary: &[u8], len: usize) {
    const KEY: &[u8] = b"/Length";
    let mut from = 0;
    while let Some(at) = find(dictionary, KEY, from) {
        from = at + KEY.len();
        // Not `/Length1`, which fonts have.
        if !dictionary.get(from).is_some_and(u8::is_ascii_whitespace) {
            continue;
        }
        let value = &dictionary[from..];
        let is_part =
            |byte: &u8| !(byte.is_ascii_whitespace() || byte.is_ascii_digit() || *byte == b'R');
        let end = value.iter().position(is_part).unwrap_or(value.len());
        out.extend_from_slice(&dictionary[..from]);
        out.extend_from_slice(format!(" {len} ").as_bytes());
        out.extend_from_slice(&value[end..]);
        return;
    }
    out.extend_from_slice(dictionary);
}

fn write_trailer(out: &mut Vec<u8>, bytes: &[u8], objects: &[Found]) {
    for key in ["Root", "Info", "Encrypt"] {
        let catalog = || {
            let catalog = objects.iter().rev().find(|it| is_catalog(it.body))?;
            Some((catalog.number, catalog.generation))
        };
        let reference =
            last_reference(bytes, key).or_else(|| if key == "Root" { catalog() } else { None });
        if let Some((number, generation)) = reference {
            out.extend_from_slice(format!(" /{key} {number} {generation} R").as_bytes());
        }
    }
    if let Some(id) = file_id(bytes) {
        out.extend_from_slice(b" /ID ");
        out.extend_from_slice(id);
    }
}

fn is_catalog(body: &[u8]) -> bool {
    find(body, b"/Catalog", 0).is_some_and(|at| at < 512)
}

/// The last `/key 12 0 R`.
fn last_reference(bytes: &[u8], key: &str) -> Option<(u32, u16)> {
    const ENOUGH: usize = 32;
    let key = format!("/{key}");
    let mut found = None;
    let mut from = 0;
    while let Some(at) = find(bytes, key.as_bytes(), from) {
        from = at + key.len();
        let rest = String::from_utf8_lossy(&bytes[from..bytes.len().min(from + ENOUGH)]);
        let mut words = rest.split_ascii_whitespace();
        let mut reference = || {
            let reference = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            words.next()?.starts_with('R').then_some(reference)
        };
        found = reference().or(found);
    }
    found
}

/// The value of `/ID`, which decryption needs.
fn file_id(bytes: &[u8]) -> Option<&[u8]> {
    const MAX_LEN: usize = 512;
    let mut from = 0;
    while let Some(at) = find(bytes, b"/ID", from) {
        from = at + 3;
        let rest = bytes[from..bytes.len().min(from + MAX_LEN)].trim_ascii_start();
        if rest.starts_with(b"[") {
            return rest
                .iter()
                .position(|byte| *byte == b']')
                .map(|end| &rest[..=end]);
        }
    }
    None
}

/// The first `needle` at or behind `from`.
fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(needle.len())
        .position(|window| window == needle)
        .map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_get_true_offsets_and_lengths() {
        let source = b"junk%PDF-1.2\n1 0 obj<</Type/Catalog>>endobj 7 0 obj <</Length 3 /Length1 5>>\nstream\n\
            hello endobj 9 0 obj\nendstream\nendobj 1 0 obj<</Type/Catalog/New 1>>";
        let mended = rewritten(source);
        let text = String::from_utf8_lossy(&mended);
        assert!(text.contains("/Length 20 /Length1 5"), "{text}");
        assert!(text.contains("/Root 1 0 R"), "{text}");
        assert!(!text.contains("\n9 1\n"), "{text}");
        let place = text
            .split("xref\n1 1\n")
            .nth(1)
            .and_then(|rest| rest[..10].parse::<usize>().ok())
            .expect("entry");
        assert!(
            text[place..].starts_with("1 0 obj\n<</Type/Catalog/New 1>>"),
            "{text}"
        );
    }
}
