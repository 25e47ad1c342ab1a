//! One look at a watched folder: which files lie in it, how large and how old they are. Reads no file, and follows no
//! link out of the folder.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Folders in folders; a loop that no link explains ends here.
const MAX_DEPTH: usize = 64;
/// More files than that are not a team's documents.
const MAX_FILES: usize = 200_000;
/// Endings of files that programs are still writing, and of what editors leave beside a file.
const TEMPORARY_ENDINGS: &[&str] = &[
    "tmp",
    "temp",
    "part",
    "partial",
    "crdownload",
    "download",
    "filepart",
    "swp",
    "swo",
    "swx",
    "bak",
    "lock",
    "lck",
];

/// How a change of a file is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub num_bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u128,
}

#[derive(Debug, Default)]
pub struct Scan {
    /// By their path below the folder, with slashes.
    pub files: BTreeMap<String, Version>,
    /// Paths below the folder that could not be looked at, with the reason. What lies there is unknown.
    pub unreadable: Vec<(String, String)>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let modified = modified.and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        Self {
            num_bytes: metadata.len(),
            modified: modified.map_or(0, |it| it.as_nanos()),
        }
    }

    /// As it is stored.
    pub fn text(&self) -> String {
        format!("{} {}", self.num_bytes, self.modified)
    }
}

/// The files of a folder, or why it cannot be looked at.
pub fn scan(root: &Path) -> Result<Scan, String> {
    let real_root = root.canonicalize().map_err(|error| error.to_string())?;
    let mut found = Scan::default();
    let mut seen = HashSet::from([real_root.clone()]);
    let mut folders = vec![(real_root.clone(), String::new(), 0)];
    while let Some((folder, below, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if below.is_empty() => return Err(error.to_string()),
            Err(error) => {
                found.unreadable.push((below, error.to_string()));
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // The rest of this folder is unknown.
                Err(error) if below.is_empty() => return Err(error.to_string()),
                Err(error) => {
                    found.unreadable.push((below.clone(), error.to_string()));
                    break;
                }
            };
            let Ok(name) = entry.file_name().into_string() else {
                let name = entry.file_name().to_string_lossy().into_owned();
                found
                    .unreadable
                    .push((join(&below, &name), "its name is not UTF-8".into()));
                continue;
            };
            if is_left_out(&name) {
                continue;
            }
            let path = join(&below, &name);
            match look(&entry.path(), &real_root) {
                Ok(None) => {}
                Ok(Some((real, metadata))) if metadata.is_dir() => {
                    if depth < MAX_DEPTH && seen.insert(real.clone()) {
                        folders.push((real, path, depth + 1));
                    }
                }
                Ok(Some((_, metadata))) if metadata.is_file() => {
                    if found.files.len() == MAX_FILES {
                        return Err(format!(
                            "it holds more than {MAX_FILES} files; watch its folders one by one"
                        ));
                    }
                    found.files.insert(path, Version::of(&metadata));
                }
                Ok(Some(_)) => {}
                // It went while we looked.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => found.unreadable.push((path, error.to_string())),
            }
        }
    }
    Ok(found)
}

/// A file or folder, behind a link too; `None` where a link leads out of the folder or nowhere.
fn look(path: &Path, root: &Path) -> std::io::Result<Option<(PathBuf, Metadata)>> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_symlink() {
        return Ok(Some((path.to_owned(), metadata)));
    }
    let Ok(real) = path.canonicalize() else {
        return Ok(None);
    };
    match real.starts_with(root) {
        true => Ok(Some((real.clone(), fs::metadata(real)?))),
        false => Ok(None),
    }
}

/// Hidden files, and those that editors and downloads keep while they work.
fn is_left_out(name: &str) -> bool {
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    name.starts_with('.')
        || name.starts_with("~$")
        || name.starts_with('#')
        || name.ends_with('~')
        || matches!(name, "Thumbs.db" | "desktop.ini")
        || ending.is_some_and(|ending| TEMPORARY_ENDINGS.contains(&ending.as_str()))
}

fn join(below: &str, name: &str) -> String {
    match below {
        "" => name.to_owned(),
        below => format!("{below}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        scan(root).unwrap().files.into_keys().collect()
    }

    #[test]
    fn hidden_and_temporary_files_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/.git")).unwrap();
        for name in [
            "a/report.docx",
            "a/~$report.docx",
            "a/.git/config",
            ".hidden.txt",
            "x.pdf.part",
            "x.pdf.crdownload",
            "y.TMP",
            "notes.txt~",
            "#notes.txt#",
            "notes.txt",
            "Thumbs.db",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(names(dir.path()), ["a/report.docx", "notes.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_the_folder_only_and_loops_end() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.txt"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/a.txt"), "x").unwrap();
        symlink(outside.path(), root.join("out")).unwrap();
        symlink(outside.path().join("secret.txt"), root.join("secret.txt")).unwrap();
        symlink("real/a.txt", root.join("b.txt")).unwrap();
        symlink(root, root.join("real/loop")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        assert_eq!(names(root), ["b.txt", "real/a.txt"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert!(scan(&dir.path().join("missing")).is_err());
        assert!(scan(dir.path()).unwrap().files.is_empty());
    }
}
