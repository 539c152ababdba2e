//! Services must be able to bring back what they get: we must listen where they were told.

use std::net::SocketAddr;

use vsmtp_config::ByText;
use vsmtp_mail::Service;

use crate::engine::{Directive, ScriptError};
use crate::service::covers;

/// The listeners, and what for.
pub(crate) type Listeners = [(SocketAddr, ByText<Service>)];

/// Looks for the listener of the service of a directive.
///
/// # Errors
/// There is none, or it is for something else.
pub(crate) fn check(directive: &Directive, listeners: &Listeners) -> Result<(), ScriptError> {
    let Some(service) = &directive.service else { return Ok(()) };
    let receiver = service.receiver;
    let wrong = |text: String| {
        let text = format!("delegate '{}': {text}", directive.name);
        let hint = "the service must find an address of server.interfaces.addr there, best one of its own";
        Err(ScriptError::at(directive.location.clone(), text).with_hint(hint))
    };
    if covers(receiver, service.address) {
        return wrong(format!("the service gets its mail and brings it back at the same address {receiver}"));
    }
    let mut found = listeners.iter().filter(|(address, _)| covers(*address, receiver));
    match found.next() {
        None => wrong(format!("the server does not listen on the receiver {receiver}")),
        Some((_, purpose)) if **purpose != Service::Smtp => {
            wrong(format!("the receiver {receiver} is for {}, not for plain SMTP", **purpose))
        }
        Some(_) => Ok(()),
    }
}
