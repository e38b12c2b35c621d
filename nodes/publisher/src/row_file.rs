//! A file of lines that is whole at any moment but, after a kill, for its last line.
//!
//! The lines of a frame are written by one call, without a buffer that could end in mid-line.
//! What cannot be written whole is taken back. [`RowFile::resume`] cuts off a torn last line and
//! goes on behind the others.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::SinkError;

/// What the lines are written to: a file, or in tests a disk that can be full.
pub trait Disk {
    /// Writes some of the bytes at the end; returns how many.
    ///
    /// # Errors
    /// As [`Write::write`].
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts to a length in bytes.
    ///
    /// # Errors
    /// As [`File::set_len`].
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Disk for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// A growing file of lines.
#[derive(Debug)]
pub struct RowFile<D = File> {
    path: PathBuf,
    disk: D,
    /// Bytes of whole lines.
    length: u64,
    rows: u64,
    /// There may be bytes behind `length` that could not be cut off yet.
    torn: bool,
}

impl RowFile {
    /// An empty file, in place of any other of this name.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn replace(path: &Path) -> Result<Self, SinkError> {
        let disk = open(path).map_err(SinkError::open(path))?;
        disk.set_len(0).map_err(SinkError::open(path))?;
        Ok(Self::on(disk, path, 0, 0))
    }

    /// Goes on where an earlier process stopped; a file that is not there is made. `readable` is
    /// told every whole line, without its line feed, and says whether it makes sense; whatever
    /// comes after the last line that does is cut off.
    ///
    /// # Errors
    /// Where it cannot be read, cut or made.
    pub fn resume(path: &Path, mut readable: impl FnMut(&[u8]) -> bool) -> Result<Self, SinkError> {
        let disk = open(path).map_err(SinkError::open(path))?;
        let mut reader = BufReader::with_capacity(1 << 18, &disk);
        let mut line = Vec::new();
        let (mut position, mut lines) = (0, 0);
        let (mut length, mut rows) = (0, 0);
        loop {
            line.clear();
            let read = reader
                .read_until(b'\n', &mut line)
                .map_err(SinkError::recover(path))?;
            if line.pop() != Some(b'\n') {
                break;
            }
            position += read as u64;
            lines += 1;
            if readable(&line) {
                (length, rows) = (position, lines);
            }
        }
        disk.set_len(length).map_err(SinkError::open(path))?;
        Ok(Self::on(disk, path, length, rows))
    }

    /// Has the system write everything to the medium.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        self.disk.sync_data().map_err(SinkError::write(&self.path))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

impl<D: Disk> RowFile<D> {
    fn on(disk: D, path: &Path, length: u64, rows: u64) -> Self {
        Self {
            path: path.into(),
            disk,
            length,
            rows,
            torn: false,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of whole lines in it.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Lines in it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds `rows` whole lines: all of them or, with an error, none.
    ///
    /// # Errors
    /// Where they cannot be written; the next call tries again.
    pub fn append(&mut self, lines: &[u8], rows: u64) -> Result<(), SinkError> {
        self.try_append(lines)
            .map_err(SinkError::write(&self.path))?;
        self.length += lines.len() as u64;
        self.rows += rows;
        Ok(())
    }

    fn try_append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.disk.cut(self.length)?;
            self.torn = false;
        }
        while !lines.is_empty() {
            match self.disk.append(lines) {
                Ok(written) if written > 0 => lines = &lines[written.min(lines.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    self.torn = self.disk.cut(self.length).is_err();
                    return Err(other
                        .err()
                        .unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default)]
    struct SmallDisk {
        bytes: Vec<u8>,
        room: usize,
        cut_fails: bool,
    }

    impl Disk for SmallDisk {
        fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.bytes.len().min(self.room));
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            if self.cut_fails {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.truncate(length as usize);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_full_disk_never_leaves_part_of_a_line(
            steps in prop::collection::vec((1usize..20, 0usize..60, any::<bool>()), 1..12),
        ) {
            let mut file = RowFile::on(SmallDisk::default(), Path::new("rows"), 0, 0);
            let mut expected = Vec::new();
            for (number, (length, room, cut_fails)) in steps.into_iter().enumerate() {
                let line = format!("{number}{}\n", "x".repeat(length));
                (file.disk.room, file.disk.cut_fails) = (room, cut_fails);
                if file.append(line.as_bytes(), 1).is_ok() {
                    expected.extend_from_slice(line.as_bytes());
                }
                if !file.torn {
                    prop_assert_eq!(&file.disk.bytes, &expected);
                }
            }
            (file.disk.room, file.disk.cut_fails) = (10_000, false);
            file.append(b"end\n", 1).unwrap();
            expected.extend_from_slice(b"end\n");
            prop_assert_eq!(file.rows() as usize, expected.split(|b| *b == b'\n').count() - 1);
            prop_assert_eq!(file.disk.bytes, expected);
        }
    }

    #[test]
    fn resuming_keeps_whole_readable_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        std::fs::write(&path, b"one\ntwo\n\0\0\0\nthr").unwrap();
        let mut file = RowFile::resume(&path, |line| !line.contains(&0)).unwrap();
        assert_eq!(file.rows(), 2);
        file.append(b"four\n", 1).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nfour\n");
        RowFile::replace(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_file_that_cannot_be_made_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = RowFile::replace(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("set OUT_DIR to a folder that can be written"),
            "{error}"
        );
    }
}
