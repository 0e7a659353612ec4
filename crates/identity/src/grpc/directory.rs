//! The gRPC service `Directory`: decode, call, encode.

mod people;

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::directory_server::Directory;
use manifold_core::{InvitationId, Result, TenantId, UserId};
use manifold_runtime::{context, to_status};
use tonic::{Request, Response, Status};

use super::decode_page;
use crate::Identity;
use crate::invitation::parse_invitation_id;
use crate::member::parse_user_id;
use crate::session::parse_session_id;
use crate::tenant::{NewTenantInfo, TenantChange, parse_tenant_id};

/// Serves [`Identity`]'s tenants, people, roles and sessions.
pub struct Service(pub Identity);

#[tonic::async_trait]
impl Directory for Service {
    async fn create_tenant(
        &self,
        request: Request<proto::CreateTenantRequest>,
    ) -> Result<Response<proto::CreateTenantResponse>, Status> {
        let caller = context(&request)?;
        let proto::CreateTenantRequest { name, slug, owner } = request.into_inner();
        let new = NewTenantInfo { name, slug, owner: Some(owner).filter(|owner| !owner.is_empty()) };
        let (tenant, invited) = self.0.create_tenant(&caller, new).await.map_err(to_status)?;
        let (tenant, invited) = (Some(people::tenant(tenant)), invited.map(people::invited));
        Ok(Response::new(proto::CreateTenantResponse { tenant, invited }))
    }

    async fn get_tenant(
        &self,
        request: Request<proto::GetTenantRequest>,
    ) -> Result<Response<proto::GetTenantResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_tenant_id(&request.get_ref().id).map_err(to_status)?;
        let tenant = self.0.get_tenant(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::GetTenantResponse { tenant: Some(people::tenant(tenant)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<proto::ListTenantsRequest>,
    ) -> Result<Response<proto::ListTenantsResponse>, Status> {
        let caller = context(&request)?;
        let proto::ListTenantsRequest { limit, after } = request.into_inner();
        let page = decode_page(limit, &after, |id| Ok(parse_tenant_id(id)?.0)).map_err(to_status)?;
        let page = self.0.list_tenants(&caller, page).await.map_err(to_status)?;
        let next = page.next.map(|id| TenantId(id).to_string()).unwrap_or_default();
        let tenants = page.data.into_iter().map(people::tenant).collect();
        Ok(Response::new(proto::ListTenantsResponse { tenants, next }))
    }

    async fn update_tenant(
        &self,
        request: Request<proto::UpdateTenantRequest>,
    ) -> Result<Response<proto::UpdateTenantResponse>, Status> {
        let caller = context(&request)?;
        let proto::UpdateTenantRequest { id, name, settings, suspended } = request.into_inner();
        let id = parse_tenant_id(&id).map_err(to_status)?;
        let settings = settings.map(people::decode_settings).transpose().map_err(to_status)?;
        let change = TenantChange { name, settings, suspended };
        let tenant = self.0.update_tenant(&caller, id, change).await.map_err(to_status)?;
        Ok(Response::new(proto::UpdateTenantResponse { tenant: Some(people::tenant(tenant)) }))
    }

    async fn delete_tenant(
        &self,
        request: Request<proto::DeleteTenantRequest>,
    ) -> Result<Response<proto::DeleteTenantResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_tenant_id(&request.get_ref().id).map_err(to_status)?;
        let tenant = self.0.delete_tenant(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::DeleteTenantResponse { tenant: Some(people::tenant(tenant)) }))
    }

    async fn get_member(
        &self,
        request: Request<proto::GetMemberRequest>,
    ) -> Result<Response<proto::GetMemberResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_user_id(&request.get_ref().id).map_err(to_status)?;
        let member = self.0.get_member(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::GetMemberResponse { member: Some(people::member(member)) }))
    }

    async fn list_members(
        &self,
        request: Request<proto::ListMembersRequest>,
    ) -> Result<Response<proto::ListMembersResponse>, Status> {
        let caller = context(&request)?;
        let proto::ListMembersRequest { limit, after } = request.into_inner();
        let page = decode_page(limit, &after, |id| Ok(parse_user_id(id)?.0)).map_err(to_status)?;
        let page = self.0.list_members(&caller, page).await.map_err(to_status)?;
        let next = page.next.map(|id| UserId(id).to_string()).unwrap_or_default();
        let members = page.data.into_iter().map(people::member).collect();
        Ok(Response::new(proto::ListMembersResponse { members, next }))
    }

    async fn update_member(
        &self,
        request: Request<proto::UpdateMemberRequest>,
    ) -> Result<Response<proto::UpdateMemberResponse>, Status> {
        let caller = context(&request)?;
        let proto::UpdateMemberRequest { id, roles } = request.into_inner();
        let id = parse_user_id(&id).map_err(to_status)?;
        let member = self.0.set_roles(&caller, id, roles).await.map_err(to_status)?;
        Ok(Response::new(proto::UpdateMemberResponse { member: Some(people::member(member)) }))
    }

    async fn remove_member(
        &self,
        request: Request<proto::RemoveMemberRequest>,
    ) -> Result<Response<proto::RemoveMemberResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_user_id(&request.get_ref().id).map_err(to_status)?;
        self.0.remove_member(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::RemoveMemberResponse {}))
    }

    async fn create_invitation(
        &self,
        request: Request<proto::CreateInvitationRequest>,
    ) -> Result<Response<proto::CreateInvitationResponse>, Status> {
        let caller = context(&request)?;
        let proto::CreateInvitationRequest { email, role } = request.get_ref();
        let invited = self.0.invite(&caller, email, role).await.map_err(to_status)?;
        Ok(Response::new(people::invited(invited)))
    }

    async fn list_invitations(
        &self,
        request: Request<proto::ListInvitationsRequest>,
    ) -> Result<Response<proto::ListInvitationsResponse>, Status> {
        let caller = context(&request)?;
        let proto::ListInvitationsRequest { limit, after } = request.into_inner();
        let page = decode_page(limit, &after, |id| Ok(parse_invitation_id(id)?.0)).map_err(to_status)?;
        let page = self.0.list_invitations(&caller, page).await.map_err(to_status)?;
        let next = page.next.map(|id| InvitationId(id).to_string()).unwrap_or_default();
        let invitations = page.data.into_iter().map(people::invitation).collect();
        Ok(Response::new(proto::ListInvitationsResponse { invitations, next }))
    }

    async fn revoke_invitation(
        &self,
        request: Request<proto::RevokeInvitationRequest>,
    ) -> Result<Response<proto::RevokeInvitationResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_invitation_id(&request.get_ref().id).map_err(to_status)?;
        self.0.revoke_invitation(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::RevokeInvitationResponse {}))
    }

    async fn create_role(
        &self,
        request: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::CreateRoleResponse>, Status> {
        let caller = context(&request)?;
        let proto::CreateRoleRequest { name, grants } = request.into_inner();
        let role = self.0.create_role(&caller, &name, people::decode_grants(grants)).await.map_err(to_status)?;
        Ok(Response::new(proto::CreateRoleResponse { role: Some(people::role(role)) }))
    }

    async fn get_role(
        &self,
        request: Request<proto::GetRoleRequest>,
    ) -> Result<Response<proto::GetRoleResponse>, Status> {
        let caller = context(&request)?;
        let role = self.0.get_role(&caller, &request.get_ref().id).await.map_err(to_status)?;
        Ok(Response::new(proto::GetRoleResponse { role: Some(people::role(role)) }))
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        let caller = context(&request)?;
        let roles = self.0.list_roles(&caller).await.map_err(to_status)?;
        Ok(Response::new(proto::ListRolesResponse { roles: roles.into_iter().map(people::role).collect() }))
    }

    async fn update_role(
        &self,
        request: Request<proto::UpdateRoleRequest>,
    ) -> Result<Response<proto::UpdateRoleResponse>, Status> {
        let caller = context(&request)?;
        let proto::UpdateRoleRequest { id, name, grants } = request.into_inner();
        let grants = Some(people::decode_grants(grants)).filter(|grants| !grants.is_empty());
        let role = self.0.update_role(&caller, &id, name.as_deref(), grants).await.map_err(to_status)?;
        Ok(Response::new(proto::UpdateRoleResponse { role: Some(people::role(role)) }))
    }

    async fn delete_role(
        &self,
        request: Request<proto::DeleteRoleRequest>,
    ) -> Result<Response<proto::DeleteRoleResponse>, Status> {
        let caller = context(&request)?;
        self.0.delete_role(&caller, &request.get_ref().id).await.map_err(to_status)?;
        Ok(Response::new(proto::DeleteRoleResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let caller = context(&request)?;
        let sessions = self.0.list_sessions(&caller).await.map_err(to_status)?;
        let sessions = sessions.into_iter().map(people::session).collect();
        Ok(Response::new(proto::ListSessionsResponse { sessions }))
    }

    async fn revoke_session(
        &self,
        request: Request<proto::RevokeSessionRequest>,
    ) -> Result<Response<proto::RevokeSessionResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_session_id(&request.get_ref().id).map_err(to_status)?;
        self.0.revoke_session(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::RevokeSessionResponse {}))
    }
}
