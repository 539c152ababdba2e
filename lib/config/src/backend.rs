//! Who knows passwords: one entry of `server.auth.backends`.

use std::fmt;

use bincode::{Decode, Encode};

/// The system's file of passwords.
const SHADOW: &str = "/etc/shadow";
/// Longest path of a Unix socket that the kernel takes, in octets.
const MAX_SOCKET: usize = 107;

/// Who knows passwords.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum AuthBackend {
    /// A file of passwords; the master opens it.
    File(String),
    /// The system's own, in the same way: below `--root` if there is one.
    Shadow(String),
    /// Dovecot's auth service, on this socket.
    Dovecot(String),
    /// saslauthd, on this socket.
    Saslauthd(String),
    /// A file of the keys by which an identity provider signs tokens; the master opens it.
    Oauth(String),
}

impl AuthBackend {
    /// Reads `file:PATH`, `shadow`, `dovecot:SOCKET`, `saslauthd:SOCKET`, `oauth:PATH`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "shadow" {
            return Some(AuthBackend::Shadow(SHADOW.to_owned()));
        }
        let (kind, path) = text.split_once(':')?;
        let fits = !path.is_empty() && path.len() < 4096 && !path.chars().any(char::is_control);
        let is_socket = path.starts_with('/') && path.len() <= MAX_SOCKET;
        match kind {
            "oauth" if fits => Some(AuthBackend::Oauth(path.to_owned())),
            "file" if fits => Some(AuthBackend::File(path.to_owned())),
            "dovecot" if fits && is_socket => Some(AuthBackend::Dovecot(path.to_owned())),
            "saslauthd" if fits && is_socket => Some(AuthBackend::Saslauthd(path.to_owned())),
            _ => None,
        }
    }

    /// The file of passwords, if it is one.
    pub fn file(&self) -> Option<&str> {
        match self {
            AuthBackend::File(path) | AuthBackend::Shadow(path) => Some(path),
            AuthBackend::Dovecot(_) | AuthBackend::Saslauthd(_) | AuthBackend::Oauth(_) => None,
        }
    }

    /// The file of keys for tokens, if it is one.
    pub fn key_file(&self) -> Option<&str> {
        match self {
            AuthBackend::Oauth(path) => Some(path),
            _ => None,
        }
    }

    /// True if it can tell whether a password is right.
    pub fn knows_passwords(&self) -> bool {
        self.key_file().is_none()
    }

    /// The same with its file where it lies on this machine.
    pub(crate) fn placed(&self, place: impl Fn(&str) -> String) -> Self {
        match self {
            AuthBackend::File(path) => AuthBackend::File(place(path)),
            AuthBackend::Shadow(path) => AuthBackend::Shadow(place(path)),
            AuthBackend::Oauth(path) => AuthBackend::Oauth(place(path)),
            socket => socket.clone(),
        }
    }
}

impl fmt::Display for AuthBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthBackend::File(path) => write!(f, "file:{path}"),
            AuthBackend::Shadow(_) => f.write_str("shadow"),
            AuthBackend::Dovecot(path) => write!(f, "dovecot:{path}"),
            AuthBackend::Saslauthd(path) => write!(f, "saslauthd:{path}"),
            AuthBackend::Oauth(path) => write!(f, "oauth:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_they_are_written() {
        for text in [
            "file:users",
            "file:/etc/vsmtp/users",
            "shadow",
            "dovecot:/a/b",
            "saslauthd:/run/x/mux",
            "oauth:keys.json",
        ] {
            assert_eq!(AuthBackend::parse(text).map(|one| one.to_string()).as_deref(), Some(text));
        }
        for bad in
            ["", "file", "file:", "file:a\nb", "dovecot:rel", "dovecot:", "ldap:/x", "oauth:", "shadow:/x"]
        {
            assert_eq!(AuthBackend::parse(bad), None, "{bad:?}");
        }
    }
}
