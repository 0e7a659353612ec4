//! Tenants, people, roles and sessions, as they travel.

use manifold_contract::identity::v1 as proto;
use manifold_core::{Error, Result, Timestamp};

use crate::invitation::Invitation;
use crate::member::{Member, OneTime};
use crate::role::RoleInfo;
use crate::role::grants::RoleGrant;
use crate::session::SessionInfo;
use crate::tenant::TenantInfo;
use crate::tenant::settings::{Registration, Settings};
use crate::user::UserInfo;

const MODES: [(Registration, &str); 3] =
    [(Registration::Open, "open"), (Registration::Invite, "invite"), (Registration::Closed, "closed")];

pub fn tenant(info: TenantInfo) -> proto::Tenant {
    proto::Tenant {
        id: info.id.to_string(),
        slug: info.slug,
        name: info.name,
        state: info.state,
        settings: Some(encode_settings(info.settings)),
        created_at_us: info.created_at.micros(),
        delete_after_us: info.delete_after.map(Timestamp::micros).unwrap_or_default(),
    }
}

fn encode_settings(settings: Settings) -> proto::TenantSettings {
    let mode = MODES.iter().find(|(mode, _)| *mode == settings.registration);
    proto::TenantSettings {
        registration: mode.map(|(_, name)| (*name).to_owned()).unwrap_or_default(),
        mfa_required: settings.mfa_required,
        session_idle_minutes: settings.session_idle_minutes,
        session_lifetime_minutes: settings.session_lifetime_minutes,
        origins: settings.origins,
    }
}

pub fn decode_settings(settings: proto::TenantSettings) -> Result<Settings> {
    let mode = MODES.iter().find(|(_, name)| *name == settings.registration);
    let wrong =
        || Error::invalid("SETTINGS_INVALID", "registration is open, invite or closed").at("settings.registration");
    Ok(Settings {
        registration: mode.ok_or_else(wrong)?.0,
        mfa_required: settings.mfa_required,
        session_idle_minutes: settings.session_idle_minutes,
        session_lifetime_minutes: settings.session_lifetime_minutes,
        origins: settings.origins,
    })
}

pub fn member(member: Member) -> proto::Member {
    let UserInfo { id, email, name, locale, zone, created_at, .. } = member.user;
    proto::Member {
        id: id.to_string(),
        email,
        name,
        locale: locale.unwrap_or_default(),
        zone: zone.unwrap_or_default(),
        roles: member.roles,
        created_at_us: created_at.micros(),
        joined_at_us: member.joined_at.micros(),
    }
}

pub fn invitation(invitation: Invitation) -> proto::Invitation {
    proto::Invitation {
        id: invitation.id.to_string(),
        email: invitation.email,
        role: invitation.role,
        invited_by: invitation.invited_by,
        created_at_us: invitation.created_at.micros(),
        expires_at_us: invitation.expires_at.micros(),
    }
}

pub fn invited((made, token): (Invitation, Option<OneTime>)) -> proto::CreateInvitationResponse {
    let token = token.map(|one| one.token.expose().clone()).unwrap_or_default();
    proto::CreateInvitationResponse { invitation: Some(invitation(made)), token }
}

pub fn role(role: RoleInfo) -> proto::Role {
    let grants = role.grants.into_iter().map(|grant| {
        let RoleGrant { permission, on, when } = grant;
        proto::RoleGrant { permission, on, when: when.unwrap_or_default() }
    });
    proto::Role {
        id: role.id,
        name: role.name,
        built_in: role.built_in,
        grants: grants.collect(),
        created_at_us: role.created_at.map(Timestamp::micros).unwrap_or_default(),
    }
}

pub fn decode_grants(grants: Vec<proto::RoleGrant>) -> Vec<RoleGrant> {
    let decode = |grant| {
        let proto::RoleGrant { permission, on, when } = grant;
        RoleGrant { permission, on, when: Some(when).filter(|when| !when.is_empty()) }
    };
    grants.into_iter().map(decode).collect()
}

pub fn session(info: SessionInfo) -> proto::Session {
    proto::Session {
        id: info.id.to_string(),
        ip: info.ip,
        agent: info.agent,
        created_at_us: info.created_at.micros(),
        seen_at_us: info.seen_at.micros(),
        expires_at_us: info.expires_at.micros(),
        current: info.current,
    }
}
