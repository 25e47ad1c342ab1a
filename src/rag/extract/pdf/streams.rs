//! The decoded bytes of a stream. What a damaged stream gives before its damage is kept.

use pdf_extract::{Dictionary, Document, Object, Stream, dictionary};

use super::font::get;

/// All filters of a stream, in order; fails at one that is not for text or that cannot go on.
pub fn decoded(document: &Document, stream: &Stream) -> Result<Vec<u8>, String> {
    let mut bytes = stream.content.clone();
    for (name, parameters) in filters(document, stream) {
        bytes = filtered(&name, bytes, parameters)?;
    }
    Ok(bytes)
}

/// A filter and its parameters.
pub type Filter<'a> = (Vec<u8>, Option<&'a Dictionary>);

/// The filters of a stream up to the last, where that one is for images: it is given back with the bytes.
pub fn decoded_to_image<'a>(
    document: &'a Document,
    stream: &'a Stream,
) -> Result<(Vec<u8>, Option<Filter<'a>>), String> {
    let mut filters = filters(document, stream);
    let is_for_images = |filter: &mut Filter<'_>| {
        matches!(
            filter.0.as_slice(),
            b"DCTDecode" | b"DCT" | b"JPXDecode" | b"CCITTFaxDecode" | b"CCF" | b"JBIG2Decode"
        )
    };
    let last = filters.pop_if(is_for_images);
    let mut bytes = stream.content.clone();
    for (name, parameters) in filters {
        bytes = filtered(&name, bytes, parameters)?;
    }
    Ok((bytes, last))
}

fn filters<'a>(document: &'a Document, stream: &'a Stream) -> Vec<Filter<'a>> {
    let names: Vec<Vec<u8>> = match get(document, &stream.dict, b"Filter") {
        Some(Object::Name(name)) => vec![name.clone()],
        Some(Object::Array(names)) => {
            let names = names
                .iter()
                .filter_map(|name| document.dereference(name).ok());
            names
                .filter_map(|(_, name)| name.as_name().ok().map(<[u8]>::to_vec))
                .collect()
        }
        _ => Vec::new(),
    };
    let parameters = get(document, &stream.dict, b"DecodeParms");
    let of = |index: usize| match parameters {
        Some(Object::Array(each)) => {
            let each = document.dereference(each.get(index)?).ok()?.1;
            each.as_dict().ok()
        }
        other => other?.as_dict().ok(),
    };
    let numbered = names.into_iter().enumerate();
    numbered.map(|(index, name)| (name, of(index))).collect()
}

fn filtered(
    name: &[u8],
    bytes: Vec<u8>,
    parameters: Option<&Dictionary>,
) -> Result<Vec<u8>, String> {
    let name = match name {
        b"ASCIIHexDecode" | b"AHx" => return Ok(hexadecimal(&bytes)),
        b"RunLengthDecode" | b"RL" => return Ok(run_lengths(&bytes)),
        b"Crypt" => return Ok(bytes),
        b"FlateDecode" | b"Fl" => "FlateDecode",
        b"LZWDecode" | b"LZW" => "LZWDecode",
        b"ASCII85Decode" | b"A85" => "ASCII85Decode",
        other => {
            return Err(format!(
                "its data have the filter {:?}",
                String::from_utf8_lossy(other)
            ));
        }
    };
    let mut dictionary = dictionary! { "Filter" => name };
    if let Some(parameters) = parameters {
        dictionary.set("DecodeParms", parameters.clone());
    }
    Stream::new(dictionary, bytes)
        .decompressed_content()
        .map_err(|error| error.to_string())
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'>')
        .unwrap_or(bytes.len());
    let digits = bytes[..end]
        .iter()
        .filter_map(|byte| (*byte as char).to_digit(16));
    let digits: Vec<u8> = digits.map(|digit| digit as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0))
        .collect()
}

/// ISO 32000-1, 7.4.5: a length below 128 is followed by one byte more of data, one above repeats a byte.
fn run_lengths(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        let num_read = match length {
            0..=127 => {
                let run = &after[..after.len().min(usize::from(length) + 1)];
                out.extend_from_slice(run);
                run.len()
            }
            128 => break,
            129.. => {
                out.extend(
                    after
                        .first()
                        .into_iter()
                        .flat_map(|byte| std::iter::repeat_n(*byte, 257 - usize::from(length))),
                );
                after.len().min(1)
            }
        };
        rest = &after[num_read..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_apply_in_order() {
        let filters: Vec<Object> = vec!["ASCIIHexDecode".into(), "RL".into()];
        let stream = Stream::new(
            dictionary! { "Filter" => filters },
            b"02 61 62 63 FE 7a 80 61>".to_vec(),
        );
        assert_eq!(decoded(&Document::new(), &stream), Ok(b"abczzz".to_vec()));
        assert_eq!(run_lengths(&[5, 1]), [1]);
        assert!(run_lengths(&[200]).is_empty());
    }

    #[test]
    fn an_image_filter_is_named() {
        let stream = Stream::new(dictionary! { "Filter" => "DCTDecode" }, Vec::new());
        assert!(
            decoded(&Document::new(), &stream).is_err_and(|reason| reason.contains("DCTDecode"))
        );
    }
}
