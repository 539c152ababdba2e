//! What a program prints: the beginning is kept, the rest is read and thrown away, so that the program goes on.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vsmtp_ipc::edge::filter_runner::MAX_OUTPUT;
use vsmtp_sys::fds;

/// Most octets that are read in one turn, so that a program that prints all the time delays nobody.
const MAX_TURN: usize = 256 << 10;
/// Most octets of one output in all; a program that prints more is ended.
const MAX_PRINTED: usize = 16 << 20;

/// One output of a program.
#[derive(Debug)]
pub struct Output {
    /// Does not block; `None` after its end.
    pipe: Option<File>,
    kept: Vec<u8>,
    printed: usize,
}

/// How far reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing more for now, or for ever.
    Waits,
    /// There may be more at once.
    More,
    /// It has printed more than anybody may.
    Flood,
}

impl Output {
    /// The reading end of a pipe.
    ///
    /// # Errors
    /// The pipe cannot be told not to block.
    pub fn new(pipe: OwnedFd) -> io::Result<Self> {
        fds::set_nonblocking(&pipe)?;
        Ok(Output { pipe: Some(pipe.into()), kept: Vec::new(), printed: 0 })
    }

    /// The pipe, for the loop.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, within bounds.
    pub fn read(&mut self) -> Progress {
        let mut buffer = [0; 16 << 10];
        let mut turn = 0;
        while turn < MAX_TURN {
            let Some(pipe) = &mut self.pipe else { return Progress::Waits };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    turn += count;
                    self.take(&buffer[..count]);
                    if self.printed > MAX_PRINTED {
                        return Progress::Flood;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => turn += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waits,
                Err(_) => self.pipe = None,
            }
        }
        Progress::More
    }

    fn take(&mut self, bytes: &[u8]) {
        self.printed += bytes.len();
        let room = MAX_OUTPUT.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
    }

    /// True if more was printed than is kept.
    pub fn is_truncated(&self) -> bool {
        self.printed > self.kept.len()
    }

    /// What is kept.
    pub fn into_kept(self) -> Vec<u8> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_rest_is_counted() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new(reader.into()).unwrap();
        assert_eq!(output.read(), Progress::Waits);
        let mut printed = 0;
        while printed <= MAX_PRINTED {
            writer.write_all(&[b'x'; 60_000]).unwrap();
            printed += 60_000;
            let expected = if printed > MAX_PRINTED { Progress::Flood } else { Progress::Waits };
            assert_eq!(output.read(), expected);
        }
        drop(writer);
        assert!(output.is_truncated());
        assert_eq!(output.into_kept(), vec![b'x'; MAX_OUTPUT]);
    }

    #[test]
    fn an_end_is_an_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new(reader.into()).unwrap();
        writer.write_all(b"text").unwrap();
        drop(writer);
        assert_eq!(output.read(), Progress::Waits);
        assert!(output.pipe().is_none() && !output.is_truncated());
        assert_eq!(output.into_kept(), b"text");
    }
}
