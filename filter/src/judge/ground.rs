//! What rules stand on before they are loaded: the engine with all functions, and where the scripts are. Nothing is evaluated
//! here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::Engine;
use vsmtp_config::FilterSlice;

use crate::api::{self, Function, Surroundings};
use crate::engine::{self, Limits, Root, ScriptError};
use crate::presence;
use crate::triage::DOMAIN_DIR;

/// What the root script of vSL 1.x is called.
const MAIN: &str = "main.vsl";
/// Where it is, beside the configuration file.
const MAIN_PLACES: [&str; 2] = ["rules/main.vsl", MAIN];

/// What rules are loaded with.
#[derive(Debug)]
pub(crate) struct Ground {
    /// With all functions.
    pub engine: Engine,
    /// The folder of the configuration.
    pub root: Arc<Root>,
    /// All functions.
    pub table: Vec<Function>,
    /// The root script, if there is one.
    pub path: Option<PathBuf>,
    /// The folder of the domains' folders, if there is one.
    pub folder: Option<PathBuf>,
    /// What scripts may ask about, with what the configuration says.
    pub surroundings: Surroundings,
}

impl Ground {
    /// Looks what is there.
    ///
    /// # Errors
    /// A file or folder cannot be looked at.
    pub fn of(slice: &FilterSlice, surroundings: &Surroundings) -> Result<Self, ScriptError> {
        let limits = Limits {
            operations: slice.max_operations,
            string_bytes: usize::try_from(slice.max_value_size).unwrap_or(usize::MAX),
            wall_clock: slice.timeout,
            ..Limits::default()
        };
        let path = root_script(slice)?;
        let present = presence::is_there(&path)?;
        let folder = match &slice.domain_dir {
            Some(named) => Some(PathBuf::from(named)),
            None => {
                let usual = Path::new(&slice.config_dir).join(DOMAIN_DIR);
                presence::is_folder(&usual)?.then_some(usual)
            }
        };
        let is_needed = present || slice.filter_path_required || folder.is_some();
        let root = if is_needed {
            // A main file of vSL 1.x imports from beside itself.
            let first = path.parent().filter(|_| path.file_name().is_some_and(|name| name == MAIN));
            Root::open_with(Path::new(&slice.config_dir), first)?
        } else {
            Root::none()
        };
        let surroundings = surroundings.with(slice);
        let mut engine = engine::bare(&root, &limits);
        let (table, modules) = api::install_all(&mut engine, &surroundings);
        root.declare(api::callables(&table));
        root.give(modules);
        root.give_plugins(api::install_plugins(&mut engine, &surroundings.plugins));
        let path = (present || slice.filter_path_required).then_some(path);
        Ok(Ground { engine, root, table, path, folder, surroundings })
    }
}

/// The root script: the one that is named or usual, or where vSL 1.x has it.
fn root_script(slice: &FilterSlice) -> Result<PathBuf, ScriptError> {
    let usual = PathBuf::from(&slice.filter_path);
    if slice.filter_path_required || presence::is_there(&usual)? {
        return Ok(usual);
    }
    for place in MAIN_PLACES {
        let old = Path::new(&slice.config_dir).join(place);
        if presence::is_there(&old)? {
            return Ok(old);
        }
    }
    Ok(usual)
}
