//! Messages, clients and servers generated from `proto/`. No logic: conversions live with whoever needs them.
#![expect(missing_docs, reason = "the comments in the proto files are the documentation")]
#![expect(clippy::allow_attributes, reason = "generated code carries its own")]

// Generated code names the crate from outside, wherever it is compiled.
extern crate self as manifold_contract;

pub mod direct;

/// What every service shares: error details.
pub mod common {
    pub mod v1 {
        tonic::include_proto!("manifold.common.v1");
    }
}

/// Chat, embeddings and models.
pub mod ai {
    pub mod v1 {
        tonic::include_proto!("manifold.ai.v1");
    }
}

/// Principals and API keys.
pub mod identity {
    pub mod v1 {
        tonic::include_proto!("manifold.identity.v1");
    }
}

/// The envelope of every event.
pub mod events {
    pub mod v1 {
        tonic::include_proto!("manifold.events.v1");
    }
}
