//! A file's bytes as a slice, read by the system page by page as they are touched. Must never hand out memory that
//! outlives the map.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::ops::Deref;
use std::path::Path;

/// A whole file, mapped read-only. Dereferences to its bytes.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps the regular file at `path`; anything else, such as a folder or a pipe, is an error.
    pub fn open(path: &Path) -> Result<Self> {
        // Asked before opening, because opening a pipe waits for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let file = File::open(path)?;
        // SAFETY: the map is private to this value and only ever read, and the slices borrowed from it cannot outlive
        // it. What Rust cannot rule out is another process that rewrites or shortens the file meanwhile: rewritten
        // bytes are as untrusted as any file's bytes and are only ever read as plain numbers, so they can give wrong
        // numbers but not undefined values; a shortened file ends the process with SIGBUS. Model files are replaced by
        // renaming, which leaves an existing map untouched.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// Says that these bytes will hardly be read again; bytes that are not of this file are passed over. Reading them
    /// stays possible: the system fetches them anew.
    pub fn release(&self, bytes: &[u8]) {
        let (own, others) = (self.map.as_ptr_range(), bytes.as_ptr_range());
        if others.start < own.start || own.end < others.end {
            return;
        }
        #[cfg(unix)]
        {
            let first = others.start.addr() - own.start.addr();
            // SAFETY: the map is of a file and is never written, so what is dropped from memory comes back from the
            // file as it was. The range lies inside it.
            let advice = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    first,
                    bytes.len(),
                )
            };
            // It is only advice: a system that cannot take it keeps the bytes.
            drop(advice);
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_bytes_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, b"some bytes").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"some bytes");
    }

    #[test]
    fn released_bytes_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let content: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(&*file, content);
        file.release(&file[5000..45_000]);
        file.release(&content);
        assert_eq!(&*file, content);
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(MappedFile::open(file.path()).unwrap().is_empty());
    }

    #[test]
    fn a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = MappedFile::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
