//! Groq: OpenAI's dialect; a day's requests in its headers, usage and failures of streams in `x_groq` and `event: error`.
//! <https://console.groq.com/docs/api-reference>

use super::openai::{Compat, Quirks};
use super::tool_id::ToolIds;
use crate::classify::Limits;

pub(super) const GROQ: Compat = Compat {
    id: "groq",
    headers: &[],
    limits: Limits::DailyRequests,
    quirks: Quirks {
        tool_ids: ToolIds::Any,
        features: &["seed", "user", "parallel_tool_calls", "reasoning", "name"],
        efforts: &["none", "low", "medium", "high"],
        ..Quirks::NONE
    },
};
