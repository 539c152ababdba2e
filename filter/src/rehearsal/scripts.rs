//! Tests that writers of rules keep beside them: `*.test.vsl`, with `test "name" || { ... }` and clients made by `session`.
//! Each test has a world of its own, and bounded time and operations.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext, Scope};
use vsmtp_ipc::edge::ctl_filter::Tested;
use vsmtp_mail::{HeaderBlock, header_end};

use super::{Rehearsal, Scene};
use crate::api::{self, Surroundings};
use crate::engine::{self, Directive, Limits, Root, ScriptError, Watch};
use crate::inspect::problem;
use crate::object::{self, Fault, Object};
use crate::stage::Stage;
use crate::typename;

/// What names of files with tests end in.
const ENDING: &str = ".test.vsl";
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 8;
/// Deepest value that is compared.
const MAX_VALUE_DEPTH: usize = 16;
/// Most files with tests.
const MAX_FILES: usize = 1_000;
/// Most tests.
const MAX_TESTS: usize = 10_000;
/// Longest run of one test, and of evaluating one file.
const ONE: Duration = Duration::from_secs(5);
/// Longest run of all.
const ALL: Duration = Duration::from_secs(50);

/// What names of our own types have in them.
const OWN_TYPES: &str = concat!(env!("CARGO_CRATE_NAME"), "::");

type Failing<T> = Result<T, Box<EvalAltResult>>;

/// Runs the tests of these files, or of all files below the folder.
///
/// # Errors
/// There are no such files, or the folder cannot be read: text for the operator.
pub fn run(
    scene: &Scene,
    folder: &Path,
    files: &[String],
    host: &Surroundings,
) -> Result<Vec<Tested>, Fault> {
    let root = Root::open(folder).map_err(|error| Fault(error.to_string()))?;
    let files = match files {
        [] => found(root.path())?,
        named => named.iter().map(PathBuf::from).collect(),
    };
    if files.is_empty() {
        return Err(Fault(format!("there is no file *{ENDING} below {}", folder.display())));
    }
    let tests = Arc::new(Mutex::new(Vec::new()));
    let engine = engine(&root, scene, host, &tests);
    let deadline = Instant::now() + ALL;
    let mut results = Vec::new();
    for file in files {
        lock(&tests).clear();
        let evaluated = {
            let _watch = Watch::until(deadline.min(Instant::now() + ONE));
            engine::evaluate(&engine, &root, &file)
        };
        if let Err(error) = evaluated {
            results.push(Tested {
                file: root.display_name(&file),
                name: String::new(),
                failure: Some(problem(&error)),
            });
            continue;
        }
        let tests: Vec<Arc<Directive>> = lock(&tests).drain(..).collect();
        for test in tests {
            let failure = run_one(scene, &engine, &test, deadline).err();
            results.push(Tested {
                file: test.location.file.clone(),
                name: test.name.to_string(),
                failure: failure.as_ref().map(problem),
            });
            if results.len() >= MAX_TESTS {
                return Err(Fault(format!("more than {MAX_TESTS} tests")));
            }
        }
    }
    Ok(results)
}

fn run_one(
    scene: &Scene,
    engine: &Engine,
    test: &Arc<Directive>,
    deadline: Instant,
) -> Result<(), ScriptError> {
    if Instant::now() >= deadline {
        let text = format!("not run: all tests together took longer than {} s", ALL.as_secs());
        return Err(ScriptError::at(test.location.clone(), text));
    }
    scene.begin();
    let _watch = Watch::until(deadline.min(Instant::now() + ONE));
    test.call(engine, &mut Dynamic::default()).map(drop).map_err(|failure| failure.error)
}

/// All files of tests below a folder, sorted. Links are not followed.
fn found(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let (mut files, mut pending) = (Vec::new(), vec![(folder.to_owned(), 0)]);
    while let Some((folder, depth)) = pending.pop() {
        let unreadable =
            |error: std::io::Error| Fault(format!("{}: cannot be listed: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() && depth < MAX_DEPTH {
                pending.push((entry.path(), depth + 1));
            } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(ENDING) {
                files.push(entry.path());
            }
            if files.len() + pending.len() > MAX_FILES {
                return Err(Fault(format!("more than {MAX_FILES} files and folders; name the files")));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn engine(
    root: &Arc<Root>,
    scene: &Scene,
    host: &Surroundings,
    tests: &Arc<Mutex<Vec<Arc<Directive>>>>,
) -> Engine {
    let mut engine = engine::bare(root, &Limits::default());
    root.declare(api::callables(&api::install_for_configuration(&mut engine, host)));
    let tests = Arc::clone(tests);
    engine::register_tests(&mut engine, move |test| lock(&tests).push(test));
    clients(&mut engine, scene);
    commands(&mut engine);
    findings(&mut engine);
    expectations(&mut engine);
    let zone = Arc::clone(&scene.zone);
    engine.register_fn("dns", move |context: NativeCallContext, name: &str, kind: &str, data: Dynamic| {
        zone.add(name, kind, &data.to_string()).map_err(|fault| raise(&context, fault))
    });
    let root = Arc::clone(root);
    engine.register_fn("read", move |context: NativeCallContext, path: &str| -> Failing<ImmutableString> {
        root.read_data(path).map(Into::into).map_err(|text| raise(&context, Fault(text)))
    });
    engine
}

/// A client, as scripts hold it.
type Client = Arc<Mutex<Rehearsal>>;

fn clients(engine: &mut Engine, scene: &Scene) {
    engine.register_type_with_name::<Client>("session");
    let on = scene.clone();
    engine.register_fn("session", move || -> Client { Arc::new(Mutex::new(Rehearsal::new(&on, None))) });
    let on = scene.clone();
    let at = move |context: &NativeCallContext, ip: &str| -> Failing<Client> {
        let parsed: Result<IpAddr, _> = ip.parse();
        let ip = parsed.map_err(|_| raise(context, Fault(format!("'{ip}' is no address"))))?;
        Ok(Arc::new(Mutex::new(Rehearsal::new(&on, Some(ip)))))
    };
    let at_object = at.clone();
    engine.register_fn("session", move |context: NativeCallContext, ip: ImmutableString| at(&context, &ip));
    engine.register_fn("session", move |context: NativeCallContext, ip: Object| {
        at_object(&context, &ip.text())
    });
    engine.register_fn("submission", |client: &mut Client| {
        lock(client).submit();
    });
}

/// What a client says with a word.
type Command = fn(&mut Rehearsal, &str) -> Result<(), Fault>;

/// What a client says; each gives the code of the reply.
fn commands(engine: &mut Engine) {
    engine.register_fn("connect", |context: NativeCallContext, client: &mut Client| {
        say(&context, client, Rehearsal::greet)
    });
    let with_text: [(&str, Command); 5] = [
        ("helo", Rehearsal::helo),
        ("auth", Rehearsal::authenticate),
        ("mail", Rehearsal::mail),
        ("rcpt", Rehearsal::rcpt),
        ("data", |client, text| client.message(text.as_bytes(), Stage::Delivery)),
    ];
    for (name, command) in with_text {
        engine.register_fn(
            name,
            move |context: NativeCallContext, client: &mut Client, text: ImmutableString| {
                say(&context, client, |client| command(client, &text))
            },
        );
        engine.register_fn(name, move |context: NativeCallContext, client: &mut Client, object: Object| {
            say(&context, client, |client| command(client, &object.text()))
        });
    }
}

fn say(
    context: &NativeCallContext,
    client: &mut Client,
    command: impl FnOnce(&mut Rehearsal) -> Result<(), Fault>,
) -> Failing<i64> {
    let mut client = lock(client);
    command(&mut client).and_then(|()| client.code()).map(i64::from).map_err(|fault| raise(context, fault))
}

/// What a client, and who looks over its shoulder, can find out.
fn findings(engine: &mut Engine) {
    engine.register_fn("code", |context: NativeCallContext, client: &mut Client| {
        say(&context, client, |_| Ok(()))
    });
    engine.register_fn("reply", |client: &mut Client| -> ImmutableString {
        lock(client).heard.last().map(|heard| heard.reply.clone()).unwrap_or_default().into()
    });
    engine.register_fn("is_closed", |client: &mut Client| lock(client).is_closed());
    engine.register_fn("sender", |client: &mut Client| -> ImmutableString { lock(client).sender().into() });
    engine.register_fn("recipients", |client: &mut Client| texts(lock(client).recipients()));
    engine.register_fn("next_hop", |client: &mut Client, of: ImmutableString| -> ImmutableString {
        lock(client).next_hop(&of).unwrap_or_default().into()
    });
    engine.register_fn("fate", |client: &mut Client| -> ImmutableString {
        lock(client).kept.first().map(|kept| kept.fate.clone()).unwrap_or_default().into()
    });
    engine.register_fn("messages", |client: &mut Client| {
        i64::try_from(lock(client).kept.len()).unwrap_or(i64::MAX)
    });
    engine.register_fn("text", |client: &mut Client| -> ImmutableString {
        let client = lock(client);
        let text = client.texts.first().map(|text| String::from_utf8_lossy(text).into_owned());
        text.unwrap_or_default().into()
    });
    engine.register_fn("header", |client: &mut Client, name: ImmutableString| -> ImmutableString {
        field(lock(client).texts.first().map_or(&[][..], Vec::as_slice), &name).into()
    });
    engine.register_fn("ran", |client: &mut Client| {
        texts(lock(client).recorder().steps().into_iter().map(|step| step.directive).collect())
    });
    engine.register_fn("verdict", |client: &mut Client, of: ImmutableString| -> ImmutableString {
        let steps = lock(client).recorder().steps();
        let step = steps.into_iter().rev().find(|step| step.directive == of.as_str());
        step.map(|step| step.verdict).unwrap_or_default().into()
    });
    engine.register_fn("log", |client: &mut Client| {
        texts(lock(client).recorder().steps().into_iter().flat_map(|step| step.log).collect())
    });
}

/// The value of the first field of that name, on one line; empty if there is none.
fn field(message: &[u8], name: &str) -> String {
    let block = HeaderBlock::parse(message.get(..header_end(message)).unwrap_or_default());
    let value = block.named(name).next().map(|field| String::from_utf8_lossy(&field.unfolded()).into_owned());
    value.unwrap_or_default()
}

fn texts(list: Vec<String>) -> Array {
    list.into_iter().map(|text| Dynamic::from(ImmutableString::from(text))).collect()
}

fn expectations(engine: &mut Engine) {
    engine.register_fn("expect", |context: NativeCallContext, holds: bool| {
        if holds { Ok(()) } else { Err(raise(&context, Fault::new("it does not hold"))) }
    });
    engine.register_fn("expect", |context: NativeCallContext, found: Dynamic, wanted: Dynamic| {
        let said = |value: &Dynamic| shown(context.engine(), value, 0);
        match same(&found, &wanted, 0) {
            Some(true) => Ok(()),
            Some(false) => {
                Err(raise(&context, Fault(format!("expected {}, found {}", said(&wanted), said(&found)))))
            }
            None => Err(raise(&context, Fault(format!("{} cannot be compared", typename::of(&found))))),
        }
    });
}

/// True if both are the same value of the same type; `None` if nobody can tell, as of functions.
fn same(a: &Dynamic, b: &Dynamic, depth: usize) -> Option<bool> {
    if a.type_id() != b.type_id() {
        return Some(false);
    }
    if depth > MAX_VALUE_DEPTH {
        return None;
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Array>(), b.read_lock::<Array>()) {
        let mut pairs = a.iter().zip(b.iter());
        return pairs.try_fold(a.len() == b.len(), |all, (a, b)| Some(all && same(a, b, depth + 1)?));
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Map>(), b.read_lock::<Map>()) {
        let mut values = a.iter();
        return values.try_fold(a.len() == b.len(), |all, (name, a)| {
            let of_both = b.get(name).map_or(Some(false), |b| same(a, b, depth + 1));
            Some(all && of_both?)
        });
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Object>(), b.read_lock::<Object>()) {
        return Some(object::equals(&a, &b));
    }
    let is_plain = a.is_unit()
        || a.is_bool()
        || a.is_int()
        || a.is_float()
        || a.is_char()
        || a.is_string()
        || a.is_blob();
    is_plain.then(|| format!("{a:?}") == format!("{b:?}"))
}

/// A value as a writer of rules wants to see it: texts as they are written, values of our own types as they print.
pub(super) fn shown(engine: &Engine, value: &Dynamic, depth: usize) -> String {
    if depth > MAX_VALUE_DEPTH {
        return "...".to_owned();
    }
    let inner = |value: &Dynamic| shown(engine, value, depth + 1);
    if let Some(items) = value.read_lock::<Array>() {
        let items: Vec<String> = items.iter().map(inner).collect();
        return format!("[{}]", items.join(", "));
    }
    if let Some(map) = value.read_lock::<Map>() {
        let entries: Vec<String> =
            map.iter().map(|(key, value)| format!("{key:?}: {}", inner(value))).collect();
        return format!("#{{{}}}", entries.join(", "));
    }
    if let Some(object) = value.read_lock::<Object>() {
        return match &*object {
            // As it prints, it ends its last line.
            Object::Code(reply) => reply.to_string(),
            other => other.text().to_string(),
        };
    }
    if value.type_name().contains(OWN_TYPES) {
        return printed(engine, value).unwrap_or_else(|| engine.map_type_name(value.type_name()).to_owned());
    }
    format!("{value:?}")
}

/// A value as it prints.
fn printed(engine: &Engine, value: &Dynamic) -> Option<String> {
    let mut scope = Scope::new();
    scope.push_dynamic("value", value.clone());
    engine
        .eval_expression_with_scope::<ImmutableString>(&mut scope, "value.to_string()")
        .ok()
        .map(String::from)
}

fn raise(context: &NativeCallContext, fault: Fault) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(fault.0.into(), context.call_position()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
