//! Every message as two files: `ID.eml`, its octets as they would go out, and `ID.json`, its envelope and its progress.
//! Never overwrites a file. A message that cannot be read is passed over and named; a target that cannot be written ends
//! the export. The `.json` comes last: an `.eml` without one is not whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde_json::json;
use vsmtp_mail::QueueId;

use super::print::{entry, object};
use super::{Failure, Sink, complain};
use crate::store::{Message, Offline, ReadError};

/// Mail is its owner's business.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Writes all messages below `to`.
pub fn export(spool: &Offline, to: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(to)
        .map_err(|error| Failure::Target(to.display().to_string(), error))?;
    let (mut exported, mut unreadable) = (0u64, 0u64);
    for (id, message) in spool.messages() {
        match one(spool, id, message, to) {
            Ok(()) => exported += 1,
            Err(failure @ Failure::Message(..)) => {
                unreadable += 1;
                complain(&failure.to_string());
            }
            Err(other) => return Err(other),
        }
    }
    if json {
        writeln!(out, "{}", json!({ "exported": exported, "unreadable": unreadable }))?;
    } else {
        writeln!(out, "exported: {exported} {}", if exported == 1 { "message" } else { "messages" })?;
    }
    if unreadable == 0 {
        Ok(())
    } else {
        Err(Failure::Damaged(format!("messages that could not be read: {unreadable}")))
    }
}

fn one(spool: &Offline, id: QueueId, message: Result<Message, ReadError>, to: &Path) -> Result<(), Failure> {
    let envelope = match message {
        Ok(message) => object(&entry(id, &Ok(message), usize::MAX, false)),
        Err(error) => return Err(Failure::Message(id, error)),
    };
    let path = to.join(format!("{id}.eml"));
    let target = |error| Failure::Target(path.display().to_string(), error);
    let mut file = BufWriter::new(create(&path)?);
    let mut sink = Sink::on(&mut file);
    let written = spool.write_message(id, &mut sink);
    match (sink.failed, written) {
        (Some(error), _) => return Err(target(error)),
        (None, Err(error)) => {
            // What is there is not the message. It was created a moment ago, by us.
            let _ = std::fs::remove_file(&path);
            return Err(Failure::Message(id, error));
        }
        (None, Ok(_)) => file.flush().map_err(target)?,
    }
    let path = to.join(format!("{id}.json"));
    let target = |error| Failure::Target(path.display().to_string(), error);
    writeln!(create(&path)?, "{envelope}").map_err(target)
}

fn create(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    file.map_err(|error| Failure::Target(path.display().to_string(), error))
}
