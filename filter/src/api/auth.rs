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
    mechanism: ImmutableString,
}

pub(super) fn register(registry: &mut Registry) {
    let authenticated = name("auth", "is_authenticated", &["is_authenticated"])
        .doc("() -> bool", "The client has authenticated.")
        .example("!auth::is_authenticated()");
    registry.on0(authenticated, Stage::Connect, is_authenticated);
    let authenticated = name("ctx", "is_authenticated", &[])
        .doc("() -> bool", "The same as `auth::is_authenticated()`.")
        .example("!ctx::is_authenticated()");
    registry.on0(authenticated, Stage::Connect, is_authenticated);
    let who = name("auth", "credentials", &["auth"])
        .doc(
            "() -> credentials",
            "Who the client is, with `.type` (`Verify`), `.authid` (the name) and `.mechanism`. \
              There is no password in it: `.authpass` throws.",
        )
        .errors("if the client has not authenticated")
        .example("auth::credentials().authid == \"jane\" && auth().type == \"Verify\"");
    registry.on0(who, Stage::Authenticate, credentials);
    let users = name("auth", "unix_users", &["authenticate"])
        .doc("() -> status", "Accepts if the password is that of a user of this system, refuses if not, and says 454 if nobody can tell. \
              Blocks this session until the answer.")
        .errors("if the client has not authenticated")
        .example("rule \"login\" || auth::unix_users()");
    registry.shared0(users, Stage::Authenticate, unix_users);
    let users = name("auth", "unix_user", &[])
        .doc("() -> status", "The same as `auth::unix_users()`.")
        .errors("if the client has not authenticated")
        .example("rule \"login\" || auth::unix_user()");
    registry.shared0(users, Stage::Authenticate, unix_users);
    properties(registry.engine);
}

fn properties(engine: &mut Engine) {
    engine.register_type_with_name::<Credentials>("credentials");
    engine.register_get("type", |_: &mut Credentials| "Verify");
    engine.register_get("authid", |credentials: &mut Credentials| credentials.name.clone());
    engine.register_get("mechanism", |credentials: &mut Credentials| credentials.mechanism.clone());
    engine.register_get("anonymous_token", |context: rhai::NativeCallContext, _: &mut Credentials| {
        let text = "the client has given a name, not an anonymous token";
        Err::<ImmutableString, _>(raise(&context, Fault::new(text)))
    });
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
    identity(transaction).map(|identity| Credentials {
        name: (&*identity.name).into(),
        mechanism: (&*identity.mechanism).into(),
    })
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
