//! E-mails: who wrote to whom, when and about what, the message, and its attachments, each read by its own format as a
//! page of its own.

mod charset;

use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::html;
use super::protocol::{PageContent, Refusal};
use super::reader::{Budget, Reader, read_inner};
use super::writer::Writer;

pub struct Mail {
    subject: Option<String>,
    message: PageContent,
    attachments: Vec<Attachment>,
    budget: Budget,
}

struct Attachment {
    name: String,
    bytes: Vec<u8>,
}

impl Mail {
    pub fn open(bytes: &[u8], budget: &Budget) -> Result<Self, Refusal> {
        let bytes = charset::with_legible_head(bytes);
        let message = MessageParser::default().parse(&bytes[..]);
        let message = message
            .filter(|message| !message.headers().is_empty())
            .ok_or_else(|| "it does not begin with the headers of an e-mail".to_owned())?;
        let attachments: Vec<Attachment> = message
            .attachments()
            .enumerate()
            .filter(|(_, part)| !(is_image(part) && is_shown_in_text(&message, part)))
            .filter_map(|(index, part)| attachment(&message, index, part))
            .collect();
        let num_bytes: usize = attachments.iter().map(|it| it.bytes.len()).sum();
        budget.spend(num_bytes as u64);
        Ok(Self {
            subject: message
                .subject()
                .map(str::trim)
                .filter(|it| !it.is_empty())
                .map(str::to_owned),
            message: read_message(&message)?,
            attachments,
            budget: budget.clone(),
        })
    }
}

impl Reader for Mail {
    fn num_pages(&self) -> u32 {
        self.attachments.len() as u32 + 1
    }

    fn title(&self) -> Option<String> {
        self.subject.clone()
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let Some(index) = (number as usize).checked_sub(2) else {
            return Ok(std::mem::take(&mut self.message));
        };
        let Attachment { name, bytes } = &mut self.attachments[index];
        let content = read_inner(std::mem::take(bytes), name, &self.budget);
        let content = content.map_err(|reason| match reason.contains(name.as_str()) {
            true => format!("attachment {reason}"),
            false => format!("attachment {name:?}: {reason}"),
        })?;
        let mut writer = Writer::default();
        writer.heading(1, &format!("Attachment: {name}"));
        writer.insert(content, 1);
        writer.finish()
    }
}

fn read_message(message: &Message<'_>) -> Result<PageContent, String> {
    let mut writer = Writer::default();
    if let Some(subject) = message.subject() {
        writer.heading(1, subject);
    }
    for (name, addresses) in [
        ("From", message.from()),
        ("To", message.to()),
        ("Cc", message.cc()),
    ] {
        if let Some(addresses) = addresses.map(listed).filter(|it| !it.is_empty()) {
            writer.line(&format!("{name}: {addresses}"));
        }
    }
    if let Some(date) = message.date() {
        writer.line(&format!("Date: {}", date.to_rfc822()));
    }
    if let Some(subject) = message.subject() {
        writer.line(&format!("Subject: {subject}"));
    }
    writer.end_block();
    let has_words = |id: &u32| {
        let part = message.part(*id);
        part.is_some_and(|part| match &part.body {
            PartType::Text(words) | PartType::Html(words) => !words.trim().is_empty(),
            _ => false,
        })
    };
    // Where a part is there in HTML only, it stands among the text parts too.
    let bodies = match message.text_body.iter().any(has_words) {
        true => &message.text_body,
        false => &message.html_body,
    };
    for id in bodies {
        let Some(part) = message.part(*id) else {
            continue;
        };
        match &part.body {
            PartType::Text(_) => writer.paragraph(&charset::words(message, part)),
            PartType::Html(_) => writer.insert(html::chapter(&charset::words(message, part)), 1),
            _ => {}
        }
    }
    writer.finish()
}

fn attachment(message: &Message<'_>, index: usize, part: &MessagePart<'_>) -> Option<Attachment> {
    let named = part.attachment_name().map(str::trim);
    let named = named.filter(|name| !name.is_empty()).map(str::to_owned);
    let (bytes, extension) = match &part.body {
        PartType::Text(_) => (charset::attached(message, part), "txt"),
        PartType::Html(_) => (charset::attached(message, part), "html"),
        PartType::Message(message) => (source_of(message).to_vec(), "eml"),
        // A picture in the text, as a company's sign.
        PartType::InlineBinary(_) if is_image(part) => return None,
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => (bytes.to_vec(), "bin"),
        PartType::Multipart(_) => return None,
    };
    let name = named.unwrap_or_else(|| format!("attachment-{}.{extension}", index + 1));
    let name = match &part.body {
        PartType::Message(_) if !name.to_ascii_lowercase().ends_with(".eml") => name + ".eml",
        _ => name,
    };
    Some(Attachment { name, bytes })
}

/// A forwarded message as it was sent: it knows only where it stands in the one around it.
fn source_of<'m>(message: &'m Message<'_>) -> &'m [u8] {
    let root = message.parts.first();
    let span = root.map_or(0..0, |root| {
        root.offset_header as usize..root.offset_end as usize
    });
    message.raw_message.get(span).unwrap_or_default()
}

fn is_image(part: &MessagePart<'_>) -> bool {
    let kind = part.content_type();
    kind.is_some_and(|kind| kind.ctype().eq_ignore_ascii_case("image"))
}

/// Whether the text shows the part where it stands, as the sign of a company.
fn is_shown_in_text(message: &Message<'_>, part: &MessagePart<'_>) -> bool {
    let Some(id) = part.content_id().filter(|id| !id.is_empty()) else {
        return false;
    };
    let reference = format!("cid:{id}");
    let parts = message.html_body.iter().filter_map(|id| message.part(*id));
    parts
        .filter_map(|part| part.text_contents())
        .any(|source| source.contains(&reference))
}

fn listed(addresses: &Address<'_>) -> String {
    let each = addresses.iter().map(|it| {
        let (name, address) = (
            it.name().unwrap_or_default(),
            it.address().unwrap_or_default(),
        );
        match (name, address) {
            ("", address) => address.to_owned(),
            (name, "") => name.to_owned(),
            (name, address) => format!("{name} <{address}>"),
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::super::archive::tests::zip_of;
    use super::super::zipped::Members;
    use super::*;

    fn mail_with(name: &str, kind: &str, bytes: &[u8]) -> String {
        format!(
            "From: a@example.org\r\nSubject: s\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
             --x\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n\
             --x\r\nContent-Type: {kind}\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--x--\r\n",
            STANDARD.encode(bytes)
        )
    }

    const MAIL: &str = "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nTo: a@example.org, Bea <b@example.org>\r\n\
        Date: Fri, 1 Mar 2024 10:00:00 +0100\r\nSubject: The ferry\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=x\r\n\r\n\
        --x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n\
        --y\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        It leaves f=FCr gut.\r\n\
        --y\r\nContent-Type: text/html\r\n\r\n<p>It <b>leaves</b></p>\r\n--y--\r\n\
        --x\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"prices.csv\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nV2hvLFByaWNlCkFkdWx0LDE0Cg==\r\n\
        --x\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=\"boat.png\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--x--\r\n";

    #[test]
    fn a_mail_has_its_headers_its_text_and_its_attachments() {
        let mut mail = Mail::open(MAIL.as_bytes(), &Budget::default()).expect("a mail");
        assert_eq!(mail.title().as_deref(), Some("The ferry"));
        assert_eq!(mail.num_pages(), 3);
        assert_eq!(
            mail.page(1).expect("read").text,
            "The ferry\n\nFrom: Jürgen <j@example.org>\nTo: a@example.org, Bea <b@example.org>\n\
             Date: Fri, 1 Mar 2024 10:00:00 +0100\nSubject: The ferry\n\nIt leaves für gut."
        );
        assert_eq!(
            mail.page(2).expect("read").text,
            "Attachment: prices.csv\n\nWho | Price\nWho: Adult | Price: 14"
        );
        let reason = mail.page(3).expect_err("a picture");
        assert!(
            reason.contains("boat.png") && reason.contains("PNG image"),
            "{reason}"
        );
    }

    #[test]
    fn a_picture_that_the_text_shows_is_no_attachment() {
        let source = "From: a@example.org\r\nContent-Type: multipart/related; boundary=x\r\n\r\n\
            --x\r\nContent-Type: text/html\r\n\r\n<p>Regards</p><img src=\"cid:sign@1\">\r\n\
            --x\r\nContent-Type: image/png\r\nContent-ID: <sign@1>\r\n\
            Content-Disposition: attachment; filename=image001.png\r\n\
            Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--x--\r\n";
        let mail = Mail::open(source.as_bytes(), &Budget::default()).expect("a mail");
        assert_eq!(mail.num_pages(), 1);
        let unnamed = source.replace("cid:sign@1", "cid:other");
        let mail = Mail::open(unnamed.as_bytes(), &Budget::default()).expect("a mail");
        assert_eq!(mail.num_pages(), 2);
    }

    #[test]
    fn a_forwarded_mail_is_an_attachment_that_is_read_once() {
        let source = "From: a@example.org\r\nSubject: Fwd\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
            --x\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n\
            --x\r\nContent-Type: message/rfc822\r\n\r\nFrom: b@example.org\r\nSubject: First\r\n\r\nThe news.\r\n--x--\r\n";
        let mut mail = Mail::open(source.as_bytes(), &Budget::default()).expect("a mail");
        assert_eq!(mail.num_pages(), 2);
        let forwarded = mail.page(2).expect("read").text;
        assert_eq!(
            forwarded,
            "Attachment: attachment-1.eml\n\nFirst\n\nFrom: b@example.org\nSubject: First\n\nThe news."
        );
    }

    #[test]
    fn what_cannot_be_read_in_an_attached_archive_is_told_and_never_text() {
        let deepest = zip_of(&[("c.bin", &[0, 1, 255, 0, 2]), ("c.txt", b"deepest")]);
        let zip = zip_of(&[
            ("a.bin", &[0, 1, 255, 0, 2]),
            ("b.txt", b"fine"),
            ("more.zip", &deepest),
        ]);
        let source = mail_with("z.zip", "application/zip", &zip);
        let mut mail = Mail::open(source.as_bytes(), &Budget::default()).expect("a mail");
        let page = mail.page(2).expect("read");
        assert_eq!(
            page.text,
            "Attachment: z.zip\n\nb.txt\n\nfine\n\nmore.zip\n\nc.txt\n\ndeepest"
        );
        let told = page.unread.join("; ");
        assert_eq!(page.unread.len(), 2, "{told}");
        assert!(told.contains("a.bin") && told.contains("c.bin"), "{told}");

        // The other way round.
        let zip = zip_of(&[("m.eml", source.as_bytes()), ("b.txt", b"fine")]);
        let mut members = Members::open(zip, &Budget::default()).expect("a ZIP file");
        let page = members.page(1).expect("read");
        assert!(!page.text.contains("could not"), "{}", page.text);
        assert_eq!(page.unread.join("; "), told);
    }

    #[test]
    fn an_attachment_without_anything_readable_says_why() {
        let zip = zip_of(&[("a.bin", &[0, 1, 255, 0, 2]), ("b.bin", &[0, 1, 255, 0, 2])]);
        let source = mail_with("z.zip", "application/zip", &zip);
        let mut mail = Mail::open(source.as_bytes(), &Budget::default()).expect("a mail");
        let reason = mail.page(2).expect_err("nothing to read");
        assert!(
            reason.contains("a.bin") && reason.contains("b.bin"),
            "{reason}"
        );
    }

    #[test]
    fn a_mail_of_html_alone_is_read_as_a_page() {
        let source = "From: a@example.org\r\nContent-Type: text/html\r\n\r\n<h2>News</h2><p>All <i>well</i>.</p>";
        let mut mail = Mail::open(source.as_bytes(), &Budget::default()).expect("a mail");
        let page = mail.page(1).expect("read");
        assert_eq!(page.text, "From: a@example.org\n\nNews\n\nAll well.");
        assert_eq!(page.headings[0].title, "News");
    }
}
