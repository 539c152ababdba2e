//! Header edits. Before the message is there they gather in an empty block; then that block stands in front of the
//! message's own fields. Nothing a script gives can break out of its field.

use vsmtp_mail::{Address, Field, HeaderBlock, MailboxList, QueueId, Rfc5322Date};

use super::Transaction;
use crate::object::Fault;
use crate::stage::Stage;

/// Most bytes that rules may add before the message is there.
pub const EARLY_HEADER_BYTES: usize = 64 * 1024;
/// Most bytes that rules may add to one message.
const MAX_ADDED_BYTES: usize = 1 << 20;
/// Most bytes of one field that a rule makes.
const MAX_FIELD_BYTES: usize = 64 * 1024;

impl Transaction {
    /// The message is here: its own fields follow those that rules added.
    pub fn receive_header(&mut self, block: &[u8]) {
        let received = HeaderBlock::parse(block).into_owned();
        let early = std::mem::replace(&mut self.header, received);
        self.header_changed = false;
        self.mime = None;
        for field in early.fields().rev() {
            self.header.prepend(field.clone());
            self.header_changed = true;
        }
    }

    /// Adds what a message must have and its user's program may leave to us (RFC 6409 8.1, 8.2, 8.3). What is there, right
    /// or wrong, is the user's.
    pub fn complete_header(&mut self, id: QueueId) {
        let at_ms = self.mail.as_ref().map(|mail| mail.at_ms).unwrap_or_default();
        let name = self.peer.server_name.clone();
        let missing =
            [("Date", Rfc5322Date(at_ms / 1000).to_string()), ("Message-ID", format!("<{id}@{name}>"))];
        for (field, value) in missing {
            if self.header.named(field).next().is_none()
                && let Some(field) = Field::new(field, &value)
            {
                self.header.append(field);
                self.header_changed = true;
            }
        }
    }

    /// Makes a field and charges it to the message.
    fn field(&mut self, name: &str, value: &str) -> Result<Field<'static>, Fault> {
        let size = name.len() + value.len() + 4;
        let field = Field::new(name, value).ok_or_else(|| {
            let why =
                "names are printable ASCII without colon, values have no NUL and no unfolded line break";
            Fault(format!("'{name}' cannot be a header field with this value: {why}"))
        })?;
        self.charge(name, size)?;
        Ok(field)
    }

    /// Charges octets to the message, and notes that its header is another one now.
    fn charge(&mut self, name: &str, size: usize) -> Result<(), Fault> {
        let limit = if self.stage < Stage::Preq { EARLY_HEADER_BYTES } else { MAX_ADDED_BYTES };
        if size > MAX_FIELD_BYTES || self.added_bytes + size > limit {
            return Err(Fault(format!("the header field '{name}' is too large, or rules added too many")));
        }
        self.added_bytes += size;
        self.note_header_change();
        Ok(())
    }

    /// Puts a field after all others.
    pub fn append_header(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let field = self.field(name, value)?;
        self.header.append(field);
        Ok(())
    }

    /// Puts a field before all others.
    pub fn prepend_header(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let field = self.field(name, value)?;
        self.header.prepend(field);
        Ok(())
    }

    /// Replaces the first field of that name, or appends.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let field = self.field(name, value)?;
        self.header.set(field);
        Ok(())
    }

    /// Removes the first field of that name.
    pub fn remove_header(&mut self, name: &str) -> bool {
        let removed = self.header.remove(name);
        if removed {
            self.note_header_change();
        }
        removed
    }

    /// Puts an address into From, in the place of all that stands there.
    pub fn rewrite_from(&mut self, new: &Address) -> Result<(), Fault> {
        let place =
            self.header.named("From").next().map(|field| field.with_value(format!(" {new}").as_bytes()));
        let made = self.field("From", &new.to_string())?;
        self.header.set(place.flatten().unwrap_or(made));
        Ok(())
    }

    /// Puts an address in the place of another in To and Cc. Nothing happens if it is not there.
    pub fn rewrite_addressee(&mut self, old: &Address, new: &Address) -> Result<(), Fault> {
        self.change_addressees(|list| list.replaced(old, new))
    }

    /// Removes an address from To and Cc, and a field that has nothing left.
    pub fn remove_addressee(&mut self, old: &Address) -> Result<(), Fault> {
        self.change_addressees(|list| list.removed(old))
    }

    /// Adds an address to To.
    pub fn add_addressee(&mut self, new: &Address) -> Result<(), Fault> {
        let Some(first) = self.header.named("To").next() else {
            return self.append_header("To", &new.to_string());
        };
        let value = MailboxList::scan(first.value()).added(new);
        let field = first.with_value(&value);
        self.charge("To", new.to_string().len())?;
        self.header.set(field.ok_or_else(|| too_odd("To"))?);
        Ok(())
    }

    fn change_addressees(
        &mut self,
        change: impl Fn(&MailboxList<'_>) -> Option<Vec<u8>>,
    ) -> Result<(), Fault> {
        for name in ["To", "Cc"] {
            let (mut size, mut changed, mut odd) = (0, false, false);
            let mut header = self.header.clone();
            header.change(name, |field| {
                let value = change(&MailboxList::scan(field.value()))?;
                changed = true;
                size += value.len().saturating_sub(field.value().len());
                if value.is_empty() {
                    return Some(None);
                }
                let field = field.with_value(&value);
                odd |= field.is_none();
                field.map(Some)
            });
            if odd {
                return Err(too_odd(name));
            }
            if changed {
                self.charge(name, size)?;
                self.header = header;
            }
        }
        Ok(())
    }

    /// Renames the first field called `old`; false if there is none.
    pub fn rename_header(&mut self, old: &str, new: &str) -> Result<bool, Fault> {
        if Field::new(new, "").is_none() {
            return Err(Fault(format!("'{new}' cannot be the name of a header field")));
        }
        let renamed = self.header.rename(old, new);
        if renamed {
            self.note_header_change();
        }
        Ok(renamed)
    }
}

fn too_odd(name: &str) -> Fault {
    Fault(format!("the field '{name}' of this message cannot be edited"))
}
