//! The configuration, evaluated inside the jail.

use vsmtp_config::Value;
use vsmtp_ipc::edge::master_child::{Evaluate, ToMaster};
use vsmtp_ipc::role::Role;

use crate::stage::Stage;

fn evaluated(script: &str, import: &str) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    std::fs::write(dir.path().join("vsmtp.vsl"), script).unwrap();
    std::fs::write(dir.path().join("conf.d/config.vsl"), import).unwrap();
    let request = Evaluate {
        config_path: dir.path().join("vsmtp.vsl").display().to_string(),
        hostname: "mx.test".into(),
        cores: 2,
        root: String::new(),
    };
    let mut stage = Stage::spawn(Role::FilterOneshot, vsmtp_ipc::encode(&request).unwrap(), dir);
    let answer = stage.hear_master(|said| matches!(said, ToMaster::Evaluated(_)));
    assert!(stage.wait());
    let ToMaster::Evaluated(answer) = answer else { panic!() };
    answer.map(|bytes| Value::from_bytes(&bytes).unwrap())
}

#[test]
fn the_shipped_configuration_is_the_default() {
    let main = include_str!("../../../etc/vsmtp/vsmtp.vsl");
    let tree = evaluated(main, include_str!("../../../etc/vsmtp/conf.d/config.vsl")).unwrap();
    assert_eq!(tree.at("server.name"), Some(&Value::Text("mx.test".into())));
}

#[test]
fn the_development_configuration_listens_on_loopback() {
    let tree = evaluated(include_str!("../../../etc/dev/vsmtp.vsl"), "").unwrap();
    let listen = Value::List(vec![Value::Text("127.0.0.1:2525".into())]);
    assert_eq!(tree.at("server.interfaces.addr"), Some(&listen));
}

#[test]
fn errors_come_one_per_line_with_their_place() {
    let script =
        "fn on_config(config) {\n  config.server.nam = \"x\";\n  config.filter.workers = 0;\n  config\n}";
    let lines = evaluated(script, "").unwrap_err();
    assert!(lines.contains("/vsmtp.vsl:2:3: server.nam: unknown key; did you mean server.name?"), "{lines}");
    assert!(lines.contains("/vsmtp.vsl:3:3: filter.workers: expected "), "{lines}");
    let lines = evaluated("import \"conf.d/config\" as c; fn on_config(config) { c::f(config) }", "fn f(")
        .unwrap_err();
    assert!(lines.contains("/conf.d/config.vsl:1"), "{lines}");
}
