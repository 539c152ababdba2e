//! `smtp::`: services that see messages and give them back. What is done with one is said by `delegate`.

use std::sync::Arc;

use rhai::{Dynamic, Map};

use super::registry::{Registry, name};
use crate::engine::service_constructor;
use crate::oneshot::from_script;
use crate::service::SmtpService;

pub(super) fn register(registry: &mut Registry) {
    registry.engine.register_type_with_name::<Arc<SmtpService>>("smtp");
    let connect = |map: Map| SmtpService::read(&from_script(&Dynamic::from(map))).map(Arc::new);
    registry.constructor(&service_constructor("smtp"), connect);
    let constructor = name("smtp", "connect", &[])
        .doc("(map) -> smtp", "A service that sees messages and gives them back by SMTP, such as a virus scanner, for `delegate SERVICE \"name\" || { ... }` at postq or delivery. `delegator.address` is where it listens, `IP:PORT`; `delegator.timeout` how long each of its answers may take (`\"30s\"` by default, at most an hour; also as `timeout` beside `delegator`, vSL 1.1). `receiver` is the address of `server.interfaces.addr` at which it brings messages back, and which takes nothing else. `return_within` is how long it may keep a message (`\"1h\"` by default, at most seven days). `fail` says what becomes of a message when the service cannot be reached, says that it cannot now, or has not brought it back in time: `\"defer\"`, the default, tries again until `queue.lifetime` ends; `\"open\"` goes on behind the directive. What it refuses for good (5xx) fails in either case. `service NAME smtp = #{ ... }` is the same.")
        .errors("if the map is not that of a service")
        .example("const scanner = smtp::connect(#{ delegator: #{ address: \"127.0.0.1:10026\", timeout: \"60s\" }, receiver: \"127.0.0.1:10024\" }); `${scanner}` == \"smtp:127.0.0.1:10026\"");
    registry.free1(constructor, connect);
    for printer in ["to_string", "to_debug"] {
        registry.engine.register_fn(printer, |service: &mut Arc<SmtpService>| service.to_string());
    }
}
