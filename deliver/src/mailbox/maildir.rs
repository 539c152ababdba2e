//! Maildir delivery in the only order that loses nothing: write below `tmp`, sync the file, move it to `new`, sync `new`,
//! and only then answer. Several deliveries go through the steps together, so that they share the sync of the folder.
//!
//! On failure the file is removed again and the recipient deferred; a file that failed to sync is never synced twice.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use vsmtp_mail::EnhancedCode;

use crate::lease::Verdict;
use crate::mailbox::disk::{Disk, make_folders};
use crate::mailbox::name::MailboxName;
use crate::mailbox::text::MailboxText;
use crate::mailbox::unique::UniqueNames;
use crate::mailbox::verdict;
use crate::mailbox::work::Job;

/// The open folders of one Maildir.
struct Maildir {
    tmp: OwnedFd,
    new: OwnedFd,
}

/// A message that is written and not yet visible.
struct Written {
    job: Job,
    maildir: Rc<Maildir>,
    file: OwnedFd,
    name: String,
    size: u64,
}

/// A message that is visible and not yet durable.
struct Published {
    job: Job,
    maildir: Rc<Maildir>,
    name: String,
}

/// Delivers all of these, and settles each.
pub fn deliver(disk: &impl Disk, names: &mut UniqueNames, jobs: Vec<Job>) {
    let mut open = BTreeMap::new();
    let mut written = Vec::with_capacity(jobs.len());
    for job in jobs {
        match write(disk, names, &mut open, &job) {
            Ok((maildir, file, name, size)) => written.push(Written { job, maildir, file, name, size }),
            Err(verdict) => job.settle(&verdict),
        }
    }
    let published = written.into_iter().filter_map(|written| publish(disk, written)).collect();
    drop(open);
    settle(disk, published);
}

type Ready = (Rc<Maildir>, OwnedFd, String, u64);

fn write(
    disk: &impl Disk,
    names: &mut UniqueNames,
    open: &mut BTreeMap<MailboxName, Rc<Maildir>>,
    job: &Job,
) -> Result<Ready, Verdict> {
    let recipient = job.recipient();
    let text = MailboxText::new(
        &job.lease().content,
        job.lease().body_type,
        &job.lease().reverse_path,
        &recipient.address,
    )
    .map_err(|error| verdict::of_error("read the message", &error))?
    .map_err(|_| verdict::looped(&recipient.address))?;
    let maildir = match open.get(job.mailbox()) {
        Some(maildir) => Rc::clone(maildir),
        None => {
            let maildir = open_maildir(disk, job.mailbox())
                .map_err(|error| verdict::of_error("open the Maildir", &error))?;
            let maildir = Rc::new(maildir);
            open.insert(job.mailbox().clone(), Rc::clone(&maildir));
            maildir
        }
    };
    let name = names.next();
    let file = disk
        .create(maildir.tmp.as_fd(), &name)
        .map_err(|error| verdict::of_error("make a file in tmp", &error))?;
    let mut size = 0u64;
    let result = text.write_to(|bytes| {
        disk.write(file.as_fd(), bytes, size)?;
        size += bytes.len() as u64;
        Ok(())
    });
    if let Err(error) = result {
        discard(disk, &maildir.tmp, &name);
        return Err(verdict::of_error("write the message", &error));
    }
    Ok((maildir, file, name, size))
}

fn open_maildir(disk: &impl Disk, mailbox: &MailboxName) -> io::Result<Maildir> {
    let open = || -> io::Result<Maildir> {
        let tmp = disk.open_folder(&mailbox.maildir("tmp"))?;
        let new = disk.open_folder(&mailbox.maildir("new"))?;
        Ok(Maildir { tmp, new })
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = make_folders(disk, &[&mailbox.domain, &mailbox.user])?;
            for name in ["tmp", "new", "cur"] {
                disk.make_folder(folder.as_fd(), name)?;
            }
            disk.sync_folder(folder.as_fd())?;
            open()
        }
        result => result,
    }
}

fn publish(disk: &impl Disk, written: Written) -> Option<Published> {
    let Written { job, maildir, file, name, size } = written;
    let new_name = format!("{name},S={size}");
    let result = disk
        .sync_file(file.as_fd())
        .map_err(|error| verdict::of_error("sync the message", &error))
        .and_then(|()| {
            disk.publish(maildir.tmp.as_fd(), &name, maildir.new.as_fd(), &new_name)
                .map_err(|error| verdict::of_error("move the message to new", &error))
        });
    match result {
        Ok(()) => Some(Published { job, maildir, name: new_name }),
        Err(verdict) => {
            discard(disk, &maildir.tmp, &name);
            job.settle(&verdict);
            None
        }
    }
}

fn settle(disk: &impl Disk, published: Vec<Published>) {
    let mut synced: Vec<(Rc<Maildir>, Result<(), Verdict>)> = Vec::new();
    for Published { job, maildir, name } in published {
        let known =
            synced.iter().find(|(other, _)| Rc::ptr_eq(other, &maildir)).map(|(_, result)| result.clone());
        let result = known.unwrap_or_else(|| {
            let result = disk
                .sync_folder(maildir.new.as_fd())
                .map_err(|error| verdict::of_error("sync the folder", &error));
            synced.push((Rc::clone(&maildir), result.clone()));
            result
        });
        match result {
            Ok(()) => job.settle(&Verdict::delivered(EnhancedCode(2, 0, 0), "delivered to maildir")),
            Err(verdict) => {
                // It comes again later; without this there would be two.
                discard(disk, &maildir.new, &name);
                job.settle(&verdict);
            }
        }
    }
}

/// Best effort: a file that stays in `tmp` is never shown, and cleaned away by mail readers after 36 hours.
fn discard(disk: &impl Disk, folder: &OwnedFd, name: &str) {
    if let Err(error) = disk.remove(folder.as_fd(), name) {
        log::debug!("event=maildir-remove-failed name={name} error=\"{error}\"");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use nix::errno::Errno;
    use vsmtp_ipc::edge::queue_deliver::Result3;
    use vsmtp_mail::MailboxFormat;

    use super::*;
    use crate::mailbox::recorder::{Recorder, only};

    const MESSAGE: &[u8] = b"A: b\r\n\r\nbody\r\n";

    fn names() -> UniqueNames {
        UniqueNames::new(1, 0, "host.test", || 1_795_324_249_051_049)
    }

    fn run(root: &Path, fail_at: Option<(usize, Errno)>) -> (Vec<&'static str>, Result3) {
        let disk = Recorder::new(root, fail_at);
        let (job, inbox) = disk.job("jane@dst.test", MailboxFormat::Maildir, MESSAGE);
        deliver(&disk, &mut names(), vec![job]);
        (disk.operations(), only(&inbox).verdict.result)
    }

    fn files(root: &Path, folder: &str) -> usize {
        fs::read_dir(root.join("dst.test/jane").join(folder)).map_or(0, Iterator::count)
    }

    #[test]
    fn nothing_is_answered_for_before_it_is_durable() {
        let root = tempfile::tempdir().unwrap();
        let (operations, result) = run(root.path(), None);
        assert_eq!(result, Result3::Delivered);
        let (makes, rest) = operations.split_at(operations.iter().position(|op| *op == "create").unwrap());
        // Each new folder's name is durable before anything is put into it.
        for made in makes.iter().enumerate().filter(|(_, op)| **op == "make folder").map(|(at, _)| at) {
            assert!(makes[made..].contains(&"sync folder"), "{makes:?}");
        }
        let mut rest = rest.to_vec();
        rest.dedup();
        assert_eq!(rest, ["create", "write", "sync file", "publish", "sync folder", "answer"]);
    }

    #[test]
    fn deliveries_to_one_folder_share_its_sync() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), None);
        let disk = Recorder::new(root.path(), None);
        let jobs: Vec<_> =
            (0..5).map(|_| disk.job("jane@dst.test", MailboxFormat::Maildir, MESSAGE)).collect();
        let (jobs, inboxes): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let mut names = UniqueNames::new(2, 0, "host.test", || 1);
        deliver(&disk, &mut names, jobs);
        assert!(inboxes.iter().all(|inbox| only(inbox).verdict.result == Result3::Delivered));
        let count = |wanted| disk.operations().iter().filter(|op| **op == wanted).count();
        assert_eq!((count("sync file"), count("publish"), count("sync folder")), (5, 5, 1));
        assert_eq!(files(root.path(), "new"), 6);
    }

    #[test]
    fn a_failure_at_any_step_is_deferred_and_leaves_nothing() {
        let steps = run(tempfile::tempdir().unwrap().path(), None).0.len() - 1;
        for at in 0..steps {
            for errno in [Errno::ENOSPC, Errno::EIO] {
                let root = tempfile::tempdir().unwrap();
                let (operations, result) = run(root.path(), Some((at, errno)));
                let failed = operations[at];
                // A folder that cannot be opened first is made, and one that is there already may be opened next.
                assert_eq!(result, Result3::Deferred, "{failed} {at}");
                assert_eq!((files(root.path(), "tmp"), files(root.path(), "new")), (0, 0), "{failed} {at}");
                let synced = operations.iter().filter(|op| **op == "sync file").count();
                assert!(synced <= 1, "a failed sync was repeated");
                assert_eq!(run(root.path(), None).1, Result3::Delivered, "after {failed} {at}");
            }
        }
    }
}
