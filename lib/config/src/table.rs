//! What one row of the table of keys is, and the macro that makes of a list of rows both the table and a struct with
//! one typed field per key. A row cannot be without name, kind, default, example, readers or doc sentence.

use bincode::{Decode, Encode};

use crate::kind::AnyKind;
use crate::value::Value;

/// A process that may see a key. The roles of the filter share one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Role {
    /// `vsmtp`.
    Master,
    /// `vsmtp-receiver`.
    Receiver,
    /// `vsmtp-filter` in each role.
    Filter,
    /// `vsmtp-queue`.
    Queue,
    /// `vsmtp-deliver --role smtp`.
    Deliver,
    /// `vsmtp-deliver --role mailbox`.
    Mailbox,
    /// `vsmtp-resolver`.
    Resolver,
    /// `vsmtp-limits`.
    Limits,
    /// `vsmtp-auth`.
    Auth,
    /// `vsmtp-keys`.
    Keys,
    /// `vsmtp-runner`.
    Runner,
    /// `vsmtp-database`.
    Database,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Role; 12] = [
        Role::Master,
        Role::Receiver,
        Role::Filter,
        Role::Queue,
        Role::Deliver,
        Role::Mailbox,
        Role::Resolver,
        Role::Limits,
        Role::Auth,
        Role::Keys,
        Role::Runner,
        Role::Database,
    ];

    /// The name that operators see, also in `server.logs.level`. `filter` stands for all roles of the filter.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Receiver => "receiver",
            Role::Filter => "filter",
            Role::Queue => "queue-manager",
            Role::Deliver => "deliver-smtp",
            Role::Mailbox => "deliver-mailbox",
            Role::Resolver => "resolver",
            Role::Limits => "limits",
            Role::Auth => "auth",
            Role::Keys => "keys",
            Role::Runner => "runner",
            Role::Database => "database",
        }
    }
}

/// A default or an example, as it stands in the table.
#[derive(Debug, Clone, Copy)]
pub enum Preset {
    /// A flag.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(&'static str),
    /// A list of texts.
    List(&'static [&'static str]),
    /// A map of texts to lists of texts.
    Map(&'static [(&'static str, &'static [&'static str])]),
    /// A value of another shape.
    Made(fn() -> Value),
    /// Nothing: the doc sentence says what that means.
    Unset,
    /// The host name that the caller found.
    HostName,
    /// The server's own name and `localhost`.
    OwnDomains,
    /// The networks of `server.relay_from`.
    RelayFrom,
}

impl Preset {
    /// The value, unless it depends on the host.
    pub(crate) fn fixed(&self) -> Option<Value> {
        let text = |text: &&str| Value::Text((*text).to_owned());
        let list = |items: &[&str]| Value::List(items.iter().map(text).collect());
        match self {
            Preset::Bool(flag) => Some(Value::Bool(*flag)),
            Preset::Int(number) => Some(Value::Int(*number)),
            Preset::Text(word) => Some(text(word)),
            Preset::List(items) => Some(list(items)),
            Preset::Map(rows) => {
                Some(Value::Map(rows.iter().map(|(name, to)| ((*name).to_owned(), list(to))).collect()))
            }
            Preset::Made(make) => Some(make()),
            Preset::Unset => Some(Value::Null),
            Preset::HostName | Preset::OwnDomains | Preset::RelayFrom => None,
        }
    }
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Dotted name.
    pub name: &'static str,
    /// The rows' `///` lines.
    pub(crate) doc: &'static [&'static str],
    pub(crate) kind: &'static dyn AnyKind,
    pub(crate) default: Preset,
    /// A value that differs from the default; tests use it to prove who reads the key.
    pub(crate) example: Preset,
    /// The processes whose slice depends on this key, and no others.
    pub readers: &'static [Role],
}

impl Key {
    /// The doc sentence.
    pub fn doc(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// What the key accepts, to follow "expected".
    pub fn expected(&self) -> String {
        self.kind.expected()
    }

    /// The canonical form of a value of this key, or what was found instead.
    pub fn canonical(&self, value: &Value) -> Result<Value, String> {
        self.kind.canonical(value)
    }

    /// How a canonical value is shown to people.
    pub fn shown(&self, value: &Value) -> String {
        self.kind.shown(value)
    }
}

/// Declares a group of keys: the struct of typed settings and the rows of the table.
macro_rules! keys {
    ($(#[doc = $about:literal])* $group:ident; $(
        $(#[doc = $doc:literal])+
        $field:ident: $kind:ident $(<$of:ident>)? $({ $($args:tt)* })? = $name:literal,
            default $default:expr, example $example:expr, for $($role:ident)+;
    )+) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        pub(crate) struct $group {
            $( $(#[doc = $doc])+ pub(crate) $field: <$kind $(<$of>)? as $crate::kind::Kind>::Out, )+
        }

        impl $group {
            pub(crate) const KEYS: &'static [$crate::table::Key] = &[ $( $crate::table::Key {
                name: $name,
                doc: &[$($doc),+],
                kind: &$kind $(::<$of>)? $({ $($args)* })?,
                default: $default,
                example: $example,
                readers: &[$($crate::table::Role::$role),+],
            } ),+ ];

            /// Reads each key of the group; `None` after at least one error was noted.
            pub(crate) fn read(input: &mut $crate::input::Input<'_>) -> Option<Self> {
                $( let $field = input.take($name, &$kind $(::<$of>)? $({ $($args)* })?); )+
                Some(Self { $( $field: $field? ),+ })
            }
        }
    };
}
