//! Documents of office programs and other containers, through the real program: what other readers find in them is
//! found, and what is damaged or made to do harm ends in a reason, soon.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use inglenook::rag::extract::{
    ExtractError, ExtractLimits, ExtractedText, Format, Original, PageOutcome, extract,
};
use inglenook::test_data;
use rand::{Rng, RngExt, SeedableRng};
use zip::write::SimpleFileOptions;

fn limits() -> ExtractLimits {
    let mut limits = ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into());
    limits.wall_time = Duration::from_secs(30);
    limits
}

async fn read_file(path: &Path) -> Result<ExtractedText, ExtractError> {
    let bytes = std::fs::read(path).expect("test file is readable");
    let name = path.file_name().expect("a file").to_string_lossy();
    extract(Original::new(bytes, &name), &limits()).await
}

async fn read(bytes: &[u8], name: &str) -> ExtractedText {
    extract(Original::new(bytes.to_vec(), name), &limits())
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("started");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished").into_inner()
}

const TYPES: (&str, &[u8]) = ("[Content_Types].xml", b"<Types/>");

/// A Word document with this body and these other parts.
fn docx(body: &str, parts: &[(&str, &str)]) -> Vec<u8> {
    let document = format!("<w:document xmlns:w='x'><w:body>{body}</w:body></w:document>");
    let mut members = vec![TYPES, ("word/document.xml", document.as_bytes())];
    members.extend(parts.iter().map(|(name, part)| (*name, part.as_bytes())));
    zip_of(&members)
}

fn words(text: &str) -> HashMap<String, usize> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric());
    let mut counts = HashMap::new();
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

/// The share of the expected words that were found.
fn recall(expected: &str, found: &str) -> f64 {
    let (expected, found) = (words(expected), words(found));
    let both: usize = expected
        .iter()
        .map(|(word, count)| count.min(found.get(word).unwrap_or(&0)))
        .sum();
    both as f64 / expected.values().sum::<usize>() as f64
}

fn headings(document: &ExtractedText) -> Vec<(u8, &str)> {
    let headings = document.headings.iter();
    headings.map(|it| (it.level, it.title.as_str())).collect()
}

#[tokio::test]
async fn word_documents_have_the_words_that_other_readers_find() {
    let Some(folder) = test_data::require("docs/docx") else {
        return;
    };
    // The reference repeats a cell that spans columns.
    for (stem, least) in [
        ("docx_code_blocks", 0.99),
        ("unit_test_formatting", 0.99),
        ("unit_test_headers_numbered", 0.95),
        ("word_sample", 0.99),
        ("word_tables", 0.85),
    ] {
        let expected = std::fs::read_to_string(folder.join(format!("{stem}.docling.md")));
        // Pictures and the targets of links are no words of the document.
        let expected = expected
            .expect("reference")
            .replace("<!-- image -->", "")
            .replace("https://github.com/DS4SD/docling", "");

        let document = read_file(&folder.join(format!("{stem}.docx")))
            .await
            .unwrap_or_else(|error| panic!("{stem}: {error}"));
        let recall = recall(&expected, &document.text);
        println!("{stem}: recall {recall:.3}");
        assert!(recall > least, "{stem}: {recall}\n{}", document.text);
    }
    let document = read_file(&folder.join("word_sample.docx"))
        .await
        .expect("read");
    assert!(
        document
            .text
            .contains("\n1. Wear sunglasses\n2. Don’t forget")
    );
    assert!(
        document
            .text
            .contains("\nBerries | Blueberry, Strawberry, Cranberry | 150\n")
    );
    assert!(
        headings(&document).contains(&(1, "Let’s swim!")),
        "{:?}",
        headings(&document)
    );

    let document = read_file(&folder.join("unit_test_headers_numbered.docx"))
        .await
        .expect("read");
    let found = headings(&document);
    for (number, title) in [
        ("1", "Section 1"),
        ("1.2.1", "Section 1.2.3"),
        ("2.2", "Section 2.1"),
    ] {
        assert!(
            found
                .iter()
                .any(|(_, it)| it.starts_with(number) && it.ends_with(title)),
            "{found:?}"
        );
    }

    let document = read_file(&folder.join("pandoc_track_changes_insertion.docx"))
        .await
        .expect("read");
    assert_eq!(
        document.text,
        "This is a text with two exciting insertions."
    );
    let document = read_file(&folder.join("pandoc_notes.docx"))
        .await
        .expect("read");
    assert!(
        document
            .text
            .contains("Test footnote.[^1] Test endnote.[^2]"),
        "{}",
        document.text
    );
    assert!(
        document.text.contains("[^1]: My note.")
            && document.text.contains("[^2]: This is an endnote")
    );
}

#[tokio::test]
async fn what_markitdown_promises_is_found_too() {
    let Some(folder) = test_data::require("docs") else {
        return;
    };
    for (file, expected) in [
        (
            "docx/mkd_test.docx",
            &[
                "314b0a30-5b04-470b-b9f7-eed2c2bec74a",
                "49e168b7-d2ae-407f-a055-2167576f39a1",
                "d666f1f7-46cb-42bd-9a39-9a39cf2a509f",
                "Abstract",
                "Introduction",
                "AutoGen: Enabling Next-Gen LLM Applications via Multi-Agent Conversation",
            ][..],
        ),
        (
            "other/test.pptx",
            &[
                "2cdda5c8-e50e-4db4-b5f0-9722a649f455",
                "04191ea8-5c73-4215-a1d3-1cfb43aaaf12",
                "44bf7d06-5e7a-4a40-a2e1-a2e42ef28c8a",
                "1b92870d-e3b5-4e65-8153-919f4ff45592",
                "AutoGen: Enabling Next-Gen LLM Applications via Multi-Agent Conversation",
                "a3f6004b-6f4f-4ea8-bee3-3741f4dc385f",
                "2003",
                "This phrase of the caption is Human-written.",
            ][..],
        ),
        (
            "other/test.epub",
            &[
                "Authors: Test Author",
                "A test EPUB document for MarkItDown testing",
                "Chapter 1: Test Content",
                "This is a test paragraph with some formatting",
                "- A bullet point\n- Another point",
                "Chapter 2: More Content",
                "different style",
                "This is a blockquote for testing",
            ][..],
        ),
    ] {
        let document = read_file(&folder.join(file)).await.expect("read");
        for phrase in expected {
            assert!(
                document.text.contains(phrase),
                "{file}: {phrase}\n{}",
                document.text
            );
        }
        assert!(!document.text.contains("base64"), "{file}");
    }
    let slides = read_file(&folder.join("other/test.pptx"))
        .await
        .expect("read");
    assert!(slides.pages.len() > 1 && slides.headings.len() >= slides.pages.len());
}

#[tokio::test]
async fn hostile_and_damaged_containers_end_in_a_reason() {
    let Some(folder) = test_data::require("hostile") else {
        return;
    };
    let ok = read_file(&folder.join("docx/gen_minimal_ok.docx"))
        .await
        .expect("read");
    assert_eq!(ok.text, "Hello from a minimal document.");
    assert!(read_file(&folder.join("docx/gen_utf16.docx")).await.is_ok());
    let half = read_file(&folder.join("office/tika_testZipEncrypted.zip")).await;
    let half = half.expect("a member is not encrypted");
    assert!(
        matches!(&half.pages[1].outcome, PageOutcome::Failed(reason) if reason.contains("encrypted")),
        "{half:?}"
    );
    for (file, expected) in [
        (
            "docx/gen_no_document_part.docx",
            "\"word/document.xml\" is missing",
        ),
        (
            "docx/gen_truncated.docx",
            "Word document cannot be read: its ZIP container is damaged",
        ),
        ("docx/gen_zip_bomb_64MB.docx", "unpacks to more than"),
        (
            "office/tika_testWORD_protected_passtika.docx",
            "is encrypted",
        ),
        ("office/tika_testWORD_truncated.docx", "damaged"),
        (
            "office/tika_testException1.doc",
            "old Word document (DOC), which is not supported; save it as DOCX",
        ),
    ] {
        let error = read_file(&folder.join(file))
            .await
            .expect_err(file)
            .to_string();
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[tokio::test]
async fn a_word_document_is_shown_as_it_is_printed() {
    let styles = "<styles><style type='paragraph' styleId='berschrift1'><name val='heading 1'/></style>\
                  <style type='paragraph' styleId='Eigen'><basedOn val='berschrift1'/><name val='Mine'/></style></styles>";
    let relations = "<Relationships><Relationship Id='r1' Type='http://x/styles' Target='styles.xml'/></Relationships>";
    let run = |text: &str| format!("<w:r><w:t xml:space='preserve'>{text}</w:t></w:r>");
    let paragraph = |inside: &str| format!("<w:p>{inside}</w:p>");
    let cell = |inside: &str| format!("<w:tc>{}</w:tc>", paragraph(inside));
    let body = [
        paragraph(&format!(
            "<w:pPr><w:pStyle w:val='Eigen'/></w:pPr>{}",
            run("Titel")
        )),
        paragraph(&format!(
            "<w:pPr><w:outlineLvl w:val='2'/></w:pPr>{}",
            run("Third")
        )),
        paragraph(&format!(
            "{}<w:del><w:r><w:delText>old </w:delText></w:r></w:del><w:ins>{}</w:ins>\
             <w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>\
             <w:hyperlink>{}</w:hyperlink><w:r><w:instrText>PAGE</w:instrText></w:r>",
            run("kept "),
            run("new "),
            run("link"),
        )),
        paragraph(&format!(
            "<w:r><mc:AlternateContent><mc:Choice><w:drawing><wps:txbx><w:txbxContent>{0}</w:txbxContent></wps:txbx>\
             </w:drawing></mc:Choice><mc:Fallback><w:pict><w:txbxContent>{0}</w:txbxContent></w:pict></mc:Fallback>\
             </mc:AlternateContent></w:r>",
            paragraph(&run("in a box"))
        )),
        format!(
            "<w:p><w:r><w:br w:type='page'/></w:r>{}</w:p>",
            run("second page")
        ),
        format!(
            "<w:tbl><w:tr>{}{}</w:tr><w:tr>{}{}</w:tr></w:tbl>",
            cell(&run("a")),
            cell(&run("b")),
            cell(&run("c")),
            cell("")
        ),
        paragraph(&format!(
            "<w:pPr><w:pageBreakBefore/></w:pPr>{}",
            run("third page")
        )),
    ];
    let file = docx(
        &body.concat(),
        &[
            ("word/styles.xml", styles),
            ("word/_rels/document.xml.rels", relations),
        ],
    );
    let document = read(&file, "a.docx").await;
    assert_eq!(
        document.text,
        "Titel\n\nThird\n\nkept new link\n\nin a box\n\nsecond page\n\na | b\nc |\n\nthird page"
    );
    assert_eq!(headings(&document), [(1, "Titel"), (3, "Third")]);
    let pages: Vec<_> = document
        .pages
        .iter()
        .map(|page| (page.number, &document.text[page.span.clone()]))
        .collect();
    assert_eq!(
        pages[1..],
        [(2, "second page\n\na | b\nc |"), (3, "third page")]
    );
}

#[tokio::test]
async fn a_sheet_is_shown_as_its_program_shows_it() {
    let workbook = "<workbook><sheets><sheet name='Fares' sheetId='1' r:id='r1'/>\
                    <sheet name='Empty' sheetId='2' r:id='r2'/></sheets></workbook>";
    let relations = "<Relationships><Relationship Id='r1' Type='x/worksheet' Target='worksheets/sheet1.xml'/>\
                     <Relationship Id='r2' Type='x/worksheet' Target='/xl/worksheets/sheet2.xml'/>\
                     <Relationship Id='r3' Type='x/sharedStrings' Target='sharedStrings.xml'/>\
                     <Relationship Id='r4' Type='x/styles' Target='styles.xml'/></Relationships>";
    let strings = "<sst><si><t>Who</t></si><si><r><t>Si</t></r><r><t>nce</t></r><rPh><t>noise</t></rPh></si></sst>";
    let styles = "<styleSheet><numFmts><numFmt numFmtId='164' formatCode='dd.mm.yyyy'/></numFmts>\
                  <cellXfs><xf numFmtId='0'/><xf numFmtId='164'/><xf numFmtId='10'/></cellXfs></styleSheet>";
    let sheet = "<worksheet><sheetData><row r='1'><c r='A1' t='s'><v>0</v></c><c r='B1' t='s'><v>1</v></c>\
                 <c r='C1' t='inlineStr'><is><t>Share</t></is></c></row>\
                 <row r='2'><c r='A2' t='str'><f>X()</f><v>Adult</v></c><c r='B2' s='1'><v>45352</v></c>\
                 <c r='C2' s='2'><v>0.125</v></c></row>\
                 <row r='3'><c r='A3' t='inlineStr'><is><t>Dog</t></is></c><c r='C3' t='e'><v>#N/A</v></c></row>\
                 </sheetData></worksheet>";
    let file = zip_of(&[
        TYPES,
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
        ("xl/sharedStrings.xml", strings.as_bytes()),
        ("xl/styles.xml", styles.as_bytes()),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
        (
            "xl/worksheets/sheet2.xml",
            b"<worksheet><sheetData/></worksheet>",
        ),
    ]);
    let document = read(&file, "a.xlsx").await;
    assert_eq!(
        document.text,
        "Fares\n\nWho | Since | Share\nWho: Adult | Since: 01.03.2024 | Share: 12.50%\nWho: Dog | Share: #N/A"
    );
    assert_eq!(headings(&document), [(1, "Fares")]);
    let outcomes: Vec<&PageOutcome> = document.pages.iter().map(|page| &page.outcome).collect();
    assert_eq!(outcomes, [&PageOutcome::Read, &PageOutcome::Empty]);
}

#[tokio::test]
async fn slides_are_pages_with_their_notes() {
    let relation = |id: &str, kind: &str, target: &str| {
        format!("<Relationship Id='{id}' Type='x/{kind}' Target='{target}'/>")
    };
    let relations = |all: &[String]| format!("<Relationships>{}</Relationships>", all.concat());
    let shape = |kind: &str, text: &str| {
        format!(
            "<p:sp><p:nvSpPr><p:nvPr><p:ph type='{kind}'/></p:nvPr></p:nvSpPr><p:txBody>\
             <a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        )
    };
    let slide = |shapes: &[String]| {
        format!(
            "<p:sld><p:cSld><p:spTree>{}</p:spTree></p:cSld></p:sld>",
            shapes.concat()
        )
    };
    let list = "<p:presentation><p:sldIdLst><p:sldId id='256' r:id='r2'/><p:sldId id='257' r:id='r1'/></p:sldIdLst>\
                </p:presentation>";
    let of_presentation = relations(&[
        relation("r1", "slide", "slides/slide1.xml"),
        relation("r2", "slide", "slides/slide2.xml"),
    ]);
    let of_slide = relations(&[relation("r9", "notesSlide", "../notesSlides/notes1.xml")]);
    let untitled = slide(&[shape("body", "Only words"), shape("sldNum", "1")]);
    let titled = slide(&[
        shape("body", "First point"),
        shape("ctrTitle", "The ferry"),
        "<p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>x</a:t></a:r></a:p></a:txBody></a:tc><a:tc>\
         <a:txBody><a:p><a:r><a:t>y</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl></p:graphicFrame>"
            .to_owned(),
    ]);
    let notes = slide(&[shape("body", "Say hello"), shape("sldNum", "7")]);
    let file = zip_of(&[
        TYPES,
        ("ppt/presentation.xml", list.as_bytes()),
        (
            "ppt/_rels/presentation.xml.rels",
            of_presentation.as_bytes(),
        ),
        ("ppt/slides/slide1.xml", untitled.as_bytes()),
        ("ppt/slides/slide2.xml", titled.as_bytes()),
        ("ppt/slides/_rels/slide2.xml.rels", of_slide.as_bytes()),
        ("ppt/notesSlides/notes1.xml", notes.as_bytes()),
    ]);
    let document = read(&file, "a.pptx").await;
    assert_eq!(
        document.text,
        "The ferry\n\nFirst point\n\nx | y\n\nNotes:\nSay hello\n\nSlide 2\n\nOnly words"
    );
    assert_eq!(headings(&document), [(1, "The ferry"), (1, "Slide 2")]);
    assert_eq!(document.pages.len(), 2);

    let frame = |class: &str, text: &str| {
        format!(
            "<draw:frame presentation:class='{class}'><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>"
        )
    };
    let pages = format!(
        "<office:document-content><office:body><office:presentation><draw:page draw:name='p1'>{}{}<presentation:notes>{}\
         </presentation:notes></draw:page></office:presentation></office:body></office:document-content>",
        frame("title", "Fares"),
        frame("outline", "Adults pay 14"),
        frame("notes", "Smile"),
    );
    let file = zip_of(&[
        (
            "mimetype",
            b"application/vnd.oasis.opendocument.presentation",
        ),
        ("content.xml", pages.as_bytes()),
    ]);
    assert_eq!(
        read(&file, "a.odp").await.text,
        "Fares\n\nAdults pay 14\n\nNotes:\nSmile"
    );
}

#[tokio::test]
async fn shapes_keep_their_paragraphs_apart_tables_come_once_and_empty_slides_are_told() {
    let pages = "<office:document-content><office:body><office:presentation>\
        <draw:page><draw:custom-shape><text:p>One</text:p><text:p>Two</text:p></draw:custom-shape>\
        <draw:g><draw:frame><table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>\
        <table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table></draw:frame></draw:g>\
        </draw:page><draw:page><draw:frame><draw:image/></draw:frame></draw:page>\
        </office:presentation></office:body></office:document-content>";
    let file = zip_of(&[
        (
            "mimetype",
            b"application/vnd.oasis.opendocument.presentation",
        ),
        ("content.xml", pages.as_bytes()),
    ]);
    let document = read(&file, "a.odp").await;
    assert_eq!(document.text, "Slide 1\n\nOne\n\nTwo\n\na | b");
    assert_eq!(document.pages.len(), 2);
    assert_eq!(document.pages[1].outcome, PageOutcome::Empty);

    let text = "<office:document-content><office:body><office:text><text:p>Before<draw:custom-shape><text:p>One</text:p>\
        <text:p>Two</text:p></draw:custom-shape></text:p></office:text></office:body></office:document-content>";
    let file = zip_of(&[
        ("mimetype", b"application/vnd.oasis.opendocument.text"),
        ("content.xml", text.as_bytes()),
    ]);
    assert_eq!(read(&file, "a.odt").await.text, "Before\n\nOne\n\nTwo");
}

#[tokio::test]
async fn what_lies_on_a_sheet_comes_after_its_cells() {
    let sheets = "<office:document-content><office:body><office:spreadsheet><table:table table:name='S'>\
        <table:shapes><draw:custom-shape><text:p>On the sheet</text:p><text:p>and below</text:p></draw:custom-shape>\
        </table:shapes><table:table-row><table:table-cell><office:annotation><text:p>a remark</text:p>\
        </office:annotation><draw:frame><draw:text-box><text:p>In a box</text:p></draw:text-box></draw:frame>\
        <text:p>cell</text:p></table:table-cell></table:table-row></table:table><table:table table:name='T'>\
        <table:table-row><table:table-cell><draw:frame><draw:image/></draw:frame></table:table-cell></table:table-row>\
        </table:table></office:spreadsheet></office:body></office:document-content>";
    let file = zip_of(&[
        (
            "mimetype",
            b"application/vnd.oasis.opendocument.spreadsheet",
        ),
        ("content.xml", sheets.as_bytes()),
    ]);
    let document = read(&file, "a.ods").await;
    let expected = "S\n\ncell\n\nOn the sheet\n\nand below\n\nIn a box";
    assert_eq!(document.text, expected);
    assert_eq!(document.pages[1].outcome, PageOutcome::Empty);
}

#[tokio::test]
async fn a_sheet_that_is_too_long_costs_itself_only() {
    let cell = "x".repeat(1000);
    let sheets = format!(
        "<office:document-content><office:body><office:spreadsheet><table:table table:name='Bomb'>\
         <table:table-row table:number-rows-repeated='1048576'><table:table-cell table:number-columns-repeated='16384'>\
         <text:p>{cell}</text:p></table:table-cell></table:table-row></table:table><table:table table:name='Good'>\
         <table:table-row><table:table-cell><text:p>kept</text:p></table:table-cell></table:table-row></table:table>\
         </office:spreadsheet></office:body></office:document-content>"
    );
    let file = zip_of(&[
        (
            "mimetype",
            b"application/vnd.oasis.opendocument.spreadsheet",
        ),
        ("content.xml", sheets.as_bytes()),
    ]);
    let document = read(&file, "a.ods").await;
    assert_eq!(document.text, "Good\n\nkept");
    assert!(matches!(&document.pages[0].outcome, PageOutcome::Failed(_)));
}

#[tokio::test]
async fn a_table_that_is_cut_off_keeps_its_end() {
    let cut = b"{\\rtf1\\ansi {\\trowd\\intbl Ann\\cell 14\\cell\\row}{\\trowd\\intbl Bob\\cell 7";
    assert_eq!(read(cut, "a.rtf").await.text, "Ann | 14\nBob | 7");
    let between =
        b"{\\rtf1\\ansi {\\trowd\\intbl Ann\\cell 14\\cell\\row}{\\trowd\\intbl Bob\\cell 7\\cell";
    assert_eq!(read(between, "a.rtf").await.text, "Ann | 14\nBob | 7");
}

#[tokio::test]
async fn open_documents_are_read() {
    let content = "<office:document-content><office:automatic-styles>\
        <style:style style:name='P9'><style:paragraph-properties fo:break-before='page'/></style:style>\
        </office:automatic-styles><office:body><office:text><text:tracked-changes><text:p>old</text:p></text:tracked-changes>\
        <text:h text:outline-level='2'>Head</text:h><text:p>One<text:s text:c='2'/>two<text:note><text:note-citation>1\
        </text:note-citation><text:note-body><text:p>noted</text:p></text:note-body></text:note></text:p>\
        <text:list><text:list-item><text:p>item</text:p><text:list><text:list-item><text:p>deeper</text:p>\
        </text:list-item></text:list></text:list-item></text:list>\
        <table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>\
        <table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>\
        <text:p text:style-name='P9'>next page</text:p></office:text></office:body></office:document-content>";
    let file = zip_of(&[
        ("mimetype", b"application/vnd.oasis.opendocument.text"),
        ("content.xml", content.as_bytes()),
    ]);
    let document = read(&file, "a.odt").await;
    assert_eq!(document.format, Format::Odt);
    assert_eq!(
        document.text,
        "Head\n\nOne  two[^1]\n\n[^1]: noted\n\n- item\n  - deeper\n\na | b\n\nnext page"
    );
    assert_eq!(headings(&document), [(2, "Head")]);
    assert_eq!(document.pages.len(), 2);

    let sheet = "<office:document-content><office:body><office:spreadsheet><table:table table:name='S'>\
        <table:table-row><table:table-cell office:value-type='string'><text:p>Who</text:p></table:table-cell>\
        <table:table-cell office:value-type='string'><text:p>Fare</text:p></table:table-cell></table:table-row>\
        <table:table-row table:number-rows-repeated='2'><table:table-cell office:value-type='string'><text:p>Ann</text:p>\
        </table:table-cell><table:table-cell office:value-type='float' office:value='7'><text:p>7,00 €</text:p>\
        </table:table-cell><table:table-cell table:number-columns-repeated='16382'/></table:table-row>\
        <table:table-row table:number-rows-repeated='1048573'><table:table-cell table:number-columns-repeated='16384'/>\
        </table:table-row></table:table></office:spreadsheet></office:body></office:document-content>";
    let file = zip_of(&[
        (
            "mimetype",
            b"application/vnd.oasis.opendocument.spreadsheet",
        ),
        ("content.xml", sheet.as_bytes()),
    ]);
    assert_eq!(
        read(&file, "a.ods").await.text,
        "S\n\nWho | Fare\nWho: Ann | Fare: 7,00 €\nWho: Ann | Fare: 7,00 €"
    );

    let locked = zip_of(&[
        ("mimetype", b"application/vnd.oasis.opendocument.text"),
        (
            "META-INF/manifest.xml",
            b"<manifest><encryption-data/></manifest>",
        ),
        ("content.xml", b"\x01\x02"),
    ]);
    assert_eq!(
        extract(Original::new(locked, "a.odt"), &limits()).await,
        Err(ExtractError::Encrypted)
    );
}

#[tokio::test]
async fn items_and_formulas_are_read_as_they_are_shown() {
    let content = "<office:document-content><office:automatic-styles><text:list-style style:name='L1'>\
        <text:list-level-style-number text:level='1' style:num-format='1' style:num-suffix='.'/>\
        <text:list-level-style-number text:level='2' style:num-format='a' style:num-suffix=')'/></text:list-style>\
        </office:automatic-styles><office:body><office:text>\
        <text:list text:style-name='L1'><text:list-item><text:p>open</text:p><text:list><text:list-item><text:p>left</text:p>\
        </text:list-item><text:list-item><text:p>right</text:p></text:list-item></text:list></text:list-item>\
        <text:list-item><text:p>close</text:p></text:list-item></text:list><text:p>Energy: <draw:frame>\
        <draw:object xlink:href='./Object 1'/></draw:frame></text:p><text:list text:style-name='L1' \
        text:continue-numbering='true'><text:list-item><text:p>lock</text:p></text:list-item></text:list>\
        <text:list text:style-name='L2'><text:list-item><text:p>loose</text:p></text:list-item></text:list>\
        </office:text></office:body></office:document-content>";
    let styles = "<office:document-styles><office:styles><text:list-style style:name='L2'><text:list-level-style-number \
        text:level='1' style:num-format='I' style:num-prefix='(' style:num-suffix=')' text:start-value='4'/>\
        </text:list-style></office:styles></office:document-styles>";
    let formula =
        "<math xmlns='x'><mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></math>";
    let file = zip_of(&[
        ("mimetype", b"application/vnd.oasis.opendocument.text"),
        ("content.xml", content.as_bytes()),
        ("styles.xml", styles.as_bytes()),
        ("Object 1/content.xml", formula.as_bytes()),
    ]);
    assert_eq!(
        read(&file, "a.odt").await.text,
        "1. open\n  a) left\n  b) right\n2. close\n\nEnergy: E = mc^2\n\n3. lock\n\n(IV) loose"
    );

    let item = |properties: &str, text: &str| {
        format!("<a:p><a:pPr {properties}</a:pPr><a:r><a:t>{text}</a:t></a:r></a:p>")
    };
    let items = [
        item("><a:buAutoNum type='arabicPeriod'/>", "open"),
        item("lvl='1'><a:buAutoNum type='alphaLcParenR'/>", "left"),
        item("lvl='1'><a:buAutoNum type='alphaLcParenR'/>", "right"),
        item("><a:buAutoNum type='arabicPeriod'/>", "close"),
        item("><a:buChar char='x'/>", "loose"),
        item(
            "><a:buAutoNum type='romanUcParenBoth' startAt='4'/>",
            "lock",
        ),
    ];
    let slide = format!(
        "<p:sld><p:cSld><p:spTree><p:sp><p:txBody>{}</p:txBody></p:sp></p:spTree></p:cSld></p:sld>",
        items.concat()
    );
    let file = zip_of(&[
        TYPES,
        (
            "ppt/presentation.xml",
            b"<p:presentation><p:sldIdLst><p:sldId id='256' r:id='r1'/></p:sldIdLst></p:presentation>",
        ),
        (
            "ppt/_rels/presentation.xml.rels",
            b"<Relationships><Relationship Id='r1' Type='x/slide' Target='slides/slide1.xml'/></Relationships>",
        ),
        ("ppt/slides/slide1.xml", slide.as_bytes()),
    ]);
    assert_eq!(
        read(&file, "a.pptx").await.text,
        "Slide 1\n\n1. open\n  a) left\n  b) right\n2. close\n- loose\n(IV) lock"
    );
}

#[tokio::test]
async fn an_archive_tells_which_members_it_could_not_read() {
    let file = zip_of(&[
        (
            "reports/a.docx",
            &docx("<w:p><w:r><w:t>Inside</w:t></w:r></w:p>", &[]),
        ),
        ("photo.jpg", b"\xff\xd8\xff\xe0"),
        ("table.csv", b"Who,Fare\nAnn,7\n"),
        ("broken.pdf", b"%PDF-1.4\nnothing"),
        (
            "more.zip",
            &zip_of(&[("photo.jpg", b"\xff\xd8\xff\xe0"), ("b.txt", b"Deeper")]),
        ),
    ]);
    let document = read(&file, "all.zip").await;
    assert_eq!(
        document.text,
        "reports/a.docx\n\nInside\n\ntable.csv\n\nWho | Fare\nWho: Ann | Fare: 7\n\nmore.zip\n\nb.txt\n\nDeeper"
    );
    assert_eq!(
        headings(&document),
        [
            (1, "reports/a.docx"),
            (1, "table.csv"),
            (1, "more.zip"),
            (2, "b.txt")
        ]
    );
    assert!(
        matches!(&document.pages[4].outcome, PageOutcome::ReadInPart(reason) if reason.contains("photo.jpg")),
        "{:?}",
        document.pages[4]
    );
    let failures: Vec<_> = document
        .pages
        .iter()
        .filter_map(|page| match &page.outcome {
            PageOutcome::Failed(reason) => Some((page.number, reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[0].0 == 2 && failures[0].1.contains("JPEG image"),
        "{failures:?}"
    );
    assert!(
        failures[1].0 == 4 && failures[1].1.contains("broken.pdf"),
        "{failures:?}"
    );
}

#[tokio::test]
async fn what_grows_without_end_is_stopped() {
    let cell = "bomb ".repeat(1000);
    let rows = format!(
        "<office:document-content><office:body><office:spreadsheet><table:table table:name='S'>\
        <table:table-row table:number-rows-repeated='1048576'><table:table-cell table:number-columns-repeated='16384'>\
        <text:p>{cell}</text:p></table:table-cell></table:table-row></table:table></office:spreadsheet></office:body>\
        </office:document-content>"
    );
    let bomb = zip_of(&[
        (
            "mimetype",
            b"application/vnd.oasis.opendocument.spreadsheet",
        ),
        ("content.xml", rows.as_bytes()),
    ]);
    let nested = format!(
        "{}{}",
        "<w:sdt>".repeat(200_000),
        "</w:sdt>".repeat(200_000)
    );
    let deep = docx(&nested, &[]);
    let entities: String = (1..30)
        .map(|n| format!("<!ENTITY e{n} '&e{0};&e{0};'>", n - 1))
        .collect();
    let laughs = format!(
        "<!DOCTYPE x [<!ENTITY e0 'ha'>{entities}]><document><body><p><r><t>&e29;</t></r></p></body></document>"
    );
    let laughs = zip_of(&[TYPES, ("word/document.xml", laughs.as_bytes())]);
    for (file, name, expected) in [
        (bomb, "a.ods", Some("bytes of text")),
        (deep, "a.docx", Some("nested too deeply")),
        (laughs, "b.docx", None),
    ] {
        let started = Instant::now();
        let result = extract(Original::new(file, name), &limits()).await;
        assert!(started.elapsed() < Duration::from_secs(30), "{name}");
        match (result, expected) {
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{name}: {error}");
            }
            (Ok(document), None) => assert_eq!(document.text, "&e29;"),
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

/// The same file with damage in one of its members, or anywhere when it has none.
fn damaged(bytes: &[u8], random: &mut impl Rng) -> Vec<u8> {
    let mut members = Vec::new();
    if let Ok(mut zip) = zip::ZipArchive::new(Cursor::new(bytes)) {
        for index in 0..zip.len() {
            let mut member = zip.by_index(index).expect("a member");
            let name = member.name().expect("a name").into_owned();
            let mut content = Vec::new();
            member.read_to_end(&mut content).expect("unpacks");
            members.push((name, content));
        }
    }
    if members.is_empty() || random.random_bool(0.3) {
        let mut bytes = bytes.to_vec();
        damage(&mut bytes, random);
        return bytes;
    }
    let texts: Vec<usize> = (0..members.len())
        .filter(|index| members[*index].0.ends_with("ml") || members[*index].0.ends_with(".rels"))
        .collect();
    let chosen = texts[random.random_range(0..texts.len())];
    damage(&mut members[chosen].1, random);
    let members: Vec<_> = members
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    zip_of(&members)
}

fn damage(bytes: &mut Vec<u8>, random: &mut impl Rng) {
    const NASTY: [&[u8]; 8] = [
        b"-1",
        b"99999999999",
        b"\xff\xfe",
        b"<",
        b"&#0;",
        b"]]>",
        b"\"",
        b"NaN",
    ];
    for _ in 0..random.random_range(1..6) {
        if bytes.len() < 2 {
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = random.random_range(at..bytes.len().min(at + 200));
        match random.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => {
                bytes.drain(at..end);
            }
            3 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            // A number in the file becomes another.
            4 => match bytes[at..].iter().position(u8::is_ascii_digit) {
                Some(digit) => bytes[at + digit] = b'0' + random.random_range(0..10u8),
                None => bytes[at] = b'9',
            },
            _ => {
                let nasty = NASTY[random.random_range(0..NASTY.len())];
                bytes.splice(at..at, nasty.iter().copied());
            }
        }
    }
}

#[tokio::test]
async fn damaged_files_end_in_text_or_a_reason_and_never_in_a_panic() {
    let Some(folder) = test_data::require("docs") else {
        return;
    };
    const ROUNDS: u64 = 12;
    let mut files: Vec<(String, Vec<u8>)> = [
        "docx/word_sample.docx",
        "docx/pandoc_tables.docx",
        "docx/equations.docx",
        "other/test.pptx",
        "other/test.epub",
    ]
    .iter()
    .map(|file| {
        (
            (*file).to_owned(),
            std::fs::read(folder.join(file)).expect("test file"),
        )
    })
    .collect();
    let rtf = b"{\\rtf1\\ansi{\\fonttbl{\\f0\\fcharset128 x;}}\\pard\\outlinelevel0 Head\\par \\u8364? \\'e4\\cell\\row}";
    let mail = b"From: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/html\n\n\
                 <p>hi</p>\n--x\nContent-Type: text/csv; name=a.csv\nContent-Transfer-Encoding: base64\n\nYSxiCjEsMgo=\n--x--\n";
    files.extend([
        ("a.rtf".to_owned(), rtf.to_vec()),
        ("a.eml".to_owned(), mail.to_vec()),
        ("a.csv".to_owned(), b"Who;Fare\n\"Ann\nx\";7\n".to_vec()),
        (
            "a.ipynb".to_owned(),
            br#"{"cells":[{"cell_type":"code","source":["x"],"outputs":[{"text":["1"]}]}]}"#
                .to_vec(),
        ),
        (
            "a.jsonl".to_owned(),
            b"{\"a\":[1,{\"b\":null}]}\n{\"a\":\"\\ud83d\\ude00\"}\n".to_vec(),
        ),
    ]);
    let mut random = rand::rngs::StdRng::seed_from_u64(20);
    let mut num_read = 0;
    for (name, bytes) in &files {
        for round in 0..ROUNDS {
            let bytes = damaged(bytes, &mut random);
            let started = Instant::now();
            let result = extract(Original::new(bytes.clone(), name), &limits()).await;
            assert!(
                started.elapsed() < Duration::from_secs(15),
                "{name} {round}"
            );
            let told = match &result {
                Ok(document) => format!("{:?}", document.pages),
                Err(error) => error.to_string(),
            };
            // How a panic or a crash of the reader is told.
            assert!(
                !told.contains("reader stopped at") && !told.contains("crashed"),
                "{name} {round}: {told}"
            );
            match result {
                Ok(_) => num_read += 1,
                Err(error) => assert_ne!(error.code(), "server_error", "{name} {round}: {error}"),
            }
        }
    }
    println!(
        "{num_read} of {} damaged files read",
        files.len() as u64 * ROUNDS
    );
}
