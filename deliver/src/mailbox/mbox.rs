//! mbox delivery: dot lock and record lock, append, sync, unlock. On any error the file is cut back to its old length, so
//! that no reader ever sees half a message. Waiting for a lock is the worker's business: here a lock is had or not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use vsmtp_mail::{EnhancedCode, ReversePath, Rfc5322Date};

use crate::lease::Verdict;
use crate::mailbox::disk::{Disk, file_len, make_folders};
use crate::mailbox::text::MailboxText;
use crate::mailbox::verdict;
use crate::mailbox::work::Job;

/// A dot lock older than this belongs to a program that died.
const STALE_LOCK_S: u64 = 300;

/// Whether a job is done.
pub enum Progress {
    /// The verdict.
    Done(Verdict),
    /// Another program has the mailbox: try again soon.
    Locked,
}

/// Delivers one message; `now_s` is the wall clock.
pub fn deliver(disk: &impl Disk, job: &Job, now_s: u64) -> Progress {
    match try_deliver(disk, job, now_s) {
        Ok(progress) => progress,
        Err((doing, error)) => Progress::Done(verdict::of_error(doing, &error)),
    }
}

type Failure = (&'static str, io::Error);

fn try_deliver(disk: &impl Disk, job: &Job, now_s: u64) -> Result<Progress, Failure> {
    let (lease, recipient) = (job.lease(), job.recipient());
    let text =
        match MailboxText::new(&lease.content, lease.body_type, &lease.reverse_path, &recipient.address) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return Ok(Progress::Done(verdict::looped(&recipient.address))),
            Err(error) => return Err(("read the message", error)),
        };
    let folder = open_domain(disk, &job.mailbox().domain).map_err(|error| ("open the folder", error))?;
    let name = job.mailbox().mbox();
    let Some(lock) =
        DotLock::take(disk, &folder, &name, now_s).map_err(|error| ("lock the mailbox", error))?
    else {
        return Ok(Progress::Locked);
    };
    let result = append(disk, &folder, &name, &text, &from_line(&lease.reverse_path, now_s));
    drop(lock);
    result
}

fn open_domain(disk: &impl Disk, domain: &str) -> io::Result<OwnedFd> {
    match disk.open_folder(Path::new(domain)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_folders(disk, &[domain]),
        result => result,
    }
}

fn append(
    disk: &impl Disk,
    folder: &OwnedFd,
    name: &str,
    text: &MailboxText<'_>,
    from: &str,
) -> Result<Progress, Failure> {
    let file = disk.open_file(folder.as_fd(), name).map_err(|error| ("open the mailbox", error))?;
    if !disk.lock(file.as_fd()).map_err(|error| ("lock the mailbox", error))? {
        return Ok(Progress::Locked);
    }
    let old_len = file_len(&file).map_err(|error| ("measure the mailbox", error))?;
    let from =
        format!("{}{from}", ending(disk, &file, old_len).map_err(|error| ("read the mailbox", error))?);
    let result = write(disk, &file, old_len, text, &from)
        .and_then(|()| disk.sync_file(file.as_fd()))
        // An empty file may be new, and its name not yet durable.
        .and_then(|()| if old_len == 0 { disk.sync_folder(folder.as_fd()) } else { Ok(()) });
    match result {
        Ok(()) => Ok(Progress::Done(Verdict::delivered(EnhancedCode(2, 0, 0), "delivered to mbox"))),
        Err(error) => {
            if let Err(worse) = disk.truncate(file.as_fd(), old_len) {
                log::error!("event=mbox-not-cut-back name=\"{name}\" len={old_len} error=\"{worse}\"");
            }
            Err(("write the mailbox", error))
        }
    }
}

/// What is missing behind the last message. A program that died may have left half of one, and what is glued to half a line
/// is no message to readers.
fn ending(disk: &impl Disk, file: &OwnedFd, len: u64) -> io::Result<&'static str> {
    if len == 0 {
        return Ok("");
    }
    let mut last = [0; 2];
    let got = disk.read(file.as_fd(), &mut last, len.saturating_sub(2))?;
    Ok(match last.get(..got) {
        Some([b'\n', b'\n']) => "",
        Some([.., b'\n']) => "\n",
        _ => "\n\n",
    })
}

fn write(
    disk: &impl Disk,
    file: &OwnedFd,
    mut at: u64,
    text: &MailboxText<'_>,
    from: &str,
) -> io::Result<()> {
    let mut put = |bytes: &[u8]| {
        disk.write(file.as_fd(), bytes, at)?;
        at += bytes.len() as u64;
        Ok(())
    };
    put(from.as_bytes())?;
    text.write_quoted_to(&mut put)?;
    put(b"\n")
}

/// `From sender Sun Nov 22 05:10:49 2026`. White space in a quoted local part would break readers.
fn from_line(sender: &ReversePath, now_s: u64) -> String {
    let sender = match sender {
        ReversePath::Null => "MAILER-DAEMON".to_owned(),
        ReversePath::Address(address) => address.to_string().replace(char::is_whitespace, "-"),
    };
    let date = Rfc5322Date(now_s).to_string();
    let mut parts = date.split([' ', ',']).filter(|part| !part.is_empty());
    let mut part = || parts.next().unwrap_or("");
    let (weekday, day, month, year, time) = (part(), part(), part(), part(), part());
    format!("From {sender} {weekday} {month} {day:>2} {time} {year}\n")
}

/// A file `NAME.lock` beside the mailbox, as other mail programs make it.
struct DotLock<'a, D: Disk> {
    disk: &'a D,
    folder: &'a OwnedFd,
    name: String,
}

impl<'a, D: Disk> DotLock<'a, D> {
    fn take(disk: &'a D, folder: &'a OwnedFd, mailbox: &str, now_s: u64) -> io::Result<Option<Self>> {
        let name = format!("{mailbox}.lock");
        match disk.create(folder.as_fd(), &name) {
            Ok(_) => Ok(Some(DotLock { disk, folder, name })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Ok(changed) = disk.changed_at(folder.as_fd(), &name)
                    && changed.saturating_add(STALE_LOCK_S) < now_s
                {
                    // Gone before the next try; if somebody else was faster that is as good.
                    let _ = disk.remove(folder.as_fd(), &name);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl<D: Disk> Drop for DotLock<'_, D> {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(self.folder.as_fd(), &self.name) {
            log::warn!("event=mbox-lock-stays name=\"{}\" error=\"{error}\"", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::errno::Errno;
    use vsmtp_ipc::edge::queue_deliver::Result3;
    use vsmtp_mail::MailboxFormat;

    use super::*;
    use crate::mailbox::recorder::Recorder;

    const NOW: u64 = 1_795_324_249;

    fn run(
        root: &Path,
        fail_at: Option<(usize, Errno)>,
        message: &[u8],
    ) -> (Vec<&'static str>, Option<Result3>) {
        let disk = Recorder::new(root, fail_at);
        let (job, _inbox) = disk.job("jane@dst.test", MailboxFormat::Mbox, message);
        let result = match deliver(&disk, &job, NOW) {
            Progress::Done(verdict) => Some(verdict.result),
            Progress::Locked => None,
        };
        (disk.operations(), result)
    }

    #[test]
    fn the_first_line_is_as_readers_want_it() {
        let sender = ReversePath::parse(r#""a b"@src.test"#).unwrap();
        assert_eq!(from_line(&sender, NOW), "From \"a-b\"@src.test Sun Nov 22 05:10:49 2026\n");
        assert_eq!(from_line(&ReversePath::Null, 0), "From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n");
    }

    #[test]
    fn the_order_is_lock_write_sync_unlock() {
        let root = tempfile::tempdir().unwrap();
        let (mut operations, result) = run(root.path(), None, b"A: b\r\n\r\nx");
        assert_eq!(result, Some(Result3::Delivered));
        operations.drain(..operations.iter().position(|op| *op == "create").unwrap());
        operations.dedup();
        assert_eq!(
            operations,
            ["create", "open file", "lock", "write", "sync file", "sync folder", "remove"]
        );
        let mbox = fs::read_to_string(root.path().join("dst.test/jane.mbox")).unwrap();
        assert!(mbox.ends_with("A: b\n\nx\n\n"), "{mbox}");
    }

    #[test]
    fn a_failure_at_any_step_leaves_the_old_content() {
        let root = tempfile::tempdir().unwrap();
        let long = [b"A: b\r\n\r\n".to_vec(), b"0123456789\r\n".repeat(12_000)].concat();
        run(root.path(), None, b"A: b\r\n\r\nfirst\r\n");
        let path = root.path().join("dst.test/jane.mbox");
        let old = fs::read(&path).unwrap();
        let steps = run(root.path(), None, &long[..16_000]).0;
        fs::write(&path, &old).unwrap();
        for (at, step) in steps.iter().enumerate().filter(|(_, step)| **step != "remove") {
            let (_, result) = run(root.path(), Some((at, Errno::ENOSPC)), &long[..16_000]);
            assert_eq!(result, Some(Result3::Deferred), "{step} {at}");
            assert_eq!(fs::read(&path).unwrap(), old, "{step} {at}");
            assert!(!root.path().join("dst.test/jane.mbox.lock").exists(), "{step} {at}");
        }
    }

    #[test]
    fn half_a_message_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dst.test")).unwrap();
        let path = root.path().join("dst.test/jane.mbox");
        let whole = "From a@src.test Sun Nov 22 05:10:49 2026\nA: b\n\nhalf a line\n\n";
        for end in 0..=whole.len() {
            let old = &whole[..end];
            fs::write(&path, old).unwrap();
            assert_eq!(run(root.path(), None, b"C: d\r\n\r\nx\r\n").1, Some(Result3::Delivered));
            let mbox = fs::read_to_string(&path).unwrap();
            let (before, message) = mbox.split_at(mbox.rfind("From ").unwrap());
            assert!(message.ends_with("\nC: d\n\nx\n\n"), "{mbox}");
            assert!(before.starts_with(old) && before[end..].bytes().all(|octet| octet == b'\n'), "{mbox}");
            assert!(before.is_empty() || before.ends_with("\n\n") && before.len() <= end + 2, "{mbox}");
        }
    }

    #[test]
    fn a_stale_lock_is_broken_and_a_fresh_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dst.test")).unwrap();
        let lock = root.path().join("dst.test/jane.mbox.lock");
        let file = fs::File::create(&lock).unwrap();
        let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(at(NOW - STALE_LOCK_S)).unwrap();
        assert_eq!(run(root.path(), None, b"").1, None);
        assert!(lock.exists());
        file.set_modified(at(NOW - STALE_LOCK_S - 1)).unwrap();
        assert_eq!(run(root.path(), None, b"").1, None);
        assert_eq!(run(root.path(), None, b"").1, Some(Result3::Delivered));
    }

    #[test]
    fn a_record_lock_of_another_is_respected() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), None, b"");
        let disk = Recorder::new(root.path(), None);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(root.path().join("dst.test/jane.mbox"))
            .unwrap();
        assert!(disk.lock(file.as_fd()).unwrap());
        assert_eq!(run(root.path(), None, b"").1, None);
        drop(file);
        assert_eq!(run(root.path(), None, b"").1, Some(Result3::Delivered));
    }
}
