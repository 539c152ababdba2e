//! Where passwords are known, and the keys for tokens: files that were handed to us, saslauthd, Dovecot. All of this may block and runs on the
//! crew's threads only.
//!
//! A back-end that cannot be asked is never a no: the client hears that it may try again.

pub mod dovecot;
pub mod hash;
pub mod saslauthd;
mod socket;
pub mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use vsmtp_config::{AuthBackend, OauthTerms};
use vsmtp_daemon::Record;

use crate::mechanism::{Mechanism, ScramSecret, decoy};
use crate::secret::{Bearer, Credentials};
use crate::token::{self, KeySet};
use table::Table;

/// Iterations that a user who does not exist seems to have where no file has a SCRAM secret.
const USUAL_ITERATIONS: u32 = 4096;

/// What was found about a name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is this user.
    Yes(String),
    /// It is not.
    No,
    /// It is not, and nobody has tried to be somebody else: a token that was good, or will be, or whose key has not come.
    NoGuess,
    /// Nobody could be asked.
    Unknown,
}

/// Where a client is, for services that want to know.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its address.
    pub client: Option<IpAddr>,
    /// Ours, as it sees it.
    pub server: Option<IpAddr>,
    /// Nobody can listen, or the operator does not mind.
    pub secured: bool,
}

/// The back-ends in the order in which they are asked, with the files as they are now. Cheap to copy: work under way keeps
/// the files that it began with.
#[derive(Debug, Clone)]
pub struct Backends {
    order: Arc<[AuthBackend]>,
    tables: BTreeMap<String, Arc<Table>>,
    terms: Option<Arc<OauthTerms>>,
    /// The keys for tokens, once their file has come.
    keys: Option<Arc<KeySet>>,
}

impl Backends {
    /// The back-ends of a configuration, without their files; `terms` is what is asked of tokens.
    pub fn new(order: &[AuthBackend], terms: Option<OauthTerms>) -> Self {
        Backends { order: order.into(), tables: BTreeMap::new(), terms: terms.map(Arc::new), keys: None }
    }

    /// True if there is none, so that only rules can judge.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// A file has come, or has come again. False if none of this name is wanted.
    pub fn take_file(&mut self, path: &str, table: Table) -> bool {
        let wanted = self.order.iter().any(|backend| backend.file() == Some(path));
        if wanted {
            self.tables.insert(path.to_owned(), Arc::new(table));
        }
        wanted
    }

    /// True if this file is the one of the keys for tokens.
    pub fn wants_keys(&self, path: &str) -> bool {
        self.order.iter().any(|backend| backend.key_file() == Some(path))
    }

    /// The keys for tokens have come, or have come again. Where there is none among them, those that were there stay: a
    /// file that was fetched amiss locks nobody out. False then.
    pub fn take_keys(&mut self, keys: KeySet) -> bool {
        let has_any = !keys.is_empty();
        if has_any {
            self.keys = Some(Arc::new(keys));
        }
        has_any
    }

    /// True if tokens are judged here.
    pub fn judges_tokens(&self) -> bool {
        self.terms.is_some()
    }

    /// What a token must allow, if anything.
    pub fn scope(&self) -> Option<&str> {
        self.terms.as_ref().and_then(|terms| terms.scope.as_deref())
    }

    /// Whose a token is.
    pub fn judge(&self, bearer: &Bearer, now_s: u64) -> Finding {
        let (Some(terms), Some(keys)) = (&self.terms, &self.keys) else { return Finding::Unknown };
        match token::judge(bearer.token.expose(), bearer.user.as_deref(), keys, terms, now_s) {
            Ok(user) => Finding::Yes(user),
            Err(why) => {
                Record::new("token-refused").field("why", why).maybe("user", bearer.user.as_deref()).emit();
                if why.is_honest() { Finding::NoGuess } else { Finding::No }
            }
        }
    }

    /// The socket of Dovecot, if it is one of them.
    pub fn dovecot(&self) -> Option<&str> {
        self.order.iter().find_map(|backend| match backend {
            AuthBackend::Dovecot(path) => Some(path.as_str()),
            _ => None,
        })
    }

    /// The socket of saslauthd, if it is one of them.
    pub fn saslauthd(&self) -> Option<&str> {
        self.order.iter().find_map(|backend| match backend {
            AuthBackend::Saslauthd(path) => Some(path.as_str()),
            _ => None,
        })
    }

    /// True if there is a file with secrets of SCRAM.
    pub fn has_scram(&self) -> bool {
        self.tables().any(|table| table.any_scram_secret().is_some())
    }

    /// The SCRAM secret of a user; one that nobody has if there is no such user.
    pub fn scram_secret(&self, name: &str) -> ScramSecret {
        let found = self.tables().find_map(|table| table.scram_secret(name));
        found.cloned().unwrap_or_else(|| {
            let like = self.tables().find_map(|table| table.any_scram_secret());
            let iterations = like.map_or(USUAL_ITERATIONS, |secret| secret.iterations);
            let seed = self.tables().next().map_or(&[][..], |table| table.seed());
            decoy(seed, name, iterations)
        })
    }

    /// True if somebody knows passwords, or none is asked for.
    fn knows_passwords(&self) -> bool {
        self.is_empty() || self.order.iter().any(AuthBackend::knows_passwords)
    }

    /// Asks one after the other until one knows the user and the password. Blocks.
    pub fn check(&self, credentials: &Credentials, place: Place) -> Finding {
        let mut finding = Finding::No;
        for backend in self.order.iter() {
            match self.ask(backend, credentials, place) {
                Finding::Yes(user) => return Finding::Yes(user),
                Finding::No | Finding::NoGuess => {}
                Finding::Unknown => finding = Finding::Unknown,
            }
        }
        finding
    }

    fn ask(&self, backend: &AuthBackend, credentials: &Credentials, place: Place) -> Finding {
        let asked = match backend {
            AuthBackend::Saslauthd(path) => saslauthd::check(path, credentials),
            AuthBackend::Dovecot(path) => dovecot::check(path, credentials, place),
            AuthBackend::File(_) | AuthBackend::Shadow(_) => {
                let table = backend.file().and_then(|path| self.tables.get(path));
                return table.map_or(Finding::Unknown, |table| table.check(credentials));
            }
            AuthBackend::Oauth(_) => return Finding::No,
        };
        asked.unwrap_or_else(|error| {
            Record::at(log::Level::Error, "backend-failed")
                .field("backend", backend)
                .field("error", error)
                .emit();
            Finding::Unknown
        })
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.order.iter().filter_map(|backend| self.tables.get(backend.file()?)).map(|table| &**table)
    }
}

/// What these back-ends can do of the mechanisms that are wanted; `relayed` is what Dovecot says that it can.
pub fn possible(backends: &Backends, wanted: &[Mechanism], relayed: &[Mechanism]) -> Vec<Mechanism> {
    let can = |mechanism: &Mechanism| match mechanism {
        Mechanism::Plain | Mechanism::Login => backends.knows_passwords(),
        Mechanism::External => true,
        Mechanism::ScramSha256Plus => backends.has_scram(),
        Mechanism::ScramSha256 => backends.has_scram() || relayed.contains(mechanism),
        Mechanism::XOauth2 | Mechanism::OauthBearer => {
            backends.judges_tokens() || relayed.contains(mechanism)
        }
        Mechanism::XClient => false,
    };
    wanted.iter().copied().filter(can).collect()
}
