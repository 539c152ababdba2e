//! `cfg::`: the configuration, as far as filters are told it; `toml::` in vSL 1.x. Reading only.

use rhai::{Dynamic, Map};
use vsmtp_config::Value;

use super::registry::{Form, Name, Registry, name};
use crate::oneshot::to_script;

/// Sections that have keys for filters.
const SECTIONS: [Name; 5] = [
    name("cfg", "server", &[])
        .doc(
            " -> map",
            "The section `server`; `toml::server` in vSL 1.x, where `server.domain` is the name too.",
        )
        .example("cfg::server.name == \"mx.example.com\""),
    name("cfg", "app", &[])
        .doc(" -> map", "The section `app`; `toml::app` in vSL 1.x.")
        .example("type_of(cfg::app) == \"map\""),
    name("cfg", "delivery", &[])
        .doc(" -> map", "The section `delivery`.")
        .example("type_of(cfg::delivery) == \"map\""),
    name("cfg", "queue", &[])
        .doc(" -> map", "The section `queue`.")
        .example("type_of(cfg::queue) == \"map\""),
    name("cfg", "filter", &[])
        .doc(" -> map", "The section `filter`.")
        .example("type_of(cfg::filter) == \"map\""),
];

pub(super) fn register(registry: &mut Registry, settings: &Value) {
    for section in SECTIONS {
        let map = settings.at(section.name).map(to_script).filter(Dynamic::is_map);
        let mut map = map.and_then(Dynamic::try_cast::<Map>).unwrap_or_default();
        registry.constant(section, map.clone());
        if let Some(name) = map.get("name").cloned().filter(|_| section.name == "server") {
            map.insert("domain".into(), name);
        }
        let old = section.also_in("toml");
        registry.constant_of(Form::Alias, old, map);
    }
}
