//! What the modules of databases share: the database as scripts hold it, how they get it, and how it is asked. The filter
//! reaches none: a process of its own does, and only those that are declared.

use std::marker::PhantomData;
use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_config::{Database, DatabaseKind};
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::general::Surroundings;
use super::registry::{Name, Registry};
use crate::database::{Asker, NoAnswer, Target};
use crate::engine::service_constructor;
use crate::object::{Fault, Object};
use crate::oneshot::from_script;
use crate::transaction::Shared;

/// What is thrown where a database has no answer.
pub(super) const ERRORS: &str = "if the database cannot be reached, has not answered in time, says no, or answers with more than \
                                 1000 rows or 256 KiB; if too many rules wait for databases; if it is not declared";

/// A kind of databases, each with a type of its own, so that it has methods of its own.
pub(super) trait Kind: Clone + Send + Sync + 'static {
    /// As a message says it.
    const TITLE: &'static str;
    /// As a declaration says it.
    const SERVICE: &'static str;
    /// As the configuration says it.
    const IS: DatabaseKind;
}

/// A database, as scripts hold it.
#[derive(Debug, Clone)]
pub(super) struct Service<K> {
    target: Arc<Target>,
    asker: Arc<dyn Asker>,
    kind: PhantomData<K>,
}

impl<K: Kind> Service<K> {
    fn to(target: Target, asker: &Arc<dyn Asker>) -> Self {
        Service { target: Arc::new(target), asker: Arc::clone(asker), kind: PhantomData }
    }

    /// Puts a question, and waits for the answer.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn ask(&self, shared: &Shared, what: &str, parameters: Vec<Parameter>) -> Result<Rows, Fault> {
        self.asker.ask(&self.target, what, parameters).map_err(|none| match none {
            NoAnswer::Later(fault) | NoAnswer::Busy(fault) => {
                shared.lock().was_busy = true;
                fault
            }
            NoAnswer::Never(fault) => fault,
        })
    }

    /// The only value of the answer; `None` if there is none.
    ///
    /// # Errors
    /// The same.
    pub(super) fn value(
        &self,
        shared: &Shared,
        what: &str,
        parameters: Vec<Parameter>,
    ) -> Result<Option<String>, Fault> {
        Ok(self.ask(shared, what, parameters)?.rows.into_iter().flatten().next().flatten())
    }

    /// The answer, which is a number.
    ///
    /// # Errors
    /// The same, and it is none.
    pub(super) fn number(
        &self,
        shared: &Shared,
        what: &str,
        parameters: Vec<Parameter>,
    ) -> Result<i64, Fault> {
        let value = self.value(shared, what, parameters)?;
        let number = value.and_then(|value| value.parse().ok());
        number.ok_or_else(|| Fault(format!("the database {} answered with no number", self.target)))
    }
}

/// Registers the type, and how a script gets one: by describing it, or by its name in the configuration.
pub(super) fn constructors<K: Kind>(
    registry: &mut Registry,
    surroundings: &Surroundings,
    by_map: Name,
    by_name: Name,
) {
    let asker = Arc::clone(&surroundings.asker);
    let describe = move |map: Map| {
        let database = Database::read(&from_script(&Dynamic::from(map)));
        let database = database.map_err(|found| Fault(format!("a database cannot have {found}")))?;
        if database.url.kind() != K::IS {
            return Err(Fault(format!("a database cannot have no URL of {} as url", K::TITLE)));
        }
        asker.declare(&database);
        Ok(Service::<K>::to(Target::Described(database), &asker))
    };
    let (asker, known) = (Arc::clone(&surroundings.asker), Arc::clone(&surroundings.database_names));
    let find = move |name: ImmutableString| {
        let found = known.iter().find(|(other, _, _)| *other == name.as_str());
        // A URL has a password, which is not repeated.
        let missing = || match name.contains("://") {
            true => Fault::new("filter.databases has no such name; a URL is given as #{ url: ... }"),
            false => Fault(format!("filter.databases has no '{name}'")),
        };
        let (name, kind, timeout) = found.ok_or_else(missing)?.clone();
        match kind == K::IS {
            true => Ok(Service::<K>::to(Target::Named(name, timeout), &asker)),
            false => Err(Fault(format!("'{name}' of filter.databases is no database of {}", K::TITLE))),
        }
    };
    registry.engine.register_type_with_name::<Service<K>>(by_map.module);
    registry.constructor(&service_constructor(K::SERVICE), describe.clone());
    registry.constructor(&service_constructor(K::SERVICE), find.clone());
    registry.free1(by_map, describe);
    registry.free1(by_name, find);
    for printer in ["to_string", "to_debug"] {
        registry.engine.register_fn(printer, |service: &mut Service<K>| service.target.to_string());
    }
}

/// A value of a script, as a database gets it.
///
/// # Errors
/// It is something else.
pub(super) fn parameter(value: &Dynamic) -> Result<Parameter, Fault> {
    if value.is_unit() {
        return Ok(Parameter::Null);
    }
    if let Some(object) = value.read_lock::<Object>() {
        return Ok(Parameter::Text(object.text().to_string()));
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(Parameter::Text(text.to_string()));
    }
    let number = value.as_int().or_else(|_| value.as_bool().map(i64::from)).map(Parameter::Int);
    let number = number.or_else(|_| value.as_float().map(|number| Parameter::Text(number.to_string())));
    number.map_err(|kind| {
        Fault(format!("a parameter is a string, an object, a number, a truth value or (), not a {kind}"))
    })
}

/// Several of them.
///
/// # Errors
/// One is something else.
pub(super) fn parameters(values: &Array) -> Result<Vec<Parameter>, Fault> {
    values.iter().map(parameter).collect()
}

/// A text, or an object, as a text.
///
/// # Errors
/// It is something else.
pub(super) fn text(value: &Dynamic, what: &str) -> Result<String, Fault> {
    if let Some(object) = value.read_lock::<Object>() {
        return Ok(object.text().to_string());
    }
    let text = value.read_lock::<ImmutableString>().map(|text| text.to_string());
    text.ok_or_else(|| Fault(format!("{what} is a string or an object, not a {}", value.type_name())))
}
