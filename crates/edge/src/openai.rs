//! OpenAI's wire format. Nothing else on this side knows its JSON.

pub(crate) mod answer;
pub(crate) mod chat;
mod chunk;
pub(crate) mod convert;
mod embed_input;
pub(crate) mod embeddings;
pub(crate) mod error;
mod events;
mod media;
pub(crate) mod models;
mod options;
mod print;
mod request;
mod schema;
mod served;
pub(crate) mod stream;
mod tools;
mod turns;
