//! Conditions in CEL: compiled once, asked often. They have no loops, and what cannot be answered does not hold.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr};
use cel::parser::{Expression, PrattParser};
use cel::{Context, Env, Value};
use ipnet::IpNet;
use manifold_core::{Error, Result};

use crate::scan::{self, MAX_DEPTH};

/// Functions of CEL's standard library that take time in proportion to their input, and our own.
const FUNCTIONS: [&str; 7] = ["contains", "endsWith", "inNetwork", "int", "size", "startsWith", "string"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What a condition is asked about: by the name of a thing, what is known of it.
pub type Facts = HashMap<&'static str, HashMap<&'static str, Fact>>;

/// One thing that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Words.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// A condition such as `request.hour < 18 && inNetwork(request.ip, "10.0.0.0/8")`.
pub struct Condition {
    text: String,
    expression: Expression,
}

impl Condition {
    /// Compiles a condition over things of these names. Besides the operators of CEL it may call `contains`, `startsWith`,
    /// `endsWith`, `size`, `int`, `string` and `inNetwork(address, network)`.
    ///
    /// # Errors
    /// `EXPRESSION_INVALID`, which says what is wrong.
    pub fn parse(text: &str, things: &[&str]) -> Result<Self> {
        let invalid = |fault: String| Error::invalid("EXPRESSION_INVALID", format!("this is no condition: {fault}"));
        if let Some(fault) = scan::fault(text, &FUNCTIONS) {
            return Err(invalid(fault));
        }
        let expression = PrattParser::new().parse(text).map_err(|error| invalid(error.to_string()))?;
        if is_deep(&expression) {
            return Err(invalid(format!("more than {MAX_DEPTH} of its parts are in each other")));
        }
        let unknown =
            expression.references().variables().into_iter().find(|name| !things.contains(name)).map(str::to_owned);
        match unknown {
            Some(name) => Err(invalid(format!("nothing is known of {name}; there are {}", things.join(", ")))),
            None => Ok(Self { text: text.to_owned(), expression }),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds. What it cannot answer, or answers with something else than yes or no, does not hold.
    pub fn holds(&self, facts: &Facts) -> bool {
        let mut context = Context::with_env(Arc::clone(&ENV));
        let known = context.add_function("inNetwork", in_network).is_ok();
        for (name, facts) in facts {
            let facts: HashMap<String, Value> =
                facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.into())).collect();
            context.add_variable_from_value(*name, facts);
        }
        known && matches!(Value::resolve(&self.expression, &context), Ok(Value::Bool(true)))
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Condition").field(&self.text).finish()
    }
}

impl From<&Fact> for Value {
    fn from(fact: &Fact) -> Self {
        match fact {
            Fact::Text(text) => text.as_str().into(),
            Fact::Number(number) => (*number).into(),
            Fact::Flag(flag) => (*flag).into(),
        }
    }
}

/// Whether more parts are in each other than may be: who answers calls itself for each, and takes up to 4 KiB of stack.
fn is_deep(expression: &Expression) -> bool {
    let mut open = vec![(expression, 1)];
    while let Some((part, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return true;
        }
        open.extend(parts(&part.expr).into_iter().map(|part| (part, depth + 1)));
    }
    false
}

fn parts(expression: &Expr) -> Vec<&Expression> {
    match expression {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(of_entry).collect(),
        Expr::Struct(object) => object.entries.iter().flat_map(of_entry).collect(),
        Expr::Comprehension(each) => {
            vec![&each.iter_range, &each.accu_init, &each.loop_cond, &each.loop_step, &each.result]
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn of_entry(entry: &IdedEntryExpr) -> Vec<&Expression> {
    match &entry.expr {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Whether the address lies in the network, such as `10.0.0.0/8`. What is neither lies in none.
#[expect(clippy::needless_pass_by_value, reason = "the form of functions that cel takes")]
fn in_network(address: Arc<String>, network: Arc<String>) -> bool {
    let (address, network) = (address.parse::<IpAddr>(), network.parse::<IpNet>());
    address.is_ok_and(|address| network.is_ok_and(|network| network.contains(&address.to_canonical())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THINGS: [&str; 2] = ["principal", "request"];

    fn facts() -> Facts {
        let principal = [("id", Fact::Text("usr_1".to_owned())), ("mfa", Fact::Flag(true))];
        let request = [("ip", Fact::Text("::ffff:10.1.2.3".to_owned())), ("hour", Fact::Number(9))];
        HashMap::from([("principal", HashMap::from(principal)), ("request", HashMap::from(request))])
    }

    fn holds(text: &str) -> bool {
        Condition::parse(text, &THINGS).unwrap().holds(&facts())
    }

    #[test]
    fn a_condition_holds_or_does_not() {
        for (text, expected) in [
            ("true", true),
            ("principal.mfa", true),
            ("!principal.mfa", false),
            ("request.hour >= 8 && request.hour < 18", true),
            ("request.hour + 1 == 10", true),
            ("principal.id.startsWith('usr_') && size(principal.id) == 5", true),
            ("principal.id in ['usr_2', 'usr_3']", false),
            ("inNetwork(request.ip, '10.0.0.0/8')", true),
            ("inNetwork(request.ip, '192.168.0.0/16')", false),
            ("inNetwork('nowhere', '10.0.0.0/8') || inNetwork(request.ip, 'nowhere')", false),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_answered_does_not_hold() {
        for text in [
            "request.missing == 1",
            "request.hour / 0 == 1",
            "request.ip > 3",
            "'yes'",
            "1",
            "request",
            "int('x') == 1",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_says_why() {
        for (text, why) in [
            ("request.hour ==", ""),
            ("secret.key == 'x'", "nothing is known of secret"),
            ("[1, 2].all(x, x > 0)", "no function all"),
            ("matches(request.ip, '(a+)+')", "no function matches"),
            ("", ""),
            (&vec!["1"; 100].join(" + "), "64 of its parts"),
            (&("!-".repeat(80) + "1"), "64 of its parts"),
        ] {
            let error = Condition::parse(text, &THINGS).unwrap_err();
            assert_eq!(error.reason(), "EXPRESSION_INVALID", "{text}");
            assert!(error.message().contains(why), "{text}: {error}");
        }
    }

    /// Threads that serve have 2 MiB, and a part of it is in use when a condition is read.
    #[test]
    fn the_deepest_conditions_fit_a_quarter_of_a_threads_stack() {
        let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(64), close.repeat(64));
        let texts = [
            nested("(", ")"),
            nested("[", "]"),
            nested("{1: ", "}"),
            nested("size([", "])"),
            nested("1 + (", ")"),
            nested("[1][", "]"),
            "!-".repeat(255) + "1",
            vec!["1"; 256].join("+"),
            vec!["true"; 256].join("&&"),
            "true ? 1 : ".repeat(127) + "1",
            "principal".to_owned() + &".id".repeat(255),
            "(".repeat(64),
            "[".repeat(64) + &"](}[".repeat(100),
            ">>}9:=4x[z]f]3v[5[(?.958-ob|*/".repeat(8),
        ];
        let stack = std::thread::Builder::new().stack_size(512 << 10);
        let read = move || {
            for text in texts {
                if let Ok(condition) = Condition::parse(&text, &THINGS) {
                    condition.holds(&facts());
                }
            }
        };
        assert!(stack.spawn(read).unwrap().join().is_ok());
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_ends_the_process(text in "[a-z'\"()\\[\\]{}.,!?:<>=&|+*/%0-9 \\-]{0,600}") {
            if let Ok(condition) = Condition::parse(&text, &THINGS) {
                condition.holds(&facts());
            }
        }
    }
}
