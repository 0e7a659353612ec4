//! The services `Directory` and `Audit` as other services call them.

use std::time::Duration;

use futures::StreamExt;
use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::{audit, directory};
use manifold_core::{Code, Principal, TenantId};
use manifold_runtime::{CallContext, Channel, Mesh, MeshConfig, from_status, request};
use tonic::{Response, Status};
use uuid::Uuid;

use crate::house::{House, Process, calling};

on_both_engines!(
    people_are_invited_listed_given_roles_and_removed,
    a_tenant_is_made_changed_and_deleted,
    roles_are_made_changed_and_removed,
    a_person_sees_and_ends_the_own_sessions,
    what_was_done_is_listed_exported_and_verified,
    who_may_nothing_gets_nothing_from_the_directory,
    what_is_of_another_tenant_is_not_there,
);

fn mesh(process: &Process) -> Channel {
    let mesh = Mesh::new(MeshConfig::default()).unwrap();
    mesh.provide("identity", process.routes.clone());
    mesh.channel("identity")
}

fn directory(process: &Process) -> directory::Client<Channel> {
    directory::Client::new(mesh(process))
}

/// The reason of a refusal.
fn reason<A>(answer: Result<Response<A>, Status>) -> (Code, String) {
    refusal(answer).expect("it is refused")
}

/// The same; None = it was done.
fn refusal<A>(answer: Result<Response<A>, Status>) -> Option<(Code, String)> {
    let error = from_status(answer.err()?);
    Some((error.code(), error.reason().to_owned()))
}

fn ai() -> Vec<proto::RoleGrant> {
    vec![proto::RoleGrant { permission: "ai.*".to_owned(), on: Vec::new(), when: "request.hour < 18".to_owned() }]
}

async fn people_are_invited_listed_given_roles_and_removed(house: &House) {
    let process = house.start().await;
    let owner = process.caller(&process.set_up(house).await).await;
    let client = directory(&process);
    let email = |email: &str| proto::CreateInvitationRequest { email: email.to_owned(), role: "viewer".to_owned() };

    let invited =
        client.create_invitation(request(email("bob@example.org"), owner.clone())).await.unwrap().into_inner();
    let listed = client.list_invitations(request(Default::default(), owner.clone())).await.unwrap().into_inner();
    let id = invited.invitation.clone().unwrap().id;
    let revoke = proto::RevokeInvitationRequest { id };
    client.revoke_invitation(request(revoke.clone(), owner.clone())).await.unwrap();
    let again = client.revoke_invitation(request(revoke, owner.clone())).await;
    // Lists are in the order of ids, and those of one moment have none.
    house.clock.advance(Duration::from_secs(1));
    let grace = process.join(&owner, "grace@example.org", "viewer").await.session.user.id.to_string();
    let page = proto::ListMembersRequest { limit: 1, ..Default::default() };
    let first = client.list_members(request(page, owner.clone())).await.unwrap().into_inner();
    let page = proto::ListMembersRequest { limit: 1, after: first.next.clone() };
    let second = client.list_members(request(page, owner.clone())).await.unwrap().into_inner();
    let change = proto::UpdateMemberRequest { id: grace.clone(), roles: vec!["operator".to_owned()] };
    let changed = client.update_member(request(change, owner.clone())).await.unwrap().into_inner().member.unwrap();
    let get = proto::GetMemberRequest { id: grace.clone() };
    let shown = client.get_member(request(get.clone(), owner.clone())).await.unwrap().into_inner().member.unwrap();
    client.remove_member(request(proto::RemoveMemberRequest { id: grace.clone() }, owner.clone())).await.unwrap();

    assert!(invited.token.starts_with("mfi_"), "{}", invited.token);
    assert_eq!(listed.invitations, [invited.invitation.unwrap()]);
    assert_eq!(reason(again), (Code::NotFound, "INVITATION_NOT_FOUND".to_owned()));
    assert_eq!((first.members.len(), second.members[0].id.as_str(), second.next.as_str()), (1, grace.as_str(), ""));
    assert_eq!((changed.roles.as_slice(), changed.email.as_str()), (&["operator".to_owned()][..], "grace@example.org"));
    assert_eq!(shown, changed);
    assert_eq!(reason(client.get_member(request(get, owner)).await), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
    process.stop().await;
}

async fn a_tenant_is_made_changed_and_deleted(house: &House) {
    let process = house.start().await;
    let owner = process.caller(&process.set_up(house).await).await;
    let client = directory(&process);
    let new =
        proto::CreateTenantRequest { name: "Acme".into(), slug: "acme".into(), owner: "grace@example.org".into() };

    house.clock.advance(Duration::from_secs(1));
    let made = client.create_tenant(request(new, owner.clone())).await.unwrap().into_inner();
    let tenant = made.tenant.unwrap();
    let settings = proto::TenantSettings { mfa_required: true, ..tenant.settings.clone().unwrap() };
    let change = proto::UpdateTenantRequest {
        id: tenant.id.clone(),
        name: Some("Acme Ltd".to_owned()),
        settings: Some(settings.clone()),
        suspended: Some(true),
    };
    let strange = proto::TenantSettings { registration: "sometimes".to_owned(), ..settings.clone() };
    let strange = proto::UpdateTenantRequest { settings: Some(strange), ..change.clone() };
    let strange = client.update_tenant(request(strange, owner.clone())).await;
    let changed = client.update_tenant(request(change, owner.clone())).await.unwrap().into_inner().tenant.unwrap();
    let listed = client.list_tenants(request(Default::default(), owner.clone())).await.unwrap().into_inner();
    let end = proto::DeleteTenantRequest { id: tenant.id.clone() };
    let ended = client.delete_tenant(request(end, owner.clone())).await.unwrap().into_inner().tenant.unwrap();
    let get = proto::GetTenantRequest { id: tenant.id.clone() };
    let shown = client.get_tenant(request(get, owner)).await.unwrap().into_inner().tenant.unwrap();

    assert_eq!((tenant.state.as_str(), tenant.settings.unwrap().registration.as_str()), ("active", "invite"));
    assert_eq!(made.invited.unwrap().invitation.unwrap().email, "grace@example.org");
    assert_eq!(reason(strange), (Code::Invalid, "SETTINGS_INVALID".to_owned()));
    assert_eq!((changed.name.as_str(), changed.state.as_str()), ("Acme Ltd", "suspended"));
    assert_eq!(changed.settings.as_ref(), Some(&settings));
    assert!(listed.tenants.len() == 2 && listed.tenants[0] == changed, "{listed:?}");
    assert_eq!((ended.state.as_str(), ended.delete_after_us > ended.created_at_us), ("deleting", true));
    assert_eq!(shown, ended);
    process.stop().await;
}

async fn roles_are_made_changed_and_removed(house: &House) {
    let process = house.start().await;
    let owner = process.caller(&process.set_up(house).await).await;
    let client = directory(&process);

    let new = proto::CreateRoleRequest { name: "day shift".to_owned(), grants: ai() };
    let made = client.create_role(request(new, owner.clone())).await.unwrap().into_inner().role.unwrap();
    let id = made.id.clone();
    let change = proto::UpdateRoleRequest { id: id.clone(), name: Some("shift".to_owned()), grants: Vec::new() };
    let changed = client.update_role(request(change, owner.clone())).await.unwrap().into_inner().role.unwrap();
    let listed = client.list_roles(request(Default::default(), owner.clone())).await.unwrap().into_inner().roles;
    client.delete_role(request(proto::DeleteRoleRequest { id: id.clone() }, owner.clone())).await.unwrap();
    let gone = client.get_role(request(proto::GetRoleRequest { id }, owner.clone())).await;
    let built_in = proto::DeleteRoleRequest { id: "viewer".to_owned() };
    let built_in = client.delete_role(request(built_in, owner)).await;

    assert_eq!((made.grants.as_slice(), made.built_in), (ai().as_slice(), false));
    assert_eq!((changed.name.as_str(), &changed.grants), ("shift", &made.grants));
    assert!(listed.iter().any(|role| role.id == "owner" && role.built_in) && listed.contains(&changed));
    assert_eq!(reason(gone), (Code::NotFound, "ROLE_NOT_FOUND".to_owned()));
    assert_eq!(reason(built_in).1, "ROLE_BUILT_IN");
    process.stop().await;
}

async fn a_person_sees_and_ends_the_own_sessions(house: &House) {
    let process = house.start().await;
    let owner = process.caller(&process.set_up(house).await).await;
    let grace = process.join(&owner, "grace@example.org", "viewer").await;
    let client = directory(&process);
    let end = |id: &str| proto::RevokeSessionRequest { id: id.to_owned() };

    let listed = client.list_sessions(request(Default::default(), owner.clone())).await.unwrap().into_inner().sessions;
    let foreign = client.revoke_session(request(end(&grace.session.id.to_string()), owner.clone())).await;
    let by_key = client.list_sessions(request(Default::default(), process.admin(house).await)).await;
    client.revoke_session(request(end(&listed[0].id), owner.clone())).await.unwrap();
    let left = client.list_sessions(request(Default::default(), owner)).await.unwrap().into_inner().sessions;

    assert!(listed.len() == 1 && listed[0].current && listed[0].ip == "127.0.0.1", "{listed:?}");
    assert_eq!(reason(foreign), (Code::NotFound, "SESSION_NOT_FOUND".to_owned()));
    assert!(by_key.is_err() && left.is_empty());
    process.stop().await;
}

async fn what_was_done_is_listed_exported_and_verified(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.identity.create_key(&admin, crate::house::key("ci", &[])).await.unwrap();
    let client = audit::Client::new(mesh(&process));
    let filter = proto::AuditFilter { action: "identity.key.created".to_owned(), ..Default::default() };
    let list = proto::ListEntriesRequest { filter: Some(filter.clone()), limit: 1, before: 0 };

    let first = client.list_entries(request(list.clone(), admin.clone())).await.unwrap().into_inner();
    let next = proto::ListEntriesRequest { before: first.next, ..list };
    let second = client.list_entries(request(next, admin.clone())).await.unwrap().into_inner();
    let export = proto::ExportEntriesRequest { filter: Some(filter), format: "csv".to_owned() };
    let pieces = client.export_entries(request(export, admin.clone())).await.unwrap().into_inner();
    let pieces: Vec<_> = pieces.map(|piece| piece.unwrap().piece).collect().await;
    let strange = proto::ExportEntriesRequest { format: "xml".to_owned(), ..Default::default() };
    let strange = client.export_entries(request(strange, admin.clone())).await;
    let verdict = client.verify_chain(request(Default::default(), admin.clone())).await.unwrap().into_inner();

    let entry = &first.entries[0];
    assert_eq!((entry.action.as_str(), entry.actor.as_str()), ("identity.key.created", &*admin.principal.subject));
    assert!(entry.detail_json.contains("\"name\":\"ci\"") && entry.hash.len() == 32, "{entry:?}");
    assert!(second.entries.len() == 1 && second.entries[0].seq < entry.seq && second.next == 0, "{second:?}");
    let file = String::from_utf8(pieces.concat()).unwrap();
    assert!(file.starts_with("seq,at,") && file.lines().count() == 3, "{file}");
    assert_eq!(reason(strange), (Code::Invalid, "FILTER_INVALID".to_owned()));
    assert!(verdict.intact && verdict.n_entries > 2 && !verdict.public.is_empty(), "{verdict:?}");
    process.stop().await;
}

/// What every operation of both services says to a caller, in the order in which they are declared.
async fn ask_all(
    process: &Process,
    caller: Option<&CallContext>,
    tenant: &str,
    user: &str,
) -> Vec<Option<(Code, String)>> {
    let (client, record) = (directory(process), audit::Client::new(mesh(process)));
    macro_rules! ask {
        ($client:ident.$operation:ident($wish:expr)) => {
            refusal(
                $client
                    .$operation(match caller {
                        Some(caller) => request($wish, caller.clone()),
                        None => tonic::Request::new($wish),
                    })
                    .await,
            )
        };
    }
    let (tenant, user) = (tenant.to_owned(), user.to_owned());
    let (role, text) = ("rol_01h455vb4pex5vsknk084sn02q".to_owned(), "text".to_owned());
    let invitation = "inv_01h455vb4pex5vsknk084sn02q".to_owned();
    vec![
        ask!(client.create_tenant(proto::CreateTenantRequest {
            name: text.clone(),
            slug: text.clone(),
            owner: String::new()
        })),
        ask!(client.get_tenant(proto::GetTenantRequest { id: tenant.clone() })),
        ask!(client.update_tenant(proto::UpdateTenantRequest {
            id: tenant.clone(),
            name: Some(text.clone()),
            ..Default::default()
        })),
        ask!(client.delete_tenant(proto::DeleteTenantRequest { id: tenant.clone() })),
        ask!(client.get_member(proto::GetMemberRequest { id: user.clone() })),
        ask!(client.update_member(proto::UpdateMemberRequest { id: user.clone(), roles: vec!["viewer".to_owned()] })),
        ask!(client.remove_member(proto::RemoveMemberRequest { id: user.clone() })),
        ask!(client.revoke_invitation(proto::RevokeInvitationRequest { id: invitation })),
        ask!(client.get_role(proto::GetRoleRequest { id: role.clone() })),
        ask!(client.update_role(proto::UpdateRoleRequest { id: role.clone(), name: Some(text), grants: ai() })),
        ask!(client.delete_role(proto::DeleteRoleRequest { id: role })),
        ask!(
            client.create_invitation(proto::CreateInvitationRequest {
                email: "a@example.org".into(),
                role: "owner".into()
            })
        ),
        ask!(client.create_role(proto::CreateRoleRequest { name: "x".into(), grants: ai() })),
        ask!(client.list_tenants(proto::ListTenantsRequest::default())),
        ask!(client.list_members(proto::ListMembersRequest::default())),
        ask!(client.list_invitations(proto::ListInvitationsRequest::default())),
        ask!(client.list_roles(proto::ListRolesRequest::default())),
        ask!(client.list_sessions(proto::ListSessionsRequest::default())),
        ask!(client.revoke_session(proto::RevokeSessionRequest { id: "ses_01h455vb4pex5vsknk084sn02q".into() })),
        ask!(record.list_entries(proto::ListEntriesRequest::default())),
        ask!(record.export_entries(proto::ExportEntriesRequest::default())),
        ask!(record.verify_chain(proto::VerifyChainRequest::default())),
    ]
}

async fn who_may_nothing_gets_nothing_from_the_directory(house: &House) {
    let process = house.start().await;
    let owner = process.caller(&process.set_up(house).await).await;
    let made = process.identity.create_key(&owner, crate::house::key("weak", &["ai.nothing.run"])).await.unwrap();
    let weak = calling(process.identity.authenticate(made.secret.expose()).await.unwrap());
    let (tenant, user) = (owner.principal.tenant.to_string(), owner.principal.subject.to_string());

    let nobody = ask_all(&process, None, &tenant, &user).await;
    let refused = ask_all(&process, Some(&weak), &tenant, &user).await;

    let all = |answers: &[Option<(Code, String)>], expected| {
        answers.iter().all(|answer| answer.as_ref().is_some_and(|(code, _)| *code == expected))
    };
    assert!(all(&nobody, Code::Unauthenticated), "{nobody:?}");
    assert!(all(&refused, Code::Denied), "{refused:?}");
    assert_eq!(process.count("SELECT COUNT(*) FROM invitation").await, 0);
    assert_eq!(process.count("SELECT COUNT(*) FROM role").await, 0);
    process.stop().await;
}

async fn what_is_of_another_tenant_is_not_there(house: &House) {
    let process = house.start().await;
    let owner = process.caller(&process.set_up(house).await).await;
    let (tenant, user) = (owner.principal.tenant.to_string(), owner.principal.subject.to_string());
    let permissions = ["*".to_owned()].into();
    let stranger =
        Principal { tenant: TenantId(Uuid::new_v4()), key: None, permissions, ..process.admin(house).await.principal };
    let stranger = calling(stranger);

    let foreign = ask_all(&process, Some(&stranger), &tenant, &user).await;
    let none = ask_all(&process, Some(&stranger), "ten_x", "usr_x").await;

    // The first makes a tenant, which only the house's own may; those behind the first eleven are about no thing.
    assert_eq!(foreign[..11], none[..11]);
    assert_eq!(foreign[0].as_ref().map(|(code, _)| *code), Some(Code::Denied));
    for answer in &foreign[1..11] {
        assert_eq!(answer.as_ref().map(|(code, _)| *code), Some(Code::NotFound), "{foreign:?}");
    }
    process.stop().await;
}
