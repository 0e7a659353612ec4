//! The gRPC service `Vault`: decode, call, encode.

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::vault_server::Vault;
use manifold_core::{Result, Secret, TenantId};
use manifold_runtime::{context, to_status};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::Identity;
use crate::vault::serve::{Spot, Wanted, invalid};

/// Serves [`Identity`]'s vault.
pub struct Service(pub Identity);

#[tonic::async_trait]
impl Vault for Service {
    async fn seal(&self, request: Request<proto::SealRequest>) -> Result<Response<proto::SealResponse>, Status> {
        let caller = context(&request)?;
        let items = request.into_inner().items.into_iter().map(|item| {
            let spot = spot(&item.tenant, item.table, item.column, &item.row_id)?;
            Ok((spot, Secret::new(item.plaintext.to_vec())))
        });
        let items: Vec<_> = items.collect::<Result<_>>().map_err(to_status)?;
        let sealed = self.0.seal_for(&caller, &items).await.map_err(to_status)?;
        Ok(Response::new(proto::SealResponse { sealed: sealed.into_iter().map(Into::into).collect() }))
    }

    async fn open(&self, request: Request<proto::OpenRequest>) -> Result<Response<proto::OpenResponse>, Status> {
        let caller = context(&request)?;
        let items: Result<Vec<_>> = request.into_inner().items.into_iter().map(wanted).collect();
        let opened = self.0.open_for(&caller, &items.map_err(to_status)?).await.map_err(to_status)?;
        let plaintext = opened.iter().map(|text| text.expose().clone().into()).collect();
        Ok(Response::new(proto::OpenResponse { plaintext }))
    }

    async fn report_reseal(
        &self,
        request: Request<proto::ReportResealRequest>,
    ) -> Result<Response<proto::ReportResealResponse>, Status> {
        let caller = context(&request)?;
        let report = request.get_ref();
        let tenant = tenant(&report.tenant).map_err(to_status)?;
        let lowest = Some(report.lowest_version).filter(|version| *version > 0);
        let accepted = self.0.report_reseal(&caller, tenant, &report.table, lowest).await.map_err(to_status)?;
        Ok(Response::new(proto::ReportResealResponse { accepted }))
    }
}

fn wanted(item: proto::OpenItem) -> Result<Wanted> {
    if item.secret.is_empty() {
        let spot = spot(&item.tenant, item.table, item.column, &item.row_id)?;
        return Ok(Wanted::Sealed(spot, item.sealed.to_vec()));
    }
    if !(item.table.is_empty() && item.column.is_empty() && item.row_id.is_empty() && item.sealed.is_empty()) {
        return Err(invalid("an item is either a secret or what was sealed"));
    }
    Ok(Wanted::Secret(tenant(&item.tenant)?, item.secret))
}

fn spot(of: &str, table: String, column: String, row: &str) -> Result<Spot> {
    let row = Uuid::try_parse(row).map_err(|_| invalid("row_id is not a UUID"))?;
    Ok(Spot { tenant: tenant(of)?, table, column, row })
}

fn tenant(text: &str) -> Result<TenantId> {
    match text {
        "" => Ok(TenantId(Uuid::nil())),
        text => TenantId::parse(text).ok_or_else(|| invalid("tenant is not the id of a tenant")),
    }
}
