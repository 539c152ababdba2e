//! All that can wake the master, and how its tokens are told apart.

use mio::Token;
use vsmtp_ipc::role::{ProcessName, Role};

/// One wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A signal is pending.
    Signal,
    /// Somebody connects to the control socket.
    Control,
    /// The oneshot process answers.
    Evaluation,
    /// A child speaks, or can be spoken to.
    Child(ProcessName),
    /// A connection of vsmtpctl.
    Ctl(usize),
}

const SIGNAL: usize = 0;
const CONTROL: usize = 1;
const EVALUATION: usize = 2;
/// Connections of vsmtpctl count from here.
const CTL_FIRST: usize = 16;
/// Children: role and instance, above this bit.
const CHILD_BIT: u32 = 40;

impl Event {
    /// Its token.
    pub fn token(self) -> Token {
        Token(match self {
            Event::Signal => SIGNAL,
            Event::Control => CONTROL,
            Event::Evaluation => EVALUATION,
            Event::Ctl(at) => CTL_FIRST + at,
            Event::Child(name) => {
                let role = Role::DAEMONS.iter().position(|role| *role == name.role).unwrap_or(0);
                ((role + 1) << CHILD_BIT) | name.instance as usize
            }
        })
    }

    /// The event of a token.
    pub fn of(token: Token) -> Option<Event> {
        match token.0 {
            SIGNAL => Some(Event::Signal),
            CONTROL => Some(Event::Control),
            EVALUATION => Some(Event::Evaluation),
            n if n >> CHILD_BIT != 0 => {
                let role = *Role::DAEMONS.get((n >> CHILD_BIT) - 1)?;
                Some(Event::Child(ProcessName { role, instance: n as u32 }))
            }
            n => n.checked_sub(CTL_FIRST).map(Event::Ctl),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_events_apart() {
        let name = ProcessName { role: Role::Receiver, instance: u32::MAX };
        for event in [Event::Signal, Event::Control, Event::Evaluation, Event::Child(name), Event::Ctl(7)] {
            assert_eq!(Event::of(event.token()), Some(event));
        }
    }
}
