//! PDFs with scanned pages, written here.

/// Width, height and samples of a binary graymap.
fn graymap(bytes: &[u8]) -> (usize, usize, &[u8]) {
    let mut fields = bytes.splitn(4, u8::is_ascii_whitespace);
    assert_eq!(fields.next(), Some(&b"P5"[..]));
    let mut number = || {
        let field = String::from_utf8_lossy(fields.next().expect("a field")).into_owned();
        field.parse::<usize>().expect("a number")
    };
    let (width, height) = (number(), number());
    let samples = fields.next().expect("samples");
    let samples = samples.strip_prefix(b"255\n").expect("8 bits");
    assert_eq!(samples.len(), width * height);
    (width, height, samples)
}

/// A PDF with a page of text and pages that show parts of the image, each with more keys of its own.
pub fn scanned_pdf(image: &[u8], pages: &[(&str, &str)]) -> Vec<u8> {
    let (width, height, samples) = graymap(image);
    let mut objects: Vec<Vec<u8>> = Vec::new();
    let stream = |dictionary: &str, data: &[u8]| {
        let head = format!("<< {dictionary} /Length {} >>\nstream\n", data.len());
        [head.as_bytes(), data, b"\nendstream"].concat()
    };
    let num_pages = pages.len();
    let kids: Vec<String> = (0..num_pages)
        .map(|it| format!("{} 0 R", 5 + it * 2))
        .collect();
    objects.push(b"<< /Type /Catalog /Pages 2 0 R >>".to_vec());
    objects.push(
        format!(
            "<< /Type /Pages /Kids [{}] /Count {num_pages} >>",
            kids.join(" ")
        )
        .into_bytes(),
    );
    objects.push(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_vec());
    objects.push(stream(
        &format!(
            "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray /BitsPerComponent 8"
        ),
        samples,
    ));
    for (keys, content) in pages {
        let number = objects.len() + 1;
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /Contents {} 0 R {keys} /Resources << /Font << /F 3 0 R >> /XObject \
                 << /I 4 0 R >> >> >>",
                number + 1
            )
            .into_bytes(),
        );
        objects.push(stream("", content.as_bytes()));
    }
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n", index + 1).into_bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let xref = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        out.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let size = objects.len() + 1;
    out.extend(
        format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n").into_bytes(),
    );
    out
}

/// A page of text, and one that the image fills.
pub const TEXT: (&str, &str) = (
    "/MediaBox [0 0 612 396]",
    "BT /F 12 Tf 72 300 Td (The cover of the report.) Tj ET",
);
pub const SCAN: (&str, &str) = ("/MediaBox [0 0 612 396]", "q 612 0 0 396 0 0 cm /I Do Q");
