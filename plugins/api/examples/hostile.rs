//! A plugin in Rust that does what it should not; for tests from outside.

use vsmtp_plugin::{Error, Kind, Plugin, Value};

vsmtp_plugin::export!(plugin);

fn plugin() -> Plugin {
    Plugin::new("hostile-sdk", "1.0")
        .function("panics", &[], |_| -> Result<Value, Error> { panic!("on purpose") })
        .function("indexes", &[Kind::Array], |arguments| Ok(arguments[1].clone()))
        .function("fails", &[Kind::Text], |arguments| -> Result<Value, Error> {
            Err(Error::new(arguments[0].text().unwrap_or_default()))
        })
        .function("nameless", &[], |_| Ok(Value::object(7_u8)))
}
