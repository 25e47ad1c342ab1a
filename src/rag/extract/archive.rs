//! A ZIP file whose members are unpacked one by one, each within limits. Never trusts a number in it, and never uses a
//! name in it for anything but finding the member.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use aho_corasick::AhoCorasick;
use zip::ZipArchive;
use zip::result::ZipError;

use super::reader::Budget;

/// More members than people put into one file.
const MAX_MEMBERS: usize = 20_000;
const MAX_MEMBER_BYTES: u64 = 256 << 20;
/// How many times its size a member may unpack to, unless it stays small. Text packs 3 to 20 times, sheets up to 100.
const MAX_RATIO: u64 = 250;
const ALWAYS_ALLOWED_BYTES: u64 = 8 << 20;

pub struct Archive {
    zip: ZipArchive<Cursor<Vec<u8>>>,
    num_bytes: u64,
    /// By lower-case name with slashes.
    by_name: HashMap<String, usize>,
    budget: Budget,
}

pub struct Member {
    pub name: String,
    pub is_folder: bool,
    pub is_encrypted: bool,
}

impl Archive {
    pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Self, String> {
        if has_too_many_members(&bytes) {
            return Err(format!("it has more than {MAX_MEMBERS} members"));
        }
        let num_bytes = bytes.len() as u64;
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            format!(
                "its ZIP container is damaged or cut short ({})",
                reason(error)
            )
        })?;
        if zip.len() > MAX_MEMBERS {
            return Err(format!(
                "it has {} members, more than the limit of {MAX_MEMBERS}",
                zip.len()
            ));
        }
        let mut archive = Self {
            zip,
            num_bytes,
            by_name: HashMap::new(),
            budget: budget.clone(),
        };
        for index in 0..archive.len() {
            let key = key(&archive.member(index).name);
            archive.by_name.entry(key).or_insert(index);
        }
        Ok(archive)
    }

    pub fn len(&self) -> usize {
        self.zip.len()
    }

    pub fn member(&self, index: usize) -> Member {
        let entry = self.zip.by_index_data(index).ok();
        Member {
            name: match self.zip.name_for_index(index) {
                Some(Ok(name)) => name.replace('\\', "/"),
                _ => format!("member {}", index + 1),
            },
            is_folder: entry.as_ref().is_some_and(|it| it.is_dir()),
            is_encrypted: entry.as_ref().is_some_and(|it| it.encrypted()),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(&key(name))
    }

    /// The member of that name; `None` when there is none.
    pub fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match self.by_name.get(&key(name)) {
            Some(index) => self.unpack(*index).map(Some),
            None => Ok(None),
        }
    }

    /// The member of that name as decoded text, for XML.
    pub fn read_xml(&mut self, name: &str) -> Result<Option<String>, String> {
        let bytes = self.read(name)?;
        Ok(bytes.map(|bytes| super::html::charset::decode(&bytes)))
    }

    pub fn unpack(&mut self, index: usize) -> Result<Vec<u8>, String> {
        let name = self.member(index).name;
        let left = self.budget.left();
        let member = self.zip.by_index(index).map_err(|error| {
            format!("its member {name:?} cannot be unpacked: {}", reason(error))
        })?;
        let packed = member.compressed_size().min(self.num_bytes);
        let by_ratio = packed.saturating_mul(MAX_RATIO).max(ALWAYS_ALLOWED_BYTES);
        let limit = MAX_MEMBER_BYTES.min(by_ratio).min(left);
        let mut bytes = Vec::new();
        let mut limited = member.take(limit + 1);
        let result = limited.read_to_end(&mut bytes);
        self.budget.spend(bytes.len() as u64);
        result.map_err(|error| format!("its member {name:?} is damaged: {error}"))?;
        if bytes.len() as u64 <= limit {
            return Ok(bytes);
        }
        Err(if limit == left {
            "it unpacks to more than is allowed in all".to_owned()
        } else if limit == by_ratio {
            format!(
                "its member {name:?} unpacks to more than {MAX_RATIO} times its size, as only files made to do harm do"
            )
        } else {
            format!("its member {name:?} unpacks to more than {MAX_MEMBER_BYTES} bytes")
        })
    }
}

/// Whether listing the members could take more memory than a file should: asked before that, and of the bytes alone.
/// Archives that stand in the file as they are count too.
pub fn has_too_many_members(bytes: &[u8]) -> bool {
    const MAX_ENTRIES: usize = 4 * MAX_MEMBERS;
    let entries = AhoCorasick::new([b"PK\x01\x02"]).expect("one short pattern");
    entries.find_iter(bytes).nth(MAX_ENTRIES).is_some()
}

fn key(name: &str) -> String {
    name.replace('\\', "/")
        .trim_start_matches('/')
        .to_lowercase()
}

fn reason(error: ZipError) -> String {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => "it is encrypted".to_owned(),
        ZipError::InvalidArchive(reason) => reason.into_owned(),
        other => other.to_string(),
    }
}

/// A path inside an archive that another member gives, from where that member stands.
pub fn resolved(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if !target.starts_with('/') {
        parts.extend(base.split('/'));
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
pub mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    /// A ZIP file with these members.
    pub fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        for (name, bytes) in members {
            writer.start_file(*name, options).expect("started");
            writer.write_all(bytes).expect("written");
        }
        writer.finish().expect("finished").into_inner()
    }

    #[test]
    fn members_are_found_whatever_their_case_and_slashes() {
        let bytes = zip_of(&[("Word\\Document.XML", b"text")]);
        let mut archive = Archive::open(bytes, &Budget::default()).expect("a ZIP file");
        assert_eq!(
            archive.read("/word/document.xml"),
            Ok(Some(b"text".to_vec()))
        );
        assert_eq!(archive.read("word/other.xml"), Ok(None));
    }

    #[test]
    fn a_member_that_unpacks_to_far_more_than_it_holds_is_refused() {
        let bytes = zip_of(&[("bomb", &vec![0; 64 << 20]), ("text", b"fine")]);
        let budget = Budget::default();
        let mut archive = Archive::open(bytes, &budget).expect("a ZIP file");
        assert!(
            archive
                .read("bomb")
                .is_err_and(|reason| reason.contains("times its size"))
        );
        assert_eq!(archive.read("text"), Ok(Some(b"fine".to_vec())));
    }

    #[test]
    fn what_all_members_unpack_to_is_limited_too() {
        let budget = Budget::default();
        budget.spend(budget.left() - 10);
        let bytes = zip_of(&[("a", b"12345678"), ("b", b"12345678")]);
        let mut archive = Archive::open(bytes, &budget).expect("a ZIP file");
        assert!(archive.read("a").is_ok());
        assert!(
            archive
                .read("b")
                .is_err_and(|reason| reason.contains("in all"))
        );
    }

    #[test]
    fn an_archive_of_too_many_members_is_not_listed() {
        let bytes = b"PK\x01\x02".repeat(100_000);
        let error = Archive::open(bytes, &Budget::default())
            .err()
            .expect("refused");
        assert!(error.contains("20000 members"), "{error}");
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(
            resolved("ppt/slides/slide1.xml", "../charts/c.xml"),
            "ppt/charts/c.xml"
        );
        assert_eq!(
            resolved("word/document.xml", "/docProps/core.xml"),
            "docProps/core.xml"
        );
        assert_eq!(resolved("a/b.xml", "../../../etc/passwd"), "etc/passwd");
    }
}
