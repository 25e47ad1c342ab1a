//! The letters of a mail whose charset is not named, not known or not the right one: found out as those of any text.
//! Never trusts what a mail says of itself above what its bytes prove.

use std::borrow::Cow;

use encoding_rs::Encoding;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Encoding as Transfer, Message, MessagePart, MimeHeaders, PartType};

use super::super::{html, text};

/// Headers must be ASCII or UTF-8, but old programs write them in the charset of the text.
pub fn with_legible_head(mail: &[u8]) -> Cow<'_, [u8]> {
    let ends = [&b"\r\n\r\n"[..], b"\n\n"].into_iter();
    let ends = ends.filter_map(|blank| mail.windows(blank.len()).position(|it| it == blank));
    let (head, rest) = mail.split_at(ends.min().unwrap_or(mail.len()));
    match std::str::from_utf8(head) {
        Ok(_) => Cow::Borrowed(mail),
        Err(_) => Cow::Owned([text::decoded(head, None).as_bytes(), rest].concat()),
    }
}

/// The words of a part that is text or HTML.
pub fn words(message: &Message<'_>, part: &MessagePart<'_>) -> String {
    let is_html = matches!(part.body, PartType::Html(_));
    match (sent(message, part), understood(part)) {
        (_, Some(words)) => text::clean(words),
        (Some(bytes), None) if is_html => html::charset::decode_sent(&bytes, charset(part)),
        (Some(bytes), None) => text::decode_as(&bytes, charset(part)),
        (None, None) => text::clean(part.text_contents().unwrap_or_default()),
    }
}

/// The file of an attachment that is text or HTML. Where its charset is named it becomes UTF-8; else its reader finds out.
pub fn attached(message: &Message<'_>, part: &MessagePart<'_>) -> Vec<u8> {
    match sent(message, part) {
        Some(bytes) if charset(part).is_none() && understood(part).is_none() => bytes.into_owned(),
        _ => words(message, part).into_bytes(),
    }
}

/// The words in a charset that only the parser of mails knows.
fn understood<'p>(part: &'p MessagePart<'_>) -> Option<&'p str> {
    let is_known = label(part).is_some_and(|label| charset_decoder(label.as_bytes()).is_some());
    let words = part.text_contents()?;
    (is_known && charset(part).is_none() && !words.contains('\u{fffd}')).then_some(words)
}

fn label<'p>(part: &'p MessagePart<'_>) -> Option<&'p str> {
    part.content_type()?.attribute("charset")
}

fn charset(part: &MessagePart<'_>) -> Option<&'static Encoding> {
    Encoding::for_label_no_replacement(label(part)?.as_bytes())
}

/// The bytes of a part as they were before they were made fit for sending.
fn sent<'m>(message: &'m Message<'_>, part: &MessagePart<'_>) -> Option<Cow<'m, [u8]>> {
    let span = part.offset_body as usize..part.offset_end as usize;
    let raw = message.raw_message.get(span)?;
    match part.encoding {
        Transfer::None => Some(Cow::Borrowed(raw)),
        Transfer::Base64 => base64_decode(raw).map(Cow::Owned),
        Transfer::QuotedPrintable => quoted_printable_decode(raw).map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use encoding_rs::{ISO_2022_JP, KOI8_R, WINDOWS_1252};

    use super::super::super::reader::{Budget, Reader};
    use super::super::Mail;

    const WORDS: &str = "Sehr geehrte Frau Müller, die Größe beträgt fünf Meter und kostet 20 €.";

    fn page(mail: &[u8], number: u32) -> String {
        let mut mail = Mail::open(mail, &Budget::default()).expect("a mail");
        mail.page(number).expect("read").text
    }

    fn mail(kind: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("From: a@example.org\r\nContent-Type: {kind}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn a_charset_that_is_missing_unknown_or_wrong_is_found_out() {
        let windows = WINDOWS_1252.encode(WORDS).0;
        for kind in [
            "text/plain",
            "text/plain; charset=us-ascii",
            "text/plain; charset=utf-8",
            "text/plain; charset=unknown-8bit",
            "text/plain; charset=iso-8859-1",
            "text/plain; charset=no-such-charset",
            "text/html",
        ] {
            let read = page(&mail(kind, &windows), 1);
            assert!(read.ends_with(WORDS), "{kind}: {read}");
        }
        let read = page(&mail("text/plain; charset=iso-8859-1", WORDS.as_bytes()), 1);
        assert!(read.ends_with(WORDS), "{read}");
        let japanese = "渡し船は九時に出ます。";
        let read = page(&mail("text/plain", &ISO_2022_JP.encode(japanese).0), 1);
        assert!(read.ends_with(japanese), "{read}");
    }

    #[test]
    fn a_charset_that_is_named_and_fits_is_believed() {
        let russian = "Встреча в пять.";
        let koi8 = KOI8_R.encode(russian).0;
        assert!(page(&mail("text/plain; charset=koi8-r", &koi8), 1).ends_with(russian));
        let dos = page(&mail("text/plain; charset=ibm850", b"M\x81ller"), 1);
        assert!(dos.ends_with("Müller"), "{dos}");
    }

    #[test]
    fn bytes_that_were_made_fit_for_sending_are_found_out_too() {
        let quoted = "Content-Type: text/plain; charset=unknown-8bit\r\n\
                      Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=F6=DFe\r\n";
        assert!(page(format!("From: a@b\r\n{quoted}").as_bytes(), 1).ends_with("Größe"));
        let multipart = format!(
            "From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n{quoted}--x--\r\n"
        );
        assert!(page(multipart.as_bytes(), 1).ends_with("Größe"));
    }

    #[test]
    fn attached_texts_are_read_as_if_they_had_come_alone() {
        let table = "Größe;Preis\nfünf;3\n";
        let units = "\u{feff}".encode_utf16().chain(table.encode_utf16());
        let utf16: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        for bytes in [&WINDOWS_1252.encode(table).0[..], &utf16] {
            let mail = format!(
                "From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nt\r\n--x\r\n\
                 Content-Type: text/csv\r\nContent-Disposition: attachment; filename=g.csv\r\n\
                 Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--x--\r\n",
                STANDARD.encode(bytes)
            );
            let read = page(mail.as_bytes(), 2);
            assert!(read.ends_with("Größe: fünf | Preis: 3"), "{read}");
        }
    }

    #[test]
    fn headers_in_another_charset_are_read() {
        let head = "From: Jürgen Müller <a@b>\r\nSubject: Größe des Raums\r\n\r\n";
        let bytes = [&WINDOWS_1252.encode(head).0[..], "Füße".as_bytes()].concat();
        let mail = Mail::open(&bytes, &Budget::default()).expect("a mail");
        assert_eq!(mail.title().as_deref(), Some("Größe des Raums"));
        let read = page(&bytes, 1);
        assert!(read.contains("From: Jürgen Müller <a@b>"), "{read}");
        assert!(read.ends_with("Füße"), "{read}");
    }
}
