//! Loads fixtures. The first line of each says where its shape is known from; none was recorded from a live provider.

use std::fs;
use std::path::{Path, PathBuf};

use manifold_ai_router::provider::{self, Provider};

const ORIGINS: &[&str] = &["sdk", "aimock", "documented"];

/// One fixture.
pub struct Fixture {
    /// Such as `groq`.
    pub provider: String,
    /// Such as `tools`.
    pub name: String,
    /// `json`, `sse` or `ndjson`.
    pub form: String,
    /// Without the first line.
    pub body: Vec<u8>,
}

impl Fixture {
    pub fn codec(&self) -> &'static dyn Provider {
        codec(&self.provider)
    }

    pub fn path(&self) -> String {
        format!("{}/{}.{}", self.provider, self.name, self.form)
    }

    pub fn is_stream(&self) -> bool {
        self.form != "json"
    }
}

pub fn codec(id: &str) -> &'static dyn Provider {
    provider::builtin(id).unwrap_or_else(provider::generic)
}

/// Every fixture, in the order of their paths.
pub fn all() -> Vec<Fixture> {
    let mut files = Vec::new();
    for provider in children(&root()) {
        files.extend(children(&provider).iter().map(|path| load(path)));
    }
    assert!(files.len() > 150, "the fixtures are there");
    files
}

/// Every stream that is a whole answer.
pub fn streams() -> Vec<Fixture> {
    all().into_iter().filter(|fixture| fixture.is_stream() && !fixture.name.starts_with("fail_")).collect()
}

/// One fixture by its path.
pub fn one(path: &str) -> Fixture {
    load(&root().join(path))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn load(path: &Path) -> Fixture {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let origin = std::str::from_utf8(&bytes[..end]).unwrap().strip_prefix("origin: ").unwrap_or_default();
    assert!(ORIGINS.contains(&origin), "{} does not say its origin", path.display());
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap().to_str().unwrap().to_owned();
    Fixture {
        provider: text(path.parent().unwrap().file_name()),
        name: text(path.file_stem()),
        form: text(path.extension()),
        body: bytes[end + 1..].to_vec(),
    }
}
