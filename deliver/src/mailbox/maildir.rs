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
    let text = MailboxText::new(&job.lease().content, &job.lease().reverse_path, &recipient.address)
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
