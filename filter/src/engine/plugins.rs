//! What imports of plugins mean. A native plugin is a module of its functions. Those of vSMTP 2.x are part of the filter: an
//! import of one by its name is a module with the constructor that the plugin had.

use std::collections::HashMap;

use rhai::{Module, Shared};
use vsmtp_daemon::Record;

/// Where scripts import them from.
const FOLDER: &str = "plugins/";
/// How their files begin, and how a version follows the name in files of this form.
const FORMS: [(&str, bool); 3] =
    [("libvsmtp_plugin_", false), ("vsmtp_plugin_", false), ("libvsmtp-plugin-", true)];

/// Those that there are, each with its module as a script.
const PLUGINS: [(&str, &str); 5] = [
    ("csv", "fn csv(of) { service made db:csv = of; made } fn build(of) { csv(of) }"),
    ("mysql", "fn connect(of) { service made db:mysql = of; made } fn mysql(of) { connect(of) }"),
    ("redis", "fn connect(of) { service made db:redis = of; made }"),
    ("memcached", "fn connect(of) { service made db:memcached = of; made }"),
    ("ldap", "fn connect(of) { service made db:ldap = of; made }"),
];

/// The native plugins that there are, by the names of their files.
#[derive(Debug, Default)]
pub struct Natives {
    /// The module of each, or why there is none.
    pub modules: HashMap<String, Result<Shared<Module>, Absent>>,
    /// The functions of each, with the numbers of their arguments.
    pub functions: HashMap<String, Vec<(String, usize)>>,
    /// What is wrong with the folder as a whole.
    pub fault: Option<String>,
}

impl Natives {
    /// The functions of the one that an import path means.
    pub(super) fn functions_of(&self, import: &str) -> Option<&[(String, usize)]> {
        self.functions.get(name_of(import)?).map(Vec::as_slice)
    }
}

/// The name of the file that an import path means, if it is one of the folder of plugins.
fn name_of(import: &str) -> Option<&str> {
    let file = import.strip_prefix(FOLDER)?;
    Some(file.strip_suffix(".so").unwrap_or(file))
}

/// Why a file is no plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// What is wrong, and what to do.
    pub why: String,
    /// It is a library of another kind, such as those of vSMTP 2.x.
    pub is_foreign: bool,
}

/// What an import of a plugin means.
#[derive(Debug)]
pub(super) enum Meaning {
    /// A native one.
    Native(Shared<Module>),
    /// One that is part of the filter: the script of its module.
    BuiltIn(&'static str),
}

/// What an import path means, if it is that of a plugin: first the file of that name, then a plugin of 2.x.
pub(super) fn meaning(import: &str, natives: Option<&Natives>) -> Option<Result<Meaning, String>> {
    let name = name_of(import)?;
    let built_in = find(import);
    let Some(native) = natives.and_then(|natives| natives.modules.get(name)) else {
        let missing = || {
            let fault = natives.and_then(|natives| natives.fault.as_ref());
            let why = fault.map_or_else(String::new, |fault| format!("; the folder {FOLDER} {fault}"));
            format!(
                "there is no plugin '{name}': neither {FOLDER}{name}.so nor {FOLDER}{name}.vsl is there{why}"
            )
        };
        return Some(built_in.unwrap_or_else(|| Err(missing())).map(Meaning::BuiltIn));
    };
    Some(match (native, built_in) {
        (Ok(module), _) => Ok(Meaning::Native(Shared::clone(module))),
        (Err(absent), Some(Ok(script))) if absent.is_foreign => {
            Record::at(log::Level::Warn, "plugin-ignored")
                .field("import", import)
                .field("error", &absent.why)
                .field("instead", "the built-in module")
                .emit();
            Ok(Meaning::BuiltIn(script))
        }
        (Err(absent), _) => Err(format!("'{import}' cannot be imported: {}", absent.why)),
    })
}

/// What an import path means, if it is that of a plugin of 2.x: the script of its module, or what is to be said of one that is not
/// there.
pub(super) fn find(import: &str) -> Option<Result<&'static str, String>> {
    let file = import.strip_prefix(FOLDER)?;
    let file = file.strip_suffix(".so").unwrap_or(file);
    let (rest, has_version) =
        FORMS.into_iter().find_map(|(form, has_version)| Some((file.strip_prefix(form)?, has_version)))?;
    let name = if has_version { rest.split_once('-').map_or(rest, |(name, _)| name) } else { rest };
    let found = PLUGINS.iter().find(|(plugin, _)| *plugin == name).map(|(_, script)| *script);
    let known = PLUGINS.map(|(plugin, _)| plugin).join(", ");
    Some(found.ok_or_else(|| format!("there is no plugin '{name}', only {known}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_before_a_name_of_2x_and_one_of_another_kind_does_not() {
        let absent = |is_foreign| Err(Absent { why: "is none".to_owned(), is_foreign });
        let name = "libvsmtp_plugin_mysql";
        let import = format!("plugins/{name}");
        let said = |native: Option<_>, import: &str| {
            let modules = native.map(|native| (name.to_owned(), native)).into_iter().collect();
            let fault = Some("cannot be read".to_owned());
            meaning(import, Some(&Natives { modules, fault, ..Natives::default() })).unwrap()
        };
        let native = || Some(Ok(Shared::new(Module::new())));
        assert!(matches!(said(native(), &import), Ok(Meaning::Native(_))));
        assert!(matches!(said(native(), &format!("{import}.so")), Ok(Meaning::Native(_))));
        assert!(matches!(said(None, &import), Ok(Meaning::BuiltIn(_))));
        assert!(matches!(said(Some(absent(true)), &import), Ok(Meaning::BuiltIn(_))));
        assert!(said(Some(absent(false)), &import).unwrap_err().contains("is none"));
        let none = said(None, "plugins/other.so").unwrap_err();
        assert!(none.contains("neither plugins/other.so nor") && none.contains("cannot be read"), "{none}");
        assert!(meaning("services/other", None).is_none());
    }

    #[test]
    fn plugins_have_the_names_of_upstream() {
        for import in [
            "plugins/libvsmtp_plugin_mysql",
            "plugins/vsmtp_plugin_mysql",
            "plugins/libvsmtp-plugin-mysql",
            "plugins/libvsmtp-plugin-mysql-2.2.1",
            "plugins/libvsmtp_plugin_mysql.so",
        ] {
            assert!(find(import).unwrap().unwrap().contains("db:mysql"), "{import}");
        }
        assert!(find("plugins/libvsmtp_plugin_csv").unwrap().unwrap().contains("db:csv"));
        assert!(find("plugins/libvsmtp_plugin_mongodb").unwrap().unwrap_err().contains("'mongodb'"));
        for import in ["libvsmtp_plugin_mysql", "plugins/mysql", "services/db"] {
            assert!(find(import).is_none(), "{import}");
        }
    }
}
