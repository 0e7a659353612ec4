//! Providers by id: one line each. Where they are reached and which variable holds their key is in the catalogue.

use super::Provider;
use super::gemini::Gemini;
use super::generic::GENERIC;
use super::groq::GROQ;
use super::mistral::MISTRAL;
use super::ollama::Ollama;
use super::openai::OPENAI;
use super::openrouter::OPENROUTER;

/// The provider that has code or quirks of its own.
pub fn builtin(id: &str) -> Option<&'static dyn Provider> {
    Some(match id {
        "groq" => &GROQ,
        "mistral" => &MISTRAL,
        "gemini" => &Gemini,
        "openrouter" => &OPENROUTER,
        "ollama" => &Ollama,
        "openai" => &OPENAI,
        _ => return None,
    })
}

/// Any vendor that speaks OpenAI's dialect.
pub fn generic() -> &'static dyn Provider {
    &GENERIC
}
