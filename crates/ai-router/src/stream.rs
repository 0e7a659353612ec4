//! A streamed answer. Nothing reaches the caller before the first content, so that failover stays invisible; from then on
//! a failure is the last message, never silence. The caller's polling drives it: dropping the stream cancels the provider.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use futures::Stream;
use manifold_contract::ai::v1::{self as ai, chat_stream_response::Kind};
use manifold_core::{Error, Result};
use manifold_runtime::CallContext;
use manifold_runtime::http::Inbound;
use manifold_runtime::to_status;
use tonic::Status;

use crate::Router;
use crate::chat::{self, check_degraded, target};
use crate::classify::{Class, Failure};
use crate::ledger::{Asked, Ledger};
use crate::provider::{Decoder, Mode, Piece};
use crate::turns::{Turns, to_error};
use crate::view::Candidate;
use crate::{attempt, echo, media, plan};

/// What the rpc answers.
pub type Item = Result<ai::ChatStreamResponse, Status>;

/// Answers a chat in pieces.
pub fn chat_stream(
    router: Router,
    context: Arc<CallContext>,
    request: ai::ChatRequest,
) -> impl Stream<Item = Item> + Send + 'static {
    let streaming = Streaming { router, context, request, phase: Phase::Planning, queue: VecDeque::new() };
    // Boxed, because every piece moves it.
    futures::stream::unfold(Box::new(streaming), Streaming::next)
}

struct Streaming {
    router: Router,
    context: Arc<CallContext>,
    request: ai::ChatRequest,
    phase: Phase,
    queue: VecDeque<Kind>,
}

enum Phase {
    Planning,
    Flowing(Box<Flow>),
    Done,
}

/// An answer that has begun.
struct Flow {
    ledger: Ledger,
    inbound: Inbound,
    decoder: Box<dyn Decoder>,
    candidate: Candidate,
    degraded: Vec<&'static str>,
    pieces: Vec<Piece>,
}

impl Streaming {
    async fn next(mut self: Box<Self>) -> Option<(Item, Box<Self>)> {
        loop {
            if let Some(kind) = self.queue.pop_front() {
                return Some((Ok(ai::ChatStreamResponse { kind: Some(kind) }), self));
            }
            match mem::replace(&mut self.phase, Phase::Done) {
                Phase::Planning => {
                    // Boxed, because it happens once and every piece would carry the room for it.
                    if let Err(error) = Box::pin(self.begin()).await {
                        return Some((Err(to_status(error)), self));
                    }
                }
                Phase::Flowing(flow) => self.flow(flow).await,
                Phase::Done => return None,
            }
        }
    }

    /// Tries candidates until one has sent its first content.
    async fn begin(&mut self) -> Result<()> {
        if echo::is_echo(&self.request.model) {
            self.queue.extend(echo::pieces(&self.router, &self.context, &self.request));
            return Ok(());
        }
        let needs = plan::needs(&self.request);
        let mut ledger = Ledger::open(&self.router, &self.context, Asked::chat(&self.request, &needs, Mode::Stream));
        self.router.room().await.inspect_err(|error| ledger.refuse(error))?;
        let mut turns = chat::choose(&self.router, &self.request, &needs).inspect_err(|error| ledger.refuse(error))?;
        loop {
            let Some(candidate) = chat::take_turn(&self.router, &mut turns) else {
                return Err(turns.into_error());
            };
            match open(&self.router, &self.context, &self.request, &mut ledger, candidate).await {
                Ok(opened) => {
                    self.start(ledger, opened);
                    return Ok(());
                }
                Err(failure) => self.recover(&mut ledger, &mut turns, failure).await?,
            }
        }
    }

    async fn recover(&mut self, ledger: &mut Ledger, turns: &mut Turns, failure: Failure) -> Result<()> {
        chat::recover(&self.router, &self.context, ledger, turns, &mut self.request, failure).await
    }

    fn start(&mut self, ledger: Ledger, opened: Opened) {
        let Opened { inbound, decoder, candidate, degraded, pieces } = opened;
        let (mut id, mut created) = (String::new(), 0);
        if let Some(Piece::Head { id: told, created: at, .. }) =
            pieces.iter().find(|piece| matches!(piece, Piece::Head { .. }))
        {
            (id, created) = (told.clone(), *at);
        }
        self.queue.push_back(Kind::Started(ai::Started {
            id: self.router.answer_id(id),
            created: self.router.answer_time(created),
            served: Some(ledger.served(&degraded)),
        }));
        let mut flow = Box::new(Flow { ledger, inbound, decoder, candidate, degraded, pieces });
        self.deliver(&mut flow);
        self.phase = Phase::Flowing(flow);
    }

    /// Reads the next bytes. Afterwards the stream flows on, or its last message is queued.
    async fn flow(&mut self, mut flow: Box<Flow>) {
        let outcome = match flow.inbound.chunk().await {
            Ok(Some(bytes)) => flow.decoder.feed(&bytes, &mut flow.pieces).map(|()| true),
            Ok(None) => flow.decoder.finish(&mut flow.pieces).map(|()| false),
            Err(error) => Err(attempt::from_send_error(error)),
        };
        self.deliver(&mut flow);
        match outcome {
            Ok(true) => self.phase = Phase::Flowing(flow),
            Ok(false) => self.finish(&mut flow),
            Err(failure) => self.fail(&mut flow, failure),
        }
    }

    fn deliver(&mut self, flow: &mut Flow) {
        for piece in flow.pieces.drain(..) {
            match piece {
                Piece::Head { .. } => {}
                Piece::Content(kind) => {
                    flow.ledger.content(&kind);
                    self.queue.push_back(kind);
                }
                Piece::Usage(usage) => flow.ledger.usage(Some(usage), None),
                Piece::Cost(cost) => flow.ledger.usage(None, Some(cost)),
            }
        }
    }

    fn finish(&mut self, flow: &mut Flow) {
        flow.ledger.succeed();
        attempt::succeeded(&self.router, &flow.candidate);
        self.queue.push_back(Kind::Usage(flow.ledger.settled_usage()));
        self.queue.push_back(Kind::Finished(flow.ledger.served(&flow.degraded)));
    }

    fn fail(&mut self, flow: &mut Flow, failure: Failure) {
        let failure = failure.redacted(&target(&flow.candidate));
        flow.ledger.fail(&failure);
        attempt::failed(&self.router, &flow.candidate, &failure, true);
        self.queue.push_back(Kind::Failed(failed(failure)));
    }
}

/// Sends one attempt and reads up to its first content.
async fn open(
    router: &Router,
    context: &CallContext,
    request: &ai::ChatRequest,
    ledger: &mut Ledger,
    candidate: Candidate,
) -> Result<Opened, Failure> {
    let request = media::inlined(router, context, &candidate, request).await?;
    let encoded = candidate.endpoint.codec.encode(&target(&candidate), &request, Mode::Stream)?;
    let degraded = check_degraded(&request, &encoded.degraded)?;
    let mut inbound = attempt::send(router, context, ledger, &candidate, encoded).await?;
    let (mut decoder, mut pieces) = (candidate.endpoint.codec.decoder(), Vec::new());
    let has_content = |pieces: &[Piece]| pieces.iter().any(|piece| matches!(piece, Piece::Content(_)));
    while !has_content(&pieces) {
        match inbound.chunk().await.map_err(attempt::from_send_error)? {
            Some(bytes) => decoder.feed(&bytes, &mut pieces)?,
            None => {
                decoder.finish(&mut pieces)?;
                break;
            }
        }
    }
    if !has_content(&pieces) {
        return Err(Failure::new(Class::Malformed, "the provider's stream holds no answer"));
    }
    Ok(Opened { inbound, decoder, candidate, degraded, pieces })
}

struct Opened {
    inbound: Inbound,
    decoder: Box<dyn Decoder>,
    candidate: Candidate,
    degraded: Vec<&'static str>,
    pieces: Vec<Piece>,
}

/// The last message of a stream that broke off.
fn failed(failure: Failure) -> ai::Failed {
    let interrupted = matches!(
        failure.class,
        Class::Interrupted | Class::Malformed | Class::Server | Class::Overloaded | Class::Timeout
    );
    let error: Error = if interrupted {
        Error::new(manifold_core::Code::Unavailable, "STREAM_INTERRUPTED", "the provider's answer broke off")
    } else {
        to_error(failure, false)
    };
    let (reason, message) = (error.reason().to_owned(), error.message().to_owned());
    ai::Failed { code: to_status(error).code() as i32, reason, message }
}
