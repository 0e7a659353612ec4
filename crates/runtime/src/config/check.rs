//! The layers against the type they have to become. A problem is noted, its key taken out, and the rest checked again,
//! so that all problems are told at once.

use figment::error::{Actual, Kind};
use serde::de::DeserializeOwned;

use super::layer::{Layers, print};
use super::{Problem, names};

const MAX_PROBLEMS: usize = 50;
const MAX_NAMES: usize = 12;

/// The checked value, or what is wrong.
pub(super) fn extract<T: DeserializeOwned>(mut layers: Layers) -> (Option<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    while problems.len() < MAX_PROBLEMS {
        let error = match layers.figment().extract_lossy::<T>() {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        let key = key_of(&error);
        problems.push(explain(&error, &key, &layers));
        if !take_out(&mut layers, &key) {
            break;
        }
    }
    (None, problems)
}

/// Takes out the key, or the group that was given as a whole, such as a list with a wrong item.
fn take_out(layers: &mut Layers, key: &str) -> bool {
    let mut key = key;
    loop {
        if layers.remove(key) {
            return true;
        }
        match key.rsplit_once('.') {
            Some((group, _)) => key = group,
            None => return false,
        }
    }
}

/// The key that is wrong: for a missing one the error tells its group only.
fn key_of(error: &figment::Error) -> String {
    let mut path = error.path.clone();
    if let Kind::MissingField(name) = &error.kind {
        path.push(name.to_string());
    }
    path.join(".")
}

fn explain(error: &figment::Error, key: &str, layers: &Layers) -> Problem {
    let origin = layers.origin(key).unwrap_or("nowhere").to_owned();
    let default = || match layers.default(key) {
        Some(default) if !names::is_secret(key) => format!("the default is {}", print(&default)),
        _ => "correct it or take it out".to_owned(),
    };
    let (message, remedy) = match &error.kind {
        Kind::UnknownField(name, known) => ("there is no such setting".to_owned(), neighbours(key, name, known)),
        Kind::MissingField(_) => {
            ("this has to be set".to_owned(), format!("set it in the file or as {}", names::variable_of(key)))
        }
        Kind::InvalidType(actual, wanted) => (format!("this is {} instead of {wanted}", class(actual)), default()),
        Kind::UnknownVariant(_, known) => (format!("this has to be one of {}", known.join(", ")), default()),
        Kind::InvalidValue(_, wanted) => (format!("this has to be {wanted}"), default()),
        Kind::InvalidLength(_, wanted) => (format!("this has to have {wanted}"), default()),
        Kind::Message(_) if names::is_secret(key) => ("this cannot be used".to_owned(), default()),
        Kind::Message(text) => (text.clone(), default()),
        Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => (error.kind.to_string(), default()),
    };
    Problem { key: key.to_owned(), origin, message, remedy }
}

fn neighbours(key: &str, name: &str, known: &[&str]) -> String {
    let group = key.strip_suffix(name).unwrap_or_default();
    if let Some(meant) = names::nearest(name, known.iter().copied()) {
        return format!("did you mean {group}{meant}?");
    }
    let mut names: Vec<String> = known.iter().take(MAX_NAMES).map(|known| format!("{group}{known}")).collect();
    if known.len() > MAX_NAMES {
        names.push("…".to_owned());
    }
    format!("known here: {}", names.join(", "))
}

/// The kind of a value without the value, which may be a secret.
fn class(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a group of settings",
        _ => "something else",
    }
}
