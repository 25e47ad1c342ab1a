//! The encoding of an HTML page: byte order mark, then what the bytes prove, then what the page declares, then
//! detection (the order is not the standard's: declarations on saved pages are often wrong).

use encoding_rs::Encoding;

use super::super::text;

pub fn decode(bytes: &[u8]) -> String {
    text::decode_as(bytes, declared(bytes))
}

/// As `decode`, where whoever sent the page has named its encoding.
pub fn decode_sent(bytes: &[u8], charset: Option<&'static Encoding>) -> String {
    text::decode_as(bytes, charset.or_else(|| declared(bytes)))
}

/// The `charset` of a `<meta>` or XML declaration near the beginning.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    const PRESCAN: usize = 4096;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(PRESCAN)]).to_ascii_lowercase();
    ["charset", "encoding"].iter().find_map(|key| {
        head.match_indices(key).find_map(|(at, _)| {
            let value = head[at + key.len()..].trim_start().strip_prefix('=')?;
            let value = value.trim_start().trim_start_matches(['"', '\'']);
            let end = value
                .find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c)))
                .unwrap_or(value.len());
            Encoding::for_label(&value.as_bytes()[..end])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_believed_unless_the_bytes_disprove_it() {
        let page = |charset: &str| format!("<html><meta charset=\"{charset}\"><p>Привет</p>");
        let (bytes, ..) = encoding_rs::KOI8_R.encode("<meta charset='koi8-r'><p>Привет, мир");
        assert!(decode(&bytes).contains("Привет, мир"));
        assert!(decode(page("iso-8859-1").as_bytes()).contains("Привет"));
        let xml = [
            &b"<?xml version='1.0' encoding='windows-1251'?><p>"[..],
            &encoding_rs::WINDOWS_1251.encode("мир").0,
        ];
        assert!(decode(&xml.concat()).contains("мир"));
    }
}
