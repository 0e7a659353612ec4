//! The layers before they are checked: each source becomes a tree of values that knows its origin.

use std::collections::BTreeMap;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::{Problem, Setting, Sources, names};

/// All sources, weakest first.
pub(super) struct Layers {
    layers: Vec<Layer>,
}

struct Layer {
    origin: String,
    tree: Dict,
}

impl Layers {
    /// Reads every source; what cannot be read is told and left out.
    pub(super) fn read(sources: &Sources) -> (Self, Vec<Problem>) {
        let mut layers = Self { layers: Vec::new() };
        let mut problems = Vec::new();
        if let Err(problem) = layers.add_toml("the defaults".to_owned(), sources.defaults) {
            problems.push(problem);
        }
        if let Some(path) = &sources.file {
            let origin = path.display().to_string();
            let read = std::fs::read_to_string(path).map_err(|error| Problem {
                key: String::new(),
                origin: origin.clone(),
                message: format!("the file cannot be read: {error}"),
                remedy: "name an existing file that may be read".to_owned(),
            });
            if let Err(problem) = read.and_then(|text| layers.add_toml(origin, &text)) {
                problems.push(problem);
            }
        }
        for (key, origin, text) in assignments(sources) {
            problems.extend(layers.add_text(&key, origin, &text).err());
        }
        (layers, problems)
    }

    fn add_toml(&mut self, origin: String, text: &str) -> Result<(), Problem> {
        let mut profiles = Toml::string(text).data().map_err(|error| Problem {
            key: String::new(),
            origin: origin.clone(),
            message: format!("this is not TOML: {}", error.to_string().trim().replace('\n', " ")),
            remedy: "correct the line".to_owned(),
        })?;
        let tree = profiles.remove(&Profile::Default).unwrap_or_default();
        self.layers.push(Layer { origin, tree });
        Ok(())
    }

    fn add_text(&mut self, key: &str, origin: String, text: &str) -> Result<(), Problem> {
        let default = self.default(key);
        if let Some(Value::Dict(_, group)) = &default {
            let inside = group.keys().next().map_or_else(|| format!("{key}.<name>"), |name| format!("{key}.{name}"));
            return Err(Problem {
                key: key.to_owned(),
                origin,
                message: "this is a group of settings and takes no value".to_owned(),
                remedy: format!("set one of its keys, such as {inside}"),
            });
        }
        let value = shaped(text, default.as_ref());
        let tree = nest(key, value);
        self.layers.push(Layer { origin, tree });
        Ok(())
    }

    /// What the shipped defaults say.
    pub(super) fn default(&self, key: &str) -> Option<Value> {
        self.layers.first().and_then(|layer| find(&layer.tree, key)).cloned()
    }

    /// The origin of the strongest layer that sets `key` or something below it.
    pub(super) fn origin(&self, key: &str) -> Option<&str> {
        self.layers.iter().rev().find(|layer| find(&layer.tree, key).is_some()).map(|layer| layer.origin.as_str())
    }

    /// Takes `key` out of every layer but the defaults. False if it was nowhere.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let mut removed = false;
        for layer in self.layers.iter_mut().skip(1) {
            removed |= remove(&mut layer.tree, key);
        }
        removed
    }

    pub(super) fn figment(&self) -> Figment {
        self.layers.iter().fold(Figment::new(), |figment, layer| figment.merge(layer))
    }

    /// Every key with its strongest value.
    pub(super) fn settings(&self) -> BTreeMap<String, Setting> {
        let mut settings = BTreeMap::new();
        for layer in &self.layers {
            show(&layer.tree, "", &layer.origin, &mut settings);
        }
        settings
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.tree.clone()))
    }
}

/// Key, origin and text of what was given without a type: customary names, then ours, then the command line.
fn assignments(sources: &Sources) -> Vec<(String, String, String)> {
    let variable = |name: &str| format!("environment variable {name}");
    let aliases = sources.aliases.iter().filter_map(|(name, key)| {
        let value = sources.env.get(name)?;
        Some((key.clone(), variable(name), value.clone()))
    });
    let own =
        sources.env.iter().filter_map(|(name, value)| Some((names::key_of(name)?, variable(name), value.clone())));
    let given = aliases.chain(own).filter(|(_, _, value)| !value.is_empty());
    let flags =
        sources.overrides.iter().map(|(key, value)| (key.clone(), "the command line".to_owned(), value.clone()));
    given.chain(flags).collect()
}

/// Text in the shape its default has; a list is separated by commas. Numbers that have no default are read later, where
/// one is wanted, so that a secret of digits stays text.
fn shaped(text: &str, default: Option<&Value>) -> Value {
    let bracketed = text.starts_with('[') && text.ends_with(']');
    match default {
        Some(Value::Array(..)) | None if bracketed => text.parse().unwrap_or_else(|_| text.into()),
        Some(Value::Array(..)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(Value::from).collect::<Vec<_>>().into()
        }
        Some(Value::Num(..)) => match text.parse::<Value>() {
            Ok(number @ Value::Num(..)) => number,
            Ok(_) | Err(_) => text.into(),
        },
        Some(Value::Bool(..)) => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        Some(Value::String(..) | Value::Char(..) | Value::Empty(..) | Value::Dict(..)) | None => text.into(),
    }
}

fn nest(key: &str, value: Value) -> Dict {
    match key.split_once('.') {
        Some((group, rest)) => Dict::from([(group.to_owned(), nest(rest, value).into())]),
        None => Dict::from([(key.to_owned(), value)]),
    }
}

fn find<'a>(tree: &'a Dict, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((group, rest)) => match tree.get(group)? {
            Value::Dict(_, tree) => find(tree, rest),
            _ => None,
        },
        None => tree.get(key),
    }
}

fn remove(tree: &mut Dict, key: &str) -> bool {
    match key.split_once('.') {
        Some((group, rest)) => match tree.get_mut(group) {
            Some(Value::Dict(_, tree)) => remove(tree, rest),
            _ => false,
        },
        None => tree.remove(key).is_some(),
    }
}

fn show(tree: &Dict, prefix: &str, origin: &str, settings: &mut BTreeMap<String, Setting>) {
    for (name, value) in tree {
        let key = format!("{prefix}{name}");
        if let Value::Dict(_, tree) = value {
            show(tree, &format!("{key}."), origin, settings);
            continue;
        }
        let value = if names::is_secret(&key) { "\"***\"".to_owned() } else { without_password(&print(value)) };
        settings.insert(key, Setting { value, origin: origin.to_owned() });
    }
}

/// A value as TOML shows it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, text) => format!("{:?}", text.to_string()),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), _, _) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (_, _, Some(number)) => number.to_string(),
            (None, None, None) => String::new(),
        },
        Value::Empty(..) => String::new(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(", ")),
        Value::Dict(_, tree) => {
            let items = tree.iter().map(|(name, value)| format!("{name} = {}", print(value)));
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Hides the password of a URL such as `postgres://user:password@host/db`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '"']).next().unwrap_or(rest);
    let Some((credentials, _)) = authority.rsplit_once('@') else { return text.to_owned() };
    let Some((user, _)) = credentials.split_once(':') else { return text.to_owned() };
    format!("{scheme}://{user}:***{}", &rest[credentials.len()..])
}
