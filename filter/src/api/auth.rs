//! `auth::`: whether the client has authenticated, and as whom. The password is not here: who wants to know whether it is
//! right asks for that.

use rhai::{Engine, ImmutableString};
use vsmtp_ipc::edge::filter_auth::Verified;

use super::registry::{Outcome, Registry, name, raise};
use crate::identity::Identity;
use crate::judge::cannot_tell;
use crate::object::Fault;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Shared, Transaction};

/// What a script sees of credentials.
#[derive(Debug, Clone)]
struct Credentials {
    name: ImmutableString,
}

pub(super) fn register(registry: &mut Registry) {
    registry.on0(name("auth", "is_authenticated", &["is_authenticated"]), Stage::Connect, is_authenticated);
    registry.on0(name("ctx", "is_authenticated", &[]), Stage::Connect, is_authenticated);
    registry.on0(name("auth", "credentials", &["auth"]), Stage::Authenticate, credentials);
    registry.shared0(name("auth", "unix_users", &["authenticate"]), Stage::Authenticate, unix_users);
    registry.shared0(name("auth", "unix_user", &[]), Stage::Authenticate, unix_users);
    properties(registry.engine);
}

fn properties(engine: &mut Engine) {
    engine.register_type_with_name::<Credentials>("credentials");
    engine.register_get("type", |_: &mut Credentials| "Verify");
    engine.register_get("authid", |credentials: &mut Credentials| credentials.name.clone());
    engine.register_get("authpass", |context: rhai::NativeCallContext, _: &mut Credentials| {
        let text =
            "passwords are not shown to rules; use auth::unix_users(), or a back-end in server.auth.backends";
        Err::<ImmutableString, _>(raise(&context, Fault::new(text)))
    });
    engine.register_fn("to_string", |credentials: &mut Credentials| credentials.name.clone());
    engine.register_fn("to_debug", |credentials: &mut Credentials| credentials.name.clone());
}

fn is_authenticated(transaction: &mut Transaction) -> Outcome<bool> {
    Ok(transaction.peer.is_authenticated())
}

fn identity(transaction: &Transaction) -> Outcome<Identity> {
    let identity = transaction.peer.identity.clone();
    identity.ok_or_else(|| Fault::new("no `credentials` available in the connection"))
}

fn credentials(transaction: &mut Transaction) -> Outcome<Credentials> {
    identity(transaction).map(|identity| Credentials { name: (&*identity.name).into() })
}

/// Whether the password is that of a user of this system.
fn unix_users(shared: &Shared) -> Outcome<Status> {
    let identity = identity(&shared.lock())?;
    // The lock is free again: the answer may take a while.
    let verified =
        identity.verifier.map_or(Verified::Unavailable, |verifier| verifier.verify(identity.grant));
    Ok(match verified {
        Verified::Right => Status::Accept(None),
        Verified::Wrong => Status::deny_default(),
        Verified::Unavailable => Status::Reject(cannot_tell()),
    })
}
