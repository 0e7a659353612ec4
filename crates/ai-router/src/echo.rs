//! `manifold/echo`: a diagnostic model that repeats the last user message. It needs no provider, is accounted like any
//! other, and is never part of `auto` or of a list.

use std::sync::Arc;

use manifold_contract::ai::v1::{self as ai, chat_stream_response::Kind, part};
use manifold_runtime::CallContext;
use manifold_runtime::http::Sent;

use crate::Router;
use crate::ledger::{Asked, Ledger};
use crate::plan::{self, Needs};
use crate::price::estimate_tokens;
use crate::provider::Mode;

/// The name of the model.
pub const NAME: &str = "manifold/echo";

/// Whether `model` is the diagnostic model.
pub fn is_echo(model: &str) -> bool {
    model == NAME
}

/// The answer as a whole.
pub fn whole(router: &Router, context: &Arc<CallContext>, request: &ai::ChatRequest) -> ai::ChatResponse {
    let needs = plan::needs(request);
    let mut ledger = Ledger::open(router, context, Asked::chat(request, &needs, Mode::Whole));
    let text = last_user_text(request);
    settle(router, &mut ledger, &needs, &text);
    let choice = ai::Choice {
        index: 0,
        parts: vec![ai::Part { kind: Some(part::Kind::Text(text)), ..Default::default() }],
        finish_reason: ai::FinishReason::Stop.into(),
        logprobs_json: String::new(),
    };
    ai::ChatResponse {
        id: router.answer_id(String::new()),
        created: router.answer_time(0),
        choices: vec![choice],
        usage: Some(ledger.settled_usage()),
        served: Some(ledger.served(&[])),
    }
}

/// The answer word by word.
pub fn pieces(router: &Router, context: &Arc<CallContext>, request: &ai::ChatRequest) -> Vec<Kind> {
    let needs = plan::needs(request);
    let mut ledger = Ledger::open(router, context, Asked::chat(request, &needs, Mode::Stream));
    let text = last_user_text(request);
    let started = ai::Started {
        id: router.answer_id(String::new()),
        created: router.answer_time(0),
        served: Some(ledger.served(&[])),
    };
    let words = text
        .split_inclusive(' ')
        .map(|word| Kind::TextDelta(ai::TextDelta { text: word.to_owned(), ..Default::default() }));
    let mut kinds = vec![Kind::Started(started)];
    kinds.extend(words);
    settle(router, &mut ledger, &needs, &text);
    kinds.push(Kind::ChoiceEnd(ai::ChoiceEnd { choice: 0, finish_reason: ai::FinishReason::Stop.into() }));
    kinds.push(Kind::Usage(ledger.settled_usage()));
    kinds.push(Kind::Finished(ledger.served(&[])));
    if let Some(Kind::Started(ai::Started { served: Some(served), .. })) = kinds.first_mut() {
        *served = ledger.served(&[]);
    }
    kinds
}

fn settle(router: &Router, ledger: &mut Ledger, needs: &Needs, text: &str) {
    let usage = ai::Usage {
        input_tokens: needs.input_tokens,
        output_tokens: estimate_tokens(text.len()),
        ..Default::default()
    };
    ledger.begin(&router.echo, Sent::default());
    ledger.usage(Some(usage), None);
    ledger.succeed();
}

fn last_user_text(request: &ai::ChatRequest) -> String {
    let user = request.messages.iter().rev().find(|message| message.role() == ai::Role::User);
    let texts = user.into_iter().flat_map(|message| &message.parts).filter_map(|part| match &part.kind {
        Some(part::Kind::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}
