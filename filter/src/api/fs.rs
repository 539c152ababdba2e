//! `fs::`: files that rules write, of messages and of what is known of them.

use std::sync::Arc;

use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use super::{handle, message};
use crate::deposit::{Deposit, NotWritten};
use crate::object::Fault;
use crate::runner::Input;
use crate::stage::Stage;
use crate::transaction::Shared;

const ERRORS: &str = "if the folder cannot be called so, more than 64 MiB are to be written, 1000 folders are there already, \
                      or nothing can be written now: less than twice `queue.min_free` would stay free on the disk, the \
                      folder is missing, or too many rules write. What fails because of the moment is refused with 451, \
                      whatever `filter.on_error` says";

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let write = name("fs", "write", &["write"])
        .doc("(folder: string)", "Writes the message, header as it is now and body byte for byte, to the file `ID.eml` in a folder of `app.dirpath`, by default `/var/spool/vsmtp/app`; `ID` is `ctx::message_id()`. The folder is made if it is not there. Its name has letters, digits and `.` `_` `-` `@` `+` `=`, begins with a letter or a digit, and may be made of what strangers say: another name throws. A file of that name is replaced: where the rules of several domains write one message, let each have a folder of its own. When the function returns, the file is on the disk, whole, and it stays there when the message is refused after all.")
        .errors(ERRORS)
        .example("fs::write(\"archive\"); fs::write(ctx::mail_from().domain)");
    let deposit = Arc::clone(&surroundings.deposit);
    registry.waits_text(write, Stage::Preq, move |shared, folder| {
        let content = message::input(&shared.lock());
        put(&deposit, shared, folder, "eml", &content)
    });
    let dump = name("fs", "dump", &["dump"])
        .doc("(folder: string)", "Writes what is known of the session and the message to the file `ID.json`, as `fs::write` does: the object as which `ctx()` prints.")
        .errors(ERRORS)
        .example("fs::dump(\"metadata\")");
    let deposit = Arc::clone(&surroundings.deposit);
    registry.waits_text(dump, Stage::Preq, move |shared, folder| {
        let content = Input::Bytes(format!("{}\n", handle::json(&shared.lock())).into_bytes());
        put(&deposit, shared, folder, "json", &content)
    });
}

fn put(deposit: &Deposit, shared: &Shared, folder: &str, ending: &str, content: &Input) -> Outcome<()> {
    let id = shared.lock().id.ok_or_else(|| Fault::new("the message has no id before the stage 'preq'"))?;
    deposit.write(folder, &format!("{id}.{ending}"), content).map_err(|not_written| match not_written {
        NotWritten::Later(fault) => {
            shared.lock().was_busy = true;
            fault
        }
        NotWritten::Never(fault) => fault,
    })
}
