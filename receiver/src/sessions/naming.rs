//! The client's name: asked for when the client comes, in parallel with its greeting, and awaited before the filter hears
//! of the session for the first time. So rules and Received fields know it, and nobody waits for it who does nothing.

use std::net::IpAddr;
use std::sync::Arc;

use vsmtp_mail::Domain;
use vsmtp_smtp::ProxyName;

use super::asking::Asking;
use super::client::{Client, Fate};
use crate::names_edge::{Look, NAME_MS, Name};
use crate::services::Context;

/// Where the question for the name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Naming {
    /// With the resolver; waited for no longer than this monotonic time, in milliseconds.
    Asked { until_ms: u64 },
    /// Answered, or never asked.
    Known(Name),
}

impl Naming {
    /// The name, if it is known and confirmed.
    pub fn name(&self) -> Option<&Domain> {
        match self {
            Naming::Known(name) => name.as_deref(),
            Naming::Asked { .. } => None,
        }
    }
}

impl Client {
    /// Asks for the name of the client, if names are wanted and it can have one.
    pub(super) fn ask_name(&mut self, context: &mut Context<'_>) {
        let services = &mut *context.services;
        let address = self.who.address().filter(|_| services.settings.client_names);
        let now_ms = context.reactor.now_ms();
        let look = address.map(|address| services.names.look(now_ms, self.number, address));
        self.naming = match look {
            Some(Look::Asked) => Naming::Asked { until_ms: now_ms.saturating_add(NAME_MS.into()) },
            Some(Look::Known(name)) => Naming::Known(name),
            None => Naming::Known(None),
        };
    }

    /// A proxy has said who its client is; what it does not say is asked for.
    pub(super) fn take_name(&mut self, context: &mut Context<'_>, said: &ProxyName) {
        match said {
            ProxyName::Unsaid => self.ask_name(context),
            ProxyName::Unknown => self.naming = Naming::Known(None),
            ProxyName::Is(name) => self.naming = Naming::Known(Domain::parse(name).ok().map(Arc::new)),
        }
    }

    /// The client's name, if it is known and confirmed.
    pub(super) fn name(&self) -> Option<&Domain> {
        self.naming.name()
    }

    /// True if the name is still to come; then the session waits for it.
    pub(super) fn awaits_name(&mut self, context: &mut Context<'_>) -> bool {
        let Naming::Asked { until_ms } = self.naming else { return false };
        if context.reactor.now_ms() >= until_ms {
            self.naming = Naming::Known(None);
            return false;
        }
        self.asking = Asking::OfName { until_ms };
        self.restart_wait(context);
        true
    }

    /// The resolver has answered about this address.
    pub fn on_name(&mut self, context: &mut Context<'_>, address: IpAddr, name: &Name) -> Fate {
        // It may have become another client meanwhile.
        if self.who.address() == Some(address) { self.named(context, name.clone()) } else { Fate::Stay }
    }

    /// There will be no answer, or not in time.
    pub fn on_no_name(&mut self, context: &mut Context<'_>) -> Fate {
        self.named(context, None)
    }

    fn named(&mut self, context: &mut Context<'_>, name: Name) -> Fate {
        if !matches!(self.naming, Naming::Asked { .. }) {
            return Fate::Stay;
        }
        self.naming = Naming::Known(name);
        if !matches!(self.asking, Asking::OfName { .. }) {
            return Fate::Stay;
        }
        self.asking = Asking::Nothing;
        self.proceed(context);
        self.go_on(context)
    }
}
