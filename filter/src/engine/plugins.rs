//! Plugins of vSMTP 2.x, by the names by which scripts import them. Ours are part of the filter: an import of one is a module
//! with the constructor that the plugin had.

/// Where scripts import them from.
const FOLDER: &str = "plugins/";
/// How their files begin, and how a version follows the name in files of this form.
const FORMS: [(&str, bool); 3] =
    [("libvsmtp_plugin_", false), ("vsmtp_plugin_", false), ("libvsmtp-plugin-", true)];

/// Those that there are, each with its module as a script.
const PLUGINS: [(&str, &str); 2] = [
    ("csv", "fn csv(of) { service made db:csv = of; made } fn build(of) { csv(of) }"),
    ("mysql", "fn connect(of) { service made db:mysql = of; made } fn mysql(of) { connect(of) }"),
];

/// What an import path means, if it is that of a plugin: the script of its module, or what is to be said of one that is not
/// there.
pub(super) fn find(import: &str) -> Option<Result<&'static str, String>> {
    let file = import.strip_prefix(FOLDER)?;
    let file = file.strip_suffix(".so").unwrap_or(file);
    let (rest, has_version) =
        FORMS.into_iter().find_map(|(form, has_version)| Some((file.strip_prefix(form)?, has_version)))?;
    let name = if has_version { rest.split_once('-').map_or(rest, |(name, _)| name) } else { rest };
    let found = PLUGINS.iter().find(|(plugin, _)| *plugin == name).map(|(_, script)| *script);
    let known = PLUGINS.map(|(plugin, _)| plugin).join(" and ");
    Some(found.ok_or_else(|| format!("there is no plugin '{name}', only {known}")))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(find("plugins/libvsmtp_plugin_ldap").unwrap().unwrap_err().contains("'ldap'"));
        for import in ["libvsmtp_plugin_mysql", "plugins/mysql", "services/db"] {
            assert!(find(import).is_none(), "{import}");
        }
    }
}
