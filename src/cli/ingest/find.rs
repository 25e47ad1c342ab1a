//! Finds the files that are meant by what was typed: files, folders with all that is in them, patterns. Hidden files and
//! folders inside of these, and links that lead out of them or in a circle, are left out.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use walkdir::{DirEntry, WalkDir};

/// A file to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    /// What it is called among the documents: its name, with the folders from the one that was typed, also in a pattern.
    pub name: String,
    /// Whether it was typed itself, and not only a folder that it is in.
    pub is_named: bool,
}

/// Something that is not added.
#[derive(Debug)]
pub enum Missed {
    /// A link in a folder, or what a pattern has met, that lies outside of it.
    LeadsOut(PathBuf),
    Failed {
        name: String,
        error: anyhow::Error,
    },
}

/// A name as it is shown: control characters in it must not look like lines of ours.
pub fn shown(name: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    name.chars().map(escaped).collect()
}

type Files = Vec<Result<Found, Missed>>;

/// All files that `typed` stands for, each once, or why some could not be found.
pub fn find(typed: &[String]) -> Files {
    let mut found = Vec::new();
    for typed in typed {
        match of_one(typed) {
            Ok(files) => found.extend(files),
            Err(error) => found.push(Err(Missed::Failed {
                name: shown(typed),
                error,
            })),
        }
    }
    let mut seen = HashSet::new();
    found.retain(|it| match it {
        Ok(file) => seen.insert(std::fs::canonicalize(&file.path).unwrap_or(file.path.clone())),
        Err(_) => true,
    });
    found
}

fn of_one(typed: &str) -> anyhow::Result<Files> {
    let path = Path::new(typed);
    if path.exists() || !typed.contains(['*', '?', '[']) {
        return of_path(path);
    }
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..glob::MatchOptions::default()
    };
    let folder = fixed_folder(typed);
    let real = real_folder(&folder).context("no file matches")?;
    let root = root_name(&folder)?;
    let mut files = Vec::new();
    for path in glob::glob_with(typed, options).context("is no valid pattern")? {
        let path = path?;
        // What is in a folder that matches does so too where it is meant to.
        if path.is_file() && leads_out(&path, &real) {
            files.push(Err(Missed::LeadsOut(path)));
        } else if path.is_file() {
            // Links in folders have many paths to a file, some of them endless.
            let behind = std::fs::canonicalize(&path).context("cannot be read")?;
            files.push(Ok(Found {
                name: name_below(&root, &real, &behind),
                path,
                is_named: true,
            }));
        }
    }
    anyhow::ensure!(!files.is_empty(), "no file matches");
    Ok(files)
}

fn of_path(path: &Path) -> anyhow::Result<Files> {
    let metadata = std::fs::metadata(path).context("cannot be read")?;
    if !metadata.is_dir() {
        anyhow::ensure!(metadata.is_file(), "is not a file");
        return Ok(vec![Ok(Found {
            path: path.to_owned(),
            name: stored(&file_name(path)),
            is_named: true,
        })]);
    }
    let root = root_name(path)?;
    let real = real_folder(path)?;
    let mut files = Vec::new();
    let walk = WalkDir::new(path).follow_links(true).sort_by_file_name();
    let mut walk = walk.into_iter();
    while let Some(entry) = walk.next() {
        match entry {
            Ok(entry) if entry.depth() > 0 && is_hidden(&entry) => pass_over(&mut walk, &entry),
            Ok(entry) if entry.path_is_symlink() && leads_out(entry.path(), &real) => {
                pass_over(&mut walk, &entry);
                files.push(Err(Missed::LeadsOut(entry.into_path())));
            }
            Ok(entry) if entry.file_type().is_file() => {
                files.push(Ok(Found {
                    path: entry.path().to_owned(),
                    name: name_below(&root, path, entry.path()),
                    is_named: false,
                }));
            }
            Ok(_) => {}
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let name = shown(&error.path().unwrap_or(path).to_string_lossy());
                let error = error.into();
                files.push(Err(Missed::Failed { name, error }));
            }
        }
    }
    Ok(files)
}

/// The folder of a pattern before anything in it may vary; empty where that is the first part.
fn fixed_folder(pattern: &str) -> PathBuf {
    let parts = Path::new(pattern).components();
    let varies = |part: &Component| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    parts.take_while(|part| !varies(part)).collect()
}

/// What a folder is called, also one that was typed as `.` or `..`; nothing where none was typed.
fn root_name(folder: &Path) -> anyhow::Result<String> {
    if folder.as_os_str().is_empty() {
        return Ok(String::new());
    }
    let full = std::fs::canonicalize(folder).context("cannot be read")?;
    Ok(file_name(&full))
}

/// The name of a file with the folders from `folder`, which is called `root`.
fn name_below(root: &str, folder: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(folder).unwrap_or(path);
    stored(&Path::new(root).join(inner).to_string_lossy())
}

fn real_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    std::fs::canonicalize(folder).context("cannot be read")
}

fn leads_out(path: &Path, real_folder: &Path) -> bool {
    std::fs::canonicalize(path).is_ok_and(|real| !real.starts_with(real_folder))
}

fn pass_over(walk: &mut walkdir::IntoIter, entry: &DirEntry) {
    if entry.file_type().is_dir() {
        walk.skip_current_dir();
    }
}

/// A document's name, without control characters as those of uploads.
fn stored(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(typed: &[String]) -> Vec<String> {
        let found = find(typed).into_iter();
        found.map(|it| it.expect("found").name).collect()
    }

    #[test]
    #[cfg(unix)]
    fn links_that_lead_out_are_left_out_whether_a_folder_or_a_pattern_has_them() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("docs");
        std::fs::create_dir_all(root.join("in")).expect("made");
        std::fs::create_dir_all(folder.path().join("else")).expect("made");
        std::fs::write(folder.path().join("else/secret.txt"), "no").expect("written");
        std::fs::write(root.join("in/a.txt"), "a").expect("written");
        symlink("../else", root.join("else")).expect("linked");
        symlink("../else/secret.txt", root.join("secret.txt")).expect("linked");
        symlink("in", root.join("inside")).expect("linked");
        let typed = |name: &str| root.join(name).to_string_lossy().into_owned();
        let met = |typed: String| {
            let met = find(&[typed]).into_iter().map(|it| match it {
                Ok(found) => found.name,
                Err(Missed::LeadsOut(path)) => format!("out: {}", file_name(&path)),
                Err(Missed::Failed { error, .. }) => panic!("{error}"),
            });
            met.collect::<Vec<_>>()
        };
        let all = ["out: else", "docs/in/a.txt", "out: secret.txt"];
        assert_eq!(met(typed("")), all);
        assert_eq!(met(typed("*.txt")), ["out: secret.txt"]);
        // Who types it means it.
        assert_eq!(met(typed("secret.txt")), ["secret.txt"]);
    }

    #[test]
    fn what_would_end_a_line_is_shown_escaped() {
        assert_eq!(shown("a\nb\u{1b}[2J ä.txt"), "a\\nb\\u{1b}[2J ä.txt");
    }

    #[test]
    #[cfg(unix)]
    fn folders_are_walked_without_hidden_files_and_circles() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("docs");
        for (path, text) in [
            ("b.txt", "b"),
            ("a/deep/c.md", "c"),
            (".hidden.txt", "no"),
            (".git/config", "no"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        std::os::unix::fs::symlink(&root, root.join("a/again")).expect("linked");
        std::os::unix::fs::symlink(root.join("b.txt"), root.join("z.txt")).expect("linked");
        let typed = |name: &str| root.join(name).to_string_lossy().into_owned();
        assert_eq!(names(&[typed("")]), ["docs/a/deep/c.md", "docs/b.txt"]);
        assert_eq!(names(&[typed("**/*.md")]), ["docs/a/deep/c.md"]);
        assert_eq!(names(&[typed("a/*/c.md")]), ["a/deep/c.md"]);
        assert_eq!(
            names(&[typed("*.txt")]),
            ["docs/b.txt"],
            "the link is the same file"
        );
        // Who types it means it.
        assert_eq!(names(&[typed(".hidden.txt")]), [".hidden.txt"]);
        let missing = find(&[typed("x/*.pdf"), typed("none.pdf")]);
        let why: Vec<String> = missing
            .into_iter()
            .map(|it| match it.expect_err("missing") {
                Missed::Failed { error, .. } => error.to_string(),
                Missed::LeadsOut(path) => panic!("{}", path.display()),
            })
            .collect();
        assert_eq!(why, ["no file matches", "cannot be read"]);
    }
}
