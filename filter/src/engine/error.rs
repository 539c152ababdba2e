//! Errors of scripts, said so that an operator finds the place: file, line, column, what is wrong, what to do.

use std::fmt;

use rhai::{Dynamic, EvalAltResult, ParseError, Position};

use crate::typename;

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Location {
    /// The file, relative to the configuration root.
    pub file: String,
    /// Line, from 1; 0 if unknown.
    pub line: usize,
    /// Column, from 1; 0 if unknown.
    pub column: usize,
}

impl Location {
    /// The place of a Rhai position in `file`.
    pub fn new(file: &str, position: Position) -> Self {
        Location {
            file: file.to_owned(),
            line: position.line().unwrap_or(0),
            column: position.position().unwrap_or(0),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// A script that cannot be loaded or that failed while it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Where.
    pub location: Location,
    /// What is wrong; free of control characters.
    pub message: String,
    /// What would be right, if we know.
    pub hint: Option<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ScriptError {}

impl ScriptError {
    /// An error at a place that is known.
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        ScriptError { location, message: vsmtp_mail::escape_text(&message.into()), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A syntax error of `file`.
    pub fn from_parse(file: &str, error: &ParseError) -> Self {
        let message = error.err_type().to_string();
        let found = Self::at(Location::new(file, error.position()), message);
        match hint_for(&found.message) {
            Some(hint) => found.with_hint(hint),
            None => found,
        }
    }

    /// An error of evaluation; `file` is the script that was called. The innermost place is the one that is named.
    pub fn from_eval(file: &str, error: &EvalAltResult) -> Self {
        match error {
            EvalAltResult::ErrorInModule(module, inner, position) => {
                let inner_file =
                    if module.is_empty() { file.to_owned() } else { super::resolver::file_name(module) };
                let found = Self::from_eval(&inner_file, inner);
                // Rhai reports a file that cannot be read without a place: then the import is the place.
                if found.location.line == 0 && found.location.file != inner_file {
                    return Self { location: Location::new(file, *position), ..found };
                }
                found
            }
            EvalAltResult::ErrorInFunctionCall(_, source, inner, _) => {
                let inner_file =
                    if source.is_empty() { file.to_owned() } else { super::resolver::file_name(source) };
                Self::from_eval(&inner_file, inner)
            }
            EvalAltResult::ErrorParsing(kind, position) => {
                Self::from_parse(file, &ParseError(Box::new(kind.clone()), *position))
            }
            EvalAltResult::ErrorRuntime(value, position)
            | EvalAltResult::ErrorTerminated(value, position) => {
                Self::at(Location::new(file, *position), thrown(value))
            }
            other => {
                let said = without_position(other);
                let message = if names_types(other) { typename::plain(&said) } else { said };
                let location = Location::new(file, other.position());
                let found = Self::at(location, message);
                match hint_for(&found.message) {
                    Some(hint) => found.with_hint(hint),
                    None => found,
                }
            }
        }
    }
}

/// What a script threw: texts of its own as they are, and of a value that says nothing what its type is called.
fn thrown(value: &Dynamic) -> String {
    match value.clone().into_string() {
        Ok(text) => text,
        Err(kind) => {
            Some(value.to_string()).filter(|said| *said != kind).unwrap_or_else(|| typename::of(value))
        }
    }
}

/// True if Rhai names types of values in its message: nearly all else in there may be what a client said.
fn names_types(error: &EvalAltResult) -> bool {
    matches!(
        error,
        EvalAltResult::ErrorMismatchDataType(..)
            | EvalAltResult::ErrorMismatchOutputType(..)
            | EvalAltResult::ErrorFunctionNotFound(..)
            | EvalAltResult::ErrorIndexingType(..)
            | EvalAltResult::ErrorDotExpr(..)
    )
}

/// Rhai appends ` (line L, position P)`; we name the place once, in front.
fn without_position(error: &EvalAltResult) -> String {
    let text = error.to_string();
    text.rfind(" (line ").and_then(|at| text.get(..at)).unwrap_or(&text).to_owned()
}

/// Advice for the mistakes that scripts make most.
fn hint_for(message: &str) -> Option<String> {
    let lower = message.to_ascii_lowercase();
    let hint = if lower == "undefined variable: object" || lower == "undefined variable: service" {
        "a declaration is object NAME TYPE = VALUE, or service NAME KIND = VALUE; words of the language are no names"
    } else if lower.contains("undefined variable") || lower.contains("variable not found") {
        "a function sees its arguments, its own variables and imports; reach a top-level constant by global::NAME"
    } else if lower.contains("module not found") {
        "imports are relative to the configuration directory and leave out the .vsl extension"
    } else if lower.contains("'eval'") || lower.contains("eval") && lower.contains("disabled") {
        "eval is disabled in vSL"
    } else if lower.contains("too many operations") || lower.contains("stack overflow") {
        "every script runs under limits of operations, depth and time"
    } else {
        return None;
    };
    Some(hint.to_owned())
}
