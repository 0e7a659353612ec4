//! The gRPC service `Audit`: decode, call, encode.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::audit_server::Audit;
use manifold_core::{Error, Result, Timestamp};
use manifold_runtime::{context, to_status};
use tonic::{Request, Response, Status};

use crate::Identity;
use crate::audit::chain::Entry;
use crate::audit::file::Format;
use crate::store::audit::AuditFilter;

/// Serves [`Identity`]'s audit chains.
pub struct Service(pub Identity);

#[tonic::async_trait]
impl Audit for Service {
    type ExportEntriesStream =
        Pin<Box<dyn Stream<Item = Result<proto::ExportEntriesResponse, Status>> + Send + 'static>>;

    async fn list_entries(
        &self,
        request: Request<proto::ListEntriesRequest>,
    ) -> Result<Response<proto::ListEntriesResponse>, Status> {
        let caller = context(&request)?;
        let proto::ListEntriesRequest { filter, limit, before } = request.into_inner();
        let (limit, before) = (Some(limit).filter(|limit| *limit != 0), Some(before).filter(|seq| *seq != 0));
        let page = self.0.list_audit(&caller, &decode(filter), limit, before).await.map_err(to_status)?;
        let entries = page.data.into_iter().map(encode).collect();
        Ok(Response::new(proto::ListEntriesResponse { entries, next: page.next.unwrap_or_default() }))
    }

    async fn export_entries(
        &self,
        request: Request<proto::ExportEntriesRequest>,
    ) -> Result<Response<Self::ExportEntriesStream>, Status> {
        let caller = context(&request)?;
        let proto::ExportEntriesRequest { filter, format } = request.into_inner();
        let format = match format.as_str() {
            "" => Some(Format::Ndjson),
            name => Format::parse(name),
        };
        let wrong = || Error::invalid("FILTER_INVALID", "format is ndjson or csv").at("format");
        let format = format.ok_or_else(wrong).map_err(to_status)?;
        let pieces = self.0.export_audit(&caller, decode(filter), format).await.map_err(to_status)?;
        let pieces = pieces.map(|piece| match piece {
            Ok(piece) => Ok(proto::ExportEntriesResponse { piece: piece.into() }),
            Err(error) => Err(to_status(error)),
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn verify_chain(
        &self,
        request: Request<proto::VerifyChainRequest>,
    ) -> Result<Response<proto::VerifyChainResponse>, Status> {
        let caller = context(&request)?;
        let verdict = self.0.verify_audit(&caller).await.map_err(to_status)?;
        let key = self.0.audit_key();
        Ok(Response::new(proto::VerifyChainResponse {
            intact: verdict.broken.is_none(),
            first_bad_seq: verdict.broken.map(|broken| broken.seq).unwrap_or_default(),
            fault: verdict.broken.map(|broken| broken.fault.name().to_owned()).unwrap_or_default(),
            n_entries: verdict.n_entries,
            n_erased: verdict.n_erased,
            n_checkpoints: verdict.n_checkpoints,
            kid: key.kid,
            public: key.public,
        }))
    }
}

fn decode(filter: Option<proto::AuditFilter>) -> AuditFilter {
    let proto::AuditFilter { actor, action, target, outcome, from_us, to_us } = filter.unwrap_or_default();
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let time = |micros: i64| Some(micros).filter(|micros| *micros != 0).map(Timestamp::from_micros);
    AuditFilter {
        actor: text(actor),
        action: text(action),
        target: text(target),
        outcome: text(outcome),
        from: time(from_us),
        to: time(to_us),
    }
}

fn encode(entry: Entry) -> proto::AuditEntry {
    proto::AuditEntry {
        seq: entry.seq,
        at_us: entry.at.micros(),
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        outcome: entry.outcome,
        request_id: entry.request_id.unwrap_or_default(),
        trace_id: entry.trace_id.unwrap_or_default(),
        detail_json: entry.detail.unwrap_or_default(),
        hash: entry.hash.into(),
    }
}
