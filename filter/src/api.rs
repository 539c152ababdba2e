//! The functions of vSL. Each is registered once, with its module, its global names of vSL 1.x, and the stage from which
//! it may be called; the registrations are the one table of what there is. A function never blocks unless it says so.

mod address;
mod arc;
mod asked;
mod auth;
mod cmd;
mod code;
mod context;
mod csv;
mod definitions;
mod dkim;
mod dmarc;
mod dns;
mod dnsbl;
mod envelope;
mod extensions;
mod fs;
mod general;
mod greylist;
mod handle;
mod ldap;
mod lists;
mod memcached;
mod message;
mod mime;
mod mysql;
mod page;
mod plugins;
mod queue;
mod ratelimit;
mod redis;
mod registry;
mod relay;
mod reports;
mod resolve;
mod settings;
mod smtp;
mod spf;
mod srs;
mod state;
mod texts;
mod transport;
mod values;

use std::collections::HashMap;

use rhai::{Dynamic, Engine};

use crate::engine::{self, BuiltIns, Callable};
use crate::object::Object;

pub use definitions::definitions;
pub use general::Surroundings;
pub use page::pages;
pub use plugins::install as install_plugins;
pub use registry::{Doc, Form, Function};

use registry::Registry;

/// Makes all functions known to the engine that runs rules; answers the table of them.
pub fn install(engine: &mut Engine, surroundings: &Surroundings) -> Vec<Function> {
    install_all(engine, surroundings).0
}

/// The same; and the modules as the engine has them.
pub fn install_all(engine: &mut Engine, surroundings: &Surroundings) -> (Vec<Function>, BuiltIns) {
    let variables: HashMap<&str, Object> = constants().into_iter().collect();
    engine::give_old_variables(engine, move |name| variables.get(name).cloned().map(Dynamic::from));
    let mut registry = Registry::new(engine);
    values::register(&mut registry);
    texts::register(&mut registry);
    code::register(&mut registry);
    general::register(&mut registry, surroundings);
    lists::register(&mut registry, surroundings);
    resolve::register(&mut registry, surroundings);
    settings::register(&mut registry, &surroundings.settings);
    srs::register(&mut registry);
    handle::register(&mut registry);
    context::register(&mut registry);
    auth::register(&mut registry);
    cmd::register(&mut registry, surroundings);
    csv::register(&mut registry, surroundings);
    mysql::register(&mut registry, surroundings);
    redis::register(&mut registry, surroundings);
    memcached::register(&mut registry, surroundings);
    ldap::register(&mut registry, surroundings);
    smtp::register(&mut registry);
    state::register(&mut registry, surroundings);
    envelope::register(&mut registry);
    message::register(&mut registry);
    fs::register(&mut registry, surroundings);
    mime::register(&mut registry);
    extensions::register(&mut registry);
    relay::register(&mut registry, surroundings);
    transport::register(&mut registry);
    queue::register(&mut registry);
    reports::register(&mut registry);
    dns::register(&mut registry, &surroundings.names);
    dnsbl::register(&mut registry, &surroundings.names);
    ratelimit::register(&mut registry, surroundings);
    greylist::register(&mut registry, surroundings);
    spf::register(&mut registry, surroundings);
    dkim::register(&mut registry, surroundings);
    dmarc::register(&mut registry, surroundings);
    arc::register(&mut registry, surroundings);
    registry.finish()
}

/// What of the table is called with its module's name.
pub fn callables(table: &[Function]) -> Vec<Callable> {
    let called = |form| matches!(form, Form::Function | Form::Constant | Form::Alias);
    let in_module = table.iter().filter(|function| !function.module.is_empty() && called(function.form));
    in_module.map(|f| Callable { module: f.module, name: f.name, arguments: f.arguments }).collect()
}

/// Makes known what configuration scripts may use: values, and facts about the host.
pub fn install_for_configuration(engine: &mut Engine, surroundings: &Surroundings) -> Vec<Function> {
    let mut registry = Registry::new(engine);
    values::register(&mut registry);
    texts::register(&mut registry);
    code::register(&mut registry);
    general::register(&mut registry, surroundings);
    lists::register(&mut registry, surroundings);
    registry.finish().0
}

/// What vSL 1.x has as variables without a module: `code554_7_1`, `net_10`, `non_routable_net` and the like.
pub fn constants() -> Vec<(&'static str, Object)> {
    code::constants().chain(values::constants()).collect()
}

#[cfg(test)]
mod tests;
