//! A plugin in Rust that does what it should not, and gives back what it gets; for tests from outside.

use vsmtp_plugin::{Error, Kind, Plugin, Value};

vsmtp_plugin::export!(plugin);

/// What objects are.
struct Number(i64);

/// One that does not end.
struct Stuck;

impl Drop for Stuck {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

fn plugin() -> Plugin {
    Plugin::new("hostile-sdk", "1.0")
        .function("panics", &[], |_| -> Result<Value, Error> { panic!("on purpose") })
        .function("indexes", &[Kind::Array], |arguments| Ok(arguments[1].clone()))
        .function("fails", &[Kind::Text], |arguments| -> Result<Value, Error> {
            Err(Error::new(arguments[0].text().unwrap_or_default()))
        })
        .function("stuck", &[], |_| Ok(Value::object(Stuck)))
        .object::<Stuck>("stuck", |stuck| stuck)
        .function("nameless", &[], |_| Ok(Value::object(7_u8)))
        .quick("echo", &[Kind::Any], |arguments| Ok(arguments[0].clone()))
        .quick("half", &[Kind::Float], |arguments| match arguments[0] {
            Value::Float(number) => Ok(number / 2.0),
            _ => Err(Error::new("the host has not looked")),
        })
        .quick("number", &[Kind::Int], |arguments| {
            Ok(Value::object(Number(arguments[0].int().unwrap_or_default())))
        })
        .object::<Number>("number", |number| {
            number.quick("value", &[], |number, _| Ok(number.0)).quick(
                "plus",
                &[Kind::Object],
                |number, arguments| match &arguments[0] {
                    Value::Object(other) => {
                        let other = other.get::<Number>().ok_or_else(|| Error::new("no number"))?;
                        Ok(Value::object(Number(number.0 + other.0)))
                    }
                    _ => Err(Error::new("the host has not looked")),
                },
            )
        })
}
