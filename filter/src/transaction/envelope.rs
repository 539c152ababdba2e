//! The recipients of a transaction and what rules may do to them. The number is bounded; a rule never adds one twice.

use std::sync::Arc;

use vsmtp_mail::{Address, NextHop, Notify, OriginalRecipient};

use super::Transaction;
use crate::object::{Fault, Object};
use crate::triage::Part;

/// RCPT TO with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptSpec {
    /// The mailbox.
    pub address: Address,
    /// ORCPT=.
    pub original: Option<OriginalRecipient>,
    /// NOTIFY=.
    pub notify: Notify,
}

/// One recipient so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the client or a rule said.
    pub spec: RcptSpec,
    /// Where rules want it to go; `None`: by the routing tables, aliases included.
    pub transport: Option<NextHop>,
    /// A rule said so, of this message now or before it was stored.
    pub chosen: bool,
    /// A rule put it there: whether it may be relayed to was decided by the operator.
    pub by_rule: bool,
    /// Whose rules judge it.
    pub part: Part,
}

/// How a recipient is delivered, as `transport::` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By the recipient domain's MX.
    Mx,
    /// There.
    Hop(NextHop),
}

impl Transport {
    fn hop(&self, address: &Address) -> NextHop {
        match self {
            Transport::Mx => NextHop::mx(address.domain().clone()),
            Transport::Hop(hop) => hop.clone(),
        }
    }
}

impl Transaction {
    /// Adds what the client said.
    pub fn add_client_recipient(&mut self, spec: RcptSpec) -> Result<(), Fault> {
        self.current = Some(Object::Address(Arc::new(spec.address.clone())));
        let part = self.part.clone();
        self.push(Entry { spec, transport: None, chosen: false, by_rule: false, part })
    }

    /// Adds a recipient for a rule; nothing happens if it is there.
    pub fn add_recipient(&mut self, address: Address) -> Result<(), Fault> {
        self.add_with(address, Notify::default())
    }

    /// Adds a recipient that the sender must not learn of: it gets no reports about it.
    pub fn add_hidden_recipient(&mut self, address: Address) -> Result<(), Fault> {
        self.add_with(address, Notify::NEVER)
    }

    fn add_with(&mut self, address: Address, notify: Notify) -> Result<(), Fault> {
        if self.position(&address).is_some() {
            return Ok(());
        }
        let spec = RcptSpec { address, original: None, notify };
        let part = self.part.clone();
        self.push(Entry { spec, transport: None, chosen: false, by_rule: true, part })
    }

    fn push(&mut self, entry: Entry) -> Result<(), Fault> {
        if self.recipients.len() >= self.max_recipients {
            return Err(Fault(format!("a message may have {} recipients", self.max_recipients)));
        }
        self.recipients.push(entry);
        Ok(())
    }

    /// Removes a recipient; false if it is not there. The order of the others stays.
    pub fn remove_recipient(&mut self, address: &Address) -> bool {
        self.position(address).map(|at| self.recipients.remove(at)).is_some()
    }

    /// Puts `new` where `old` was; adds it if `old` is not there. The client's ORCPT and NOTIFY stay with it.
    pub fn rewrite_recipient(&mut self, old: &Address, new: Address) -> Result<(), Fault> {
        let Some(at) = self.position(old) else { return self.add_recipient(new) };
        if self.position(&new).is_some_and(|other| other != at) {
            self.recipients.remove(at);
        } else if let Some(entry) = self.recipients.get_mut(at) {
            entry.spec.address = new;
            (entry.transport, entry.chosen) = (None, false);
            entry.by_rule = true;
        }
        Ok(())
    }

    /// Sets how one recipient is delivered; it is added if it is not there.
    pub fn set_transport(&mut self, address: Address, transport: &Transport) -> Result<(), Fault> {
        self.add_recipient(address.clone())?;
        let hop = transport.hop(&address);
        for entry in self.recipients.iter_mut().filter(|entry| entry.spec.address == address) {
            (entry.transport, entry.chosen) = (Some(hop.clone()), true);
        }
        Ok(())
    }

    /// Sets how all recipients so far are delivered.
    pub fn set_all_transports(&mut self, transport: &Transport) {
        for entry in &mut self.recipients {
            (entry.transport, entry.chosen) = (Some(transport.hop(&entry.spec.address)), true);
        }
    }

    /// Where a recipient stands; the last one, if the client said it twice.
    pub fn position(&self, address: &Address) -> Option<usize> {
        self.recipients.iter().rposition(|entry| entry.spec.address == *address)
    }
}
