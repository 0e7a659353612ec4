//! `manifold_rpc_duration_seconds`: one histogram handle per rpc, code and side, looked up without allocating.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use metrics::Histogram;
use tokio::time::Instant;
use tonic::Code;

const N_CODES: usize = 17;
const MAX_RPCS: usize = 256;

/// Which end of a call is measured. A call inside one process is measured once, as the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// The rpcs this process has seen.
#[derive(Debug, Default)]
pub(crate) struct Rpcs {
    known: RwLock<HashMap<Box<str>, Arc<Rpc>>>,
}

/// The handles of one rpc.
pub(crate) struct Rpc {
    name: Box<str>,
    client: [OnceLock<Histogram>; N_CODES],
    server: [OnceLock<Histogram>; N_CODES],
}

/// Measures one call: records when told the code, or as cancelled when dropped before.
#[derive(Debug)]
pub(crate) struct Measure {
    rpc: Arc<Rpc>,
    side: Side,
    started_at: Instant,
    code: Code,
}

impl Rpcs {
    /// The rpc of a request path. Names beyond the bound share one entry, since paths come from outside.
    pub(crate) fn get(&self, path: &str) -> Arc<Rpc> {
        if let Some(rpc) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Arc::clone(rpc);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let path = if known.len() < MAX_RPCS { path } else { "/other" };
        Arc::clone(known.entry(path.into()).or_insert_with(|| Arc::new(Rpc::new(path))))
    }
}

impl Rpc {
    fn new(path: &str) -> Self {
        let name = path.trim_start_matches('/').into();
        Self { name, client: [const { OnceLock::new() }; N_CODES], server: [const { OnceLock::new() }; N_CODES] }
    }

    /// `package.Service/Method`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn histogram(&self, side: Side, code: Code) -> &Histogram {
        let (handles, side) = match side {
            Side::Client => (&self.client, "client"),
            Side::Server => (&self.server, "server"),
        };
        handles[code as usize].get_or_init(|| {
            let rpc = self.name.to_string();
            metrics::histogram!("manifold_rpc_duration_seconds", "rpc" => rpc, "code" => code_name(code), "side" => side)
        })
    }
}

impl std::fmt::Debug for Rpc {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Measure {
    pub(crate) fn start(rpc: Arc<Rpc>, side: Side) -> Self {
        Self { rpc, side, started_at: Instant::now(), code: Code::Cancelled }
    }

    /// How the call ended.
    pub(crate) fn end(&mut self, code: Code) {
        self.code = code;
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn rpc(&self) -> &Rpc {
        &self.rpc
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.rpc.histogram(self.side, self.code).record(self.started_at.elapsed().as_secs_f64());
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
