//! ZIP archives of documents: every member is read by its own format, and is a page with its path as heading.

use super::archive::{Archive, Member};
use super::protocol::{PageContent, Refusal};
use super::reader::{Budget, Reader, read_inner};
use super::writer::Writer;

pub struct Members {
    archive: Archive,
    budget: Budget,
    /// Those that are documents, by their place in the archive.
    members: Vec<(usize, Member)>,
}

impl Members {
    pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Self, Refusal> {
        let archive = Archive::open(bytes, budget)?;
        let all = (0..archive.len()).map(|index| (index, archive.member(index)));
        let members: Vec<_> = all
            .filter(|(_, member)| !member.is_folder && !is_furniture(&member.name))
            .collect();
        if members.is_empty() {
            return Err(Refusal::NoText("there are no files in it".to_owned()));
        }
        if members.iter().all(|(_, member)| member.is_encrypted) {
            return Err(Refusal::Encrypted);
        }
        Ok(Self {
            archive,
            budget: budget.clone(),
            members,
        })
    }
}

impl Reader for Members {
    fn num_pages(&self) -> u32 {
        self.members.len() as u32
    }

    fn title(&self) -> Option<String> {
        None
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let (index, member) = &self.members[number as usize - 1];
        let path = shown_path(&member.name);
        let content = self
            .archive
            .unpack(*index)
            .and_then(|bytes| read_inner(bytes, &path, &self.budget));
        let content = content.map_err(|reason| match reason.contains(&path) {
            true => reason,
            false => format!("{path:?}: {reason}"),
        })?;
        let mut writer = Writer::default();
        writer.heading(1, &path);
        writer.insert(content, 1);
        writer.finish()
    }
}

/// What programs put into archives for themselves.
fn is_furniture(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("__MACOSX/")
        || path.contains("/__MACOSX/")
        || matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini")
}

/// A path is only shown, never followed; but it must not look as if it led elsewhere.
fn shown_path(path: &str) -> String {
    let parts = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."));
    let path = parts.collect::<Vec<_>>().join("/");
    let path: String = path.chars().filter(|c| !c.is_control()).collect();
    match path.trim() {
        "" => "member without a name".to_owned(),
        path => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::tests::zip_of;
    use super::*;

    #[test]
    fn members_are_pages_with_their_paths_and_nest() {
        let inner = zip_of(&[("deep/notes.md", b"# Inside\n\nwords")]);
        let bytes = zip_of(&[
            ("../../etc/a.txt", b"first"),
            ("__MACOSX/a.txt", b"noise"),
            ("photo.png", b"\x89PNG\r\n\x1a\n"),
            ("more.zip", &inner),
        ]);
        let mut members = Members::open(bytes, &Budget::default()).expect("a ZIP file");
        assert_eq!(members.num_pages(), 3);
        let first = members.page(1).expect("read");
        assert_eq!(first.text, "etc/a.txt\n\nfirst");
        assert!(
            members
                .page(2)
                .is_err_and(|reason| reason.contains("PNG image"))
        );
        let last = members.page(3).expect("read");
        assert_eq!(last.text, "more.zip\n\ndeep/notes.md\n\n# Inside\n\nwords");
        let levels: Vec<_> = last
            .headings
            .iter()
            .map(|it| (it.level, it.title.as_str()))
            .collect();
        assert_eq!(
            levels,
            [(1, "more.zip"), (2, "deep/notes.md"), (3, "Inside")]
        );
    }

    #[test]
    fn archives_in_archives_end_somewhere() {
        let mut bytes = zip_of(&[("a.txt", b"the core")]);
        for _ in 0..10 {
            bytes = zip_of(&[("more.zip", &bytes)]);
        }
        let mut members = Members::open(bytes, &Budget::default()).expect("a ZIP file");
        let reason = members.page(1).expect_err("too deep");
        assert!(reason.contains("inside one another"), "{reason}");
    }
}
