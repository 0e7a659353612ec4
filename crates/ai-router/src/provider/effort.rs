//! Steps of reasoning effort: vendors have different ladders.

/// All steps, rising.
const LADDER: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The step of the vendor's ladder that is nearest to the one asked for, rather lower than higher. `none` only if it has
/// it. A word that is no known step is passed on.
pub(super) fn nearest<'a>(asked: &'a str, offered: &'static [&'static str]) -> Option<&'a str> {
    if asked.is_empty() {
        return None;
    }
    let Some(height) = LADDER.iter().position(|step| *step == asked) else {
        return Some(asked);
    };
    if height == 0 {
        return offered.contains(&"none").then_some("none");
    }
    let offers = |step: &&&str| offered.contains(*step);
    let lower = LADDER[1..=height].iter().rev().find(offers);
    lower.or_else(|| LADDER[height..].iter().find(offers)).copied()
}

/// Tokens of thinking where only a number is understood. None = no thinking.
pub(super) fn budget(asked: &str) -> Option<u32> {
    match asked {
        "none" => None,
        "minimal" => Some(512),
        "low" => Some(1_024),
        "medium" => Some(8_192),
        _ => Some(24_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_nearest_step() {
        let groq: &[&str] = &["none", "low", "medium", "high"];
        let rows = [
            ("", None),
            ("none", Some("none")),
            ("minimal", Some("low")),
            ("max", Some("high")),
            ("medium", Some("medium")),
            ("default", Some("default")),
        ];

        for (asked, expected) in rows {
            assert_eq!(nearest(asked, groq), expected, "{asked}");
        }
        assert_eq!(nearest("none", &["low"]), None);
    }
}
