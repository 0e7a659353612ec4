//! In whose words a request is answered, told from its path alone, so that routing errors have the right shape too.

/// Whose shapes a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Our own resources.
    Native,
    /// OpenAI's.
    OpenAi,
}

/// What OpenAI's clients may call below `/v1/`, whether it exists here or not.
const OPENAI: [&str; 10] = [
    "chat",
    "completions",
    "embeddings",
    "models",
    "moderations",
    "images",
    "audio",
    "files",
    "fine_tuning",
    "batches",
];

impl Dialect {
    /// Dialect of a path that begins with `/v1/` or anything else.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/openai/") {
            return Self::OpenAi;
        }
        let Some(rest) = path.strip_prefix("/v1/") else { return Self::Native };
        let first = rest.split('/').next().unwrap_or_default();
        if OPENAI.contains(&first) { Self::OpenAi } else { Self::Native }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_the_path_decides() {
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/chat/unknown", Dialect::OpenAi),
            ("/openai/v1/whatever", Dialect::OpenAi),
            ("/v1/keys", Dialect::Native),
            ("/v1/chats", Dialect::Native),
            ("/healthz", Dialect::Native),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
