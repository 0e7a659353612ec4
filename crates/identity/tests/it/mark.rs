//! Changes that rely on what was read: what another request changed meanwhile stays as that left it.

use manifold_core::{Error, KeyId, RequestId};
use manifold_identity::{KeyChange, KeyInfo};
use manifold_runtime::{CallContext, Mark};
use uuid::Uuid;

use crate::house::{House, Process, key};

on_both_engines!(of_two_who_rely_on_the_same_state_one_changes_it);

impl Process {
    /// Another request by the same caller.
    async fn rename(&self, caller: &CallContext, since: Option<Mark>, id: KeyId, name: &str) -> Result<KeyInfo, Error> {
        let call = CallContext { request: RequestId(Uuid::new_v4()), unchanged_since: since, ..caller.clone() };
        self.identity.update_key(&call, id, KeyChange { name: Some(name.to_owned()), ..KeyChange::default() }).await
    }
}

async fn of_two_who_rely_on_the_same_state_one_changes_it(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let mut ids = Vec::new();
    for name in ["site", "shop"] {
        ids.push(process.identity.create_key(&admin, key(name, &[])).await.unwrap().key.id);
    }
    let mark = async || Some(process.identity.mark(admin.principal.tenant).await.unwrap());

    let read = mark().await;
    let another = process.rename(&admin, read, ids[1], "another").await;
    let first = process.rename(&admin, read, ids[0], "first").await;
    let late = process.rename(&admin, read, ids[0], "late").await;
    let kept = process.identity.get_key(&admin, ids[0]).await.unwrap().name;
    let heedless = process.rename(&admin, None, ids[0], "heedless").await;
    let again = process.rename(&admin, mark().await, ids[0], "again").await;

    assert!(another.is_ok() && first.is_ok(), "what happens to other things disturbs nobody");
    assert_eq!((late.unwrap_err().reason(), kept.as_str()), ("PRECONDITION_FAILED", "first"));
    assert!(heedless.is_ok() && again.is_ok(), "who reads again goes on");
    process.stop().await;
}
