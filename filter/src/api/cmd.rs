//! `cmd::`: programs that rules run. The filter starts none: the runner does, and only those that are declared.

use std::sync::Arc;

use rhai::{Array, Blob, Dynamic, ImmutableString, Map};
use vsmtp_config::{Command, are_arguments};
use vsmtp_ipc::edge::filter_runner::Ended;

use super::general::Surroundings;
use super::handle::MessageHandle;
use super::message;
use super::registry::{Registry, name};
use crate::engine::service_constructor;
use crate::object::{Fault, Object};
use crate::oneshot::from_script;
use crate::runner::{Given, Input, NotRun, Runner};
use crate::stage::Stage;
use crate::transaction::Shared;

/// A command, as scripts hold it.
#[derive(Debug, Clone)]
struct Service {
    command: Arc<Command>,
    runner: Arc<dyn Runner>,
}

const RUN_ERRORS: &str = "if the program is not declared or cannot be started, if the rule's own time is over before it \
                          has ended, if an argument is neither string nor object, or if the input is larger than 64 MiB";

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    registry.engine.register_type_with_name::<Service>("cmd");
    let runner = Arc::clone(&surroundings.runner);
    let build = move |map: Map| {
        let command = Command::read(&from_script(&Dynamic::from(map)));
        let command = command.map_err(|found| Fault(format!("a command cannot have {found}")))?;
        runner.declare(&command);
        Ok(Service { command: Arc::new(command), runner: Arc::clone(&runner) })
    };
    registry.constructor(&service_constructor("cmd"), build.clone());
    let constructor = name("cmd", "build", &["cmd"])
        .doc("(map) -> cmd", "A program that rules may run: `command` is its absolute path, or a name that is looked for in `/usr/local/bin`, `/usr/bin` and the like; `args` its arguments, a list; `timeout` the time after which it is ended (`\"20s\"` by default, at most 5 minutes): less than `filter.timeout`, 30 seconds by default, or the rule is stopped first and never sees `timed_out`; `fixed: true` means that rules cannot give it other arguments. No shell is involved: an argument is an argument, whatever is in it. It runs as the user `vsmtp-runner`, which `user` and `group` may name. Make it where the script is loaded, outside rules and functions: that declares it, and what is not declared does not run. `service NAME cmd = #{ ... }` is the same.")
        .errors("if the map is not that of a command")
        .example("const scan = cmd::build(#{ command: \"/usr/bin/scan\", args: [\"-\"], timeout: \"10s\" }); `${scan}` == \"cmd:/usr/bin/scan\"");
    registry.free1(constructor, build);
    runs(registry);
    with_input(registry);
    for printer in ["to_string", "to_debug"] {
        registry
            .engine
            .register_fn(printer, |service: &mut Service| format!("cmd:{}", service.command.program));
    }
}

fn runs(registry: &mut Registry) {
    let run = name("cmd", "run", &[])
        .doc("() -> map", "Runs the command and waits for its end. Other sessions go on; but places for commands are few, and sessions that want to run one while all are taken wait too, whoever has taken them; where too many wait, or the host lacks what one more needs (room on the disk, a process), their clients hear 451 at once, even if `filter.on_error` is `deny`. The map has `has_code` and `code` (the exit code, `()` if a signal has ended it), `has_signal` and `signal`, `timed_out`, `stdout` and `stderr` (the first 64 KiB of each, as text), `truncated` if there was more. A command that is out of time ends by signal 9, with all that it has started; so does one that prints more than 16 MiB, and what a command leaves running when it ends. It may write in a folder of its own only, which `TMPDIR` and `HOME` name and which is removed when it ends; it can read neither the folders nor the input of other commands, and in `/tmp` and `/var/tmp` nothing but its program with what is beside that; what comes to be in `/` or `/var` itself is closed to it until the next reload. A file of it may have 1 GiB, a process 4 GiB.")
        .errors(RUN_ERRORS)
        .example("let scan = cmd::build(#{ command: \"/usr/bin/scan\" }); let end = scan.run(); end.has_code && end.code == 0 && end.stdout == \"clean\\n\"");
    registry.method_waits0(run, Stage::Connect, |shared, service: &Service| {
        service.run(shared, Given::default())
    });
    let other = name("cmd", "run", &[])
        .doc("(args: array) -> map", "The same with these arguments in place of those declared, strings or objects. An argument that a client may choose can look like an option: put `--` before it where the program knows that.")
        .errors(RUN_ERRORS)
        .example("cmd::build(#{ command: \"/usr/bin/scan\" }).run([\"--fail\", ctx::client_ip()]).code == 2");
    registry.method_waits1(other, Stage::Connect, |shared, service: &Service, arguments: Array| {
        service.run(shared, Given { arguments: Some(self::arguments(arguments)?), input: None })
    });
    let old = name("cmd", "cmd_run", &[])
        .doc("() -> map", "The same as `run()` (vSL 1.x).")
        .errors(RUN_ERRORS)
        .example("cmd::build(#{ command: \"/usr/bin/scan\" }).cmd_run().has_code");
    registry.method_waits0(old, Stage::Connect, |shared, service: &Service| {
        service.run(shared, Given::default())
    });
    let old = name("cmd", "cmd_run", &[])
        .doc("(args: array) -> map", "The same as `run(args)` (vSL 1.x).")
        .errors(RUN_ERRORS)
        .example("cmd::build(#{ command: \"/usr/bin/scan\" }).cmd_run([\"--fail\"]).code == 2");
    registry.method_waits1(old, Stage::Connect, |shared, service: &Service, arguments: Array| {
        service.run(shared, Given { arguments: Some(self::arguments(arguments)?), input: None })
    });
}

fn with_input(registry: &mut Registry) {
    let text = name("cmd", "run_with", &[])
        .doc(
            "(input: string) -> map",
            "Runs the command with this text as its standard input; a blob is given byte for byte.",
        )
        .errors(RUN_ERRORS)
        .example("cmd::build(#{ command: \"/usr/bin/scan\" }).run_with(\"a virus\").code == 1");
    registry.method_waits1(text, Stage::Connect, |shared, service: &Service, input: ImmutableString| {
        service.run(shared, Given { arguments: None, input: Some(Input::Bytes(input.as_bytes().to_vec())) })
    });
    registry.method_waits1(text, Stage::Connect, |shared, service: &Service, input: Blob| {
        service.run(shared, Given { arguments: None, input: Some(Input::Bytes(input)) })
    });
    let whole = name("cmd", "run_with", &[])
        .doc("(input: message) -> map", "Runs the command with the whole message, `msg()`, as its standard input: header as it is now, body byte for byte. More than 64 MiB are no input: where `server.message_size_limit` allows such messages, look at `msg::size()` before.")
        .errors(RUN_ERRORS)
        .example("cmd::build(#{ command: \"/usr/bin/scan\" }).run_with(msg()).code == 0 // from preq");
    registry.method_waits1(whole, Stage::Preq, |shared, service: &Service, _: MessageHandle| {
        let input = message::input(&shared.lock());
        service.run(shared, Given { arguments: None, input: Some(input) })
    });
}

impl Service {
    fn run(&self, shared: &Shared, given: Given) -> Result<Map, Fault> {
        if given.arguments.is_some() && self.command.fixed {
            return Err(Fault(format!("the arguments of the command {} are fixed", self.command.program)));
        }
        self.runner.run(&self.command, given).map(of_end).map_err(|not_run| match not_run {
            NotRun::Busy(fault) => {
                shared.lock().was_busy = true;
                fault
            }
            NotRun::Failed(fault) => fault,
        })
    }
}

fn arguments(arguments: Array) -> Result<Vec<String>, Fault> {
    let text = |value: &Dynamic| {
        let object = value.read_lock::<Object>().map(|object| object.text().to_string());
        let text = || value.read_lock::<ImmutableString>().map(|text| text.to_string());
        object
            .or_else(text)
            .ok_or_else(|| Fault::new("all arguments of a command must be strings or objects"))
    };
    let arguments: Vec<String> = arguments.iter().map(text).collect::<Result<_, _>>()?;
    if are_arguments(&arguments) {
        Ok(arguments)
    } else {
        Err(Fault::new("the arguments of a command are too many or too long, or one has a NUL"))
    }
}

/// The end of a command, as scripts see it.
fn of_end(ended: Ended) -> Map {
    let number = |value: Option<i32>| value.map_or(Dynamic::UNIT, |value| i64::from(value).into());
    let text = |bytes: &[u8]| Dynamic::from(String::from_utf8_lossy(bytes).into_owned());
    [
        ("has_code", ended.code.is_some().into()),
        ("code", number(ended.code)),
        ("has_signal", ended.signal.is_some().into()),
        ("signal", number(ended.signal)),
        ("timed_out", ended.timed_out.into()),
        ("truncated", ended.truncated.into()),
        ("stdout", text(&ended.stdout)),
        ("stderr", text(&ended.stderr)),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value))
    .collect()
}
