//! LOGIN: the name, then the password, each after a prompt. The words of the prompts are those that old clients look for.

use super::{Step, Talk};
use crate::secret::{Credentials, Password, user};

const NAME: &[u8] = b"Username:";
const PASSWORD: &[u8] = b"Password:";

/// What is awaited.
#[derive(Debug)]
pub enum Login {
    /// The name.
    Name,
    /// The password of this name.
    Password(String),
}

/// Asks for the name.
pub(super) fn start() -> Step {
    Step::Challenge(Talk::Login(Login::Name), NAME.to_vec())
}

impl Login {
    pub(super) fn step(self, message: &[u8]) -> Step {
        match self {
            Login::Name => match user(message) {
                Some(name) => Step::Challenge(Talk::Login(Login::Password(name)), PASSWORD.to_vec()),
                None => Step::Malformed,
            },
            Login::Password(name) => match Password::new(message) {
                Some(password) => Step::Check(Credentials { user: name, password }),
                None => Step::Wrong(Some(name)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_prompts() {
        let Step::Challenge(Talk::Login(login), prompt) = start() else { panic!() };
        assert_eq!(prompt, b"Username:");
        let Step::Challenge(Talk::Login(login), prompt) = login.step(b"tim") else { panic!() };
        assert_eq!(prompt, b"Password:");
        assert!(matches!(login.step(b"x"), Step::Check(c) if c.user == "tim" && c.password.expose() == "x"));
        assert!(matches!(Login::Name.step(b""), Step::Malformed));
        assert!(matches!(Login::Password("tim".to_owned()).step(b""), Step::Wrong(Some(_))));
    }
}
